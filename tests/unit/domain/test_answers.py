"""Where solutions state their answers, plain numbers, and the frames of answers compared
without algebra.
"""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from restmcts.domain.answers.choices import compare_choices
from restmcts.domain.answers.equivalence import Comparison
from restmcts.domain.answers.extraction import extract_answer, normalise_number, states_answer
from restmcts.domain.answers.normalisation import one_spelling
from restmcts.domain.problems import Verdict


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("So the final answer is \\boxed{12}.", "12"),
        ("**Answer:** 12", "12"),
        ("The answer is: 12 apples", "12 apples"),
        ("Final Answer: The final answer is $12$. I hope it is correct.", "12"),
        ("### Answer\n\n12", "12"),
        ("The answer is **12**.", "12"),
        ("Three steps.\n#### 1,234", "1,234"),
        ("因此，答案是 12。", "12"),
        ("答案：B", "B"),
        ("答案为\\frac12", "\\frac12"),
        ("故选C。", "C"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("The answer is \\[ \\frac{1}{2} \\]", "\\frac{1}{2}"),
        ("The answer is $\\boxed{1}$ and $\\boxed{2}$.", "1, 2"),
        ("The answer is B. Paris is nice", "B"),
        ("The answer is 3.5 dollars because it rained", "3.5 dollars"),
        ("The answer is $x=5$ and we are done.", "x=5"),
        ("The answer is $5$ cm.", "$5$ cm"),
        ("The answer to this problem is 7.", "7"),
        ("The answer is 12.\nThe answer is not 13.", "12"),
        ("The answer is 5.\nNo, the answer is 6.", "6"),
        ("The answer is 5, not 6.", "5"),
        ("The answer is 5</s>", "5"),
        ("\\boxed{12", "\\boxed{12"),
    ],
)
def test_the_last_stated_answer_is_extracted(solution: str, answer: str) -> None:
    assert extract_answer(solution) == answer
    assert states_answer(solution)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x = 5",
        "The answer is",
        "The answer is .",
        "The answer is correct.",
        "\\boxed{}",
        "We look for the answer.\n",
    ],
)
def test_a_text_without_an_answer_states_none(text: str) -> None:
    assert extract_answer(text) is None
    assert not states_answer(text)


@given(st.integers(-(10**12), 10**12))
def test_a_stated_number_comes_back(number: int) -> None:
    assert extract_answer(f"We add.\nThe answer is {number}\n") == str(number)
    assert normalise_number(f"{number:,}") == number


@given(st.text(alphabet="the answer is boxed\\{}$#().,0189^_ \n答案", max_size=200))
def test_any_text_is_handled(text: str) -> None:
    assert states_answer(text) == (extract_answer(text) is not None)
    normalise_number(text)
    one_spelling(text)


@pytest.mark.parametrize(
    "unit", ["(", "{", "\\boxed{", "answer", "answer is ", "答案", "####\n", "The answer is \\[\\frac", "\n "]
)
def test_extraction_is_linear_in_hostile_text(unit: str) -> None:
    start = time.perf_counter()
    extract_answer(unit * (200_000 // len(unit)))
    assert time.perf_counter() - start < 5.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234", 1234),
        ("1{,}234", 1234),
        ("11,\\! 111,\\! 100", 11_111_100),
        ("$50", 50),
        ("-$5", -5),
        ("\\$32,\\!348", 32348),
        ("50 dollars", 50),
        ("50%", Fraction(1, 2)),
        ("50\\%", Fraction(1, 2)),
        ("1/2", Fraction(1, 2)),
        ("\\frac12", Fraction(1, 2)),
        ("-\\dfrac{35}{9}", Fraction(-35, 9)),
        ("\\frac{270}7\\text{ degrees}", Fraction(270, 7)),
        ("1\\frac{4}{5}", Fraction(9, 5)),
        ("1 1/2", Fraction(3, 2)),
        ("12½", Fraction(25, 2)),
        ("0.\\overline{3}", Fraction(1, 3)),
        ("1.2e3", 1200),
        ("1.2 \\times 10^{3}", 1200),
        ("1.2×10³", 1200),
        ("5 \\cdot 10^{-3}", Fraction(1, 200)),
        ("5 \\text{ cm}", 5),
        ("5 \\mathrm{~m/s}^2", 5),
        ("90^\\circ", 90),
        ("−3", -3),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("twenty-five apples", 25),
        ("1.5 million", 1_500_000),
    ],
)
def test_plain_numbers_are_read(text: str, value: int | Fraction) -> None:
    assert normalise_number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5x",
        "2k",
        "3R^2",
        "6 - 5i",
        "12 or 13",
        "3\\sqrt{2}",
        "10:30",
        "4210_5",
        "9^9^9^9",
        "2^3",
        "1/0",
        "1e999999",
    ],
)
def test_anything_else_is_no_plain_number(text: str) -> None:
    assert normalise_number(text) is None


