"""Grading against files of answers: agreement, answers taken for right that are wrong, and speed.

    python tests/bench/bench_grading.py --graded tests/golden/grading.jsonl \
        --gsm8k gsm8k_test.jsonl --answers math500.jsonl --answers scibench.jsonl \
        [--grader math-verify] [--without READING]

`--gsm8k` makes four outputs of every row, two of them wrong; `--answers` makes ten rewritings of
every true answer, two of them wrong. `--grader math-verify` asks that library alone (`pip install
math-verify==0.9.0`), as its authors call it; `--without` leaves one reading of our own out, to see
what it is worth.
"""

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Case = tuple[str, str, str, str]  # prediction, answer, kind, expected verdict
Grader = Callable[[str, str, str], str]
_FIRST_DIGITS = re.compile(r"\d+")


def graded_cases(path: Path) -> Iterator[Case]:
    """Yield the cases of a file whose lines hold their expected verdict."""
    for row in _rows(path):
        yield row["prediction"], row["answer"], row.get("kind", "math"), row["expected"]


def gsm8k_cases(path: Path) -> Iterator[Case]:
    """Yield four outputs for each row: its solution, a sentence, and both with a wrong number."""
    for number, row in enumerate(_rows(path)):
        steps, _, answer = row["answer"].rpartition("####")
        answer = answer.strip()
        other = str(int(answer.replace(",", "")) + 1 + number % 7)
        yield row["answer"], answer, "math", "right"
        yield f"{steps}#### {other}", answer, "math", "wrong"
        yield f"{steps}The answer is ${answer}.", answer, "math", "right"
        yield f"{steps}So the final answer is \\boxed{{{other}}}.", answer, "math", "wrong"


def rewritten_cases(path: Path) -> Iterator[Case]:
    """Yield ten ways of stating each row's answer, two of which state another one."""
    rows = list(_rows(path))
    for number, row in enumerate(rows):
        answer = str(row["answer"])
        kind = "numeric" if "subset" in row else "math"
        other = _other_answer(answer, kind, str(rows[(number + 1) % len(rows)]["answer"]))
        for text in _rewritings(answer):
            yield text, answer, kind, "right"
        yield f"The answer is \\boxed{{{other}}}", answer, kind, "wrong"
        yield f"**Answer:** ${other}$", answer, kind, "wrong"


def _rewritings(answer: str) -> list[str]:
    return [
        f"So we get \\boxed{{{answer}}}.",
        f"The answer is ${answer}$.",
        f"Therefore, the final answer is: $\\boxed{{{answer}}}$. I hope it is correct.",
        f"**Final Answer:** \\( {answer} \\)",
        f"#### {answer}",
        "\\boxed{" + answer.replace("\\frac", "\\dfrac").replace("\\left", "").replace("\\right", "") + "}",
        "答案是 $" + re.sub(r"(?<=[,+=-])(?=\S)", " ", answer) + "$。",
        f"Step 3: we add.\nThe answer is \\[ {answer} \\]",
    ]


def _other_answer(answer: str, kind: str, next_answer: str) -> str:
    found = _FIRST_DIGITS.search(answer)
    if found is None:
        return next_answer
    changed = int(found.group()) * (3 if kind == "numeric" else 1) + 1
    return answer[: found.start()] + str(changed) + answer[found.end() :]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def own_grader(without: str | None) -> Grader:
    """Return our own grading, one of its readings left out if asked."""
    from restmcts.adapters.verification.verifier import AnswerVerifier
    from restmcts_cli.commands.learning.grade import grade_line

    if without is not None:
        _leave_out(without)
    verifier = AnswerVerifier()
    verifier.compare_answers("x+1", "1+x")

    def grade(prediction: str, answer: str, kind: str) -> str:
        line = json.dumps({"prediction": prediction, "answer": answer, "kind": kind})
        return str(grade_line(line.encode(), verifier)["verdict"])

    return grade


def _leave_out(reading: str) -> None:
    from restmcts.domain.answers import equivalence, scalars

    if hasattr(equivalence.Comparison, reading):
        setattr(equivalence.Comparison, reading, lambda *_: None)
    kept = tuple(one for one in scalars.SCALAR_READINGS if one.__name__ != reading)
    equivalence.SCALAR_READINGS = kept


def math_verify_grader() -> Grader:
    """Return math-verify as its authors call it; what it cannot parse is undecided."""
    from math_verify import parse, verify

    def grade(prediction: str, answer: str, kind: str) -> str:
        truth, stated = parse(f"${answer}$"), parse(prediction)
        if not truth or not stated:
            return "undecided"
        return "right" if verify(truth, stated) else "wrong"

    return grade


def main() -> None:
    """Print one line a set of cases: how many, and what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--graded", "--gsm8k", "--answers"):
        parser.add_argument(name, type=Path, action="append", default=[])
    parser.add_argument("--grader", choices=("own", "math-verify"), default="own")
    parser.add_argument("--without")
    parser.add_argument("--show", action="store_true", help="Print each case that does not come out as expected.")
    asked = parser.parse_args()
    grade = own_grader(asked.without) if asked.grader == "own" else math_verify_grader()
    for paths, cases in ((asked.graded, graded_cases), (asked.gsm8k, gsm8k_cases), (asked.answers, rewritten_cases)):
        for path in paths:
            _measure(path, list(cases(path)), grade, asked.show)


def _measure(path: Path, cases: list[Case], grade: Grader, show: bool) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    start = time.perf_counter()
    for prediction, answer, kind, expected in cases:
        verdict = grade(prediction, answer, kind)
        counts[expected, verdict] += 1
        if show and verdict != expected:
            print(f"  {expected} -> {verdict}: {prediction[-120:]!r} | {answer!r}")
    seconds = time.perf_counter() - start
    agreeing = sum(count for (expected, verdict), count in counts.items() if expected == verdict)
    print(
        f"{path.name}: {len(cases)} cases, {agreeing / len(cases):.1%} agree,"
        f" {counts['wrong', 'right'] + counts['undecided', 'right']} right for wrong,"
        f" {counts['right', 'wrong']} wrong for right,"
        f" {counts['right', 'undecided'] + counts['wrong', 'undecided']} undecided,"
        f" {len(cases) / seconds:.0f} cases/s"
    )


if __name__ == "__main__":
    sys.exit(main())
