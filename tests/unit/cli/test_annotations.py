"""`restmcts annotations`: out of a run as JSON lines, and into it or its copy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.domain.labels.annotations import agreed_verdict, annotation
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.errors import InputError
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts.usecases.truth.annotate import annotate
from typer.testing import Result

SEARCH = MctsStarSettings(mode="collect", branch=2, stop_threshold=2.0, max_depth=5)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, search_folder: Callable[..., int]) -> Path:
    """A work folder with two labelled trees, of which two people annotated a step and an answer."""
    path = tmp_path_factory.mktemp("annotated")
    phase = SearchPhase("collect-1", 1, "collect", "train", "base", "value-0", SEARCH, Budget(iterations=8))
    search_folder(path, "first", [Problem("a", RIGHT_ANSWER), Problem("b", RIGHT_ANSWER)], [phase], RandomModels())
    database = Database(f"sqlite:///{path / 'run.db'}")
    with database.transaction() as transaction:
        annotate(transaction, 1, 1, annotation("step", "wrong", "Ada", "a slip", "viewer"))
        annotate(transaction, 1, 1, annotation("step", "unsure", "Grace", "", "viewer"))
        end = next(node for node in range(1, 99) if _ends(transaction, node))
        annotate(transaction, 2, end, annotation("answer", "right", "Ada", "", "viewer"))
    database.close()
    return path


def _ends(transaction: Any, node: int) -> bool:
    try:
        annotate(transaction, 2, node, annotation("answer", "right", "somebody", "", "viewer"))
    except InputError:
        return False
    return True


def test_annotations_are_listed_and_counted_with_their_run(
    searched: Path, document: Callable[..., Any], shown: Callable[..., str]
) -> None:
    found = document("annotations", "list", "first", "--workdir", searched)
    assert [(one["subject"], one["verdict"], one["who"]) for one in found[:2]] == [
        ("step", "wrong", "Ada"),
        ("step", "unsure", "Grace"),
    ]
    assert "a slip" in shown("annotations", "list", "first", "--workdir", searched)
    counted = document("runs", "show", "first", "--workdir", searched)["annotations"]
    assert (counted["num_steps"], counted["num_answers"], counted["num_trees"], counted["num_people"]) == (2, 2, 2, 3)
    assert "2 steps and 2 answers in 2 trees, by 3 people" in shown("runs", "show", "first", "--workdir", searched)


def test_what_was_exported_is_imported_at_the_same_steps(
    searched: Path, tmp_path: Path, document: Callable[..., Any], shown: Callable[..., str]
) -> None:
    out = tmp_path / "annotations.jsonl"
    shown("annotations", "export", "first", "--out", out, "--workdir", searched)
    before = [json.loads(line) for line in out.read_text().splitlines()]
    assert before == document("annotations", "list", "first", "--workdir", searched)
    shutil.copytree(searched, tmp_path / "work")
    database = Database(f"sqlite:///{tmp_path / 'work' / 'run.db'}")
    with database.transaction() as transaction:
        transaction.connection.exec_driver_sql("DELETE FROM annotations")
    database.close()
    rows = [row | {"tree": 77, "run": "another name"} for row in before]
    out.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    shown("annotations", "import", out, "--run", "first", "--workdir", tmp_path / "work")
    after = document("annotations", "list", "first", "--workdir", tmp_path / "work")
    assert after == [row | {"source": "import"} for row in before]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"path": ["no such step"]}, "has no tree of this problem with these steps"),
        ({"path": []}, '"path" is not a list of steps'),
        ({"who": None}, '"who" is missing'),
        ({"verdict": "good"}, "give right, wrong, unsure"),
        ({"when": "yesterday"}, '"when" is not a time'),
        ({"when": "0001-01-01T00:00:00+14:00"}, '"when" is not a time'),
        ({"problem": "x\ud800"}, "cannot be stored"),
        ({"run": "nowhere"}, "nowhere"),
        ({"note": 3}, '"note" is not a text'),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_imported(
    searched: Path, tmp_path: Path, document: Callable[..., Any], call: Callable[..., Result], change: Any, reason: str
) -> None:
    before = document("annotations", "list", "first", "--workdir", searched)
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps(before[0] | {"who": "Somebody new"}) + "\n" + json.dumps(before[1] | change) + "\n")
    refused = call("annotations", "import", file, "--workdir", searched).exception
    assert isinstance(refused, InputError)
    assert f"{file}, line 2: " in str(refused) and reason in str(refused)
    assert document("annotations", "list", "first", "--workdir", searched) == before


def test_a_file_that_is_no_json_is_named_with_its_line(
    searched: Path, tmp_path: Path, call: Callable[..., Result]
) -> None:
    file = tmp_path / "bad.jsonl"
    bad = (("\n{", "line 2: it is not JSON"), ("[" * 100_000, "line 1: it is not JSON"), ("\ufeff[]", "no JSON object"))
    for text, reason in bad:
        file.write_text(text)
        assert reason in str(call("annotations", "import", file, "--workdir", searched).exception)
    assert "cannot be read" in str(call("annotations", "import", tmp_path / "none", "--workdir", searched).exception)


def test_most_of_those_who_are_sure_decide() -> None:
    assert agreed_verdict(["right", "right", "wrong", "unsure"]) is True
    assert agreed_verdict(["wrong", "unsure"]) is False
    assert agreed_verdict(["right", "wrong"]) is None
    assert agreed_verdict(["unsure"]) is None


def test_a_regraded_run_has_the_verdicts_and_labels_that_people_gave(
    searched: Path, tmp_path: Path, document: Callable[..., Any], call: Callable[..., Result]
) -> None:
    shutil.copytree(searched, tmp_path / "work")
    workdir = ("--workdir", tmp_path / "work")
    plain = document("regrade", "first", "--name", "plain", *workdir)
    assert (plain["num_annotated"], plain["num_verdicts_changed"]) == (0, 0)
    database = Database(f"sqlite:///{tmp_path / 'work' / 'run.db'}")
    with database.transaction() as transaction:
        ends = transaction.connection.exec_driver_sql(
            "SELECT tree_id, node_id, verdict FROM nodes WHERE tree_id < 3 AND verdict IN ('right', 'wrong') LIMIT 3"
        ).all()
        transaction.connection.exec_driver_sql("DELETE FROM annotations")
        other = {"right": "wrong", "wrong": "right"}
        for tree, node, verdict in ends:
            annotate(transaction, tree, node, annotation("answer", other[verdict], "Ada", "", "viewer"))
    found = document("regrade", "first", "--annotations", "--name", "ours", *workdir)
    assert found["num_annotated"] == found["num_verdicts_changed"] == len(ends) == 3
    with database.transaction() as transaction:
        sources = transaction.connection.exec_driver_sql(
            "SELECT verdict_source, count(*) FROM nodes JOIN trees ON trees.id = tree_id JOIN runs ON runs.id = run_id"
            " WHERE runs.name = 'ours' AND verdict_source = 'people' GROUP BY verdict_source"
        ).all()
        transaction.connection.exec_driver_sql("DELETE FROM annotations")
    database.close()
    assert [tuple(row) for row in sources] == [("people", 3)]
    refused = call("regrade", "first", "--annotations", "--name", "none", *workdir).exception
    assert "nobody has annotated a tree of run 'first'" in str(refused)
    assert {row["name"] for row in document("runs", "list", *workdir)} == {"first", "plain", "ours"}