def _unable(truth: str, prediction: str) -> Verdict:
    """Stand in for algebra that can decide nothing: what comes out otherwise was decided
    without it.
    """
    return Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("truth", "prediction", "verdict"),
    [
        ("0.5", "1/2", "right"),
        ("50\\%", "50", "right"),
        ("50\\%", "0.5", "right"),
        ("12", "he has 12 apples", "right"),
        ("18", "18 dollars from 6 eggs", "undecided"),
        ("12", "13", "wrong"),
        ("12", "12 or 13", "wrong"),
        ("5 \\text{ m}", "500 cm", "right"),
        ("5 \\text{ cm}", "5 m", "wrong"),
        ("15\\mbox{ cm}^2", "15 square centimeters", "right"),
        ("x=5", "5", "right"),
        ("5", "x = 5", "right"),
        ("\\{1,2\\}", "2, 1", "right"),
        ("\\{1,2\\}", "(1,2)", "wrong"),
        ("(1,2)", "(2,1)", "wrong"),
        ("[1,2)", "(1,2)", "wrong"),
        ("[1,2)", "1 \\le x < 2", "right"),
        ("(2,\\infty)", "x > 2", "right"),
        ("(-\\infty, 2) \\cup (3, \\infty)", "x<2 or x>3", "right"),
        ("\\pm 5", "5 or -5", "right"),
        ("100, 200, 300", "100,200,300", "right"),
        ("\\begin{pmatrix} 1/2 \\\\ 3 \\end{pmatrix}", "\\begin{bmatrix} \\frac12 \\\\ 3 \\end{bmatrix}", "right"),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "(1,2)", "right"),
        (
            "\\begin{pmatrix} 1 & 0 \\\\ 0 & 1 \\end{pmatrix}",
            "\\begin{pmatrix} 1 & 0 \\\\ 0 & -1 \\end{pmatrix}",
            "wrong",
        ),
        ("\\text{even}", "Even.", "right"),
        ("\\text{even}", "odd", "wrong"),
        ("\\text{even}", "neither even nor odd", "wrong"),
        ("\\text{even}", "the function is even", "undecided"),
        ("\\text{(C)}", "C", "right"),
        ("\\text{(C)}", "(D) 4", "wrong"),
        ("4210_{5}", "4210", "right"),
        ("4210_{5}", "555", "wrong"),
        ("10:30", "10:30 AM", "right"),
        ("10:30", "10:31", "wrong"),
        ("3:2", "1.5", "undecided"),
        ("5", "no solution", "wrong"),
        ("1/2", "one half", "right"),
        ("12", "at least 12", "wrong"),
        ("12", "not 12", "wrong"),
        ("12", "12 squared", "undecided"),
        ("2", "2 ab", "undecided"),
        ("x \\ge 12", "at least 12", "right"),
        ("(x,y)=(1,2)", "y=2, x=1", "right"),
        ("a=1, b=2", "a=2, b=1", "wrong"),
        ("(5,3)", "y=3, x=5", "right"),
        ("(1200)", "(1,200)", "wrong"),
        ("1000x", "1,000x", "right"),
        ("150 minutes", "2 hours 30 minutes", "right"),
        ("5 \\pmod 7", "x \\equiv 12 \\pmod{7}", "right"),
        ("3:2", "6:4", "right"),
        ("3:20", "6:40", "wrong"),
        ("120000", "十二万", "right"),
        ("5", "\\frac{1}{", "undecided"),
        ("5", "\\begin{pmatrix} 5", "undecided"),
        ("5", "(" * 1_000_000, "undecided"),
        ("3/4", "$\\frac{3}{4}$, or 0.75", "right"),
        ("0.333333", "1/3", "right"),
        ("1/3", "0.33", "wrong"),
        ("\\sqrt{2}", "\\sqrt 2", "right"),
        ("\\frac{\\pi}{4}", "\\frac\\pi4", "right"),
        ("\\frac{2}{\\theta}", "\\frac2\\theta", "right"),
        ("\\sqrt{\\pi}", "\\sqrt\\pi", "right"),
        ("2^{\\frac{1}{2}}", "2^\\frac12", "right"),
    ],
)
def test_frames_of_answers_are_compared_without_algebra(truth: str, prediction: str, verdict: str) -> None:
    assert Comparison(_unable).answers(truth, prediction) == verdict


@pytest.mark.parametrize(
    ("truth", "prediction", "verdict"),
    [
        ("B", "(B)", "right"),
        ("(B)", "b)", "right"),
        ("B", "B. Paris", "right"),
        ("B. Paris", "option B", "right"),
        ("B", "C", "wrong"),
        ("B", "A and B", "wrong"),
        ("B", "Paris", "undecided"),
        ("A", "A photon", "undecided"),
        ("B", "A is wrong. B is correct.", "right"),
        ("B", "A选项错误，B选项正确。故本题选B。", "right"),
        ("J", "The answer is (J).", "right"),
        ("A", "Neither A nor B is correct", "undecided"),
    ],
)
def test_choices_are_compared_by_their_letter(truth: str, prediction: str, verdict: str) -> None:
    assert compare_choices(truth, prediction) == verdict
