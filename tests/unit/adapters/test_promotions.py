"""Gates and promotions over the real handlers, with checkpoints whose worth is known."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from restmcts.adapters.sql.state import promotions, runs
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ProposedStep, ProposeSteps, Sample, ScoreSteps, StepsProposed, StepsScored
from restmcts.domain.runs.phases import Phase, PromotionPhase, SearchPhase
from restmcts.domain.search.best_of_n import BestOfNSettings, CotSettings, SelfConsistencySettings
from restmcts.messages import commands
from restmcts.testing.trees import RIGHT_ANSWER, WRONG_ANSWER, RandomModels, answer_step

SAMPLES = SelfConsistencySettings(num_samples=6)


class Policy:
    """Answers the first `num_right` of twenty questions rightly."""

    def __init__(self, num_right: int) -> None:
        self._num_right = num_right

    def propose(self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: Any) -> list[StepsProposed]:
        return [
            StepsProposed(request.number, (self._sample(int(question)),), 1)
            for question, request in zip(questions, requests, strict=True)
        ]

    def _sample(self, number: int) -> Sample:
        step = ProposedStep(answer_step(RIGHT_ANSWER if number < self._num_right else WRONG_ANSWER), 1, -1.0)
        return Sample((step,), 1, True)


class Values:
    """Values a partial solution by whether it states the right answer: `right`, else `wrong`."""

    def __init__(self, right: float, wrong: float) -> None:
        self._values = {True: right, False: wrong}

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        return [
            StepsScored(
                request.number,
                tuple(
                    tuple(self._values[answer_step(RIGHT_ANSWER) == step] for step in branch)
                    for branch in request.branches
                ),
                1,
            )
            for request in requests
        ]


MODELS = {
    "base": Policy(5),
    "policy-1": Policy(10),
    "policy-2": Policy(3),
    "sampler": RandomModels(answer_rate=0.7),
    "value-0": Values(0.1, 0.9),
    "value-1": Values(0.9, 0.1),
    "value-2": Values(0.2, 0.8),
}


@pytest.fixture
def run(handled_run: Any) -> Any:
    return handled_run(MODELS, {"held-out": [Problem(str(number), RIGHT_ANSWER) for number in range(20)]})


def policy_gate(number: int, candidate: str) -> list[Phase]:
    previous = f"gate-{number - 1}" if number else None
    return [
        SearchPhase(f"grade-{number}", number, "evaluate", "held-out", candidate, None, CotSettings()),
        PromotionPhase(f"gate-{number}", number, "policy", candidate, f"grade-{number}", previous),
    ]


def test_a_policy_is_promoted_unless_it_is_worse(run: Any) -> None:
    gates = run.do([*policy_gate(0, "base"), *policy_gate(1, "policy-1"), *policy_gate(2, "policy-2")])
    assert [gate["promoted"] for gate in gates.values()] == [True, True, False]
    assert run.promoted("policy") == "policy-1"
    accuracy = gates["gate-2"]["figures"]["accuracy"]
    assert (accuracy["candidate"]["value"], accuracy["incumbent"]["value"]) == (0.15, 0.5)
    assert accuracy["difference"]["value"] == pytest.approx(-0.35)
    assert gates["gate-2"]["reason"] == "not promoted: accuracy 15.0 % [5.2, 36.0] (was 50.0 % ± 11.5)"


def test_a_person_overrides_and_the_next_gate_compares_with_that(run: Any) -> None:
    run.promote("policy-2")
    gates = run.do([*policy_gate(0, "policy-2"), *policy_gate(1, "base")])
    assert gates["gate-0"]["incumbent"] == "policy-2"
    assert gates["gate-1"]["incumbent"] == "policy-2"
    assert run.promoted("policy") == "base"


def test_what_a_person_promoted_without_numbers_stays(run: Any) -> None:
    run.promote("sampler")
    gates = run.do(policy_gate(0, "policy-1"))
    assert gates["gate-0"]["promoted"] is False
    assert run.promoted("policy") == "sampler"


def test_a_value_model_is_judged_on_held_out_trees_and_searches_use_the_promoted_one(run: Any) -> None:
    phases: list[Phase] = [SearchPhase("trees", 0, "held-out", "held-out", "sampler", None, SAMPLES)]
    for number in range(3):
        previous = f"gate-{number - 1}" if number else None
        phases.append(PromotionPhase(f"gate-{number}", number, "value", f"value-{number}", "trees", previous))
    phases.append(SearchPhase("collect", 3, "collect", "held-out", "sampler", "gate-2", BestOfNSettings(num_samples=2)))
    gates = run.do(phases)
    assert [gate["promoted"] for gate in gates.values()] == [True, True, False]
    figures = gates["gate-1"]["figures"]
    assert figures["auc"]["candidate"]["value"] > 0.8 > 0.2 > figures["auc"]["incumbent"]["value"]
    assert figures["sibling accuracy"]["candidate"]["value"] > figures["sibling accuracy"]["incumbent"]["value"]
    with run.database.transaction() as transaction:
        used = {row.name: row.value_id for row in runs.phases_of(transaction, run.run_id)}["collect"]
        assert used == runs.checkpoints_of(transaction, run.run_id)["value-1"].id


def test_judging_again_changes_nothing(run: Any) -> None:
    gates = run.do(
        [
            SearchPhase("trees", 0, "held-out", "held-out", "sampler", None, SAMPLES),
            PromotionPhase("gate-0", 0, "value", "value-1", "trees"),
        ]
    )
    with run.database.transaction() as transaction:
        transaction.emit(commands.EvaluateValues(phase_id=2))
    run.bus.run()
    with run.database.transaction() as transaction:
        assert len(promotions.history(transaction, run.run_id)) == 1
        assert runs.phases_of(transaction, run.run_id)[1].result == gates["gate-0"]


class Meanwhile(Values):
    """Values during whose first call something happens."""

    def __init__(self, right: float, wrong: float, happens: Callable[[], None]) -> None:
        super().__init__(right, wrong)
        self._happens: Callable[[], None] | None = happens

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        happens, self._happens = self._happens, None
        if happens is not None:
            happens()
        return super().score(questions, requests)


def test_a_candidate_is_compared_with_what_was_promoted_while_it_was_evaluated(handled_run: Any) -> None:
    """It would pass beside "value-0"; meanwhile a person has promoted a better one."""
    models = {
        **MODELS,
        "value-2": Values(0.9, 0.1),
        "value-1": Meanwhile(0.2, 0.8, lambda: run.promote("value-2")),
    }
    run = handled_run(models, {"held-out": [Problem(str(number), RIGHT_ANSWER) for number in range(20)]})
    run.promote("value-0")
    gates = run.do(
        [
            SearchPhase("trees", 0, "held-out", "held-out", "sampler", None, SAMPLES),
            PromotionPhase("gate-0", 0, "value", "value-1", "trees"),
        ]
    )
    assert (gates["gate-0"]["incumbent"], gates["gate-0"]["promoted"]) == ("value-2", False)
    assert run.promoted("value") == "value-2"
