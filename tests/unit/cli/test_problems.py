"""The commands `problems`: any source, streamed, whole or not at all, and only while a phase
has not begun.
"""

import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.state import runs
from restmcts.domain.tasks.task import TASKS
from restmcts.errors import InputError
from typer.testing import Result

Shown = Callable[..., str]
Document = Callable[..., Any]
Command = Callable[..., Result]


def test_csv_becomes_json_lines(tmp_path: Path, call: Command) -> None:
    table = tmp_path / "problems.csv"
    table.write_text(
        '\ufeffquestion,answer,solution,other\n"One, or\ntwo?",2,,x\nNo answer?,,,\nThree?,3,"1 + 2 = 3",y,z\n'
    )
    out = tmp_path / "problems.jsonl"
    result = call("problems", "import", table, out)
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        {"question": "One, or\ntwo?", "answer": "2", "kind": "math"},
        {"question": "Three?", "answer": "3", "solution": ["1 + 2 = 3\n", "The answer is 3\n"], "kind": "math"},
    ]
    assert f'{table}, line 4: no "answer"; passed over' in result.stderr


def test_of_many_bad_lines_the_first_are_named_and_of_a_page_of_text_one(tmp_path: Path, call: Command) -> None:
    table = tmp_path / "table.jsonl"
    table.write_text("no\n" * 9 + '{"question": "a", "answer": "1"}\n')
    noted = call("problems", "import", table, tmp_path / "out.jsonl").stderr
    assert noted.count("not JSON; passed over") == 5 and "4 more lines passed over" in noted
    table.write_text("no\n" * 9)
    failed = call("problems", "import", table, tmp_path / "none.jsonl")
    assert failed.exit_code != 0 and "passed over" not in failed.stderr


def test_puzzles_of_the_demo_are_a_source(tmp_path: Path, document: Document) -> None:
    made = document("problems", "import", "demo:7", tmp_path / "puzzles.jsonl")
    assert made["num_problems"] == 7
    rows = [json.loads(line) for line in (tmp_path / "puzzles.jsonl").read_text().splitlines()]
    assert {row["kind"] for row in rows} == {"number-paths"}
    assert len({row["question"] for row in rows}) == 7


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("nowhere.jsonl", "does not exist"),
        ("nowhere.csv", "does not exist"),
        ("demo:many", "demo:200"),
        ("hub:a/b", "not installed"),
    ],
)
def test_sources_that_cannot_be_read(
    tmp_path: Path, call: Command, monkeypatch: pytest.MonkeyPatch, source: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    result = call("problems", "import", source, "out.jsonl")
    assert isinstance(result.exception, InputError)
    assert expected in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_enqueue_before_a_phase_begins_but_not_after(
    workdir: Path, tmp_path: Path, call: Command, document: Document
) -> None:
    def enqueue(set_name: str) -> Result:
        return call("problems", "enqueue", "mine", "demo:3", "--set", set_name, "--workdir", workdir)

    assert enqueue("later").exit_code == 0
    assert enqueue("later").exit_code == 0
    sizes = {row["set"]: row["num_problems"] for row in document("problems", "list", "mine", "--workdir", workdir)}
    assert sizes == {"later": 6, "test": 4, "train": 6}
    listed = document("problems", "list", "mine", "--set", "later", "--workdir", workdir)
    assert [row["position"] for row in listed] == [0, 1, 2, 3, 4, 5]
    assert "phase collect-1 has started (done)" in str(enqueue("train").exception)
    assert "uses a problem set 'nowhere'" in str(enqueue("nowhere").exception)


def test_a_bad_source_adds_nothing(workdir: Path, tmp_path: Path, call: Command, document: Document) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"question": "One?", "answer": 1}\nnot JSON\n')
    result = call("problems", "enqueue", "mine", path, "--set", "later", "--strict", "--workdir", workdir)
    assert str(result.exception) == f"{path}, line 2: not JSON"
    assert "later" not in {row["set"] for row in document("problems", "list", "mine", "--workdir", workdir)}


def test_training_problems_need_no_answers_where_the_run_needs_none(
    tmp_path: Path, call: Command, document: Document
) -> None:
    questions, workdir = tmp_path / "questions.jsonl", tmp_path / "work"
    questions.write_text("".join(json.dumps({"question": f"How many {number}?"}) + "\n" for number in range(30)))
    options = ["--policy", "number-paths", "--workdir", workdir]
    for name, truth in (("answers", []), ("votes", ["--truth", "votes"])):
        call("runs", "create", name, *truth, *options)
    refused = call("problems", "enqueue", "answers", questions, "--workdir", workdir)
    assert "answer" in str(refused.exception) and refused.exit_code != 0
    added = document("problems", "enqueue", "votes", questions, "--workdir", workdir)["added"]
    assert added["train"] == 30 and "held-out" not in added, "nothing can be measured on problems without answers"
    refused = call("problems", "enqueue", "votes", questions, "--set", "test", "--workdir", workdir)
    assert refused.exit_code != 0, "what is evaluated on has answers"


