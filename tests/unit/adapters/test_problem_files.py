"""Problem files: every form that is known, every way a line or file can be bad."""

import gzip
import io
import json
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from restmcts.adapters.files import row_files
from restmcts.adapters.files.problem_files import BadLine, load_problems, read_problems
from restmcts.adapters.files.row_files import form_of_file
from restmcts.domain.problems import Problem
from restmcts.domain.tasks.task import TASKS
from restmcts.errors import InputError

UNKNOWN = f"no kind of problem is called '{{}}'; did you mean '{{}}'? There are: {', '.join(TASKS)}; --plugin FILE adds others"


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
        ({"answer": "5"}, "no question (one of question, content, problem, query, prompt, problem_text, instruction)"),
        ({"question": " ", "answer": "5"}, '"question" is blank'),
        ({"problem": 5, "answer": "5"}, '"problem" is not text'),
        ({"question": "\ud800", "answer": "5"}, '"question" is not valid Unicode'),
        ({"question": "q"}, 'no "answer"'),
        ({"question": "q", "answer": ""}, '"answer" is blank'),
        ({"question": "q", "answer": True}, '"answer" is neither text nor a number'),
        (b'{"question": "q", "answer": NaN}', '"answer" is neither text nor a number'),
        ({"question": "q", "answer": "5", "solution": [1]}, '"solution" is neither text nor a list of texts'),
        ({"question": "q", "answer": "5", "kind": 5}, '"kind" is not text'),
        (
            {"question": "q", "answer": "5", "kind": "Choice"},
            UNKNOWN.format("Choice", "choice"),
        ),
        (
            {"question": "q", "answer": "5", "kind": "nummeric"},
            UNKNOWN.format("nummeric", "numeric"),
        ),
        ({"question": "a\0b", "answer": "5"}, '"question" contains a NUL character'),
        ({"question": "q", "answer": "5\0"}, '"answer" contains a NUL character'),
        ({"question": "q", "answer": "5", "solution": "5\0"}, '"solution" contains a NUL character'),
        ({"question": "q", "answer": "proof"}, "\"answer\" is 'proof': such a problem has no answer to compare with"),
        (
            {"question": "q", "answer": "notfound"},
            "\"answer\" is 'notfound': such a problem has no answer to compare with",
        ),
        ({"question": "q", "solution": "It is 5."}, 'no "answer", and the "solution" boxes none'),
        ({"question": "q", "answer": "A", "choices": "red, blue"}, '"choices" is not a list of 2 to 10 choices'),
        ({"question": "q", "answer": "green", "choices": ["red", "blue"]}, '"answer" names none of the 2 choices'),
        ({"question": "q", "answer": 2, "choices": ["red", "blue"]}, '"answer" names none of the 2 choices'),
        (b'{"question": "q", "answer": ' + b"7" * 5000 + b"}", "a number of too many digits"),
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
    (tmp_path / "folder").mkdir()
    for path, reason in (
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "folder", "contains no file of rows"),
        (empty, "it is empty"),
    ):
        with pytest.raises(InputError, match=reason) as raised:
            load_problems(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="no usable problem; line 1: not JSON"):
        load_problems(_file(tmp_path, b"nonsense"))


def test_what_has_no_end_or_is_read_but_once_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (Path("/dev/zero"), pipe):
        with pytest.raises(InputError, match="is a pipe or a device"):
            load_problems(path)
    monkeypatch.setattr(row_files, "MAX_LINE_BYTES", 1000)
    good = {"question": "1 + 1?", "answer": "2"}
    with pytest.raises(InputError, match="line 2 has more than 1,000 bytes"):
        load_problems(_file(tmp_path, good, b"\0" * 1001, good))
    assert len(load_problems(_file(tmp_path, good, b" " * 999, {**good, "question": "q" * 900}))[0]) == 2


def test_an_integer_of_400_digits_is_an_answer(tmp_path: Path) -> None:
    problems, _ = load_problems(_file(tmp_path, {"question": "2^1300?", "answer": 2**1300}))
    assert problems[0].answer == str(2**1300)


BOXED = "Half of 3.\nIt is $\\boxed{\\frac{3}{2}}$."
DAPO = "Solve the following math problem step by step. Be brief.\n\nHalf of 3?\n\nRemember to put your answer on its own line."


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"problem": "Half of 3?", "solution": BOXED, "level": "Level 1"}, "\\frac{3}{2}"),
        ({"query": "Half of 3?", "response": "We halve.\n#### 1.5\nThe answer is: 1.5"}, "1.5"),
        ({"query": "Half of 3?", "response": BOXED}, "\\frac{3}{2}"),
        ({"prompt": "Half of 3?", "final_answer": ["1.5"]}, "1.5"),
        ({"problem": "Half of 3?", "generated_solution": BOXED, "expected_answer": "3/2"}, "3/2"),
        ({"Question": "Half of 3?", "Answer": 1.5}, "1.5"),
        ({"prompt": [{"role": "user", "content": "Half of 3?"}], "reward_model": {"ground_truth": "1.5"}}, "1.5"),
        ({"prompt": [{"role": "user", "content": DAPO}], "reward_model": {"ground_truth": "1.5"}, "kind": None}, "1.5"),
    ],
)
def test_the_usual_names_of_columns_are_known(tmp_path: Path, row: object, answer: str) -> None:
    problems, bad_lines = load_problems(_file(tmp_path, row))
    assert bad_lines == []
    assert (problems[0].question, problems[0].answer) == ("Half of 3?", answer)


