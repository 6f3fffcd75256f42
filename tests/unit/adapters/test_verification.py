"""The verifier with its real child process: verdicts, hostile text, limits, restarts, task
checkers.
"""

import logging
import time

import pytest
from restmcts.adapters.verification import verifier as verification
from restmcts.adapters.verification.verifier import AnswerVerifier
from restmcts.domain.problems import Check, Verdict
from restmcts.domain.tasks.task import TASKS, Judgement, Task, Tools, judged
from restmcts.errors import InputError
from restmcts.ports import Verifier


def _verdict(verifier: Verifier, truth: str | None, solution: str, kind: str = "math") -> Verdict:
    return verifier.verify([Check("How many?", truth, kind, solution)])[0]


@pytest.mark.parametrize(
    ("truth", "solution", "verdict"),
    [
        ("72", "48 / 2 = 24\n#### 72", "right"),
        ("72", "The answer is 73", "wrong"),
        ("72", "It must be 72", "wrong"),
        ("72", "\\boxed{72", "undecided"),
        ("3\\sqrt{2}", "\\boxed{\\sqrt{18}}", "right"),
        ("3\\sqrt{2}", "The answer is 3*sqrt(2)", "right"),
        ("2\\pi", "\\boxed{2\\pi \\approx 6.28}", "right"),
        ("\\frac{20000}{\\pi}", "The answer is 6366.1977", "right"),
        ("\\frac{20000}{\\pi}", "The answer is 6366", "wrong"),
        ("y = 2x + 3", "The answer is y - 2x = 3", "right"),
        ("5x - 7y + 4 = 0", "The answer is $10x - 14y + 8 = 0$.", "right"),
        ("6 - 5i", "The answer is -5i + 6", "right"),
        ("6 - 5i", "The answer is 6 + 5i", "wrong"),
        ("\\cot x", "The answer is \\frac{\\cos x}{\\sin x}", "right"),
        ("p - q", "The answer is q - p", "wrong"),
        ("1 \\pm \\sqrt{19}", "The answer is $1+\\sqrt{19}$ and $1-\\sqrt{19}$", "right"),
        ("1 \\pm \\sqrt{19}", "The answer is $1+\\sqrt{19}$", "wrong"),
        ("12\\pi", "The answer is $12\\pi$ square units.", "right"),
        ("2k", "The answer is 2", "wrong"),
        ("2^{2007}", "The answer is $2^{2007}-1$", "wrong"),
        ("640320^3+744", "The answer is $e^{\\pi\\sqrt{163}}$", "wrong"),
        ("(2,\\infty)", "The answer is $x \\geq 2$", "wrong"),
        ("(-\\infty, 2) \\cup (3, \\infty)", "\\boxed{(3,\\infty)\\cup(-\\infty,2]}", "wrong"),
        ("72", "We get 36 + 36 =", "undecided"),
        ("5", "The answer is 9^9^9^9", "undecided"),
        ("5", "The answer is " + "[" * 1_000_000, "undecided"),
    ],
)
def test_verdicts(verifier: AnswerVerifier, truth: str, solution: str, verdict: str) -> None:
    assert _verdict(verifier, truth, solution) == verdict


@pytest.mark.parametrize(
    ("truth", "stated", "verdict"),
    [
        ("50.7", "50 atm", "right"),
        ("50.7", "55", "wrong"),
        ("1368.0", "1.37 \\times 10^3 kJ/mol", "right"),
        ("6.283", "\\boxed{2\\pi}", "right"),
        ("0.0", "0.01", "wrong"),
    ],
)
def test_numeric_answers_have_a_tolerance(verifier: AnswerVerifier, truth: str, stated: str, verdict: str) -> None:
    assert _verdict(verifier, truth, f"The answer is {stated}", "numeric") == verdict
    assert _verdict(verifier, truth, f"The answer is {stated}", "scibench") == verdict


def test_a_check_that_takes_too_long_is_undecided_and_the_next_one_works() -> None:
    with AnswerVerifier() as verifier:
        assert verifier.compare_answers("x + 1", "1 + x") is Verdict.RIGHT
        verifier.time_limit_seconds = 0.5
        start = time.monotonic()
        verdict = verifier.compare_answers("0.6", "\\sum_{k=1}^{9999} \\frac{1}{k^{k}}")
        assert (verdict, time.monotonic() - start < 30.0) == (Verdict.UNDECIDED, True)
        verifier.time_limit_seconds = 30.0
        assert verifier.compare_answers("x + 1", "1 + x") is Verdict.RIGHT


