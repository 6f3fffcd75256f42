"""Labels of others as training data: each form by a row of our own, and what is no row."""

import json
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.files.dataset_formats import convert
from restmcts.adapters.files.dataset_shards import read_rows
from restmcts.adapters.files.labelled_solutions import labelled_rows
from restmcts.adapters.files.problem_files import BadLine
from restmcts.adapters.files.value_imports import value_rows
from restmcts_cli.main import app
from typer.testing import CliRunner, Result


def completion(text: str, rating: int | None, flagged: bool | None = None) -> dict[str, Any]:
    return {"text": text, "rating": rating, "flagged": flagged}


def rated(*completions: dict[str, Any], chosen: int | None = 0, human: str | None = None) -> dict[str, Any]:
    written = None if human is None else {"text": human, "rating": None, "source": "human", "flagged": False}
    return {"completions": list(completions), "human_completion": written, "chosen_completion": chosen}


def prm800k(*steps: dict[str, Any], reason: str = "solution") -> dict[str, Any]:
    asked = {"problem": "What is 4 + 5 + 6?", "ground_truth_answer": "15"}
    return {"labeler": "x", "question": asked, "label": {"steps": list(steps), "finish_reason": reason}}


SHEPHERD = {
    "input": "What is 2 + 2 + 1? Step 1: 2 + 2 = 4. ки\nStep 2: 4 + 1 = 6. The answer is: 6 ки",
    "label": "What is 2 + 2 + 1? Step 1: 2 + 2 = 4. +\nStep 2: 4 + 1 = 6. The answer is: 6 -",
    "task": "GSM8K",
}
PROCESS = {"id": "mine-0", "problem": "What is 3 + 4?", "steps": ["3 + 4 = 8.", "So 8.", "Done."], "label": 1}
STEPWISE = {"prompt": "What is 1 + 1?", "completions": ["1 + 1 = 2", "So 2"], "labels": [0.75, 0.0]}


def imported(*rows: Any, **options: Any) -> list[Any]:
    return list(value_rows(enumerate(rows, 1), **options))


def paths(*rows: Any, **options: Any) -> list[tuple[tuple[str, ...], tuple[float | None, ...]]]:
    found = imported(*rows, **options)
    assert not [row for row in found if isinstance(row, BadLine)], found
    return [(tuple(row["steps"]), tuple(row["targets"])) for row in found]


def test_the_labels_of_math_shepherd_are_values() -> None:
    steps = ("Step 1: 2 + 2 = 4.\n", "Step 2: 4 + 1 = 6. The answer is: 6\n")
    assert paths(SHEPHERD) == [(steps, (1.0, 0.0))]
    (row,) = imported(SHEPHERD)
    assert row["question"] == "What is 2 + 2 + 1?"
    assert (row["leads_to_right"], row["finished"]) == ([True, False], True)


def test_nothing_is_said_of_what_follows_the_first_wrong_step_of_process_bench() -> None:
    assert paths(PROCESS) == [(("3 + 4 = 8.\n", "So 8.\n", "Done.\n"), (1.0, 0.0, None))]
    assert paths(PROCESS | {"label": -1})[0][1] == (1.0, 1.0, 1.0)
    assert imported(PROCESS)[0]["leads_to_right"] == [True, False, None]


def test_every_rated_completion_of_prm800k_is_a_value_once() -> None:
    row = prm800k(
        rated(completion("4 + 5 = 9.", 1), completion("4 + 5 = 8.", -1)),
        rated(completion("Hm.", 0)),
        rated(completion("9 + 6 = 14.", -1), completion("Who knows?", 1, flagged=True), chosen=None),
        reason="found_error",
    )
    first = "4 + 5 = 9.\n"
    assert paths(row) == [
        ((first, "Hm.\n"), (1.0, 1.0)),
        (("4 + 5 = 8.\n",), (0.0,)),
        ((first, "Hm.\n", "9 + 6 = 14.\n"), (None, None, 0.0)),
    ]
    assert [one["finished"] for one in imported(row)] == [False, False, False]
    assert imported(prm800k(rated(completion("15.", 1))))[0]["finished"] is True


def test_a_neutral_rating_counts_as_it_is_asked_for() -> None:
    row = prm800k(rated(completion("Let us see.", 0)))
    assert paths(row, neutral="right")[0][1] == (1.0,) and paths(row, neutral="wrong")[0][1] == (0.0,)


