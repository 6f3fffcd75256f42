"""Whole runs whose verdicts come from votes: what is trained on, what is quarantined, and how a run
is stopped that changes its mind. With the real handlers and models that follow a script.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.reads.truth import read_truth
from restmcts.adapters.sql.state import runs, trees, truth_ledger
from restmcts.adapters.sql.tables import RunState
from restmcts.domain.problems import Problem, Verdict
from restmcts.domain.requests import ProposedStep, ProposeSteps, Sample, StepsProposed
from restmcts.domain.runs.phases import Phase, SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.plans import self_training_plan
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.search.best_of_n import BestOfNSettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.truth.truth_settings import TruthSettings
from restmcts.errors import InputError
from restmcts.messages.commands import AdvanceRun
from restmcts.testing.runs import faults
from restmcts.testing.trees import answer_step
from restmcts.usecases import steer
from restmcts_cli.reports.run_results import why_stopped

TRUE_ANSWER = "0.5"
NUM_PROBLEMS = 30
PROBLEMS = {
    "train": [Problem(f"question {number}", None) for number in range(NUM_PROBLEMS)],
    "probe": [Problem(f"probe {number}", TRUE_ANSWER) for number in range(NUM_PROBLEMS)],
}
RUN = SelfTraining(
    num_iterations=2,
    train_sets=("train", "train"),
    bootstrap_set="train",
    method="rest-em",
    search=BestOfNSettings(num_samples=6, samples_at_once=1, score=False),
    budget=Budget(tokens=24),
    truth=TruthSettings("votes"),
    probe_set="probe",
)


class Believer:
    """Samples six solutions of two beginnings: five state the answer that it believes in (written
    in two ways), one another. What it believes depends on the problem's number.
    """

    def __init__(self, *beliefs: str) -> None:
        self._beliefs = beliefs

    def propose(self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: Any) -> list[StepsProposed]:
        return [self._answer(question, request) for question, request in zip(questions, requests, strict=True)]

    def _answer(self, question: str, request: ProposeSteps) -> StepsProposed:
        number = int(question.rpartition(" ")[2])
        belief = self._beliefs[number % len(self._beliefs)]
        place = request.number % 6
        stated = "9" if place == 5 else f"\\frac{{{belief}}}{{10}}" if place % 2 else f"0.{belief}"
        steps = tuple(ProposedStep(text, 2, -1.0) for text in (f"way {place % 2}\n", answer_step(stated)))
        return StepsProposed(request.number, (Sample(steps, 4, True),), 1)


def iteration(number: int, run: SelfTraining = RUN, policy: str = "base") -> list[Phase]:
    """Return the phases of an iteration as the plan has them, with a policy that is given."""
    phases = [phase for phase in self_training_plan(run) if phase.iteration == number]
    return [
        replace(phase, policy=policy) if isinstance(phase, SearchPhase) else replace(phase, parent=policy)
        for phase in phases
        if isinstance(phase, SearchPhase | TrainPolicyPhase)
    ]


def state_of(run: Any) -> tuple[str, str | None]:
    with run.database.transaction() as transaction:
        row = queries.run_named(transaction, "run")
        return row.state, row.error


def goes_on(run: Any, phases: Sequence[Phase]) -> None:
    """Add phases to a run and let it do what it can."""
    with run.database.transaction() as transaction:
        runs.add_phases(transaction, run.run_id, phases)
        transaction.emit(AdvanceRun(run_id=run.run_id))
    run.bus.run()


def test_the_plan_votes_on_what_is_trained_on_and_checks_it_on_the_probe() -> None:
    searches = {phase.name: phase for phase in self_training_plan(RUN) if isinstance(phase, SearchPhase)}
    assert list(searches) == ["truth-1", "collect-1", "truth-2", "collect-2"]
    assert {phase.truth.source for phase in searches.values()} == {"votes"}
    assert [(phase.purpose, phase.problem_set) for phase in searches.values()][:2] == [
        ("probe", "probe"),
        ("collect", "train"),
    ]
    plain = [phase for phase in self_training_plan(replace(RUN, truth=TruthSettings())) if phase.kind == "search"]
    assert [phase.name for phase in plain] == ["collect-1", "collect-2"], "true answers need no probe"


def test_a_method_that_shows_the_true_answers_is_refused() -> None:
    with pytest.raises(InputError, match="star gives the policy true answers as hints"):
        self_training_plan(replace(RUN, method="star"))


def test_a_run_without_answers_learns_what_its_trees_agree_on(handled_run: Any) -> None:
    run = handled_run({"base": Believer("5")}, PROBLEMS)
    run.do(iteration(1))
    assert state_of(run) == ("running", None)
    learnt = run.dataset("policy-1")
    assert {row["question"] for row in learnt} == {problem.question for problem in PROBLEMS["train"]}
    assert {row["steps"][-1] for row in learnt} == {answer_step("0.5"), answer_step("\\frac{5}{10}")}
    assert faults(run.database, run.run_id) == []
    with run.database.transaction() as transaction:
        truth = read_truth(transaction, run.run_id, {"truth": {"source": "votes"}, "probe_set": "probe"})
        entries = truth_ledger.entries_of(transaction, run.run_id)
        (tree,) = queries.list_trees(transaction, run.run_id, phase="collect-1", limit=1)
        scores = trees.load_scores(transaction, [tree.id])[tree.id]
        verdicts, labels = trees.load_labels(transaction, [tree.id])[tree.id]
    assert truth is not None and truth.is_checked
    (found,) = truth.iterations
    assert (found.num_trees, found.num_undecided) == (2 * NUM_PROBLEMS, 0)
    assert found.agreement is not None and found.coverage is not None
    assert (found.agreement.value, found.coverage.value) == (1.0, 1.0)
    assert {entry.answer for entry in entries} == {"0.5"}, "equal answers are written alike"
    right = [node for node, verdict in verdicts.items() if verdict == Verdict.RIGHT]
    assert {round(scores[node], 6) for node in right} == {round(5 / 6, 6)}
    assert {round(labels[node].quality_value, 6) for node in right} == {round(5 / 6, 6)}


def test_a_policy_of_which_nothing_can_be_measured_is_promoted_without_a_figure(handled_run: Any) -> None:
    run = handled_run({"base": Believer("5")}, {**PROBLEMS, "held-out": []})
    plan = self_training_plan(replace(RUN, held_out_set="held-out"))
    found = run.do([phase for phase in plan if phase.name in ("held-out-base", "gate-base")])
    assert found["gate-base"]["reason"] == "promoted: accuracy not measured"
    with run.database.transaction() as transaction:
        (held_out, _) = queries.phase_numbers(transaction, run.run_id)
    assert held_out.state == "done" and held_out.accuracy is None


def test_a_confidently_wrong_policy_is_found_out_by_the_probe_alone(handled_run: Any) -> None:
    run = handled_run({"base": Believer("5", "5", "5", "4")}, PROBLEMS)
    run.do(iteration(1))
    with run.database.transaction() as transaction:
        truth = read_truth(transaction, run.run_id, {"truth": {"source": "votes"}, "probe_set": "probe"})
    assert truth is not None
    found = truth.iterations[0].agreement
    assert found is not None and found.n == NUM_PROBLEMS
    wrong = NUM_PROBLEMS // 4  # of three different solutions to each, the odd one out is wrong indeed
    assert found.value == pytest.approx((NUM_PROBLEMS - wrong + wrong / 3) / NUM_PROBLEMS)


def test_a_problem_whose_answer_flipped_is_trained_on_no_more(handled_run: Any) -> None:
    run = handled_run({"base": Believer("5"), "other": Believer("5", "5", "5", "5", "5", "7")}, PROBLEMS)
    lax = replace(RUN, truth=TruthSettings("votes", max_probe_fall=1.0))
    run.do(iteration(1, lax))
    goes_on(run, iteration(2, lax, policy="other"))
    assert state_of(run) == ("running", None), "10 of 60 flipped: not more than 20 %"
    learnt = {row["question"] for row in run.dataset("policy-2")}
    flipped = {f"question {number}" for number in range(5, NUM_PROBLEMS, 6)}
    assert learnt == {problem.question for problem in PROBLEMS["train"]} - flipped
    with run.database.transaction() as transaction:
        truth = read_truth(transaction, run.run_id, {"truth": {"source": "votes"}, "probe_set": "probe"})
        trees_of = {tree.id: tree for tree in queries.list_trees(transaction, run.run_id, limit=200)}
    assert truth is not None and len(truth.flipped) == 10
    assert {one.question for one in truth.flipped if not one.is_probe} == flipped
    for one in truth.flipped:
        found = (one.before.iteration, one.before.answer, one.now.iteration, one.now.answer)
        assert found == (1, "0.5", 2, "0.7")
        assert one.before.share == one.now.share == pytest.approx(5 / 6)
        assert trees_of[one.before.tree_id].question == trees_of[one.now.tree_id].question == one.question
        assert trees_of[one.now.tree_id].phase == ("truth-2" if one.is_probe else "collect-2")


def test_a_run_that_changes_its_mind_is_paused_before_it_learns_and_goes_on_if_a_person_says_so(
    handled_run: Any,
) -> None:
    run = handled_run({"base": Believer("5"), "other": Believer("5", "7")}, PROBLEMS)
    run.do(iteration(1))
    goes_on(run, iteration(2, policy="other"))
    state, error = state_of(run)
    assert state == RunState.PAUSED
    assert error is not None and error.startswith("30 of 60 voted answers (50.0 % ± 6.5) are others in iteration 2")
    assert why_stopped(run.database, run.run_id, RUN.truth) == error
    with run.database.transaction() as transaction:
        phase = next(row for row in runs.phases_of(transaction, run.run_id) if row.name == "policy-2")
        assert phase.state == "pending"
        steer.resume(transaction, "run")
    run.bus.run()
    assert state_of(run) == ("running", None)
    assert why_stopped(run.database, run.run_id, RUN.truth) is None
    assert len({row["question"] for row in run.dataset("policy-2")}) == NUM_PROBLEMS // 2


def test_a_run_whose_probe_falls_is_paused(handled_run: Any) -> None:
    lax = replace(RUN, truth=TruthSettings("votes", max_flip_rate=1.0))
    run = handled_run({"base": Believer("5"), "other": Believer("5", "7")}, PROBLEMS)
    run.do(iteration(1, lax))
    goes_on(run, iteration(2, lax, policy="other"))
    state, error = state_of(run)
    assert state == RunState.PAUSED and error is not None
    assert "points fewer verdicts are true in iteration 2 than in iteration 1" in error


class Judge:
    """Says yes to every statement about solutions that state the true answer; to an order of its
    replies that it does not like, it says yes always.
    """

    def __init__(self, disliked: str = "-") -> None:
        self._disliked = disliked
        self.num_asked = 0

    def propose(self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: Any) -> list[StepsProposed]:
        self.num_asked += len(requests)
        return [self._answer(question, request) for question, request in zip(questions, requests, strict=True)]

    def _answer(self, prompt: str, request: ProposeSteps) -> StepsProposed:
        is_right = any(answer_step(text) in prompt for text in ("0.5", "\\frac{5}{10}"))
        says = "yes" if is_right or prompt.endswith(f"{self._disliked}.") else "no"
        steps = (ProposedStep("“the answer” decides.\n", 4, -1.0), ProposedStep(f"The answer is {says}", 4, -1.0))
        return StepsProposed(request.number, (Sample(steps, 8, True),), 1)


JUDGED = replace(RUN, truth=TruthSettings("judge", judges=("first", "second"), criteria=("a is so", "b is so")))


def test_a_run_learns_what_all_judges_find_right_and_the_probe_says_how_often_they_are(handled_run: Any) -> None:
    run = handled_run({"base": Believer("5", "4"), "first": Judge(), "second": Judge()}, PROBLEMS)
    run.do(iteration(1, JUDGED))
    learnt = run.dataset("policy-1")
    assert {row["question"] for row in learnt} == {f"question {number}" for number in range(0, NUM_PROBLEMS, 2)}
    assert faults(run.database, run.run_id) == []
    with run.database.transaction() as transaction:
        config = {"truth": {"source": "judge"}, "probe_set": "probe"}
        truth = read_truth(transaction, run.run_id, config)
        entries = truth_ledger.entries_of(transaction, run.run_id)
        (tree,) = queries.list_trees(transaction, run.run_id, phase="collect-1", limit=1)
        verdicts, _ = trees.load_labels(transaction, [tree.id])[tree.id]
    assert truth is not None and truth.source == "judge" and truth.is_checked
    (found,) = truth.iterations
    assert found.agreement is not None and (found.agreement.value, found.agreement.n) == (1.0, NUM_PROBLEMS)
    assert {entry.answer for entry in entries} == {"0.5", None}
    assert set(verdicts.values()) == {Verdict.RIGHT, Verdict.WRONG}


def test_a_judge_that_likes_the_reply_named_first_decides_nothing_that_is_wrong(handled_run: Any) -> None:
    biased = Judge(disliked="no or yes")
    run = handled_run({"base": Believer("5", "4"), "first": Judge(), "second": biased}, PROBLEMS)
    run.do(iteration(1, JUDGED))
    with run.database.transaction() as transaction:
        (tree, *_) = queries.list_trees(transaction, run.run_id, phase="collect-1")
        verdicts, _ = trees.load_labels(transaction, [tree.id])[tree.id]
    assert set(verdicts.values()) == {Verdict.RIGHT, Verdict.UNDECIDED}
    assert {row["steps"][-1] for row in run.dataset("policy-1")} == {answer_step("0.5"), answer_step("\\frac{5}{10}")}
