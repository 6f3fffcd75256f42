"""The command `grade`: every line comes back, bad ones with their reason."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from restmcts.errors import InputError
from restmcts_cli.commands.learning.grade import answer_of_prediction, grade


def _graded(capsys: pytest.CaptureFixture[str], path: Path, **options: Any) -> tuple[list[dict[str, Any]], str]:
    grade(path, **options)
    captured = capsys.readouterr()
    first, _, errors = captured.err.partition("\n")
    assert first.startswith(f"restmcts grade: {path}")
    return [json.loads(line) for line in captured.out.splitlines()], errors


def _file(folder: Path, *lines: object) -> Path:
    path = folder / "predictions.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_lines_come_back_with_verdict_and_extracted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _file(
        tmp_path,
        {"prediction": "So the final answer is \\boxed{12}.", "answer": 12, "id": "ä"},
        {"prediction": "x = 6", "answer": "5"},
        {"prediction": "The answer is (B)", "answer": "B", "kind": "choice"},
        {"prediction": "52 atm", "answer": 50.7, "subset": "atkins"},
        {"prediction": "(" * 1_000_000, "answer": "5"},
        {"prediction": "", "answer": "5"},
    )
    rows, errors = _graded(capsys, path)
    assert [row["verdict"] for row in rows] == ["right", "wrong", "right", "right", "undecided", "wrong"]
    assert [row["extracted"] for row in rows[:4]] == ["12", "x = 6", "B", "52 atm"]
    assert (rows[0]["id"], rows[5]["extracted"], errors) == ("ä", None, "")


def test_bad_lines_are_reported_and_not_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _file(
        tmp_path,
        "not JSON at all",
        {"answer": "5"},
        {"prediction": ["5"], "answer": "5"},
        {"prediction": "5", "answer": "5", "kind": "poems"},
        {"prediction": "5", "answer": "5"},
    )
    rows, errors = _graded(capsys, path, summary=True)
    assert [row["verdict"] for row in rows] == ["undecided"] * 4 + ["right"]
    assert rows[0]["line"] == "not JSON at all"
    assert rows[1]["error"] == 'no "prediction"'
    lines = errors.splitlines()
    assert [line.partition(": ")[0] for line in lines[:4]] == [f"{path}, line {number}" for number in (1, 2, 3, 4)]
    assert lines[4] == "5 lines: 1 right, 0 wrong, 4 undecided (4 of them could not be used)"


def test_out_takes_the_lines_and_appears_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _file(tmp_path, {"prediction": "5", "answer": "5"})
    out = tmp_path / "graded.jsonl"
    rows, _ = _graded(capsys, path, out=out)
    assert rows == []
    assert json.loads(out.read_text())["verdict"] == "right"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["graded.jsonl", "predictions.jsonl"]


def test_out_may_be_a_link_or_a_pipe_which_stay_what_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _file(tmp_path, {"prediction": "5", "answer": "5"})
    target, link, pipe = tmp_path / "target.jsonl", tmp_path / "link.jsonl", tmp_path / "pipe"
    link.symlink_to(target)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for out in (link, pipe):
        _graded(capsys, path, out=out)
    assert link.is_symlink() and pipe.is_fifo()
    assert target.read_bytes() == os.read(reader, 1000)
    os.close(reader)


def test_a_file_of_which_no_line_can_be_graded_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "graded.jsonl"
    with pytest.raises(InputError, match="no line that can be graded"):
        grade(_file(tmp_path, "a,b", "1,2"), out=out)
    assert not out.exists()
    assert capsys.readouterr().err.count("not JSON") == 2


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_a_time_limit_is_a_positive_number_of_seconds(tmp_path: Path, limit: float) -> None:
    with pytest.raises(InputError, match="at most 86,400 seconds"):
        grade(_file(tmp_path, {"prediction": "5", "answer": "5"}), time_limit=limit)


def test_nothing_is_left_behind_by_bad_input(tmp_path: Path) -> None:
    empty = _file(tmp_path)
    out = tmp_path / "graded.jsonl"
    with pytest.raises(InputError, match="does not exist"):
        grade(tmp_path / "nowhere.jsonl", out=out)
    with pytest.raises(InputError, match="contains no lines"):
        grade(empty, out=out)
    with pytest.raises(InputError, match="cannot write"):
        grade(empty, out=tmp_path / "no-folder" / "graded.jsonl")
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.jsonl"]


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [
        ("$12$.", "12"),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"),
        ("We think. " * 50 + "\nx = 5\n", "x = 5"),
        ("We think.\nThe answer is 7.", "7"),
        ("  ", None),
    ],
)
def test_a_prediction_may_be_a_bare_answer_or_a_solution(prediction: str, answer: str | None) -> None:
    assert answer_of_prediction(prediction) == answer


def test_code_is_graded_by_its_tests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tests = {"entry_point": "add", "code": "assert add(1, 2) == 3\nassert add(0, 0) == 0"}
    script = {"stdin": [{"input": "1 2\n", "output": "3\n"}]}
    path = _file(
        tmp_path,
        {"prediction": "```python\ndef add(a, b):\n    return a + b\n```", "kind": "code", "tests": tests},
        {"prediction": "def add(a, b):\n    return a - b", "kind": "code", "tests": tests},
        {"prediction": "print(sum(map(int, input().split())))", "kind": "code", "tests": script},
        {"prediction": "import sys\nsys.exit(0)", "kind": "code", "tests": json.dumps(script)},
        {"prediction": "", "kind": "code", "tests": script},
        {"prediction": "x = 1", "kind": "code", "tests": {"entry_point": "add"}},
        {"prediction": "x = 1", "kind": "code"},
    )
    rows, _ = _graded(capsys, path)
    assert [row["verdict"] for row in rows] == ["right", "wrong", "right", "wrong", "wrong", "undecided", "undecided"]
    assert [row.get("score") for row in rows] == [1.0, 0.5, 1.0, 0.0, 0.0, None, None]
    assert rows[1]["reason"] == "1 of 2 tests passed; test 1: AssertionError"
    assert rows[5]["error"] == 'no "code" in "tests"'
    assert rows[6]["error"].startswith('no "tests"')
