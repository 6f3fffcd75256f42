"""Best-first branching under a policy whose every token is known, so that what must come out can be worked out by hand."""

import math
from dataclasses import replace

import pytest
from restmcts.domain.answers import states_answer
from restmcts.domain.best_first import BestFirst, BestFirstSettings
from restmcts.domain.requests import (
    Alternative,
    ProposedStep,
    ProposeSteps,
    Request,
    Response,
    Sample,
    ScoreSteps,
    StepsProposed,
    StepsScored,
)
from restmcts.domain.search import Budget, StopReason
from restmcts.errors import InputError
from restmcts.testing.scripted import run_search

# A solution is one letter a step for two steps, then the answer made of both letters.
LETTERS = {"a": 0.6, "b": 0.3, "c": 0.1}
VALUES = {"aa": 0.1, "ab": 0.2, "ac": 0.2, "ba": 0.95, "bb": 0.3, "bc": 0.3, "ca": 0.0, "cb": 0.0, "cc": 0.0}


class LetterPolicy:
    """Each step is the likeliest letter, or the one it is begun with; values are known for whole solutions only."""

    def __init__(self) -> None:
        self.begun: list[tuple[tuple[str, ...], str]] = []

    def answer(self, request: Request) -> Response:
        if isinstance(request, ScoreSteps):
            values = tuple(
                self._value("".join(request.steps + branch[: place + 1]))
                for branch in request.branches
                for place in range(len(branch))
            )
            return StepsScored(request.number, (values,), len(values))
        self.begun.append((request.steps, request.begun))
        steps: list[ProposedStep] = []
        written = list(request.steps)
        while not steps or not states_answer(steps[-1].text):
            steps.append(self._step(written, request.begun if not steps else "", request.num_alternatives))
            written.append(steps[-1].text)
        return StepsProposed(request.number, (Sample(tuple(steps), len(steps), True),), 1)

    def _step(self, written: list[str], begun: str, num_alternatives: int) -> ProposedStep:
        if len(written) == 2:
            return ProposedStep(f"The answer is {written[0].strip()}{written[1].strip()}\n", 1, 0.0)
        if begun:
            return ProposedStep(f"{begun}\n", 0, 0.0)
        others = tuple(Alternative(letter, 0.0, math.log(LETTERS[letter]), 0) for letter in "bc")[:num_alternatives]
        return ProposedStep("a\n", 1, math.log(LETTERS["a"]), others)

    def _value(self, text: str) -> float:
        letters = text.replace("The answer is ", "").split()
        return VALUES[letters[-1]] if len(letters) == 3 else 0.5


def search(budget: Budget | None = None, **options: object) -> tuple[BestFirst, LetterPolicy]:
    policy = LetterPolicy()
    machine = BestFirst(BestFirstSettings(**options), budget or Budget(iterations=50), 0, states_answer)  # type: ignore[arg-type]
    run_search(machine, policy.answer)
    return machine, policy


def test_branches_are_taken_by_probability_and_nothing_twice() -> None:
    machine, policy = search(gate=None, value_weight=0.0, log_prob_weight=0.0)
    assert policy.begun[0] == ((), "")
    taken = ["".join(steps).replace("\n", "") + begun for steps, begun in policy.begun[1:]]
    assert taken == ["b", "ab", "c", "bb", "ac", "bc", "cb", "cc"], "0.3, 0.18, 0.1, 0.09, 0.06, 0.03, 0.03, 0.01"
    assert machine.stop_reason == StopReason.COMPLETE
    assert len(machine.tree.final_nodes()) == 9
    assert machine.chosen is not None and machine.tree.steps_to(machine.chosen) == ("b\n", "a\n", "The answer is ba\n")


def test_log_probabilities_of_branches_are_those_of_the_whole_solution() -> None:
    machine, _ = search(gate=None)
    for node in machine.tree.final_nodes():
        first, second = (step.strip() for step in machine.tree.steps_to(node)[:2])
        assert machine.tree.log_prob_of(node) == pytest.approx(math.log(LETTERS[first] * LETTERS[second]))


def test_it_stops_at_the_gate_with_the_score_that_holds_both_parts() -> None:
    machine, policy = search(gate=0.6, value_weight=0.0, log_prob_weight=0.1)
    assert machine.stop_reason == StopReason.GATE
    assert machine.chosen is not None and machine.tree.steps_to(machine.chosen)[-1] == "The answer is ba\n"
    assert len(policy.begun) == machine.spent.iterations == 2
    never, _ = search(gate=0.6, log_prob_weight=1.0)
    assert never.stop_reason == StopReason.COMPLETE, "0.95 + log(0.18) lies below the gate"


def test_improbable_tokens_are_left_alone() -> None:
    machine, policy = search(gate=None, min_log_prob=math.log(0.2))
    assert {begun for _, begun in policy.begun} == {"", "b"}
    assert len(machine.tree.final_nodes()) == 4


def test_budget_and_several_branches_in_flight() -> None:
    machine, _ = search(Budget(iterations=3), gate=None)
    assert (machine.spent.iterations, machine.stop_reason) == (3, StopReason.BUDGET)
    wide = BestFirst(BestFirstSettings(gate=None, branches_in_flight=4), Budget(iterations=50), 0, states_answer)
    policy = LetterPolicy()
    requests = wide.begin()
    assert len(requests) == 1, "there is nothing to branch from yet"
    most = 0
    while requests:
        most = max(most, len(wide.awaited))
        request, *requests = requests
        requests += wide.receive(policy.answer(request))
    assert most == 4
    assert {node.step for node in wide.tree.nodes} == {node.step for node in search(gate=None)[0].tree.nodes}


def test_a_policy_without_alternatives_or_without_words_gives_what_it_has() -> None:
    policy = LetterPolicy()

    def plain(request: Request) -> Response:
        return policy.answer(replace(request, num_alternatives=0) if isinstance(request, ProposeSteps) else request)

    machine = run_search(BestFirst(BestFirstSettings(gate=None), Budget(iterations=9), 0, states_answer), plain)
    assert len(machine.tree.final_nodes()) == 1
    silent = BestFirst(BestFirstSettings(), Budget(iterations=9), 0, states_answer)
    run_search(silent, lambda request: StepsProposed(request.number, (Sample((), 1, True),), 1))
    assert (silent.finished, silent.chosen) == (True, None)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match="branches_in_flight"):
        BestFirstSettings(branches_in_flight=0)
