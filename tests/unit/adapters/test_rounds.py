"""Rounds over the real handlers, with models whose worth is known."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import runs
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ProposedStep, ProposeSteps, Sample, ScoreSteps, StepsProposed, StepsScored
from restmcts.domain.runs.phases import Phase, PromotionPhase, SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.splits import Round
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import BestOfNSettings, CotSettings, SelfConsistencySettings
from restmcts.testing.runs import faults
from restmcts.testing.trees import RIGHT_ANSWER, WRONG_ANSWER, answer_step

NUM_PROBLEMS = 11
COUNT = 3
ROUNDS = [Round(number, COUNT) for number in range(1, COUNT + 1)]


class Alike:
    """Values every step the same, and counts the questions."""

    def __init__(self) -> None:
        self.questions: set[str] = set()

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        self.questions |= set(questions)
        return [
            StepsScored(one.number, tuple(tuple(0.5 for _ in branch) for branch in one.branches), 1) for one in requests
        ]


class Odd:
    """Answers every second question rightly; asked with a hint, all."""

    def propose(self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: Any) -> list[StepsProposed]:
        return [
            StepsProposed(request.number, (self._sample(question),) * request.num_samples, 1)
            for question, request in zip(questions, requests, strict=True)
        ]

    def _sample(self, question: str) -> Sample:
        is_right = "hint" in question or int(question) % 2 == 1
        return Sample((ProposedStep(answer_step(RIGHT_ANSWER if is_right else WRONG_ANSWER), 1, -1.0),), 1, True)


@pytest.fixture
def run(handled_run: Any) -> Any:
    problems = [Problem(str(number), RIGHT_ANSWER, (answer_step(RIGHT_ANSWER),)) for number in range(NUM_PROBLEMS)]
    return handled_run({"base": Odd(), "policy-1": Odd()}, {"train": problems, "held-out": problems})


def searched(run: Any, name: str) -> list[int]:
    """Return the positions of the problems that a phase searched."""
    with run.database.transaction() as transaction:
        return [tree.problem for tree in queries.list_trees(transaction, run.run_id, phase=name)]


def collect(part: Round, problem_set: str = "train") -> SearchPhase:
    search = BestOfNSettings(num_samples=1, score=False)
    return SearchPhase(f"collect-1.{part.number}", 1, "collect", problem_set, "base", None, search, round=part)


def test_rounds_search_every_problem_once_and_what_follows_searches_those_of_its_round(run: Any) -> None:
    first = [collect(part) for part in ROUNDS]
    explain = [
        replace(
            one, name=f"explain-1.{one.round.number}", follows=(one.name,), hint="{question} hint {answer}", staleness=2
        )
        for one in first
        if one.round is not None
    ]
    run.do([*first, *explain])
    of_round = [searched(run, one.name) for one in first]
    assert sorted(place for one in of_round for place in one) == list(range(NUM_PROBLEMS))
    for one, positions in zip(explain, of_round, strict=True):
        assert searched(run, one.name) == [place for place in positions if place % 2 == 0]
    assert faults(run.database, run.run_id) == []
    with run.database.transaction() as transaction:
        trees = queries.list_trees(transaction, run.run_id, limit=100)
        shown = queries.tree_without_nodes(transaction, trees[-1].id)
        numbers = {one.name: one for one in queries.phase_numbers(transaction, run.run_id)}
    assert {one.staleness for one in trees if one.phase.startswith("collect")} == {0}
    assert {one.staleness for one in trees if one.phase.startswith("explain")} == {2} == {shown.staleness}
    assert [numbers[one.name].place for one in first] == pytest.approx([1 / 3, 2 / 3, 1])
    assert asdict(numbers["explain-1.2"])["round"] == {"number": 2, "count": COUNT}


def test_a_round_without_a_right_solution_ends_nothing(run: Any) -> None:
    with run.database.transaction() as transaction:
        runs.add_problems(transaction, run.run_id, "wrong", [Problem("2", RIGHT_ANSWER)] * COUNT)
    training = TrainPolicyPhase("policy-1.1", 1, "base", TrainingSettings(), ("collect-1.1",), round=ROUNDS[0])
    run.do([collect(ROUNDS[0], "wrong"), training])
    with run.database.transaction() as transaction:
        rows = {row.name: row for row in runs.phases_of(transaction, run.run_id)}
    assert rows["collect-1.1"].result["solved"] == 0
    assert rows["policy-1.1"].state == "training", "it is not skipped: its parent goes on"
    assert run.dataset("policy-1.1") == []


def test_given_solutions_are_divided_among_rounds(run: Any) -> None:
    run.do(
        [
            TrainPolicyPhase(f"policy-1.{one.number}", 1, "base", TrainingSettings(), solutions_of="train", round=one)
            for one in ROUNDS
        ]
    )
    learned = [row["question"] for one in ROUNDS for row in run.dataset(f"policy-1.{one.number}")]
    assert sorted(learned, key=int) == [str(number) for number in range(NUM_PROBLEMS)]


def test_policies_are_compared_on_the_held_out_problems_of_a_round(run: Any) -> None:
    def held_out(name: str, policy: str, part: Round | None = None) -> SearchPhase:
        return SearchPhase(name, 1, "evaluate", "held-out", policy, None, CotSettings(), round=part)

    part = ROUNDS[0]
    gates = run.do(
        [
            held_out("held-out-base", "base"),
            PromotionPhase("gate-base", 0, "policy", "base", "held-out-base"),
            held_out("before", "gate-base", part),
            held_out("after", "policy-1", part),
            PromotionPhase(
                "gate-1", 1, "policy", "policy-1", "after", "gate-base", round=part, incumbent_evidence="before"
            ),
        ]
    )
    accuracy = gates["gate-1"]["figures"]["accuracy"]
    assert accuracy["candidate"] == accuracy["incumbent"]
    assert accuracy["incumbent"]["n"] == part.size(NUM_PROBLEMS) < NUM_PROBLEMS
    assert gates["gate-base"]["figures"]["accuracy"]["candidate"]["n"] == NUM_PROBLEMS


def test_value_models_are_compared_on_the_held_out_trees_of_a_round(handled_run: Any) -> None:
    values = {f"value-{one.number}": Alike() for one in ROUNDS}
    problems = [Problem(f"hint {number}", RIGHT_ANSWER) for number in range(NUM_PROBLEMS)]
    run = handled_run({"base": Odd(), **values}, {"held-out": problems})
    samples = SelfConsistencySettings(num_samples=2)
    phases: list[Phase] = [SearchPhase("held-out-trees", 0, "held-out", "held-out", "base", None, samples)]
    previous = None
    for one in ROUNDS:
        name = f"value-{one.number}"
        phases.append(PromotionPhase(f"gate-{name}", 1, "value", name, "held-out-trees", previous, round=one))
        previous = f"gate-{name}"
    assert all(gate["promoted"] for gate in run.do(phases).values())
    first, second, third = (model.questions for model in values.values())
    sizes = [one.size(NUM_PROBLEMS) for one in ROUNDS]
    assert [len(first), len(second), len(third)] == [sizes[0] + sizes[1], sizes[1] + sizes[2], sizes[2]]
    assert third < second and first | second == {problem.question for problem in problems}
