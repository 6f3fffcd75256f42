"""A run that cannot have what it needs is blocked, with the reason; nothing else waits for it, and
it continues by itself once that is there.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries, stack_queries
from restmcts.adapters.sql.rows import StoredPhase
from restmcts.adapters.sql.state import blocks, runs
from restmcts.adapters.sql.state.blocks import BLOCKS, FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, Block
from restmcts.adapters.sql.state.trees import PHASES, TREES
from restmcts.adapters.sql.tables import Need, PhaseState, RunState
from restmcts.adapters.workers.service import OpenModels
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import PHASE, Phase, SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.errors import CheckpointError, ModelError, RestMctsError, ServerUnavailableError, StorageError
from restmcts.messages.commands import AdvanceRun, AdvanceTrees, LabelTrees, ProposeWaitingSteps, WriteDataset
from restmcts.ports import Artifact
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts.usecases import steer
from restmcts.usecases.reconcile import RetryPolicy, wake_overdue
from restmcts.usecases.serve_models import WorkerSettings
from restmcts_coordinator.handlers import CoordinatorHandlers
from restmcts_local.local_run import LocalRun, ModelOptions
from restmcts_policy_generator.handlers import PolicyGeneratorHandlers
from restmcts_tree_search.handlers import TreeSearchHandlers
from restmcts_value_labeler.handlers import ValueLabelerHandlers
from sqlalchemy import select, update

GRADE = SearchPhase("grade", 1, "evaluate", "set", "policy", None, CotSettings())
COLLECT = SearchPhase("collect", 1, "collect", "set", "policy", None, CotSettings())
TRAIN = TrainPolicyPhase("policy-1", 1, "policy", TrainingSettings(), (), solutions_of="set")
RETRIES = RetryPolicy(overdue_seconds=0.0, max_attempts=3)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    database.create_tables()
    yield database
    database.close()


def begin(database: Database, name: str, phase: Phase = GRADE, num_problems: int = 2) -> int:
    """Store a run of one phase whose trees have asked their policy; return its id."""
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, name, "test", 0, {})
        problems = [Problem(f"question {number}", RIGHT_ANSWER, ("a step",)) for number in range(num_problems)]
        runs.add_problems(transaction, run_id, "set", problems)
        runs.add_checkpoint(transaction, run_id, "policy", "policy", name, "0")
        runs.add_phases(transaction, run_id, [phase])
    CoordinatorHandlers(database).advance_run(AdvanceRun(run_id=run_id))
    TreeSearchHandlers(database).advance_trees(AdvanceTrees(tree_ids=tree_ids(database)))
    return run_id


def tree_ids(database: Database) -> tuple[int, ...]:
    with database.transaction() as transaction:
        return tuple(transaction.execute(select(TREES.c.id)).scalars())


def state_of(database: Database, name: str) -> tuple[str, str | None]:
    """Return a run's state and its reason as people are shown them, alone and in the list."""
    with database.transaction() as transaction:
        row = queries.run_named(transaction, name)
        listed = next(found for found in queries.list_runs(transaction) if found.name == name)
    assert (listed.state, listed.error) == (row.state, row.error)
    return row.state, row.error


def blocks_of(database: Database, run_id: int) -> list[Block]:
    with database.transaction() as transaction:
        return blocks.blocks_of(transaction, run_id)


def phase_of(database: Database, run_id: int) -> StoredPhase:
    with database.transaction() as transaction:
        return runs.phases_of(transaction, run_id)[0]


def make_due(database: Database) -> None:
    with database.transaction() as transaction:
        blocks.retry_now(transaction)


def a_round(database: Database) -> list[object]:
    """Let the reconciler look; return what it emits."""
    with database.transaction() as transaction:
        wake_overdue(transaction, RETRIES, lambda _: True)
        return list(transaction.emitted)


