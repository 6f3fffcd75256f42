"""Prompt templates as data, the critics' lines, and the search that asks critics."""

import pytest
from restmcts.domain.answers.extraction import extract_answer, states_answer
from restmcts.domain.prompts import TEMPLATES, Critic, read_critique, template_named
from restmcts.domain.requests import (
    GenerationSettings,
    ProposedStep,
    ProposeSteps,
    Request,
    Response,
    Sample,
    ScoreSteps,
    StepsProposed,
    StepsScored,
)
from restmcts.domain.search.mcts_star import MctsStar, MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.errors import InputError


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_shows_the_question_last_and_whole(name: str) -> None:
    template = TEMPLATES[name]
    question = "What is {question}, if 2 + {x} = 5?\nGive x."
    text = template.question_text(question)
    assert text.count(question) == 1 and text.endswith("\n")
    assert all(text.index(solution) < text.index(question) for _, solution in template.examples)
    assert template.question_text("other").removesuffix(text.rpartition(question)[2]).endswith("other")


def test_examples_are_solved_as_solutions_are_to_be_written() -> None:
    for _, solution in TEMPLATES["few-shot"].examples:
        *steps, last = solution.split("\n")
        assert steps and not any(map(states_answer, steps)) and states_answer(last)
    assert [extract_answer(solution) for _, solution in TEMPLATES["few-shot"].examples] == ["29", "7", "1/4"]


@pytest.mark.parametrize("name", [name for name in TEMPLATES if not name.startswith("code-")])
def test_the_form_of_answers_that_a_template_asks_for_is_read(name: str) -> None:
    asked = TEMPLATES[name].wording.instruction
    form = next(form for form in ("The answer is X", "答案是X") if form in asked)
    assert extract_answer(form.replace("X", "42")) == "42"


@pytest.mark.parametrize(
    ("step", "answer"), [("The answer is 7", "7"), (r"\boxed{7}", "7"), ("#### 7", "7"), ("答案是7", "7")]
)
def test_the_usual_forms_of_answers_end_a_solution(step: str, answer: str) -> None:
    assert states_answer(step) and extract_answer(step) == answer


def test_a_conversation_shows_examples_as_turns_and_the_written_steps_if_asked() -> None:
    template = TEMPLATES["few-shot"]
    messages = template.chat_messages("why?", "one\ntwo\n")
    assert [message["role"] for message in messages] == ["user", "assistant"] * 3 + ["user"]
    assert "one\ntwo" in messages[-1]["content"] and messages[-1]["content"].startswith("why?")
    assert "two" not in template.chat_messages("why?")[-1]["content"]
    assert "步骤" in TEMPLATES["steps-zh"].chat_messages("为何？", "一\n")[-1]["content"]


def test_a_template_that_is_not_there_is_bad_input() -> None:
    with pytest.raises(InputError, match="choose one of"):
        template_named("fancy")
    with pytest.raises(InputError, match="no prompt template"):
        GenerationSettings(template="fancy")


@pytest.mark.parametrize(
    ("reply", "solved"),
    [
        ("solved", True),
        ("Solved.", True),
        ("The problem is solved.", True),
        ("已解决。", True),
        ("unsolved", False),
        ("The problem is not solved", False),
        ("not yet solved", False),
        ("未解决", False),
        ("It can be solved by adding 3", False),
        ("Solve for y next", False),
        ("", False),
    ],
)
def test_critics_are_read(reply: str, solved: bool) -> None:
    assert read_critique("simple", reply).solved is solved
    common = read_critique("common", f"{reply}\n")
    assert (common.solved, common.analysis) == (solved, "" if solved else reply)


class Critical:
    """A policy that always has two steps to offer, and calls solutions of two steps solved."""

    def __init__(self) -> None:
        self.requests: list[ProposeSteps] = []

    def answer(self, request: Request) -> Response:
        if isinstance(request, ScoreSteps):
            values = tuple(tuple(0.5 for _ in branch) for branch in request.branches)
            return StepsScored(request.number, values, 1)
        self.requests.append(request)
        if request.critic is not None:
            texts = ["solved\n" if len(request.steps) >= 2 else f"go on after {len(request.steps)}\n"]
        else:
            texts = [f"{letter}{len(request.steps)}\n" for letter in "ab"]
        samples = tuple(Sample((ProposedStep(text, 2, 0.0),), 2, False) for text in texts[: request.num_samples])
        return StepsProposed(request.number, samples, 5)


def grow(critic: Critic) -> tuple[MctsStar, Critical]:
    settings = MctsStarSettings(mode="collect", branch=2, roll_forward_steps=0, self_critic=critic)
    search = MctsStar(settings, Budget(iterations=12), 0, states_answer)
    policy, waiting = Critical(), search.begin()
    while waiting:
        waiting += search.receive(policy.answer(waiting.pop(0)))
    return search, policy


@pytest.mark.parametrize("critic", ["simple", "common"])
def test_what_the_critic_calls_solved_is_final_and_not_expanded(critic: Critic) -> None:
    search, policy = grow(critic)
    finals = search.tree.final_nodes()
    assert finals and {node.depth for node in finals} == {2}
    assert not any(node.children for node in finals)
    asked = [request for request in policy.requests if request.critic is not None]
    assert {request.critic for request in asked} == {critic}
    assert all(request.steps and request.greedy and request.num_samples == 1 for request in asked), (
        "of nothing, nothing is asked"
    )
    assert len({request.steps for request in asked}) == len(asked), "once each"
    assert search.spent.tokens == sum(2 * min(request.num_samples, 2) for request in policy.requests)


def test_only_the_common_critics_analysis_goes_into_the_next_prompt() -> None:
    for critic, expected in (("simple", {""}), ("common", {"", "go on after 1"})):
        _, policy = grow(critic)  # type: ignore[arg-type]
        assert {request.analysis for request in policy.requests if request.critic is None} == expected
