"""A whole iteration of which half goes on from steps after which outcomes vary."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from restmcts.adapters.sql.state import runs, trees
from restmcts.domain.labels.filtering import TraceFilter
from restmcts.domain.learning.learner import LearnableTree
from restmcts.domain.learning.restarts import restart_steps
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ProposedStep, ProposeSteps, Sample, StepsProposed, derive_seed
from restmcts.domain.runs.methods import METHODS, Models
from restmcts.domain.runs.phases import Phase, SearchPhase
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.search.best_of_n import BestOfNSettings
from restmcts.domain.search.protocol import Budget
from restmcts.errors import InputError
from restmcts.messages.commands import AdvanceRun
from restmcts.testing.runs import faults
from restmcts.testing.trees import RIGHT_ANSWER, WRONG_ANSWER, answer_step
from restmcts.usecases.create import Extension, extend_run

QUESTIONS = ("settled", "mixed", "hopeless")
PROBLEMS = {"train": [Problem(question, RIGHT_ANSWER) for question in QUESTIONS]}
BUDGET, TOKENS = 80, 2
RUN = SelfTraining(
    num_iterations=2,
    method="rest-mcts-restarts",
    train_sets=("train", "train"),
    bootstrap_set="train",
    search=BestOfNSettings(num_samples=64, samples_at_once=1, score=False),
    budget=Budget(tokens=BUDGET),
    traces=TraceFilter(top_k=3, rank="shortest"),
)


class Uneven:
    """Is right in "settled" always, in "mixed" every second time, by one of three ways."""

    def propose(self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: Any) -> list[StepsProposed]:
        return [self._answer(question, request) for question, request in zip(questions, requests, strict=True)]

    def _answer(self, question: str, request: ProposeSteps) -> StepsProposed:
        drawn = derive_seed(request.seed)
        is_right = {"settled": True, "mixed": drawn % 2 == 0}.get(question, False)
        way = () if request.steps else (f"way {drawn // 2 % 3}\n",)
        texts = (*way, answer_step(RIGHT_ANSWER if is_right else WRONG_ANSWER))
        steps = tuple(ProposedStep(text, TOKENS, -1.0) for text in texts)
        return StepsProposed(request.number, (Sample(steps, TOKENS * len(steps), True),), 1)


def iteration(number: int) -> list[Phase]:
    return METHODS.get(RUN.method).iterate(RUN, number, Models("base", "base", None))


def test_what_half_the_budget_leaves_goes_to_steps_after_which_outcomes_vary(handled_run: Any) -> None:
    run = handled_run({"base": Uneven()}, PROBLEMS)
    run.do([phase for phase in iteration(1) if phase.kind != "train-value"])
    with run.database.transaction() as transaction:
        phases = {row.name: row for row in runs.phases_of(transaction, run.run_id)}
        (problem,) = runs.problems_of(transaction, run.run_id, "restart-1")
        ((row,),) = list(runs.labelled_trees(transaction, run.run_id, ("restart-1",)))
        tree = trees.load_trees(transaction, [row.tree_id])[row.tree_id]
    assert problem.question == "mixed" and problem.begins_with is not None
    assert problem.begins_with[0].startswith("way")
    ends = tree.final_nodes()
    assert {tree.steps_to(node)[:1] for node in ends} == {tuple(problem.begins_with)}
    first, second = (phases[name].result["tokens"] for name in ("collect-1", "restart-1"))
    total = BUDGET * len(QUESTIONS)
    assert first < 0.6 * total and total <= first + second < total + 3 * TOKENS
    assert faults(run.database, run.run_id) == [], "played again under the budget that was divided"
    learnt = {(one["question"], tuple(one["steps"])) for one in run.dataset("policy-1")}
    assert {question for question, _ in learnt} == {"settled", "mixed"}
    assert all(steps[0].startswith("way") for _, steps in learnt)


def test_where_a_problem_restarts_is_decided_by_the_seed_of_the_run(handled_run: Any) -> None:
    run = handled_run({"base": Uneven()}, PROBLEMS)
    run.do([phase for phase in iteration(1) if isinstance(phase, SearchPhase)])
    with run.database.transaction() as transaction:
        stored = runs.find_run(transaction, "run")
        (problem,) = runs.problems_of(transaction, run.run_id, "restart-1")
        row = next(
            row
            for batch in runs.labelled_trees(transaction, run.run_id, ("collect-1",))
            for row in batch
            if row.question == "mixed"
        )
        tree = trees.load_trees(transaction, [row.tree_id])[row.tree_id]
        verdicts = trees.load_labels(transaction, [row.tree_id])[row.tree_id][0]
    found = LearnableTree.of(tree, verdicts, (), samples_branches=True)
    assert stored is not None
    assert problem.begins_with == list(restart_steps(found, derive_seed(stored.seed, "restart-1", problem.position)))


def test_where_no_outcome_varies_nothing_is_searched_again(handled_run: Any) -> None:
    run = handled_run({"base": Uneven()}, {"train": [PROBLEMS["train"][0], PROBLEMS["train"][2]]})
    run.do([phase for phase in iteration(1) if phase.kind != "train-value"])
    with run.database.transaction() as transaction:
        rows = {row.name: row for row in runs.phases_of(transaction, run.run_id)}
    assert rows["restart-1"].result["trees"] == 0
    assert {row["question"] for row in run.dataset("policy-1")} == {"settled"}


def test_where_nothing_is_solved_there_is_nothing_to_restart_from_and_nothing_to_learn(handled_run: Any) -> None:
    run = handled_run({"base": Uneven()}, {"train": PROBLEMS["train"][2:]})
    with run.database.transaction() as transaction:
        runs.add_phases(transaction, run.run_id, iteration(1))
        transaction.emit(AdvanceRun(run_id=run.run_id))
    run.bus.run()
    with run.database.transaction() as transaction:
        rows = {row.name: row for row in runs.phases_of(transaction, run.run_id)}
    assert rows.pop("collect-1").state == "done"
    assert {row.state for row in rows.values()} == {"skipped"}
    assert {row.result["reason"] for row in rows.values()} == {"collect-1 solved no problem"}


def test_a_budget_without_tokens_cannot_be_divided() -> None:
    run = replace(RUN, budget=Budget(iterations=16))
    with pytest.raises(InputError, match="give --budget-tokens"):
        METHODS.get(RUN.method).iterate(run, 1, Models("base", "base", None))


def test_a_run_with_restarts_can_be_extended(handled_run: Any) -> None:
    run = handled_run({"base": Uneven()}, PROBLEMS)
    first, second = ([phase for phase in iteration(number) if isinstance(phase, SearchPhase)] for number in (1, 2))
    run.do(first)
    with run.database.transaction() as transaction:
        added = extend_run(transaction, "run", Extension({}, [*first, *second], {}))
    assert added == ("collect-2", "restart-2")