def test_what_a_person_wrote_is_right_and_what_nobody_chose_ends_the_path() -> None:
    written = prm800k(rated(completion("Bad.", -1), chosen=None, human="Good."), rated(completion("15.", 1)))
    assert paths(written) == [(("Good.\n", "15.\n"), (1.0, 1.0)), (("Bad.\n",), (0.0,))]


def test_soft_labels_stay_soft_and_come_back_as_they_were() -> None:
    assert paths(STEPWISE) == [(("1 + 1 = 2\n", "So 2\n"), (0.75, 0.0))]
    assert imported(STEPWISE)[0]["leads_to_right"] == [True, False]
    (exported,) = convert(imported(STEPWISE), "soft-stepwise")
    assert exported == STEPWISE
    (hard,) = convert(imported(STEPWISE), "trl-stepwise")
    assert paths(hard) == [(("1 + 1 = 2\n", "So 2\n"), (1.0, 0.0))]


def test_hard_stepwise_labels_are_a_bench_too_and_soft_ones_are_not() -> None:
    hard, soft = labelled_rows(enumerate([STEPWISE | {"labels": [True, False]}, STEPWISE], 1), "mine")
    assert not isinstance(hard, BadLine) and hard.is_right == (True, False) and hard.first_error == 1
    assert isinstance(soft, BadLine) and "soft labels are training data" in soft.reason


def test_problems_are_numbered_by_their_questions() -> None:
    found = imported(SHEPHERD, PROCESS, SHEPHERD)
    assert [row["problem_id"] for row in found] == [0, 1, 0]
    assert {row["tree_id"] for row in found} == {None}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "a"}, "no labelled solution: it has text"),
        (PROCESS | {"label": 3}, "its label is 3"),
        (prm800k(), "none of its steps is rated"),
        (prm800k(rated(completion("a", None))), "none of its steps is rated"),
        (prm800k(rated(completion("a", 2))), "a rating is 2"),
        (prm800k(rated(completion("a", 1))) | {"question": {}}, "the question is missing"),
        (STEPWISE | {"labels": [0.5]}, "not lists of the same length"),
        (STEPWISE | {"labels": [0.5, 1.5]}, "no value from 0 to 1"),
        (STEPWISE | {"labels": [0.5, None]}, "no value from 0 to 1"),
        (STEPWISE | {"prompt": " "}, "the prompt is missing"),
        (SHEPHERD | {"label": SHEPHERD["label"].replace("+\n", "?\n")}, "neither + nor -"),
    ],
)
def test_a_bad_row_is_a_bad_line(row: dict[str, Any], reason: str) -> None:
    (found,) = imported(row)
    assert isinstance(found, BadLine) and reason in found.reason and found.line_number == 1


def test_a_row_of_another_form_than_was_said_is_a_bad_line() -> None:
    good, bad = imported(SHEPHERD, PROCESS, form="math-shepherd")
    assert not isinstance(good, BadLine)
    assert isinstance(bad, BadLine) and "of the form processbench, not math-shepherd" in bad.reason


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["datasets", "import", *map(str, arguments)])


def test_a_file_becomes_a_folder_with_a_card(tmp_path: Path) -> None:
    file, out = tmp_path / "labels.jsonl", tmp_path / "data"
    file.write_text("".join(json.dumps(row) + "\n" for row in (SHEPHERD, {"text": "a"}, PROCESS, STEPWISE)))
    result = call(file, out, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "line 2: no labelled solution" in result.stderr
    card = json.loads(result.stdout)
    assert (card["num_rows"], card["num_problems"], card["num_bad"]) == (3, 3, 1)
    assert card["targets"] == {"0.0": 3, "0.8": 1, "1.0": 2}
    rows = read_rows(out)
    assert [row["targets"] for row in rows] == [[1.0, 0.0], [1.0, 0.0, None], [0.75, 0.0]]
    assert {path.name for path in out.iterdir()} == {"card.json", "train-00000.parquet"}
    assert "exists already" in str(call(file, out).exception)


def test_a_file_without_a_label_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text('{"text": "a"}\n')
    assert "has no labelled step" in str(call(file, tmp_path / "data").exception)
    assert "does not exist" in str(call(tmp_path / "none.jsonl", tmp_path / "data").exception)
    assert not (tmp_path / "data").exists()
