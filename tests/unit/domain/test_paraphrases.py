"""Which steps count as saying the same."""

import pytest
from restmcts.domain.search.paraphrases import normalised_step


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("So Tom has 3 + 4 = 7 apples.\n", "Tom has 3+4=7 apples"),
        ("Then, Tom has 7 apples\n", "So now Tom has 7 apples\n"),
        ("It costs $1,200.", "it costs 1200"),
        ("3 × 4 = 12", "3 * 4 = 12"),
        ("6 ÷ 2 − 1 = 2", "6 / 2 - 1 = 2"),
        ("Ｔｏｍ has 7", "tom has 7"),
    ],
)
def test_the_same_in_other_words(one: str, other: str) -> None:
    assert normalised_step(one) == normalised_step(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3 + 4 = 7", "3 - 4 = 7"),
        ("(3 + 4) * 2", "3 + 4 * 2"),
        ("x is 1.5", "x is 15"),
        ("Tom has 7", "Ann has 7"),
        ("1, 200", "1,200"),
        ("7 apples", "apples 7"),
        ("now", "then"),
    ],
)
def test_not_the_same(one: str, other: str) -> None:
    assert normalised_step(one) != normalised_step(other)