def policies(database: Database, broken: Callable[[str], None], opened: list[str]) -> PolicyGeneratorHandlers:
    """Return a policy generator that notes which policies it opens; `broken` raises for some."""

    def load(uri: str) -> RandomModels:
        opened.append(uri)
        broken(uri)
        return RandomModels()

    return PolicyGeneratorHandlers(database, load, WorkerSettings())


@pytest.mark.parametrize(
    "error",
    [ModelError("no such folder"), StorageError("the bucket is away"), ServerUnavailableError("nobody listens"),
     RuntimeError("CUDA is not there"), MemoryError("too large")],
    ids=["folder", "bucket", "server", "library", "memory"],
)  # fmt: skip
def test_a_policy_that_cannot_be_had_blocks_its_run_alone(database: Database, error: Exception) -> None:
    away = [True]

    def broken(uri: str) -> None:
        if uri == "bad" and away:
            raise error

    opened: list[str] = []
    bad, good = begin(database, "bad"), begin(database, "good")
    worker = policies(database, broken, opened)
    with pytest.raises(RestMctsError, match=str(error)):
        worker.propose_steps(ProposeWaitingSteps())
    assert opened == ["bad", "good"], "it is opened once, and the younger run has its turn"
    state, reason = state_of(database, "bad")
    assert state == "blocked"
    assert str(error) in str(reason)
    assert state_of(database, "good") == ("running", None)

    worker.propose_steps(ProposeWaitingSteps())
    assert opened == ["bad", "good"], "it is not asked for again at once"
    away.clear()
    make_due(database)
    worker.propose_steps(ProposeWaitingSteps())
    assert state_of(database, "bad") == ("running", None)
    assert blocks_of(database, bad) == []
    for run_id in (bad, good):
        with database.transaction() as transaction:
            states = "SELECT DISTINCT requests.state, attempt FROM requests JOIN trees ON trees.id = tree_id WHERE run_id = ?"
            assert transaction.connection.exec_driver_sql(states, (run_id,)).all() == [("answered", 1)]


def test_pauses_grow_and_of_several_failures_at_a_time_one_counts(database: Database) -> None:
    run_id = begin(database, "run")
    pauses = []
    for number in range(1, 12):
        with database.transaction() as transaction:
            blocks.retry_now(transaction)
            blocks.block(transaction, run_id, Need.CHECKPOINT, 1, f"try {number}")
            blocks.block(transaction, run_id, Need.CHECKPOINT, 1, "another worker, at the same time")
            now = transaction.now()
        (found,) = blocks_of(database, run_id)
        assert (found.num_tries, found.reason) == (number, f"try {number}")
        pauses.append((found.retry_at - now) / timedelta(seconds=1))
    assert pauses == pytest.approx([min(FIRST_PAUSE_SECONDS * 2**n, MAX_PAUSE_SECONDS) for n in range(11)], abs=0.5)


def test_a_message_that_fails_again_for_the_same_reason_is_one_dead_letter(database: Database) -> None:
    for reason in ("no such folder", "no such folder", "another reason", "no such folder"):
        with database.transaction() as transaction:
            runs.add_dead_letter(transaction, "policy", "policy.propose_waiting_steps", "{}", reason)
    with database.transaction() as transaction:
        letters = stack_queries.list_dead_letters(transaction)
    assert [(letter.reason, letter.num_times) for letter in letters] == [("no such folder", 3), ("another reason", 1)]
    assert letters[0].last_at is not None
    assert letters[0].last_at >= letters[0].created_at


def test_the_reconciler_does_not_wake_for_what_is_not_due(database: Database) -> None:
    begin(database, "run")
    assert ProposeWaitingSteps() in a_round(database)
    with database.transaction() as transaction:
        blocks.block_checkpoint(transaction, 1, "away")
    assert ProposeWaitingSteps() not in a_round(database)
    make_due(database)
    assert ProposeWaitingSteps() in a_round(database)


