"""The contract of `restmcts.ports.Verifier`."""

from restmcts.domain.problems import Check, Verdict
from restmcts.domain.requests import CallTool
from restmcts.ports import Verifier


def check_verifier(verifier: Verifier) -> None:
    """Try a verifier of mathematical answers.

    Raises:
        AssertionError: at the first thing that it does not do.
    """
    cases = [
        ("7", "So it is 7.\nThe answer is 7\n", Verdict.RIGHT),
        ("7", "The answer is 8\n", Verdict.WRONG),
        ("7", "No answer is stated here.\n", Verdict.WRONG),
        ("7", "", Verdict.WRONG),
        (None, "The answer is 7\n", Verdict.UNDECIDED),
    ]
    checks = [Check("What is 3 + 4?", truth, "math", solution) for truth, solution, _ in cases]
    expected = [verdict for *_, verdict in cases]
    assert verifier.verify(checks) == expected, "one verdict a check, in order"
    assert verifier.verify(checks[::-1]) == expected[::-1]
    assert verifier.verify([]) == []
    scores = {Verdict.RIGHT: 1.0, Verdict.WRONG: 0.0, Verdict.UNDECIDED: None}
    assert [(one.verdict, one.score) for one in verifier.judge(checks)] == [(one, scores[one]) for one in expected]
    answered = verifier.answer_call(CallTool(3, ("So:\n", "calc: 3*(4+5)\n"), "math", 100))
    assert (answered.number, answered.text, answered.is_known) == (3, "result: 27", True)
    unanswered = verifier.answer_call(CallTool(4, ("this is no call\n",), "math", 100))
    assert (unanswered.number, unanswered.is_known) == (4, False), "what cannot be answered is not known"
