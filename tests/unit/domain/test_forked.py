"""Forked sampling under a policy whose every token is known, so that the order of its forks can be
worked out by hand.
"""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from restmcts.domain.answers.extraction import states_answer
from restmcts.domain.requests import Alternative, ProposedStep, ProposeSteps, Request, Response, Sample, StepsProposed
from restmcts.domain.search.forked import Forked, ForkedSettings
from restmcts.domain.search.protocol import Budget, StopReason
from restmcts.testing.scripted import run_search

# How sure the policy is of its first, second and third letter: entropies 0.33, 0.69 and 0.50 nats.
SURE = (0.9, 0.5, 0.8)


class SpellingPolicy:
    """Writes three letters, a step each, and the answer made of them; the letter is that of the
    request's number, so that every sample is another.
    """

    def __init__(self, tells_alternatives: bool = True) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._tells = tells_alternatives

    def answer(self, request: Request) -> Response:
        assert isinstance(request, ProposeSteps) and not request.greedy and request.num_samples == 1
        self.asked.append(request.steps)
        letter = "abcdefghijkl"[request.number]
        written = [*request.steps]
        while len(written) < 3:
            written.append(f"{letter}\n")
        written.append(f"The answer is {''.join(written).replace(chr(10), '')}\n")
        steps = [self._step(text, place) for place, text in enumerate(written)][len(request.steps) :]
        return StepsProposed(request.number, (Sample(tuple(steps), len(steps), True),), 1)

    def _step(self, text: str, place: int) -> ProposedStep:
        if place == 3:
            return ProposedStep(text, 1, 0.0)
        log_prob = math.log(SURE[place])
        others = (Alternative("z", 0.0, math.log(1.0 - SURE[place]), 0),) if self._tells else ()
        return ProposedStep(text, 1, log_prob, others)


def search(num_samples: int, tells: bool = True, **options: Any) -> tuple[Forked, list[str]]:
    policy = SpellingPolicy(tells)
    machine = Forked(ForkedSettings(**options), Budget(iterations=num_samples), 0, states_answer)
    run_search(machine, policy.answer)
    return machine, ["".join(steps).replace("\n", "") for steps in policy.asked]


@pytest.mark.parametrize("tells", [True, False])
def test_the_least_sure_step_is_forked_first_and_none_twice(tells: bool) -> None:
    """After aaa: its second step is least sure, then that of the fork abb, and so on; equal ones in
    the order in which they were written.
    """
    machine, asked = search(6, tells)
    assert asked == ["", "a", "a", "a", "a", "a"], "every fork brings a second step as unsure as the last"
    assert [child.step for child in machine.tree.children_of(machine.tree[1])] == [f"{c}\n" for c in "abcdef"]
    assert machine.tree.root.visits == 6 and machine.tree[1].visits == 6
    assert machine.stop_reason == StopReason.BUDGET


def test_solutions_from_the_problem_alone_come_first() -> None:
    machine, asked = search(4, num_roots=3)
    assert asked == ["", "", "", "a"]
    assert len(machine.tree.final_nodes()) == 4


def test_what_a_fork_shares_with_a_solution_costs_nothing() -> None:
    machine, _ = search(3)
    assert machine.spent.tokens == 4 + 3 + 3
    assert machine.spent.scored_tokens == 0


def test_where_all_samples_are_one_the_problem_is_asked_again_until_enough_are_there() -> None:
    def always_the_same(request: Request) -> Response:
        text = ("a\n", "The answer is a\n")[len(request.steps) :]
        steps = tuple(ProposedStep(one, 1, -0.5) for one in text)
        return StepsProposed(request.number, (Sample(steps, len(steps), True),), 1)

    machine = Forked(ForkedSettings(max_samples=5), Budget(tokens=1000), 0, states_answer)
    run_search(machine, always_the_same)
    assert machine.spent.iterations == 5 and machine.stop_reason == StopReason.COMPLETE
    assert machine.chosen is not None and machine.chosen.multiplicity == 5


def test_the_answer_is_that_of_most_samples() -> None:
    answers = iter(["7", "8", "8"])

    def numbers(request: Request) -> Response:
        step = ProposedStep(f"The answer is {next(answers)}\n", 1, -0.5)
        return StepsProposed(request.number, (Sample((step,), 1, True),), 1)

    machine = Forked(ForkedSettings(num_roots=3), Budget(iterations=3), 0, states_answer)
    run_search(machine, numbers)
    assert machine.chosen is not None and _said(machine.tree.steps_to(machine.chosen)) == "8"


def _said(steps: Sequence[str]) -> str:
    return steps[-1].strip().rpartition(" ")[2]
