"""A run's state and times as people are shown them: what waits for a process, and one time each."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import blocks, runs
from restmcts.adapters.sql.state.trees import PHASES, RUNS, TREES
from restmcts.adapters.sql.tables import PhaseState, RunState
from restmcts.adapters.storage.folder_lock import lock_folder, name_run
from restmcts.settings import DashboardSettings
from restmcts_dashboard.serving import folder_source
from restmcts_dashboard.source import Source
from sqlalchemy import update


def test_a_run_that_no_process_works_on_is_waiting_with_the_command_that_resumes_it(
    failed: Database, served: Callable[[Source], Any]
) -> None:
    database = Path(str(failed.engine.url.database))
    client = served(folder_source(database, DashboardSettings(dashboard_token=SecretStr("a long token"))))
    with failed.transaction() as transaction:
        transaction.execute(update(RUNS).values(name="mine"))
        blocks.block_checkpoint(transaction, 1, "the bucket is away")
    command = f"restmcts runs work mine --workdir {database.parent}"
    for reason in ("Until then it was blocked: the bucket is away.", ""):
        page, listed = client.text("/runs/1"), client.text("/")
        assert 'class="state waiting"' in page and 'class="state waiting"' in listed
        assert 'class="state blocked"' not in page and "/archive" not in page
        assert f"To go on: <code>{command}</code>" in page and reason in page
        assert 'aria-label="Compare mine"' in client.text("/?state=waiting")
        with failed.transaction() as transaction:
            blocks.unblock_run(transaction, 1)
    with lock_folder(database.parent) as lock:
        assert 'class="state waiting"' in client.text("/runs/1"), "the process works on no run yet"
        name_run(lock, 1)
        assert 'class="state running"' in client.text("/runs/1") and command not in client.text("/runs/1")
        assert "No run matches" in client.text("/?state=waiting")
    failed.close()


def test_a_run_has_one_start_one_last_change_and_one_length_on_every_page(
    failed: Database, served: Callable[[Source], Any]
) -> None:
    begin = datetime(2026, 1, 1, 10, tzinfo=UTC)
    with failed.transaction() as transaction:
        at = {"created_at": begin - timedelta(hours=1), "state": RunState.PAUSED.value}
        transaction.execute(update(RUNS).values(**at))
        transaction.execute(update(PHASES).values(started_at=begin, finished_at=begin + timedelta(minutes=3)))
        transaction.execute(update(TREES).values(updated_at=begin, ended_at=begin + timedelta(seconds=301)))
    client = served(Source(Database(str(failed.engine.url), read_only=True), "a test"))
    page, listed = client.text("/runs/1"), client.text("/")
    assert ">5 min 01 s</span>" in page and ">5 min 01 s</td>" in listed, "a tree of a phase under way changed last"
    assert "UTC: started 2026-01-01 10:00:00, last change 2026-01-01 10:05:01" in page
    assert ">2026-01-01 10:00</td>" in listed
    with failed.transaction() as transaction:
        transaction.execute(update(PHASES).values(state=PhaseState.DONE.value))
        runs.finish_run(transaction, 1, RunState.DONE)
        transaction.execute(update(RUNS).values(finished_at=begin + timedelta(hours=2)))
    page, listed = client.text("/runs/1"), client.text("/")
    assert ">2 h 00 min</span>" in page and ">2 h 00 min</td>" in listed
    assert "last change 2026-01-01 12:00:00" in page
    with failed.transaction() as transaction:
        runs.create_run(transaction, "new", "rest-mcts", 0, {})
    assert "started not yet, last change 20" in client.text("/runs/2") and "not yet</td>" in client.text("/")
    failed.close()