def test_many_slow_parts_share_one_limit() -> None:
    slow = "\\sum_{k=1}^{9999} \\frac{1}{k^{k}}"
    with AnswerVerifier(time_limit_seconds=1.0) as verifier:
        verifier.compare_answers("x + 1", "1 + x")
        start = time.monotonic()
        assert verifier.compare_answers("1, 2, 3, 4, 5, 6", ", ".join([slow] * 6)) is Verdict.UNDECIDED
        assert time.monotonic() - start < 5.0


TIME = [
    "\\int_0^1 x^{x^{x^{x}}} \\sin(x^{x}) dx",
    "\\sum_{k=1}^{9999} \\frac{1}{k^{k}}",
    "\\prod_{k=1}^{9000} (1+\\frac{1}{k^3})",
    "\\sum_{n=1}^{\\infty} \\frac{\\sin(n^n)}{n^{n}}",
    "\\int_0^\\infty e^{-x^x} \\cos(x^3) dx",
    "\\sum_{k=1}^{\\infty}\\sum_{j=1}^{\\infty}\\frac{1}{k^3+j^{3}+1}",
    "\\frac{d^9}{dx^9} x^{x^{x^{x}}}",
    "\\int_0^1\\int_0^1\\int_0^1 \\frac{x^{y}}{1+z^{x y}} dx dy dz",
    "\\sin(\\cos(\\tan(10^{9999})))",
    "\\lim_{x\\to 0} \\frac{\\sin^{99} x}{x^{99}}",
]
MEMORY = [
    "9^{9^{9^{9}}}",
    "10^{10^{10}}!",
    "99999!",
    "\\binom{10^{9}}{5\\cdot 10^{8}}",
    "((9999!)!)!",
    "\\prod_{k=1}^{10000} k^{k^{9}}",
    "(x+y+z+1)^{9999}",
    "\\sum_{k=1}^{10000} k^{9999}",
    "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}^{9999}",
    "10^{9999}\\cdot 10^{9999}!",
]
NESTING = [
    "(" * 490 + "1" + ")" * 490,
    "\\sqrt{" * 100 + "2" + "}" * 100,
    "\\frac{1}{1+" * 60 + "x" + "}" * 60,
    "[" * 300 + "1,2" + "]" * 300,
    "x^{" * 200 + "2" + "}" * 200,
    "\\{" * 200 + "1" + "\\}" * 200,
    "-" * 900 + "1",
    "|" * 400 + "x" + "|" * 400,
    "x" + "!" * 900,
    "(" * 30 + ",".join(["(1,2)"] * 60) + ")" * 30,
]


def test_hostile_answers_of_one_tree_share_its_budget() -> None:
    checks = [Check("q", "\\frac{\\pi}{7}", "math", f"The answer is ${text}$\n") for text in TIME + MEMORY + NESTING]
    with AnswerVerifier(time_limit_seconds=0.5) as verifier:
        verifier.compare_answers("x + 1", "1 + x")
        start = time.monotonic()
        verdicts = verifier.verify([*checks, Check("q", "5", "math", "The answer is 5\n")])
        seconds = time.monotonic() - start
        verifier.time_limit_seconds = 30.0
        afterwards = verifier.compare_answers("x + 1", "1 + x")
    assert Verdict.RIGHT not in verdicts[:-1]
    assert verdicts[-1] is Verdict.RIGHT, "plain numbers are decided when the budget is spent"
    # Four answers' time, and at most as many new children, each of which may start slowly.
    assert seconds < 60.0
    assert afterwards is Verdict.RIGHT


