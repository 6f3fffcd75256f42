"""The child process that compares expressions: one JSON line in, one JSON line
out.

Runs what hostile text may blow up (computer algebra), so it bounds its own memory and ends itself
when a check overruns, even if its parent is gone. Started by
`restmcts.adapters.verification.verifier` only; reads nothing but its standard input.
"""

import json
import logging
import os
import resource
import signal
import sys
from fractions import Fraction
from typing import Any, TextIO

from restmcts.adapters.verification.algebra import compare, parsed, real_value
from restmcts.adapters.verification.real_sets import compare_sets
from restmcts.domain.answers.formulas import describes_a_set, has_relation
from restmcts.domain.answers.quantities import Quantity, equal_quantities, is_close, parse_quantity
from restmcts.domain.problems import Verdict

GRACE_SECONDS = 1.0


def compare_expressions(truth: str, prediction: str, relative_tolerance: float | None) -> Verdict:
    """Return whether two LaTeX expressions are equal; UNDECIDED if either cannot be parsed or
    the algebra gives up.
    """
    if describes_a_set(truth) or describes_a_set(prediction):
        verdict = compare_sets(truth, prediction)
        if verdict is not Verdict.UNDECIDED or not has_relation(truth) or not has_relation(prediction):
            return verdict
    gold, candidate = parsed(truth), parsed(prediction)
    if gold is None or candidate is None:
        return Verdict.UNDECIDED
    if relative_tolerance is not None:
        return _compare_values(gold, candidate, relative_tolerance)
    verdict = compare(gold, candidate)
    if verdict is not Verdict.RIGHT:
        for written, other in ((parse_quantity(truth), candidate), (parse_quantity(prediction), gold)):
            if written is not None and written.num_decimals > 0:
                return _compare_with_decimal(written, other)
    return verdict


def _compare_values(gold: Any, candidate: Any, relative_tolerance: float) -> Verdict:
    true_value, value = real_value(gold), real_value(candidate)
    if true_value is None or value is None:
        return compare(gold, candidate)
    return Verdict.RIGHT if is_close(_fraction(true_value), _fraction(value), relative_tolerance) else Verdict.WRONG


def _compare_with_decimal(written: Quantity, other: Any) -> Verdict:
    """Compare a decimal number with an expression, which it may give rounded."""
    value = real_value(other)
    right = value is not None and equal_quantities(written, Quantity(_fraction(value)))
    return Verdict.RIGHT if right else Verdict.WRONG


def _fraction(number: Any) -> Fraction:
    return Fraction(int(number.p), int(number.q))


def main(requests: TextIO, answers: TextIO, memory_bytes: int) -> None:
    """Answer requests until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    # The libraries do much of their work on first use; that must not count against the first
    # check's time.
    compare_expressions("\\sqrt{2}", "2^{1/2}", None)
    answers.write("ready\n")
    answers.flush()
    for line in requests:
        request = json.loads(line)
        # The default action of the alarm ends the process in whatever code it is stuck: an orphan
        # must not compute forever.
        signal.setitimer(signal.ITIMER_REAL, request["seconds"] + GRACE_SECONDS)
        verdict, out_of_memory = _answer(request)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(f"{verdict}\n")
        answers.flush()
        if out_of_memory:
            return


def _answer(request: dict[str, Any]) -> tuple[Verdict, bool]:
    try:
        return compare_expressions(request["truth"], request["prediction"], request["relative_tolerance"]), False
    except MemoryError:
        return Verdict.UNDECIDED, True
    except Exception:
        # Whatever the algebra raises on hostile text, the check is undecided.
        return Verdict.UNDECIDED, False


if __name__ == "__main__":
    # Libraries may print: the answers get their own descriptor, and standard output leads nowhere.
    answers_descriptor = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with os.fdopen(answers_descriptor, "w", encoding="utf-8") as answers_stream:
        main(sys.stdin, answers_stream, int(sys.argv[1]))
