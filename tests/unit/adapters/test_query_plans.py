"""What a run asks of its database while it goes on takes an index: it costs no more where much was
stored before.
"""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from restmcts.adapters.sql.reads import progress, queries, stack_queries
from restmcts.adapters.sql.state import requests
from restmcts.domain.problems import Problem
from restmcts.domain.runs.methods import METHODS, Models
from restmcts.domain.runs.phases import Phase, PromotionPhase, SearchPhase
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.search.best_first import BestFirstSettings
from restmcts.domain.search.best_of_n import SelfConsistencySettings
from restmcts.domain.search.protocol import Budget
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts.usecases.reconcile import RetryPolicy, wake_all, wake_overdue
from sqlalchemy import event, text

PROBLEMS = {name: [Problem(f"{name} {number}", RIGHT_ANSWER) for number in range(12)] for name in ("train", "held-out")}
# Of a table, all rows, or all that are in an index of the whole table.
READS_ALL = re.compile(r"SCAN (requests|nodes|trees|problems)(?! USING (COVERING )?INDEX ix_requests_)")


class Asked:
    """The statements that a database is asked, each with parameters of its once."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self.statements: dict[str, Any] = {}
        event.listen(database.engine, "before_cursor_execute", self._note)

    def _note(self, _: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        if parameters and statement.startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            self.statements.setdefault(statement, parameters[0] if many else parameters)

    def reading_all(self) -> list[str]:
        """Return those that read a whole table, each with its plan."""
        event.remove(self._database.engine, "before_cursor_execute", self._note)
        found = []
        with self._database.engine.connect() as connection:
            for statement, parameters in self.statements.items():
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                plan = [row[3] for row in rows]
                if any(READS_ALL.match(line) for line in plan):
                    found.append("\n".join([statement, *plan]))
        return found


def phases() -> Sequence[Phase]:
    """Return trees with and without a value model, restarts, samples, and a value model's gate."""
    run = SelfTraining(
        num_iterations=2,
        train_sets=("train", "train"),
        bootstrap_set="train",
        search=BestFirstSettings(score=False, stop_threshold=None),
        budget=Budget(tokens=200),
    )
    names = ("rest-mcts-probed", "rest-mcts-restarts")
    made = [
        METHODS.get(name).iterate(run, number, Models("base", "base", None)) for number, name in enumerate(names, 1)
    ]
    searches = [phase for listed in made for phase in listed if isinstance(phase, SearchPhase)]
    held_out = SearchPhase(
        "trees", 0, "held-out", "held-out", "base", "value-0", SelfConsistencySettings(num_samples=3)
    )
    return [*searches, held_out, PromotionPhase("gate", 0, "value", "value-0", "trees", None)]


def test_a_run_reads_no_table_whole(handled_run: Any) -> None:
    run = handled_run({"base": RandomModels(answer_rate=0.6), "value-0": RandomModels()}, PROBLEMS)
    asked = Asked(run.database)
    run.do(phases())
    with run.database.transaction() as transaction:
        wake_all(transaction)
        wake_overdue(transaction, RetryPolicy(), lambda _: True)
        progress.read(transaction, run.run_id)
        queries.phase_numbers(transaction, run.run_id)
        stack_queries.open_requests(transaction)
        requests.release_overdue(transaction)
        requests.policies_waited_for(transaction)
    assert len(asked.statements) > 40
    assert asked.reading_all() == []


@pytest.mark.parametrize("condition", [requests.WAITING, requests.LEASED, requests.ANSWERED, requests.UNANSWERED])
def test_requests_that_are_not_applied_are_found_by_their_indexes(handled_run: Any, condition: Any) -> None:
    run = handled_run({"base": RandomModels()}, PROBLEMS)
    compiled = condition.compile(run.database.engine, compile_kwargs={"literal_binds": True})
    with run.database.engine.connect() as connection:
        rows = connection.execute(text(f"EXPLAIN QUERY PLAN SELECT tree_id FROM requests WHERE {compiled}"))
        assert not [row[3] for row in rows if READS_ALL.match(row[3])]
