"""Promotions and accuracies where the searches of held-out problems failed."""

from collections.abc import Sequence
from typing import Any

import pytest
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.reads.run_lines import run_lines
from restmcts.adapters.sql.state import runs
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ProposedStep, ProposeSteps, Sample, StepsProposed
from restmcts.errors import ModelError
from restmcts.testing.runs import policy_gate
from restmcts.testing.trees import RIGHT_ANSWER, WRONG_ANSWER, answer_step
from restmcts_cli.reports.run_results import outcome

PROBLEMS = {"held-out": [Problem(str(number), RIGHT_ANSWER) for number in range(20)]}


class Policy:
    """Answers the first `num_right` of twenty questions rightly, and fails on the first
    `num_failed`.
    """

    def __init__(self, num_right: int, num_failed: int = 0) -> None:
        self._num_right, self._num_failed = num_right, num_failed

    def propose(self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: Any) -> list[StepsProposed]:
        if any(int(question) < self._num_failed for question in questions):
            raise ModelError("no answer to this text")
        return [
            StepsProposed(request.number, (self._sample(int(question)),), 1)
            for question, request in zip(questions, requests, strict=True)
        ]

    def _sample(self, number: int) -> Sample:
        step = ProposedStep(answer_step(RIGHT_ANSWER if number < self._num_right else WRONG_ANSWER), 1, -1.0)
        return Sample((step,), 1, True)


def test_problems_whose_search_failed_say_nothing_of_a_policy(handled_run: Any) -> None:
    """The first ten are those that "policy-1" answers rightly, and "some" the eleventh as well."""
    models = {"policy-1": Policy(10), "some": Policy(11, 10), "all": Policy(20, 20)}
    run = handled_run(models, PROBLEMS)
    gates = run.do([*policy_gate(0, "policy-1"), *policy_gate(1, "some"), *policy_gate(2, "all")])
    assert [gate["promoted"] for gate in gates.values()] == [True, True, False]
    figures = gates["gate-1"]["figures"]["accuracy"]
    assert [figures[name]["value"] for name in ("candidate", "incumbent", "difference")] == pytest.approx([0.1, 0, 0.1])
    assert gates["gate-1"]["reason"].endswith("; 10 problems); left out because the search failed: 10 problems")
    assert (
        gates["gate-2"]["reason"]
        == "not promoted: accuracy not measured; left out because the search failed: 20 problems"
    )
    with run.database.transaction() as transaction:
        phases = {one.name: one for one in queries.phase_numbers(transaction, run.run_id)}
        assert phases["grade-2"].num_failed == 20 and phases["grade-2"].accuracy is None
        assert phases["grade-1"].accuracy.value == 0.05
        (line,) = run_lines(transaction)
        assert line.last is None
        last = runs.phases_of(transaction, run.run_id)[4]
        assert last.name == "grade-2" and outcome(transaction, last) is None


def test_a_first_policy_that_could_not_be_measured_goes_on_without_a_figure(handled_run: Any) -> None:
    run = handled_run({"all": Policy(20, 20)}, PROBLEMS)
    gates = run.do(policy_gate(0, "all"))
    assert (
        gates["gate-0"]["reason"] == "promoted: accuracy not measured; left out because the search failed: 20 problems"
    )
