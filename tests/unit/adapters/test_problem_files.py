"""Problem files: every form that is known, every way a line or file can be bad."""

import json
from pathlib import Path

import pytest
from restmcts.adapters.files.problem_files import BadLine, load_problems, read_problems
from restmcts.domain.problems import Problem
from restmcts.errors import InputError


def _file(folder: Path, *lines: object) -> Path:
    path = folder / "problems.jsonl"
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines) + b"\n"
    )
    return path


@pytest.mark.parametrize("field", ["question", "content", "problem"])
def test_the_question_has_several_names(tmp_path: Path, field: str) -> None:
    problems, bad_lines = load_problems(_file(tmp_path, {field: " 1 + 1? ", "answer": 2}))
    assert problems == [Problem("1 + 1?", "2")]
    assert bad_lines == []


def test_gsm8k_answers_become_steps(tmp_path: Path) -> None:
    answer = "She sold 48/2 = <<48/2=24>>24 clips in May.\nIn all 48+24 = <<48+24=72>>1,072.\n#### 1,072"
    problems, _ = load_problems(_file(tmp_path, {"question": "How many?", "answer": answer}))
    steps = ("She sold 48/2 = 24 clips in May.\n", "In all 48+24 = 1,072.\n", "The answer is 1,072\n")
    assert problems == [Problem("How many?", "1,072", steps)]


@pytest.mark.parametrize("solution", ["Add.\n\nThe answer is 2.", ["Add.", "The answer is 2.\n"]])
def test_a_solution_that_states_its_answer_is_kept(tmp_path: Path, solution: object) -> None:
    problems, _ = load_problems(_file(tmp_path, {"question": "1 + 1?", "answer": "2", "solution": solution}))
    assert problems[0].solution == ("Add.\n", "The answer is 2.\n")


def test_a_solution_without_its_answer_gets_one(tmp_path: Path) -> None:
    problems, _ = load_problems(_file(tmp_path, {"question": "1 + 1?", "answer": "2", "solution": "Add."}))
    assert problems[0].solution == ("Add.\n", "The answer is 2\n")


def test_kinds(tmp_path: Path) -> None:
    rows = [
        {"subset": "atkins"},
        {"unit": "m"},
        {"subset": "algebra"},
        {"kind": "number-paths", "subset": "atkins"},
        {},
    ]
    problems, _ = load_problems(_file(tmp_path, *({"question": "q", "answer": 50.7, **row} for row in rows)))
    assert [problem.kind for problem in problems] == ["numeric", "numeric", "math", "number-paths", "math"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not UTF-8 text"),
        ([1], "not a JSON object"),
        ({"answer": "5"}, "no question (one of question, content, problem)"),
        ({"question": " ", "answer": "5"}, '"question" is blank'),
        ({"problem": 5, "answer": "5"}, '"problem" is not text'),
        ({"question": "\ud800", "answer": "5"}, '"question" is not valid Unicode'),
        ({"question": "q"}, 'no "answer"'),
        ({"question": "q", "answer": ""}, '"answer" is blank'),
        ({"question": "q", "answer": True}, '"answer" is neither text nor a number'),
        (b'{"question": "q", "answer": NaN}', '"answer" is neither text nor a number'),
        ({"question": "q", "answer": "5", "solution": [1]}, '"solution" is neither text nor a list of texts'),
        ({"question": "q", "answer": "5", "kind": 5}, '"kind" is not text'),
    ],
)
def test_a_bad_line_is_reported_and_stops_nothing_else(tmp_path: Path, line: object, reason: str) -> None:
    good = {"question": "1 + 1?", "answer": "2"}
    path = _file(tmp_path, good, b"", line, good)
    problems, bad_lines = load_problems(path)
    assert (len(problems), bad_lines) == (2, [BadLine(3, reason)])
    with pytest.raises(InputError, match=r"problems\.jsonl, line 3: ") as raised:
        load_problems(path, strict=True)
    assert reason in str(raised.value)


def test_the_limit_counts_usable_problems_and_reads_no_further(tmp_path: Path) -> None:
    path = _file(tmp_path, b"{", {"question": "a", "answer": 1}, {"question": "b", "answer": 2}, b"{")
    assert next(iter(read_problems(path, limit=2))) == BadLine(1, "not JSON")
    assert load_problems(path, limit=2)[1] == [BadLine(1, "not JSON")]
    with pytest.raises(InputError, match="at least 1"):
        load_problems(path, limit=0)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"question": "q", "answer": "5"}\r\n')
    assert load_problems(path)[0] == [Problem("q", "5")]


def test_a_file_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    for path, reason in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "is a folder"), (empty, "it is empty")):
        with pytest.raises(InputError, match=reason) as raised:
            load_problems(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="no usable problem; line 1: not JSON"):
        load_problems(_file(tmp_path, b"nonsense"))