def test_what_nobody_asks_for_any_more_blocks_nothing(database: Database) -> None:
    run_id = begin(database, "run")
    with database.transaction() as transaction:
        blocks.block_checkpoint(transaction, 1, "away")
        transaction.execute(update(BLOCKS).values(retry_at=moment(-100)))
    a_round(database)
    assert blocks_of(database, run_id), "its requests wait for it"
    with database.transaction() as transaction:
        transaction.connection.exec_driver_sql("DELETE FROM requests")
    a_round(database)
    assert blocks_of(database, run_id) == []


def test_a_run_that_ends_or_is_paused_is_not_blocked(database: Database) -> None:
    run_id = begin(database, "run")
    with database.transaction() as transaction:
        blocks.block_checkpoint(transaction, 1, "away")
        steer.pause(transaction, "run")
    assert state_of(database, "run") == ("paused", None)
    with database.transaction() as transaction:
        steer.resume(transaction, "run")
        now = transaction.now()
    assert state_of(database, "run") == ("blocked", "away")
    assert blocks_of(database, run_id)[0].retry_at <= now, "a person who resumes it wants it tried now"
    with database.transaction() as transaction:
        steer.cancel(transaction, "run")
    assert state_of(database, "run") == ("cancelled", None)
    assert blocks_of(database, run_id) == []


class AwayStore:
    """A store that refuses as long as it is away."""

    def __init__(self) -> None:
        self.is_away = True

    def put(self, folder: Path, kind: str, lineage: dict[str, Any]) -> Artifact:
        if self.is_away:
            raise StorageError("the bucket is away")
        return Artifact("artifact:datasets/0", "0", 1)


def test_a_bucket_that_is_away_blocks_the_writing_of_data_and_no_attempt_counts(database: Database) -> None:
    run_id = begin(database, "run", TRAIN)
    store = AwayStore()
    labeler = ValueLabelerHandlers(database, store, RandomModels())  # type: ignore[arg-type]
    command = WriteDataset(phase_id=1)
    for _ in range(2 * RETRIES.max_attempts):
        make_due(database)
        with database.transaction() as transaction:
            transaction.execute(update(PHASES).values(lease_until=None))
        assert command in a_round(database)
        with pytest.raises(StorageError):
            labeler.write_dataset(command)
        assert command not in a_round(database), "it is left alone until it is due"
    assert state_of(database, "run") == ("blocked", "the bucket is away")
    assert phase_of(database, run_id).state == PhaseState.WRITING
    store.is_away = False
    labeler.write_dataset(command)
    assert state_of(database, "run") == ("running", None)


def without_plugin(database: Database, run_id: int) -> None:
    """Let a phase name a search that is registered nowhere."""
    spec = PHASE.dump_python(GRADE, mode="json")
    with database.transaction() as transaction:
        absent = spec | {"search": {"algorithm": "of-a-plugin"}}
        transaction.execute(update(PHASES).where(PHASES.c.run_id == run_id).values(spec=absent))


def test_a_plugin_that_the_coordinator_lacks_blocks_the_run(database: Database) -> None:
    run_id = begin(database, "run")
    without_plugin(database, run_id)
    with pytest.raises(RestMctsError, match="of-a-plugin"):
        CoordinatorHandlers(database).advance_run(AdvanceRun(run_id=run_id))
    state, reason = state_of(database, "run")
    assert state == "blocked"
    assert "no search is called 'of-a-plugin'" in str(reason)
    assert AdvanceRun(run_id=run_id) not in a_round(database)
    with database.transaction() as transaction:
        transaction.execute(update(PHASES).values(spec=PHASE.dump_python(GRADE, mode="json")))
    CoordinatorHandlers(database).advance_run(AdvanceRun(run_id=run_id))
    assert state_of(database, "run") == ("running", None)