def test_listing_shows_texts_as_characters(workdir: Path, shown: Shown, call: Command) -> None:
    text = shown("problems", "list", "mine", "--set", "train", "--workdir", workdir)
    assert "[bold]not markup[/bold] \\x1b[31mnot red\\x1b[0m, and on two lines" in text
    assert "\x1b" not in text
    assert "it has test, train" in str(call("problems", "list", "mine", "--set", "x", "--workdir", workdir).exception)


def test_problems_are_streamed(workdir: Path, tmp_path: Path, call: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "PROBLEMS_PER_INSERT", 50)
    path = tmp_path / "many.jsonl"
    path.write_text('{"question": "one that has all imported", "answer": 1}\n')
    call("problems", "enqueue", "mine", path, "--set", "earlier", "--workdir", workdir)
    with path.open("w") as file:
        file.writelines(
            json.dumps({"question": f"{number}: {'long ' * 400}", "answer": number}) + "\n" for number in range(1_000)
        )
    tracemalloc.start()
    result = call("problems", "enqueue", "mine", path, "--set", "later", "--workdir", workdir)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "1,000 problems added to later" in result.stderr
    assert peak < path.stat().st_size


def test_check_says_what_would_be_read(tmp_path: Path, call: Command, document: Document) -> None:
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    rows = [
        {"question": "1 + 1?", "answer": 2},
        {"question": "1  +  1?", "answer": "2"},
        {"question": "2 + 2?", "answer": "4", "solution": "Add."},
        {"question": "2 + 2?", "answer": "5"},
        {"question": "How far?", "answer": "3", "kind": "numeric"},
        {"question": "Why?", "answer": "3", "kind": "nummeric"},
    ]
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    test.write_text(json.dumps({"question": "2 + 2?", "answer": "4"}) + "\n")
    found = document("problems", "check", train, "--test", test)
    first = found["sources"][0]
    assert (first["form"], first["num_problems"], first["kinds"]) == ("JSON lines", 5, {"math": 4, "numeric": 1})
    assert (first["num_duplicates"], first["num_solutions"], found["num_shared"]) == (1, 1, 1)
    assert first["conflicts"] == [{"question": "2 + 2?", "answers": ["4", "5"]}]
    assert first["refused"] == [
        {
            "line": 6,
            "reason": "no kind of problem is called 'nummeric'; did you mean 'numeric'? "
            f"There are: {', '.join(TASKS)}; --plugin FILE adds others",
        },
    ]
    shown = call("problems", "check", train, "--test", test)
    assert "did you mean 'numeric'?" in shown.stdout
    assert f"1 of 1 question of {test} also in {train}" in shown.stderr


def test_check_of_a_file_without_problems_is_bad_input(tmp_path: Path, call: Command) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("not JSON\n")
    result = call("problems", "check", path)
    assert str(result.exception) == f"{path} contains no usable problem; line 1: not JSON"
    assert "not JSON" in result.stdout
    path.write_text("")
    assert "it is empty; each needs a question and an answer" in str(call("problems", "check", path).exception)


@pytest.mark.parametrize(
    "command",
    [
        ("problems", "check", "FILE"),
        ("problems", "import", "FILE", "OUT"),
        ("problems", "enqueue", "mine", "FILE", "--set", "later", "--workdir", "WORK"),
        ("runs", "create", "other", "FILE", "--policy", "number-paths", "--workdir", "WORK"),
        ("runs", "create", "other", "FILE", "--policy", "number-paths", "--workdir", "WORK", "--dry-run"),
        ("evaluate", "FILE", "--policy", "number-paths", "--out", "OUT"),
    ],
    ids=" ".join,
)
def test_where_no_problem_can_be_used_the_cause_is_that_of_the_first_line(
    command: tuple[str, ...], workdir: Path, tmp_path: Path, call: Command
) -> None:
    path = tmp_path / "kinds.jsonl"
    path.write_text('{"question": "One?", "answer": "1", "kind": "maths"}\n' * 2)
    places = {"FILE": path, "OUT": tmp_path / "out", "WORK": workdir}
    refused = str(call(*(places.get(word, word) for word in command)).exception)
    assert "line 1: no kind of problem is called 'maths'; did you mean 'math'?" in refused
    assert "1 more line refused" in refused and "a question and an answer" not in refused


def test_repeats_and_conflicts_are_said_when_problems_are_added(workdir: Path, tmp_path: Path, call: Command) -> None:
    path = tmp_path / "repeats.jsonl"
    rows = [{"question": "1 + 1?", "answer": answer} for answer in (2, 2, 3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = call("problems", "enqueue", "mine", path, "--set", "later", "--workdir", workdir)
    assert "1 question repeated; each counts once" in result.stderr
    assert "1 question with two answers, such as '1 + 1?': '2' and '3'" in result.stderr
