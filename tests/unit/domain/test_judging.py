"""Solutions judged by language models: what is asked, what is replied, and what follows from it."""

import pytest
from restmcts.domain.problems import Verdict
from restmcts.domain.tasks.task import Judgement
from restmcts.domain.truth.judging import MAX_KEPT_CHARACTERS, Finding, Reply, accepted_answer, agreed, judge_prompts
from restmcts.domain.truth.truth_settings import TruthSettings
from restmcts.errors import InputError

YES, NO, NEITHER = "It holds.\nThe answer is yes", "“3 + 4 = 8” does not.\nThe answer is no", "I cannot say."


def replies(*texts: str) -> list[Reply]:
    return [Reply(f"judge {number // 2}", text) for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (YES, True),
        (NO, False),
        ("Yes.", True),
        ("because of it:\n**No**", False),
        ("so \\boxed{yes}", True),
        (NEITHER, None),
        ("", None),
        ("yes or no?\nwho knows", None),
    ],
)
def test_a_reply_says_what_its_end_says(text: str, says: bool | None) -> None:
    assert Reply("judge", text).says is says


def test_a_criterion_is_asked_in_both_orders_with_all_that_it_is_about() -> None:
    first, second = judge_prompts("How {many}?", "3 + 4 = 8\nThe answer is 8\n", "Every {sum} is right.")
    for prompt in (first, second):
        assert all(text in prompt for text in ("How {many}?", "3 + 4 = 8\nThe answer is 8\n", "Every {sum} is right."))
    assert first.endswith("yes or no.") and second.endswith("no or yes.")


def test_judges_that_do_not_agree_say_nothing() -> None:
    assert agreed(replies(YES, YES, YES, YES)) is True
    assert agreed(replies(NO, NO)) is False
    for texts in ((YES, NO), (YES, YES, NO, NO), (YES, NEITHER), (NEITHER, NEITHER), (NO, NO, NO, YES)):
        assert agreed(replies(*texts)) is None


def test_a_solution_is_right_if_all_criteria_are_met_and_wrong_at_the_first_that_is_not() -> None:
    met, unmet, open_ = replies(YES, YES), replies(NO, NO), replies(YES, NO)
    right = Finding({"a": met, "b": met}, 2).judgement
    assert (right.verdict, right.score, right.source) == (Verdict.RIGHT, 1.0, "judge")
    wrong = Finding({"a": met, "b": unmet}, 3).judgement
    assert (wrong.verdict, wrong.score) == (Verdict.WRONG, pytest.approx(1 / 3))
    assert "b no: judge 0 wrote ““3 + 4 = 8” does not. The answer is no”" in wrong.reason
    undecided = Finding({"a": met, "b": open_}, 3).judgement
    assert (undecided.verdict, undecided.score) == (Verdict.UNDECIDED, None)


def test_the_next_criterion_is_asked_only_of_what_met_all_before() -> None:
    met = replies(YES, YES)
    assert Finding({}, 2).is_open and Finding({"a": met}, 2).is_open
    assert not Finding({"a": met, "b": met}, 2).is_open
    assert not Finding({"a": replies(NO, NO)}, 2).is_open and not Finding({"a": replies(YES, NO)}, 2).is_open


def test_what_is_stored_of_a_reply_is_one_line_and_bounded() -> None:
    reason = Finding({"a": replies(f"long {'x' * 5000}\n\nThe answer is no", NO)}, 2).judgement.reason
    assert "\n" not in reason and len(reason) < 2 * MAX_KEPT_CHARACTERS + 100


def test_the_answer_of_most_right_solutions_is_accepted() -> None:
    right, wrong = Judgement(Verdict.RIGHT, 1.0, "judge"), Judgement(Verdict.WRONG, 0.0, "judge")
    assert accepted_answer({1: "5", 2: "5", 3: "6", 4: None}, {1: right, 2: right, 3: right, 4: right}) == "5"
    assert accepted_answer({1: "5", 2: "6", 3: "6"}, {1: right, 2: wrong, 3: wrong}) == "5"
    assert accepted_answer({1: "5", 2: "6"}, {1: right, 2: right}) is None, "two have as many"
    assert accepted_answer({1: "5", 2: None}, {1: wrong, 2: right}) is None


def test_judges_are_named_where_they_are_asked_and_nowhere_else() -> None:
    with pytest.raises(InputError, match="name at least one model that judges"):
        TruthSettings("judge")
    with pytest.raises(InputError, match="votes asks no judge"):
        TruthSettings("votes", judges=("chat+http://localhost/v1?model=a",))
    with pytest.raises(InputError, match="at least one statement"):
        TruthSettings("judge", judges=("chat+http://localhost/v1?model=a",), criteria=())
    assert not TruthSettings("judge", judges=("chat+http://localhost/v1?model=a",)).knows_answers
    assert TruthSettings("tests").knows_answers
