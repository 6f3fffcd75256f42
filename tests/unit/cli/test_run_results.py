"""What a report reads of a stored run."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.trees import PHASES, RUNS
from restmcts.adapters.sql.tables import PhaseState
from restmcts_cli.reports.run_report import render_page
from restmcts_cli.reports.run_report_data import Report
from restmcts_cli.reports.run_results import answers_beside, iteration_results, run_seconds
from sqlalchemy import update

NAMES = [("grade-base", "as it came"), ("grade-base", "again")]


def test_answers_of_several_policies_stand_beside_one_another_in_the_order_of_the_problems(workdir: Path) -> None:
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    answered = answers_beside(database, 1, NAMES, 3)
    assert [problem.question for problem in answered] == [f"test question {number}" for number in range(3)]
    for problem in answered:
        assert [answer.policy for answer in problem.answers] == ["as it came", "again"]
        assert len({answer.text for answer in problem.answers}) == 1, "one phase gives one text"
        assert all(answer.verdict in ("right", "wrong", "undecided") for answer in problem.answers)
    assert any(problem.answers[0].text for problem in answered)
    database.close()


def test_a_phase_that_answered_nothing_leaves_nothing_to_show(workdir: Path) -> None:
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    assert answers_beside(database, 1, [*NAMES, ("grade-policy-1", "trained")], 3) == ()
    database.close()


def test_a_run_took_the_time_that_is_stored_however_often_its_report_is_made(
    workdir: Path, shown: Callable[..., str]
) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    with database.transaction() as transaction:
        transaction.execute(update(PHASES).values(started_at=begin, finished_at=begin + timedelta(seconds=60)))
        ended = {"state": "done", "created_at": begin, "finished_at": begin + timedelta(seconds=314)}
        transaction.execute(update(RUNS).values(**ended))
    assert run_seconds(database, 1) == 314.0
    database.close()
    assert "5 min 14 s" in shown("runs", "show", "mine", "--workdir", workdir)
    page = render_page(Report("a run", "restmcts selftrain", 0, 314.0))
    assert "Seed 0; it took 5 min 14 s from its start to its end, pauses included." in page


@pytest.mark.parametrize(
    ("state", "result", "untrained"),
    [
        (PhaseState.DONE, {"trained": True, "num_examples": 3}, {}),
        (PhaseState.SKIPPED, {"reason": "collect-1 solved no problem"}, "collect-1 solved no problem"),
        (PhaseState.DONE, {"trained": False, "reason": "no training data"}, "no training data"),
        (PhaseState.PENDING, {}, "policy-1 is still pending"),
    ],
)
def test_why_a_model_was_not_trained_is_what_its_phase_says(
    workdir: Path, state: PhaseState, result: dict[str, object], untrained: object
) -> None:
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    with database.transaction() as transaction:
        row = next(one for one in runs.phases_of(transaction, 1) if one.name == "policy-1")
        runs.set_phase(transaction, row.id, state, result=result)
    found = iteration_results(database, 1)[1]
    assert found.untrained == ({"the policy": untrained} if untrained else {})
    database.close()
