"""What a checkpoint was trained on goes with it, its parents' problems too, and is found
whatever the spacing of a question.
"""

from pathlib import Path

from restmcts.adapters.files.dataset_shards import POLICY_SCHEMA, write_shards
from restmcts.adapters.files.trained_on import read_trained_on, write_trained_on
from restmcts.domain.problems import question_digest


def _dataset(folder: Path, questions: list[str]) -> Path:
    folder.mkdir()
    rows = [{"question": question, "steps": ["a\n"], "model_value": 0.0, "tree_id": None} for question in questions]
    write_shards(iter(rows), POLICY_SCHEMA, {}, folder)
    return folder


def test_problems_add_up_along_the_lineage(tmp_path: Path) -> None:
    parent, child = tmp_path / "parent", tmp_path / "child"
    for folder in (parent, child):
        folder.mkdir()
    write_trained_on(parent, "someone/model", _dataset(tmp_path / "first", ["What is  1+1?", "What is 2+2?"]))
    write_trained_on(child, parent, _dataset(tmp_path / "second", ["What is 2+2?", "What is 3+3?"]))
    assert len(read_trained_on(parent)) == 2
    assert read_trained_on(child) == {question_digest(f"what is {n}+{n}?") for n in (1, 2, 3)}


def test_of_a_model_from_elsewhere_nothing_is_known(tmp_path: Path) -> None:
    assert read_trained_on("someone/model") == read_trained_on(tmp_path) == frozenset()
