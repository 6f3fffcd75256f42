"""Workers are killed at random, one of them while it has leases, the trainer once it has saved a
state; PostgreSQL is restarted five times, Redis once, the S3 server is killed while such states are
uploaded, a process frozen with a run's lock; a coordinator and a search worker have clocks that are
300 s ahead; other runs ask a dripping and a poisonous server: nothing is lost and nothing is
doubled.

`make chaos` runs it with a seed of its own (RESTMCTS_CHAOS_SEED) for RESTMCTS_CHAOS_SECONDS of
kills.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state.runs import DEAD_LETTERS
from restmcts.adapters.storage.s3_store import S3ArtifactStore
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import TrainValuePhase
from restmcts.errors import StorageError
from restmcts.testing.hostile_servers import HostileServer, drips_its_body
from restmcts.testing.policy_servers import END, PolicyServer, judge_log_probs
from restmcts.testing.runs import TRAINING, await_end, begin_run, begin_search, faults, small_plan
from restmcts_cli.processes.server_processes import NAME, SERVERS
from restmcts_cli.processes.stack_processes import Stack
from sqlalchemy import select

WORKERS = {
    "coordinator": 2,
    "tree-search": 2,
    "policy-generator": 1,
    "prm-scorer": 1,
    "value-labeler": 1,
    "trainer": 1,
}
SETTINGS = {
    "RESTMCTS_RECONCILE_SECONDS": "2",
    "RESTMCTS_REQUEST_LEASE_SECONDS": "5",
    "RESTMCTS_JOB_LEASE_SECONDS": "6",
    "RESTMCTS_MAX_REQUESTS": "16",
    "RESTMCTS_POLICY_TIMEOUT_SECONDS": "5",
    "RESTMCTS_POLICY_RETRY_SECONDS": "5",
}
NUM_POISONED = 8
LONG, LONG_TRAINING = "value-0", replace(TRAINING, num_steps=100, save_seconds=0.2)
AHEAD = ("coordinator-2", "tree-search-2")
"""Workers whose clock is wrong, once they were killed and came back."""

CLOCK = """
from datetime import UTC, datetime, timedelta
import time_machine
time_machine.travel(datetime.now(UTC) + timedelta(seconds=300)).start()
"""
KILL_EVERY_SECONDS = (1.5, 4.0)
S3_AWAY_SECONDS = 20.0
MIN_SAVED_STEP = 3
RESUME_SECONDS = 60.0
END_SECONDS = 150.0
POSTGRES_RESTARTS = (0.1, 0.3, 0.5, 0.65, 0.85)
LEASED = "SELECT count(*) FROM requests WHERE state = 'leased' AND kind = 'score'"
AGAIN = "SELECT count(*) FROM requests r JOIN trees t ON t.id = r.tree_id WHERE r.attempt > 1 AND t.run_id = "
LABELLED = "SELECT count(*) FROM trees WHERE state = 'labelled' AND run_id = "
SAVED = "SELECT id, result FROM phases WHERE state = 'training' AND run_id = "
FROZEN = """
import os, signal, sys, time
from restmcts.adapters.sql.database import Database
from restmcts.errors import StorageError
from sqlalchemy import text
database = Database(sys.argv[1], idle_seconds=8.0)
while True:
    try:
        with database.transaction() as transaction:
            transaction.execute(text("SELECT * FROM runs WHERE id = " + sys.argv[2] + " FOR UPDATE"))
            os.kill(os.getpid(), signal.SIGSTOP)
    except StorageError:
        time.sleep(0.2)
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "stack", SETTINGS)
    try:
        stack.up(WORKERS)
        yield stack
    finally:
        stack.down()


@pytest.fixture
def ahead(stack: Stack, tmp_path: Path) -> Iterator[Stack]:
    """The same stack, for starting processes whose clock is 300 s ahead."""
    folder = tmp_path / "clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CLOCK)
    ahead = Stack(stack.folder, {**SETTINGS, "PYTHONPATH": str(folder)})
    yield ahead
    for name in AHEAD:
        ahead.stop(name)