BLANKS, LINES = " " * 10**6, "\n" * 10**6


@pytest.mark.parametrize(
    "row",
    [
        {"question": "1 + 1?", "answer": f"#### 2{BLANKS}b\nc"},
        {"question": "1 + 1?", "solution": f"a{LINES}The answer is 2."},
        {"question": "1 + 1?", "solution": f"a\n#### 2\nThe answer is{BLANKS}2\nThe answer is 2."},
        {"question": f"Solve the following math problem step by step.{LINES}1 + 1?", "answer": 2},
    ],
)
def test_long_texts_are_read_in_one_pass(tmp_path: Path, row: object) -> None:
    before = time.process_time()
    problems, bad_lines = load_problems(_file(tmp_path, row))
    assert (len(problems), bad_lines) == (1, [])
    assert time.process_time() - before < 10


@pytest.mark.parametrize(
    "row",
    [
        {"choices": ["red", "blue"], "answer": 1},
        {"choices": ["red", "blue"], "answer": "B"},
        {"choices": ["red", "blue"], "answer": "blue"},
        {"options": {"A": "red", "B": "blue"}, "answer": "(b)"},
        {"choices": {"text": ["red", "blue"], "label": ["A", "B"]}, "answerKey": "B"},
        {"options": ["A. red", "B. blue"], "correct_answer": "B"},
    ],
)
def test_choices_are_shown_in_the_question(tmp_path: Path, row: dict[str, object]) -> None:
    problems, bad_lines = load_problems(_file(tmp_path, {"question": "Which colour has the sky?", **row}))
    assert bad_lines == []
    assert problems[0].question.splitlines()[:3] == ["Which colour has the sky?", "A. red", "B. blue"]
    assert (problems[0].answer, problems[0].kind) == ("B", "choice")


ROWS = [{"question": f"{number} + 1?", "answer": str(number + 1)} for number in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def _table(delimiter: str) -> bytes:
    lines = [["question", "answer"], *([row["question"], row["answer"]] for row in ROWS)]
    return "".join(delimiter.join(line) + "\n" for line in lines).encode()


def _parquet() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), stream)
    return stream.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("p.jsonl", LINES, "JSON lines"),
        ("p.txt", LINES, "JSON lines"),
        ("p.json", json.dumps(ROWS, indent=2).encode(), "JSON"),
        ("p.jsonl", json.dumps(ROWS).encode(), "JSON"),
        ("p.json", json.dumps({"data": ROWS}, indent=1).encode(), "JSON"),
        ("p.csv", _table(","), "CSV"),
        ("p.tsv", _table("\t"), "TSV"),
        ("p.parquet", _parquet(), "Parquet"),
    ],
)
def test_every_form_gives_the_same_problems(
    tmp_path: Path, name: str, content: bytes, form: str, compressed: bool
) -> None:
    path = tmp_path / (name + ".gz" if compressed else name)
    path.write_bytes(gzip.compress(content) if compressed else content)
    problems, bad_lines = load_problems(path)
    assert ([problem.answer for problem in problems], bad_lines) == (["1", "2", "3"], [])
    assert form_of_file(path) == form + (", compressed by gzip" if compressed else "")


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    for number, subject in enumerate(("algebra", "geometry"), start=1):
        (tmp_path / subject).mkdir()
        row = {"problem": f"Half of {number}?", "solution": f"It is $\\boxed{{{number}/2}}$."}
        (tmp_path / subject / "1.json").write_text(json.dumps(row, indent=2))
    (tmp_path / "geometry" / "2.json").write_text("{}")
    problems, bad_lines = load_problems(tmp_path)
    assert [problem.answer for problem in problems] == ["1/2", "2/2"]
    assert len(bad_lines) == 1
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
    with pytest.raises(InputError, match="contains the parts train and test"):
        load_problems(tmp_path)


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b"PK\x03\x04rest", "a ZIP archive or a workbook of Excel"),
        (b"ARROW1\0\0", "an Arrow file"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"BZh91AY", "compressed by bzip2"),
        (b"\x28\xb5\x2f\xfdrest", "compressed by Zstandard"),
        (b"\x80\x04\x95rest", "a pickle"),
        ("[]".encode("utf-16"), "text in UTF-16"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html>", "a web page"),
    ],
)
def test_a_form_that_is_not_read_is_named(tmp_path: Path, content: bytes, form: str) -> None:
    path = tmp_path / "problems.jsonl"
    for data in (content, gzip.compress(content)):
        path.write_bytes(data)
        with pytest.raises(InputError, match=form) as raised:
            load_problems(path)
        assert "\n" not in str(raised.value)


def test_a_damaged_file_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl.gz"
    path.write_bytes(gzip.compress(LINES * 1000)[:-20])
    with pytest.raises(InputError, match="cut off or damaged"):
        load_problems(path)
    (tmp_path / "p.parquet").write_bytes(_parquet()[:-30])
    with pytest.raises(InputError, match="not a Parquet file"):
        load_problems(tmp_path / "p.parquet")
