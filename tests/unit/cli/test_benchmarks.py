"""Benchmarks in their own formats, as files: every row becomes a question with its true answer,
or is told of by its number.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from restmcts.adapters.files.problem_files import BadLine
from restmcts.domain.problems import Check, Problem, Verdict
from restmcts.domain.tasks.number_paths import distance
from restmcts.errors import InputError
from restmcts.ports import Verifier
from restmcts_cli.arguments.benchmarks import BENCHMARKS, benchmark_named, read_benchmark
from restmcts_cli.experiments.demo_plan import DemoSize, demo_problems

GPQA = {
    "Question": "What is heavier?",
    "Correct Answer": "lead",
    "Incorrect Answer 1": "cork",
    "Incorrect Answer 2": "oak",
    "Incorrect Answer 3": "ice",
}
CEVAL = {"id": 0, "question": "1加1等于____", "A": "1", "B": "2", "C": "3", "D": "4", "answer": "B", "explanation": ""}


def _read(name: str, path: Path) -> list[Problem | BadLine]:
    return list(read_benchmark(benchmark_named(f"{name}:{path}"), split=None, seed=0, strict=False, limit=None))


def _lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _problem(item: Problem | BadLine) -> Problem:
    assert isinstance(item, Problem), item
    return item


def test_gsm8k_has_its_answer_after_four_hashes(tmp_path: Path) -> None:
    row = {"question": "2 + 2?", "answer": "It is 2+2=<<2+2=4>>4.\n#### 4"}
    problem = _problem(_read("gsm8k", _lines(tmp_path / "test.jsonl", [row]))[0])
    assert (problem.answer, problem.kind, problem.solution) == ("4", "math", ("It is 2+2=4.\n", "The answer is 4\n"))


def test_math_boxes_its_answer_and_lies_in_a_folder_of_single_files(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "algebra").mkdir(exist_ok=True)
        row = {
            "problem": f"Half of {number}?",
            "solution": f"It is $\\boxed{{\\frac{{{number}}}{{2}}}}$.",
            "level": "Level 1",
        }
        (tmp_path / "algebra" / f"{number}.json").write_text(json.dumps(row))
    problems = [_problem(item) for item in _read("math", tmp_path)]
    assert [problem.answer for problem in problems] == [r"\frac{1}{2}", r"\frac{2}{2}"]


def test_scibench_names_its_unit_and_is_right_within_five_per_cent(tmp_path: Path, verifier: Verifier) -> None:
    own = {"problem_text": "How far?", "answer_number": "−1,200.5", "answer_latex": "", "unit": " m", "source": "fund"}
    released = {"content": "How far? The unit of the answer should be m.", "answer": 3.0, "subset": "fund"}
    path = tmp_path / "fund.json"
    path.write_text(json.dumps([own, released]))
    first, second = (_problem(item) for item in _read("scibench", path))
    assert first.question == "How far? The unit of the answer should be m." and first.answer == "-1200.5"
    assert (first.kind, second.kind, second.answer) == ("numeric", "numeric", "3")
    near, far = (
        verifier.verify([Check(first.question, first.answer, first.kind, f"The answer is {said} m")])[0]
        for said in (-1190, -1000)
    )
    assert (near, far) == (Verdict.RIGHT, Verdict.WRONG)


def test_gpqa_choices_are_shuffled_the_same_way_each_time(tmp_path: Path) -> None:
    rows = [{**GPQA, "Question": f"What is heavier, case {number}?"} for number in range(40)]
    path = _csv(tmp_path / "gpqa_diamond.csv", rows)
    problems = [_problem(item) for item in _read("gpqa-diamond", path)]
    assert problems == _read("gpqa-diamond", path)
    assert {problem.answer for problem in problems} == set("ABCD")
    assert all(f"{problem.answer}. lead" in problem.question and problem.kind == "choice" for problem in problems)


def test_ceval_hard_reads_its_eight_subjects_alone(tmp_path: Path, verifier: Verifier) -> None:
    (tmp_path / "val").mkdir()
    _csv(tmp_path / "val" / "college_physics_val.csv", [CEVAL])
    _csv(tmp_path / "val" / "law_val.csv", [{**CEVAL, "question": "法律"}])
    problems = [_problem(item) for item in _read("ceval-hard", tmp_path)]
    assert len(problems) == 1 and "B. 2" in problems[0].question
    checks = [
        Check("", problems[0].answer, problems[0].kind, text) for text in ("答案是（B）。", "故选B", "答案是（C）。")
    ]
    assert verifier.verify(checks) == [Verdict.RIGHT, Verdict.RIGHT, Verdict.WRONG]


def test_parquet_is_read_like_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "test-00000.parquet"
    pq.write_table(pa.Table.from_pylist([{"problem": "1 + 1?", "solution": "", "answer": "2", "level": 1}]), path)
    assert _problem(_read("math500", path)[0]).answer == "2"


def test_bad_rows_are_told_of_and_stop_nothing(tmp_path: Path) -> None:
    path = _csv(tmp_path / "test.csv", [CEVAL, {**CEVAL, "answer": ""}, CEVAL])
    first, bad, last = _read("ceval-hard", path)
    assert isinstance(bad, BadLine) and bad.line_number == 3 and "answer" in bad.reason
    assert _problem(first) == _problem(last)


@pytest.mark.parametrize(
    ("content", "suffix", "message"),
    [("{", ".json", "not a JSON file"), ("{}", ".parquet", "not a Parquet file")],
)
def test_a_file_that_is_none_is_said(content: str, suffix: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        _read("math", path)


def test_names_and_files_that_do_not_fit_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        benchmark_named("gsm8k:nowhere.jsonl")
    with pytest.raises(InputError, match="made, not read"):
        benchmark_named("number-paths:x.jsonl")
    with pytest.raises(InputError, match="no file of rows"):
        _read("math", tmp_path)


def test_number_paths_of_its_difficulty_are_the_held_out_puzzles_of_the_demo() -> None:
    of_demo = benchmark_named(f"number-paths:{DemoSize().difficulty}")
    read = list(read_benchmark(of_demo, split=None, seed=3, strict=False, limit=50))
    assert read == demo_problems(3, DemoSize())["test"][:50]
    easy = list(read_benchmark(BENCHMARKS["number-paths"], split=None, seed=3, strict=False, limit=50))
    assert {distance(problem.question, ()) for problem in easy} == {3, 4, 5, 6}


def test_a_difficulty_that_there_is_not_is_said() -> None:
    with pytest.raises(InputError, match=r"distances of number paths are a range from 1 to 8 such as 2-8, not '5-9'"):
        list(read_benchmark(benchmark_named("number-paths:5-9"), split=None, seed=3, strict=False, limit=1))


def test_word_problems_are_made_too() -> None:
    read = list(read_benchmark(BENCHMARKS["word-problems"], split=None, seed=3, strict=False, limit=5))
    assert len(read) == 5 and all(isinstance(problem, Problem) and problem.kind == "word-problems" for problem in read)
