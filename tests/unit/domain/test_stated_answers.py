"""What ends a solution: statements of an answer; no heading, condition, denial, remark or
placeholder does.
"""

import time

import pytest
from restmcts.domain.answers.extraction import extract_answer, is_cut_off, states_answer

HEADINGS = [
    "Step 1: Find the total",
    "Step 3: Multiply 3 by 4",
    "Part (a)",
    "Case 2: x > 0",
    "1. Add the numbers",
    "2) Find the answer",
    "Conclusion",
    "Understanding the problem",
    "Answer",
    "Find the total number of eggs",
    "The answer is a prime number that we seek",
    "Step 4: The answer is close",
    "第一步：求和",
    "步骤 2：答案的计算",
    "解题思路",
    "答案",
]


@pytest.mark.parametrize("level", range(1, 7))
@pytest.mark.parametrize("heading", HEADINGS)
def test_a_heading_ends_no_solution(level: int, heading: str) -> None:
    assert not states_answer(f"{'#' * level} {heading}\n")


@pytest.mark.parametrize(
    "text",
    [
        "If x = 3, the answer is 5.",
        "We check whether the answer is 5.",
        "Suppose the answer is 10.",
        "The answer is 5 if x > 0.",
        "如果x=3，答案是5",
        "The answer is not 3.",
        "The answer isn't 5.",
        "The answer cannot be 3.",
        "答案不是3",
        "答案并非5",
        "The answer must be positive.",
        "The answer should be an even number less than 10.",
        "The answer would be larger than 5.",
        "The answer should be about 50.",
        "The answer lies between 3 and 5.",
        "The answer has 3 digits.",
        "答案必须是正数",
        "答案应该大于0",
        "答案的单位是米",
        "答案取决于x",
        "The answer to part a is 3, so continue.",
        "The answer to the first question is 5.",
        "The answer for step 2 is 10",
        "The answer in part (b) is 7",
        "The intermediate answer is 5",
        "One possible answer is 5",
        "The answer is 5, so we still need to multiply.",
        "第一问的答案是3",
        "(1)的答案是5",
        "The answer is X",
        "The answer is (letter).",
        "The answer is [answer]",
        "The answer is ...",
        "\\boxed{answer}",
        "\\boxed{...}",
        "答案是（字母）",
        "The answer is:",
        "答案是",
        "####",
    ],
)
def test_conditions_denials_remarks_and_placeholders_end_no_solution(text: str) -> None:
    assert not states_answer(text + "\n")
    assert extract_answer(text) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### 72", "72"),
        ("####1234", "1234"),
        ("#### $70,000.00", "$70,000.00"),
        ("#### \\frac{1}{2}", "\\frac{1}{2}"),
        ("#### 12 apples", "12 apples"),
        ("#### p - q", "p - q"),
        ("#### Yes", "Yes"),
        ("#### B", "B"),
        ("### Final Answer: 12", "12"),
        ("## Answer: B", "B"),
        ("# The answer is 12", "12"),
        ("### 答案：12", "12"),
        ("The answer must be 12.", "12"),
        ("The answer should be $\\frac{1}{2}$", "\\frac{1}{2}"),
        ("The answer is 5, not 6", "5"),
        ("The answer is 12 because if x=3 then y=4.", "12"),
        ("The answer to this problem is 7.", "7"),
        ("The answer is x", "x"),
        ("The answer is even.", "even"),
        ("答案是3", "3"),
        ("答案应该是D", "D"),
        ("答：8", "8"),
        ("<answer>48</answer>", "48"),
        ("\\boxed{\\text{The answer is } 12}", "12"),
        ("$x=\\boxed{10}$ or $x=\\boxed{20}$", "10, 20"),
    ],
)
def test_an_answer_ends_a_solution(text: str, answer: str) -> None:
    assert states_answer(text + "\n")
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 5. No, wait. It is 6.",
        "The answer is 5. Correction: 6.",
        "The answer is 5, which is impossible.",
        "So \\boxed{5}. Scratch that, it is 6.",
        "\\boxed{5} is wrong.",
        "It is not \\boxed{5}",
        "Suppose that \\boxed{5}.",
        "答案是5。不对，应该是6。",
    ],
)
def test_an_answer_that_is_taken_back_comes_with_the_words_that_do_so(text: str) -> None:
    assert extract_answer(text) not in (None, "5")


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 5. No other number fits.",
        "The answer is 5. If x were 6, that is another case.",
        "The answer is 5. Let me verify: 2 + 3 = 5.",
        "Since 9 is not even, the answer is 5.",
        "Statement B is false, so the answer is 5.",
        "I think the answer is 5.",
        "x is not 6. So \\boxed{5}. This is right.",
    ],
)
def test_words_beside_an_answer_that_do_not_take_it_back_leave_it_alone(text: str) -> None:
    assert extract_answer(text) == "5"


@pytest.mark.parametrize(
    "text",
    [
        "One might think the answer is 5.",
        "It is false that the answer is 5.",
        "A common mistake: the answer is 5.",
        "<think>\\boxed{5}</think> I am not sure.",
        "<thinking>The answer is 5</thinking>",
        "<|begin_of_thought|>\\boxed{5}<|end_of_thought|> Hm.",
    ],
)
def test_what_others_say_and_what_a_thought_says_is_no_answer(text: str) -> None:
    assert extract_answer(text) is None


BLANKS = " " * 25_000


@pytest.mark.parametrize(
    "text",
    [
        "<think>" * 20_000,
        "not " * 25_000,
        "answer is 5, no, " * 6_000,
        "but " * 25_000,
        f"\\boxed{{{BLANKS}}}",
        f"\\boxed{{\\text{{{BLANKS}so{BLANKS}the answer{BLANKS}5}}}}",
    ],
)
def test_long_texts_are_read_in_linear_time(text: str) -> None:
    start = time.process_time()
    extract_answer(f"The answer is 5. {text}")
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("<think>The answer is 5", True),
        ("So 3 + 4 =", True),
        ("The answer is\n", True),
        ("We get $x = 3", True),
        ("It is \\boxed{12", True),
        ("and then (", True),
        ("He pays $5\n", False),
        ("No answer is stated here.\n", False),
        ("", False),
    ],
)
def test_a_text_that_breaks_off_is_noticed(text: str, cut: bool) -> None:
    assert is_cut_off(text) == cut