LONG = 30_000
HERE = {
    "letters": "The answer is " + "$" * 20 * LONG + "5",
    "emphasis": "**" * LONG + "5" + "**" * LONG,
    "many right": "A is correct. " * LONG,
    "many not": "It is not A. " * LONG,
    "boxes": "\\boxed{" * LONG,
    "braces": "\\boxed{" + "\\{" * LONG + "1" + "\\}" * LONG + "}",
    "digits": "The answer is " + "9" * 1_000_000,
    "list": "The answer is (" + "1," * LONG + "1)",
    "words": "The answer is " + "one hundred and " * LONG + "one",
    "Chinese": "答案是" + "一万" * LONG,
    "unions": "\\boxed{" + "(1,2)\\cup" * LONG + "(3,4)}",
    "statements": "The answer is 5\n" * LONG,
}


@pytest.mark.parametrize("name", sorted(HERE))
@pytest.mark.parametrize(
    ("truth", "kind"),
    [("\\frac{\\pi}{7}", "math"), ("4", "numeric"), ("B", "choice")],
    ids=["math", "numeric", "choice"],
)
def test_what_is_read_in_this_process_takes_no_time_however_long_it_is(
    verifier: AnswerVerifier, name: str, truth: str, kind: str
) -> None:
    """No budget is kept where nothing is killed: a doubled text takes twice as long, not four
    times.
    """
    start = time.process_time()
    assert _verdict(verifier, truth, HERE[name], kind) != "right"
    assert time.process_time() - start < 2.0


def test_equal_answers_of_one_tree_are_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compare(_: object, truth: str, prediction: str, *limits: object) -> tuple[Verdict, float]:
        asked.append((truth, prediction))
        return Verdict.RIGHT, 0.0

    monkeypatch.setattr(verification.ExpressionChild, "compare", compare)
    check = Check("q", "3\\sqrt{2}", "math", "\\boxed{\\sqrt{18}}")
    assert AnswerVerifier().verify([check] * 50) == [Verdict.RIGHT] * 50
    assert asked == [("3\\sqrt{2}", "\\sqrt{18}")]


def test_the_child_may_die_at_any_time(verifier: AnswerVerifier) -> None:
    assert verifier.compare_answers("x + 2", "2 + x") is Verdict.RIGHT
    child = verifier._child._process
    assert child is not None
    child.kill()
    child.wait()
    assert verifier.compare_answers("x + 2", "2 + x") is Verdict.RIGHT


def test_a_closed_verifier_leaves_no_child() -> None:
    with AnswerVerifier() as verifier:
        verifier.compare_answers("x + 1", "1 + x")
        child = verifier._child._process
    assert child is not None and child.returncode is not None


def test_plain_numbers_need_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification.ExpressionChild, "compare", lambda *_: pytest.fail("the child was asked"))
    checks = [Check("q", str(number), "math", f"We add.\nThe answer is {number}.\n") for number in range(200)]
    assert set(AnswerVerifier().verify(checks)) == {Verdict.RIGHT}


class Manners(Task):
    def verify(self, check: Check, tools: Tools) -> Judgement:
        if not check.solution:
            raise ValueError("nothing to check")
        return Judgement(Verdict.RIGHT, 0.5) if "please" in check.solution else judged(Verdict.WRONG)


def test_a_task_verifies_its_kind(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TASKS, "_entries", TASKS._filled())
    TASKS.add("manners", Manners())
    verifier = AnswerVerifier()
    assert _verdict(verifier, None, "please", "manners") is Verdict.RIGHT
    assert verifier.judge([Check("q", None, "manners", "please")])[0].score == 0.5
    assert _verdict(verifier, None, "now", "manners") is Verdict.WRONG
    with caplog.at_level(logging.ERROR):
        assert _verdict(verifier, None, "", "manners") is Verdict.UNDECIDED
    assert "manners" in caplog.text
    with pytest.raises(InputError, match="verified by their whole solution"):
        verifier.compare_answers("please", "please", "manners")


def test_a_check_without_a_true_answer_is_undecided() -> None:
    assert _verdict(AnswerVerifier(), None, "The answer is 5") is Verdict.UNDECIDED


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match="above 0"):
        AnswerVerifier(time_limit_seconds=0)
    with pytest.raises(InputError, match="no kind of problem is called 'poems'"):
        _verdict(AnswerVerifier(), "5", "The answer is 5", "poems")


def test_the_version_names_the_library() -> None:
    assert "latex2sympy-" in AnswerVerifier().verifier_version
