"""Whole phases whose labels come from rollouts, from a binary search, from hints and from given
solutions.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from restmcts.adapters.sql.state import trees
from restmcts.adapters.sql.state.trees import TREES
from restmcts.domain.problems import Problem, Verdict
from restmcts.domain.requests import ProposedStep, ProposeSteps, Sample, StepsProposed
from restmcts.domain.runs.methods import METHODS, Models
from restmcts.domain.runs.phases import Phase, SearchPhase, TrainPolicyPhase, TrainValuePhase
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import SelfConsistencySettings
from restmcts.domain.search.protocol import Budget
from restmcts.testing.runs import faults
from restmcts.testing.trees import RIGHT_ANSWER, WRONG_ANSWER, RandomModels, answer_step
from sqlalchemy import select

NUM_STEPS = 8
PROBLEMS = {
    "train": [
        Problem(str(place), RIGHT_ANSWER, ("2 + 5 = 7\n", answer_step(RIGHT_ANSWER))) for place in range(1, NUM_STEPS)
    ]
}
RUN = SelfTraining(
    num_iterations=1, train_sets=("train",), bootstrap_set="train", num_bootstrap_samples=3, budget=Budget(tokens=40)
)


class Erring:
    """Solves question k in eight steps, of which the k-th is wrong and every later one too;
    goes on rightly from a right beginning only where it is given one. A hinted question is
    answered at once.
    """

    def propose(self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: Any) -> list[StepsProposed]:
        return [self._answer(question, request) for question, request in zip(questions, requests, strict=True)]

    def _answer(self, question: str, request: ProposeSteps) -> StepsProposed:
        if "answer is" in question:
            steps = ["because\n", answer_step(RIGHT_ANSWER)]
        else:
            num_given = len(request.steps)
            errs = "wrong\n" in request.steps or not num_given
            texts = [
                "wrong\n" if errs and place >= int(question) else "right\n" for place in range(num_given + 1, NUM_STEPS)
            ]
            steps = [*texts, answer_step(WRONG_ANSWER if errs else RIGHT_ANSWER)]
        sample = Sample(tuple(ProposedStep(text, 2, -1.0) for text in steps), 2 * len(steps), True)
        return StepsProposed(request.number, (sample,) * request.num_samples, 1)


def first_value(labels: Any) -> list[Phase]:
    return METHODS.get("rest-mcts").first_value(replace(RUN, first_labels=labels), "base")


def test_a_binary_search_finds_every_first_wrong_step(handled_run: Any) -> None:
    run = handled_run({"base": Erring()}, PROBLEMS)
    run.do(first_value("first-error"))
    labels_of: dict[int, dict[int, bool]] = {}
    for row in run.dataset("value-0"):
        for place, leads_to_right in enumerate(row["leads_to_right"], start=1):
            if leads_to_right is not None:
                labels_of.setdefault(int(row["question"]), {})[place] = leads_to_right
    assert set(labels_of) == set(range(1, NUM_STEPS))
    for first_wrong, steps in labels_of.items():
        assert max((place for place, right in steps.items() if right), default=0) == first_wrong - 1
        assert min(place for place, right in steps.items() if not right) == first_wrong
    assert faults(run.database, run.run_id) == []


@pytest.mark.parametrize("labels", ["hard-rollouts", "soft-rollouts"])
def test_rollouts_label_the_steps_of_solved_and_unsolved_trees(handled_run: Any, labels: str) -> None:
    run = handled_run({"base": RandomModels(answer_rate=0.4)}, PROBLEMS)
    *_, training = phases = first_value(labels)
    assert isinstance(training, TrainValuePhase)
    assert training.objective == labels.removesuffix("-rollouts")
    run.do(phases)
    targets = {target for row in run.dataset("value-0") for target in row["targets"] if target is not None}
    assert {0.0, 1.0} <= targets
    assert (len(targets) > 2) is (labels == "soft-rollouts")
    assert faults(run.database, run.run_id) == []


def test_given_solutions_are_value_data_without_any_search(handled_run: Any) -> None:
    run = handled_run({"base": RandomModels()}, PROBLEMS)
    run.do(first_value("corrupted"))
    rows = run.dataset("value-0")
    assert len(rows) == len(PROBLEMS["train"]) * 3
    assert rows[0]["targets"] == [0.5, 1.0]
    assert all(row["tree_id"] is None for row in rows)


def test_what_is_not_solved_is_explained_from_its_answer_and_learnt_without_it(handled_run: Any) -> None:
    run = handled_run({"base": Erring()}, PROBLEMS)
    phases = METHODS.get("star").iterate(RUN, 1, Models("base", "base", None))
    assert isinstance(phases[-1], TrainPolicyPhase)
    run.do(phases)
    rows = run.dataset("policy-1")
    assert [row["question"] for row in rows] == [problem.question for problem in PROBLEMS["train"]]
    assert {tuple(row["steps"]) for row in rows} == {("because\n", answer_step(RIGHT_ANSWER))}
    assert faults(run.database, run.run_id) == []


@pytest.mark.parametrize("num_solved", [0, 1])
def test_given_solutions_are_labelled_beside_a_search_and_count_as_no_success_of_its_policy(
    handled_run: Any, num_solved: int
) -> None:
    """Where the policy solved nothing itself, no value can tell its attempts apart."""
    run = handled_run({"base": Guessing(num_solved)}, PROBLEMS)
    collect = SearchPhase(
        "collect", 0, "bootstrap", "train", "base", None, SelfConsistencySettings(num_samples=2), merge_solutions=True
    )
    run.do([collect, TrainValuePhase("value-0", 0, None, "base", TrainingSettings(), ("collect",))])
    with run.database.transaction() as transaction:
        rows = transaction.execute(select(TREES.c.id, TREES.c.solved).order_by(TREES.c.id)).all()
        labels = trees.load_labels(transaction, [row.id for row in rows])
        stored = trees.load_trees(transaction, [row.id for row in rows])
    assert [row.solved for row in rows] == [True] * num_solved + [False] * (NUM_STEPS - 1 - num_solved)
    for row in rows:
        right = {node_id for node_id, verdict in labels[row.id][0].items() if verdict == Verdict.RIGHT}
        assert ("2 + 5 = 7\n", answer_step(RIGHT_ANSWER)) in {stored[row.id].steps_to(stored[row.id][n]) for n in right}
        assert labels[row.id][1], "with the given solution, the steps can be labelled"
    targets = [target for row in run.dataset("value-0") for target in row["targets"] if target is not None]
    num_labelled = sum(len(found) - 1 for _, found in labels.values())
    assert len(targets) == (num_labelled if num_solved else 0)


class Guessing:
    """Answers the first `num_solved` questions rightly."""

    def __init__(self, num_solved: int) -> None:
        self._num_solved = num_solved

    def propose(self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: Any) -> list[StepsProposed]:
        return [self._answer(question, request) for question, request in zip(questions, requests, strict=True)]

    def _answer(self, question: str, request: ProposeSteps) -> StepsProposed:
        text = answer_step(RIGHT_ANSWER if int(question) <= self._num_solved else WRONG_ANSWER)
        return StepsProposed(
            request.number, (Sample((ProposedStep(text, 1, -1.0),), 1, True),) * request.num_samples, 1
        )