def test_a_plugin_that_a_search_worker_lacks_fails_no_tree(database: Database) -> None:
    run_id = begin(database, "run")
    with database.transaction() as transaction:
        transaction.execute(update(TREES).values(version=0))
    without_plugin(database, run_id)
    for _ in range(2 * RETRIES.max_attempts):
        make_due(database)
        a_round(database)
        TreeSearchHandlers(database).advance_trees(AdvanceTrees(tree_ids=tree_ids(database)))
    state, reason = state_of(database, "run")
    assert state == "blocked"
    assert "tree-search: no search is called 'of-a-plugin'" in str(reason)
    with database.transaction() as transaction:
        assert set(transaction.execute(select(TREES.c.state)).scalars()) == {"searching"}


def test_a_task_that_the_labeler_lacks_fails_no_tree(database: Database) -> None:
    run_id = begin(database, "run")

    class Lacking:
        def judge(self, checks: Any) -> Any:
            from restmcts.domain.tasks.task import TASKS

            return TASKS.get("of-a-plugin")

    with database.transaction() as transaction:
        transaction.execute(update(TREES).values(state="ended", ended_at=moment()))
    ids = tree_ids(database)
    ValueLabelerHandlers(database, AwayStore(), Lacking()).label_trees(LabelTrees(tree_ids=ids))  # type: ignore[arg-type]
    assert state_of(database, "run")[0] == "blocked"
    assert LabelTrees(tree_ids=ids) not in a_round(database)
    make_due(database)
    assert LabelTrees(tree_ids=ids) in a_round(database)
    assert [block.need for block in blocks_of(database, run_id)] == ["phase"]


@pytest.mark.parametrize(("phase", "name"), [(GRADE, "grade"), (COLLECT, "collect")], ids=["grading", "collecting"])
@pytest.mark.parametrize("num_failed", [1, 2])
def test_a_run_whose_trees_all_failed_has_failed(database: Database, phase: Phase, name: str, num_failed: int) -> None:
    run_id = begin(database, "run", phase)
    with database.transaction() as transaction:
        transaction.execute(update(TREES).values(state="labelled", solved=False))
        transaction.execute(update(TREES).where(TREES.c.id <= num_failed).values(state="failed", error="it is broken"))
    CoordinatorHandlers(database).advance_run(AdvanceRun(run_id=run_id))
    state, reason = state_of(database, "run")
    assert state == (RunState.FAILED if num_failed == 2 else RunState.DONE)
    assert (reason is not None) == (num_failed == 2)
    if reason is not None:
        assert "all 2 trees failed: it is broken" in reason


def local_run(folder: Path, open_policy: Callable[[str], Any]) -> LocalRun:
    local = LocalRun(folder, ModelOptions(), opened=OpenModels(open_policy, open_policy))
    with local.database.transaction() as transaction:
        if runs.find_run(transaction, "run") is None:
            run_id = runs.create_run(transaction, "run", "test", 1, {})
            runs.add_problems(transaction, run_id, "set", [Problem("question", RIGHT_ANSWER)])
            runs.add_checkpoint(transaction, run_id, "policy", "policy", "policy", "0")
            runs.add_phases(transaction, run_id, [GRADE])
    return local


def test_in_one_process_the_command_ends_and_the_run_is_blocked_until_it_is_started_again(tmp_path: Path) -> None:
    def broken(_: str) -> Any:
        raise ModelError("no such folder")

    with local_run(tmp_path, broken) as local:
        with pytest.raises(CheckpointError, match="no such folder"):
            local.run(1)
        assert state_of(local.database, "run") == ("blocked", "checkpoint policy: no such folder")
    with local_run(tmp_path, lambda _: RandomModels()) as local:
        local.run(1)
        assert state_of(local.database, "run") == ("done", None)


def test_in_one_process_a_server_that_is_away_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "FIRST_PAUSE_SECONDS", 0.05)
    seen: list[tuple[str, str | None]] = []

    def away(_: str) -> Any:
        if len(seen) < 3:
            seen.append(state_of(local.database, "run"))
            raise ServerUnavailableError("nobody listens")
        return RandomModels()

    with local_run(tmp_path, away) as local:
        local.run(1)
        assert state_of(local.database, "run") == ("done", None)
    assert seen == [("running", None), *[("blocked", "nobody listens")] * 2]
