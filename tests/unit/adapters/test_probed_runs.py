"""A whole iteration whose trees go to the problems that two samples of each leave open."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from restmcts.adapters.sql.reads.sample_counts import sample_counts
from restmcts.adapters.sql.state import runs
from restmcts.domain.labels.filtering import TraceFilter
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings, ProposedStep, ProposeSteps, Sample, StepsProposed
from restmcts.domain.runs.methods import METHODS, Models
from restmcts.domain.runs.phases import Phase, SearchPhase
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.search.best_of_n import BestOfNSettings
from restmcts.domain.search.protocol import Budget
from restmcts.errors import InputError
from restmcts.testing.runs import faults
from restmcts.testing.trees import RIGHT_ANSWER, WRONG_ANSWER, answer_step
from restmcts.usecases.create import Extension, extend_run

QUESTIONS = ("settled", "mixed", "hard", "hopeless")
PROBLEMS = {"train": [Problem(question, RIGHT_ANSWER) for question in QUESTIONS]}
BUDGET, TOKENS = 60, 4
RUN = SelfTraining(
    num_iterations=2,
    train_sets=("train", "train"),
    bootstrap_set="train",
    search=BestOfNSettings(num_samples=64, samples_at_once=1, score=False),
    budget=Budget(tokens=BUDGET),
    traces=TraceFilter(top_k=2, rank="shortest"),
)


class Uneven:
    """Solves "settled" always, "mixed" every second time, "hard" from the ninth sample on."""

    def propose(self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: Any) -> list[StepsProposed]:
        return [self._answer(question, request) for question, request in zip(questions, requests, strict=True)]

    def _answer(self, question: str, request: ProposeSteps) -> StepsProposed:
        samples = tuple(self._sample(question, request.number + place) for place in range(request.num_samples))
        return StepsProposed(request.number, samples, 1)

    def _sample(self, question: str, number: int) -> Sample:
        is_right = {"settled": True, "mixed": number % 2 == 0, "hard": number > 8}.get(question, False)
        texts = (f"way {number % 3}\n", answer_step(RIGHT_ANSWER if is_right else WRONG_ANSWER))
        return Sample(tuple(ProposedStep(text, TOKENS // 2, -1.0) for text in texts), TOKENS, True)


def iteration(number: int) -> list[Phase]:
    run = replace(RUN, method="rest-mcts-probed")
    return METHODS.get(run.method).iterate(run, number, Models("base", "base", None))


def searched(run: Any, phase: str) -> dict[str, int]:
    """Return how many tokens the trees of a phase took, by question."""
    with run.database.transaction() as transaction:
        row = next(row for row in runs.phases_of(transaction, run.run_id) if row.name == phase)
        problems = runs.problems_of(transaction, run.run_id, phase)
        assert row.result["trees"] == len(problems)
        return {problem.question: row.result["tokens"] // len(problems) for problem in problems}


def test_settled_problems_leave_their_budget_to_the_others_and_hopeless_ones_do_in_the_next_iteration(
    handled_run: Any,
) -> None:
    run = handled_run({"base": Uneven()}, PROBLEMS)
    run.do([phase for number in (1, 2) for phase in iteration(number) if isinstance(phase, SearchPhase)])
    with run.database.transaction() as transaction:
        counts = sample_counts(transaction, run.run_id, "probe-1")
    assert [(one.position, one.num_samples, one.num_right, one.solved, one.tokens) for one in counts] == [
        (place, 2, num_right, num_right > 0, 2 * TOKENS) for place, num_right in enumerate((2, 1, 0, 0))
    ]
    total, probes = BUDGET * len(QUESTIONS), 2 * TOKENS * len(QUESTIONS)
    first, second = searched(run, "collect-1"), searched(run, "collect-2")
    assert first.keys() == {"mixed", "hard", "hopeless"}
    assert second.keys() == {"mixed", "hard"}
    for found in (first, second):
        assert total - TOKENS * len(found) < probes + sum(found.values()) < total + TOKENS * len(found)
    assert faults(run.database, run.run_id) == [], "played again under the budgets that were divided"


def test_the_policy_learns_as_many_solutions_of_a_problem_as_it_is_to_and_none_twice(handled_run: Any) -> None:
    run = handled_run({"base": Uneven()}, PROBLEMS)
    run.do([phase for phase in iteration(1) if phase.kind != "train-value"])
    learnt = [(row["question"], tuple(row["steps"])) for row in run.dataset("policy-1")]
    assert len(set(learnt)) == len(learnt)
    counts = Counter(question for question, _ in learnt)
    assert counts.keys() == {"settled", "mixed", "hard"} and max(counts.values()) <= 2


def test_given_solutions_are_learned_again_beside_what_was_found(handled_run: Any) -> None:
    solution = ("as given\n", answer_step(RIGHT_ANSWER))
    seeds = [Problem("given", RIGHT_ANSWER, solution), Problem("without", RIGHT_ANSWER)]
    run = handled_run({"base": Uneven()}, {**PROBLEMS, "seeds": seeds})
    asked = replace(RUN, seed_set="seeds", seeds_again=True)
    phases = METHODS.get("rest-em").iterate(asked, 1, Models("base", "base", None))
    run.do(phases)
    learnt = {row["question"]: tuple(row["steps"]) for row in run.dataset("policy-1")}
    assert learnt.keys() == {"given", "settled", "mixed", "hard"}
    assert learnt["given"] == solution


def test_where_every_problem_is_settled_nothing_is_searched(handled_run: Any) -> None:
    run = handled_run({"base": Uneven()}, {"train": PROBLEMS["train"][:1]})
    run.do([phase for phase in iteration(1) if phase.kind != "train-value"])
    with run.database.transaction() as transaction:
        rows = {row.name: row for row in runs.phases_of(transaction, run.run_id)}
    assert rows["collect-1"].result["trees"] == 0
    assert len(run.dataset("policy-1")) == 2


def test_a_run_whose_budget_was_divided_can_be_extended(handled_run: Any) -> None:
    run = handled_run({"base": Uneven()}, PROBLEMS)
    first = [phase for phase in iteration(1) if isinstance(phase, SearchPhase)]
    run.do(first)
    second = [phase for phase in iteration(2) if isinstance(phase, SearchPhase)]
    with run.database.transaction() as transaction:
        added = extend_run(transaction, "run", Extension({}, [*first, *second], {}))
    assert added == ("probe-2", "collect-2")
    other = [replace(phase, generation=GenerationSettings(temperature=0.3)) for phase in first]
    with pytest.raises(InputError, match="was stored with other settings"), run.database.transaction() as transaction:
        extend_run(transaction, "run", Extension({}, [*other, *second], {}))
