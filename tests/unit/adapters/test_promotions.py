"""Gates and promotions over the real handlers, with checkpoints whose worth is known."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from restmcts.adapters.sql.state import blocks, promotions, runs
from restmcts.adapters.sql.state.trees import TREES
from restmcts.adapters.sql.tables import PhaseState, RunState
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ProposedStep, ProposeSteps, Sample, ScoreSteps, StepsProposed, StepsScored
from restmcts.domain.runs.phases import Phase, PromotionPhase, SearchPhase
from restmcts.domain.search.best_of_n import BestOfNSettings, SelfConsistencySettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.errors import ModelError
from restmcts.messages import commands
from restmcts.messages.base import Message
from restmcts.testing.runs import policy_gate
from restmcts.testing.trees import RIGHT_ANSWER, WRONG_ANSWER, RandomModels, answer_step
from restmcts.usecases import reconcile
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts.usecases.serve_claims import WorkerSettings
from restmcts_prm_scorer import value_evaluation
from restmcts_prm_scorer.handlers import PrmScorerHandlers
from sqlalchemy import select

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


def test_a_policy_is_promoted_unless_it_is_worse(run: Any) -> None:
    gates = run.do([*policy_gate(0, "base"), *policy_gate(1, "policy-1"), *policy_gate(2, "policy-2")])
    assert [gate["promoted"] for gate in gates.values()] == [True, True, False]
    assert run.promoted("policy") == "policy-1"
    accuracy = gates["gate-2"]["figures"]["accuracy"]
    assert (accuracy["candidate"]["value"], accuracy["incumbent"]["value"]) == (0.15, 0.5)
    assert accuracy["difference"]["value"] == pytest.approx(-0.35)
    assert gates["gate-2"]["reason"] == "not promoted: accuracy 15.0 % [5.2, 36.0] (was 50.0 % ± 11.5; 20 problems)"


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


class Watched(Values):
    """Values that note each call, and do something in it."""

    def __init__(self, name: str, calls: list[str], do: Callable[[], None] = lambda: None) -> None:
        super().__init__(0.9, 0.1)
        self._name, self._calls, self._do = name, calls, do

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        self._calls.append(self._name)
        self._do()
        return [RandomModels().score_one(request) for request in requests]


@dataclass
class Waiting:
    """A promotion that waits for its evaluation, and a worker of value models beside it.

    Attributes:
        sent: what was emitted since.
    """

    run: Any
    phase_id: int
    handlers: PrmScorerHandlers
    settings: WorkerSettings
    sent: list[Message]

    def ask(self) -> None:
        self.handlers.evaluate_values(commands.EvaluateValues(phase_id=self.phase_id))

    @property
    def row(self) -> Any:
        with self.run.database.transaction() as transaction:
            return runs.phase_by_id(transaction, self.phase_id)


@pytest.fixture
def waiting(handled_run: Any) -> Iterator[Callable[..., Waiting]]:
    opened: list[Waiting] = []

    def begin(candidate: Any, other: Any) -> Waiting:
        models = {**MODELS, "value-1": candidate, "value-2": other}
        run = handled_run(models, {"held-out": [Problem(str(number), RIGHT_ANSWER) for number in range(20)]})
        run.do([SearchPhase("trees", 0, "held-out", "held-out", "sampler", None, SAMPLES)])
        sent: list[Message] = []
        run.database.publish = lambda messages, _: sent.extend(messages)
        candidate_phase = PromotionPhase("promotion", 1, "value", "value-1", "trees")
        with run.database.transaction() as transaction:
            runs.add_phases(transaction, run.run_id, [candidate_phase])
            phase_id = next(row.id for row in runs.phases_of(transaction, run.run_id) if row.name == "promotion")
            runs.set_phase(transaction, phase_id, PhaseState.PROMOTING)
        settings = WorkerSettings(max_at_once=4, lease_seconds=2.0)
        handlers = PrmScorerHandlers(run.database, models.__getitem__, settings)
        opened.append(Waiting(run, phase_id, handlers, settings, sent))
        return opened[-1]

    yield begin
    for one in opened:
        one.settings.stopping.set()
        one.handlers.close()


def await_true(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30.0
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def test_a_worker_takes_messages_while_it_evaluates_and_keeps_the_promotion_from_others(waiting: Any) -> None:
    calls: list[str] = []
    over = threading.Event()
    promotion = waiting(Watched("candidate", calls, lambda: assert_set(over)), MODELS["value-2"])
    promotion.ask()
    await_true(lambda: calls)
    promotion.ask()
    first = promotion.row.lease_until
    assert promotion.row.state == PhaseState.PROMOTING
    await_true(lambda: promotion.row.lease_until > first)
    with promotion.run.database.transaction() as transaction:
        reconcile.wake_overdue(transaction, reconcile.RetryPolicy(), lambda _: True)
    assert commands.EvaluateValues(phase_id=promotion.phase_id) not in promotion.sent
    over.set()
    await_true(lambda: promotion.row.state == PhaseState.DONE)
    assert calls == ["candidate"]


def assert_set(event: threading.Event) -> None:
    assert event.wait(30.0)


def test_requests_have_their_turn_with_models_of_this_process_during_an_evaluation(
    waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(value_evaluation, "TREES_AT_ONCE", 1)
    calls: list[str] = []
    promotion = waiting(Watched("candidate", calls, lambda: time.sleep(0.05)), Watched("other", calls))
    handlers, database = promotion.run.handlers, promotion.run.database
    search = SearchPhase(
        "collect", 1, "collect", "train", "sampler", "value-2", MctsStarSettings(mode="collect"), Budget(iterations=4)
    )
    models = {"sampler": NewCheckpoint("policy", "sampler"), "value-2": NewCheckpoint("value", "value-2")}
    problems = [Problem(str(number), RIGHT_ANSWER) for number in range(4)]
    with database.transaction() as transaction:
        new = NewRun("other", "test", 1, [search], problems={"train": problems}, checkpoints=models)
        other_id = create_run(transaction, new).run_id
    handlers[commands.AdvanceRun.name](commands.AdvanceRun(run_id=other_id))
    with database.transaction() as transaction:
        tree_ids = tuple(transaction.execute(select(TREES.c.id).where(TREES.c.run_id == other_id)).scalars())
    handlers[commands.AdvanceTrees.name](commands.AdvanceTrees(tree_ids=tree_ids))
    handlers[commands.ProposeWaitingSteps.name](commands.ProposeWaitingSteps())
    handlers[commands.AdvanceTrees.name](commands.AdvanceTrees(tree_ids=tree_ids))
    promotion.ask()
    await_true(lambda: calls)
    promotion.handlers.score_steps(commands.ScoreWaitingSteps())
    await_true(lambda: promotion.row.state == PhaseState.DONE)
    assert calls.count("candidate") > 10
    assert "other" in calls[:-1], "they do not wait until all trees are evaluated"


def test_a_worker_that_ends_leaves_the_promotion_to_others(waiting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_evaluation, "TREES_AT_ONCE", 1)
    calls: list[str] = []
    promotion = waiting(Watched("candidate", calls, lambda: time.sleep(0.05)), MODELS["value-2"])
    promotion.ask()
    await_true(lambda: calls)
    promotion.settings.stopping.set()
    promotion.handlers.close()
    assert (promotion.row.state, promotion.row.lease_until) == (PhaseState.PROMOTING, None)
    assert promotion.sent[-1] == commands.EvaluateValues(phase_id=promotion.phase_id)
    assert len(calls) < 10
    with promotion.run.database.transaction() as transaction:
        assert blocks.blocks_of(transaction, promotion.run.run_id) == []


def test_nobody_goes_on_evaluating_for_a_cancelled_run(waiting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_evaluation, "TREES_AT_ONCE", 1)
    calls: list[str] = []
    promotion = waiting(Watched("candidate", calls, lambda: time.sleep(0.2)), MODELS["value-2"])
    promotion.ask()
    await_true(lambda: calls)
    with promotion.run.database.transaction() as transaction:
        runs.finish_run(transaction, promotion.run.run_id, RunState.CANCELLED)
    promotion.handlers._evaluations.close()
    assert len(calls) < 15
    assert commands.EvaluateValues(phase_id=promotion.phase_id) not in promotion.sent


def test_what_makes_an_evaluation_fail_is_told_by_the_next_message(waiting: Any) -> None:
    def fail() -> None:
        raise ModelError("no value for this text")

    promotion = waiting(Watched("candidate", [], fail), MODELS["value-2"])

    def told() -> bool:
        try:
            promotion.ask()
        except ModelError as error:
            return "no value for this text" in str(error)
        return False

    await_true(told)


def test_the_name_of_a_promotion_is_what_it_left_promoted_whatever_later_ones_decide(run: Any) -> None:
    run.do([*policy_gate(0, "base"), *policy_gate(1, "policy-1"), *policy_gate(2, "policy-2")])

    def named() -> list[str]:
        with run.database.transaction() as transaction:
            models = promotions.models(transaction, run.run_id)
            return [models[f"gate-{number}"].name for number in range(3)]

    assert named() == ["base", "policy-1", "policy-1"]
    run.promote("policy-2")
    assert named() == ["policy-2"] * 3, "a person's choice is followed from then on"
