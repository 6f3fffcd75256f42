"""Data sets as others read them: by `datasets`, by TRL, by the released code."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from restmcts.adapters.files.dataset_formats import convert
from restmcts.adapters.files.dataset_shards import POLICY_SCHEMA, PREFERENCE_SCHEMA, VALUE_SCHEMA, write_shards
from restmcts.errors import InputError

WHERE = {"problem_id": 1, "tree_id": 2, "node_id": 3}
VALUES: list[dict[str, Any]] = [
    {
        "question": "q",
        "steps": ["a\n", "b\n"],
        "targets": [0.5, 1.0],
        "leads_to_right": [True, True],
        "finished": True,
        **WHERE,
    },
    {
        "question": "q",
        "steps": ["a\n", "c\n"],
        "targets": [None, 0.25],
        "leads_to_right": [None, False],
        "finished": True,
        **WHERE,
    },
]
OLD_SOLUTIONS: list[dict[str, Any]] = [{"question": "q", "steps": ["a\n", "b\n"], "model_value": 0.9, **WHERE}]
SOLUTIONS: list[dict[str, Any]] = [
    {
        "question": "q",
        "steps": ["a\n", "b\n"],
        "weights": [1.0, 1.0],
        "values": [0.5, 1.0],
        "leaf_counts": [2, 1],
        "log_probs": [-0.5, -0.1],
        "finished": True,
        "pair": None,
        "model_value": 0.9,
        **WHERE,
    }
]
UNWANTED: dict[str, Any] = {**SOLUTIONS[0], "steps": ["a\n", "c\n"], "weights": [None, -0.3], "finished": False}
PAIRS: list[dict[str, Any]] = [
    {
        "question": "q",
        "steps": ["a\n"],
        "chosen": ["b\n"],
        "rejected": ["c\n"],
        "chosen_finished": True,
        "rejected_finished": True,
        "chosen_value": 1.0,
        "rejected_value": 0.25,
        **WHERE,
        "rejected_node_id": 4,
    }
]


@pytest.mark.parametrize(
    ("rows", "schema"), [(VALUES, VALUE_SCHEMA), (SOLUTIONS, POLICY_SCHEMA), (PAIRS, PREFERENCE_SCHEMA)]
)
def test_shards_are_read_by_the_datasets_library(rows: list[dict[str, Any]], schema: pa.Schema, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_shards(iter(rows), schema, {}, tmp_path / "data")
    from datasets import load_dataset  # imports torch

    loaded = load_dataset("parquet", data_dir=str(tmp_path / "data"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.to_list() == rows


def test_steps_with_labels_are_those_of_trl() -> None:
    assert list(convert(VALUES, "trl-stepwise")) == [
        {"prompt": "q", "completions": ["a", "b"], "labels": [True, True]},
        {"prompt": "q", "completions": ["a", "c"], "labels": [True, False]},
    ]


def test_soft_labels_stay_soft() -> None:
    assert list(convert(VALUES, "soft-stepwise")) == [
        {"prompt": "q", "completions": ["a", "b"], "labels": [0.5, 1.0]},
        {"prompt": "q", "completions": ["a", "c"], "labels": [0.5, 0.25]},
    ]


@pytest.mark.parametrize("rows", [VALUES, PAIRS])
def test_pairs_have_a_prompt_and_two_sides(rows: list[dict[str, Any]]) -> None:
    assert list(convert(rows, "preference")) == [{"prompt": "q\na\n", "chosen": "b\n", "rejected": "c\n"}]


def test_the_papers_lines_are_a_step_or_a_solution() -> None:
    assert list(convert(VALUES, "paper-json")) == [
        {"prompt_answer": "Problem:q\nSolution:\na\n", "label": 0.5},
        {"prompt_answer": "Problem:q\nSolution:\na\nb\n", "label": 1.0},
        {"prompt_answer": "Problem:q\nSolution:\na\nc\n", "label": 0.25},
    ]
    for rows in (SOLUTIONS, OLD_SOLUTIONS, [*SOLUTIONS, UNWANTED]):
        assert list(convert(rows, "paper-json")) == [{"content": "q", "summary": "a\nb\n", "label": 1}]


def test_weighted_steps_have_a_number_each() -> None:
    right, unwanted = convert([*SOLUTIONS, UNWANTED], "weighted-steps")
    assert right == {
        "prompt": "q",
        "completions": ["a", "b"],
        "weights": [1.0, 1.0],
        "values": [0.5, 1.0],
        "leaf_counts": [2, 1],
        "log_probs": [-0.5, -0.1],
        "pair": None,
        "finished": True,
    }
    assert (unwanted["completions"], unwanted["weights"], unwanted["finished"]) == (["a", "c"], [None, -0.3], False)


def test_data_of_a_version_without_weights_are_read() -> None:
    (row,) = convert(OLD_SOLUTIONS, "weighted-steps")
    assert (row["weights"], row["values"], row["finished"]) == ([1.0, 1.0], None, True)


@pytest.mark.parametrize(
    ("rows", "to"),
    [
        (SOLUTIONS, "trl-stepwise"),
        (PAIRS, "soft-stepwise"),
        (SOLUTIONS, "preference"),
        (PAIRS, "paper-json"),
        ([], "preference"),
    ],
)
def test_what_the_rows_do_not_tell_is_bad_input(rows: list[dict[str, Any]], to: str) -> None:
    with pytest.raises(InputError):
        convert(rows, to)


def test_a_policys_data_say_how_much_packing_their_trees_would_save(tmp_path: Path) -> None:
    """Of "q", a, b and "q", a, c the question and a, three characters, are read once less."""
    rows = [*SOLUTIONS, UNWANTED, {**SOLUTIONS[0], "question": "another"}]
    (tmp_path / "data").mkdir()
    card = write_shards(iter(rows), POLICY_SCHEMA, {}, tmp_path / "data")
    assert card["tree_packing_saves"] == pytest.approx(3 / (5 + 5 + 11), abs=1e-3)
    (tmp_path / "none").mkdir()
    assert write_shards(iter(()), POLICY_SCHEMA, {}, tmp_path / "none")["tree_packing_saves"] == 0.0
    (tmp_path / "values").mkdir()
    assert "tree_packing_saves" not in write_shards(iter(VALUES), VALUE_SCHEMA, {}, tmp_path / "values")