class Chaos:
    """Kills and restarts, one after the other, from a seed; `log` tells what was done when."""

    def __init__(self, stack: Stack, ahead: Stack, database: Database, run_id: int, seed: int, seconds: float) -> None:
        self._stack, self._ahead, self._database, self._run_id = stack, ahead, database, run_id
        self._random = random.Random(seed)
        self._seconds = seconds
        self._frozen: list[subprocess.Popen[bytes]] = []
        self._killed_at: tuple[int, int] | None = None
        self._s3_back = float("inf")
        self.resumed: list[tuple[int, int]] = []
        self.log: list[str] = []

    def run(self) -> None:
        """Do harm for a time, then leave everything running."""
        begin = time.monotonic()
        events = {0.25: self._restart_redis, 0.4: self._freeze_a_lock}
        events |= {0.2: self._kill_scorer_with_leases, 0.6: self._kill_scorer_with_leases}
        events |= dict.fromkeys(POSTGRES_RESTARTS, self._restart_postgres)
        for name in AHEAD:
            self._kill(name)
            self._stack.stop(name)
        while (elapsed := time.monotonic() - begin) < self._seconds:
            for share in [share for share in events if elapsed > share * self._seconds]:
                events.pop(share)()
            self._kill_worker()
            self._pause(self._random.uniform(*KILL_EVERY_SECONDS))
        while not self.resumed and time.monotonic() - begin < self._seconds + RESUME_SECONDS:
            self._revive()
            self._pause(KILL_EVERY_SECONDS[0])
        self._start_server("s3")
        self._revive()
        for process in self._frozen:
            process.kill()
            process.wait()

    def _pause(self, seconds: float) -> None:
        """Wait for the next blow, and look what the trainer does meanwhile."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if time.monotonic() > self._s3_back:
                self._start_server("s3")
                self._s3_back = float("inf")
            with suppress(StorageError):
                self._watch_training()
            time.sleep(0.1)

    def _watch_training(self) -> None:
        """Kill the trainer once it has saved a state; once one has gone on from there, kill the S3
        server, to which it uploads states all the time.
        """
        with self._database.transaction() as transaction:
            row = transaction.connection.exec_driver_sql(f"{SAVED}{self._run_id}").first()
        if row is None or "saved_step" not in row.result or self.resumed:
            return
        saved = (row.id, row.result["saved_step"])
        if self._killed_at is None or self._killed_at[0] != row.id:
            if saved[1] >= MIN_SAVED_STEP:
                self._kill("trainer-1")
                self._killed_at = saved
        elif saved != self._killed_at:
            self.resumed.append((self._killed_at[1], saved[1]))
            self._kill("s3")
            self._s3_back = time.monotonic() + S3_AWAY_SECONDS

    def _kill_scorer_with_leases(self) -> None:
        """Kill the value models' worker while it serves requests, if it does within seconds."""
        self._revive()
        for _ in range(200):
            with suppress(StorageError), self._database.transaction() as transaction:
                if transaction.connection.exec_driver_sql(LEASED).scalar_one():
                    self.log.append("with leases:")
                    break
            time.sleep(0.02)
        self._kill("prm-scorer-1")

    def _freeze_a_lock(self) -> None:
        self.log.append("a frozen lock")
        url = self._stack.settings["RESTMCTS_DATABASE_URL"]
        self._frozen.append(subprocess.Popen([sys.executable, "-c", FROZEN, url, str(self._run_id)]))

    def _kill_worker(self) -> None:
        self._revive()
        victim = self._random.choice(
            sorted(member.name for member in self._stack.members() if member.name not in SERVERS)
        )
        self._kill(victim)

    def _kill(self, name: str, how: int = signal.SIGKILL) -> None:
        self.log.append(f"{signal.Signals(how).name} {name}")
        with self._stack.locked():
            self._stack.kill(name, how)

    def _revive(self) -> None:
        for kind, count in WORKERS.items():
            for name in (f"{kind}-{number}" for number in range(1, count + 1)):
                stack = self._ahead if name in AHEAD else self._stack
                with stack.locked():
                    stack.start_worker(name)

    def _restart_redis(self) -> None:
        self._restart("redis", signal.SIGKILL)

    def _restart_postgres(self) -> None:
        self._restart("postgres", signal.SIGQUIT)

    def _restart(self, name: str, how: int) -> None:
        self._kill(name, how)
        time.sleep(1.0)
        self._start_server(name)

    def _start_server(self, name: str) -> None:
        with self._stack.locked():
            self._stack.start_server(name)


@pytest.mark.timeout(600)
def test_nothing_is_lost_or_doubled(
    stack: Stack, ahead: Stack, puzzles: Sequence[Problem], puzzle_policy: Path, tmp_path: Path
) -> None:
    seed = int(os.environ.get("RESTMCTS_CHAOS_SEED", "1"))
    settings = stack.settings
    keys = (settings["RESTMCTS_S3_ACCESS_KEY"], settings["RESTMCTS_S3_SECRET_KEY"])
    artifacts = S3ArtifactStore(settings["RESTMCTS_S3_ENDPOINT"], *keys, NAME, False, tmp_path / "cache", 2**30)
    database = Database(settings["RESTMCTS_DATABASE_URL"])
    phases = [
        replace(phase, training=LONG_TRAINING) if isinstance(phase, TrainValuePhase) and phase.name == LONG else phase
        for phase in small_plan()
    ]
    run_id = begin_run(database, artifacts, puzzle_policy, puzzles[:24], phases)
    chaos = Chaos(stack, ahead, database, run_id, seed, float(os.environ.get("RESTMCTS_CHAOS_SECONDS", "45")))
    poison = partial(judge_log_probs, vocabulary=("a\0", "b\ud800", "\n", END))
    with HostileServer(drips_its_body) as dripping, PolicyServer(log_probs_of=poison) as poisonous:
        policy, value = poisonous.uri("openai"), poisonous.uri("openai", "&format=judge")
        poisoned_id = begin_search(database, policy, value, NUM_POISONED)
        begin_search(database, f"openai+http://{dripping.host}/v1?model=tiny", value, NUM_POISONED)
        chaos.run()
        print(f"seed {seed}: {len(chaos.log)} blows: {', '.join(chaos.log)}; resumed: {chaos.resumed}")
        states = [await_end(database, each, END_SECONDS) for each in (run_id, poisoned_id)]
    with database.transaction() as transaction:
        again = [
            transaction.connection.exec_driver_sql(f"{AGAIN}{each}").scalar_one() for each in (run_id, poisoned_id)
        ]
        letters = [letter.reason for letter in transaction.execute(select(DEAD_LETTERS)).all()]
        ended = [
            transaction.connection.exec_driver_sql(f"{LABELLED}{each}").scalar_one() for each in (run_id, poisoned_id)
        ]
    print(f"trees labelled: {ended}; requests tried again: {again}; dead letters: {letters}")
    assert states == ["done", "done"]
    assert all(before < after for before, after in chaos.resumed) and chaos.resumed
    assert faults(database, run_id) + faults(database, poisoned_id) == []
    assert letters == []
    database.close()
