"""Machines that train one model together do what one process does, also if one of them is lost and
another comes.

They are processes of this machine, with a bucket in common and folders of their own.
"""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import restmcts_trainer.machines
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.tables import PhaseState
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.service import ServiceContext, ServiceSettings
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import TrainPolicyPhase
from restmcts.domain.runs.training_settings import Sharding
from restmcts.domain.training_machines import TrainingMachines
from restmcts.errors import CheckpointError
from restmcts.messages.base import Message
from restmcts.messages.commands import TrainPolicy
from restmcts_trainer.handlers import TrainerHandlers
from restmcts_trainer.job import Sources
from restmcts_trainer.machines import FurtherMachines, MachineLostError, TrainingProcessDiedError
from restmcts_trainer.process import TrainingProcess
from safetensors.torch import load_file

from tests.e2e.test_several_processes import PHASES, SFT, Watcher, alone, difference, job_of, train

__all__ = ["alone"]

NUM_STEPS = 12
Start = Callable[[Path, int], "subprocess.Popen[bytes]"]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECONDS_FOR_LEAST", "SECONDS_FOR_MOST"):
        monkeypatch.setattr(restmcts_trainer.machines, name, 600.0)


@pytest.fixture
def place() -> TrainingMachines:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return TrainingMachines(2, 2, "127.0.0.1", probe.getsockname()[1])


@pytest.fixture
def start_machine(place: TrainingMachines, environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start a further machine with a folder of its own and so many processes for each training."""
    started: list[subprocess.Popen[bytes]] = []

    def start(bucket: Path, num_processes: int) -> "subprocess.Popen[bytes]":
        program, folder = Path(__file__).with_name("further_machine_process.py"), tmp_path / f"machine-{len(started)}"
        arguments = [str(place.port), str(bucket), str(folder), str(num_processes)]
        started.append(subprocess.Popen([sys.executable, str(program), *arguments], env=environment))
        return started[-1]

    yield start
    for machine in started:
        machine.kill()
        machine.wait()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "sharding"), [("value", "none"), ("dpo", "full")])
def test_several_machines_do_what_one_process_does(
    name: str,
    sharding: Sharding,
    alone: TrainingProcess,
    place: TrainingMachines,
    start_machine: Start,
    puzzle_policy: Path,
    puzzles: Sequence[Problem],
    tmp_path: Path,
) -> None:
    job = job_of(PHASES[name], puzzle_policy, puzzles, tmp_path)
    _, _, wanted = train(alone, job)
    bucket = FolderArtifactStore(tmp_path / "bucket")
    sources = Sources(str(puzzle_policy), bucket.put(job.dataset, "datasets", {}).uri)
    start_machine(tmp_path / "bucket", 2)
    with (
        closing(FurtherMachines(place)) as machines,
        closing(TrainingProcess(1, 2, sharding, machines)) as together,
    ):
        for folder in ("once", "again"):
            _, watcher, got = train(together, replace(job, folder=tmp_path / folder, sources=sources))
            assert watcher.saved == [1, 2, 3]
            # Those of the further machine are on its own disk.
            assert watcher.num_processes == 2
            assert difference(got, wanted) <= 1e-6


@pytest.mark.timeout(600)
def test_a_process_that_dies_on_a_further_machine_ends_the_training_and_frees_the_machine(
    place: TrainingMachines, start_machine: Start, puzzle_policy: Path, puzzles: Sequence[Problem], tmp_path: Path
) -> None:
    """A process there is killed for want of memory, say: no machine is lost."""
    job = job_of(replace(SFT, training=replace(SFT.training, num_steps=1000)), puzzle_policy, puzzles, tmp_path)
    bucket = FolderArtifactStore(tmp_path / "bucket")
    sources = Sources(str(puzzle_policy), bucket.put(job.dataset, "datasets", {}).uri)
    machine = psutil.Process(start_machine(tmp_path / "bucket", 2).pid)

    class Killer(Watcher):
        def on_step(self, step: int, num_steps: int, loss: float | None) -> None:
            if step == 2 and loss is None:
                [launcher] = machine.children()
                launcher.children()[-1].kill()

    job.folder.mkdir()
    with closing(FurtherMachines(place)) as machines, closing(TrainingProcess(1, 2, "none", machines)) as together:
        with pytest.raises(TrainingProcessDiedError) as died:
            together.run(replace(job, sources=sources), Killer())
        assert not isinstance(died.value, MachineLostError)
        psutil.wait_procs(machine.children(recursive=True))
        assert machine.is_running()


@pytest.mark.timeout(600)
def test_what_a_process_of_a_further_machine_lacks_is_said_and_may_come_later(
    place: TrainingMachines, start_machine: Start, puzzle_policy: Path, puzzles: Sequence[Problem], tmp_path: Path
) -> None:
    job = job_of(SFT, puzzle_policy, puzzles, tmp_path)
    bucket = FolderArtifactStore(tmp_path / "bucket")
    sources = Sources(str(tmp_path / "elsewhere"), bucket.put(job.dataset, "datasets", {}).uri)
    start_machine(tmp_path / "bucket", 1)
    job.folder.mkdir()
    with (
        closing(FurtherMachines(place)) as machines,
        closing(TrainingProcess(1, 1, "none", machines)) as together,
        pytest.raises(CheckpointError, match=r"machine 127.0.0.1: .*elsewhere"),
    ):
        together.run(replace(job, sources=sources), Watcher())


def waiting_for_training(
    phase: TrainPolicyPhase, folder: Path, policy: Path, data: Path
) -> tuple[Database, FolderArtifactStore]:
    database = Database(f"sqlite:///{folder / 'run.db'}")
    database.create_tables()
    artifacts = FolderArtifactStore(folder / "bucket")
    parent, rows = artifacts.put(policy, "checkpoints", {}), artifacts.put(data, "datasets", {})
    with database.transaction() as transaction:
        run_id = runs.create_run(transaction, "run", "rest-mcts", 0, {})
        runs.add_phases(transaction, run_id, [phase])
        runs.add_checkpoint(transaction, run_id, "base", "policy", parent.uri, parent.digest)
        runs.add_dataset(transaction, 1, "train-policy", rows.uri, rows.digest, {"num_rows": 20})
        runs.set_phase(transaction, 1, PhaseState.TRAINING)
    return database, artifacts


@pytest.mark.timeout(600)
@pytest.mark.parametrize("is_replaced", [True, False], ids=["another comes", "one is enough"])
def test_a_training_that_loses_a_machine_goes_on_from_its_saved_state(
    is_replaced: bool,
    alone: TrainingProcess,
    place: TrainingMachines,
    start_machine: Start,
    puzzle_policy: Path,
    puzzles: Sequence[Problem],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    phase = replace(SFT, training=replace(SFT.training, num_steps=NUM_STEPS))
    job = job_of(phase, puzzle_policy, puzzles, tmp_path)
    _, _, wanted = train(alone, job)
    database, artifacts = waiting_for_training(phase, tmp_path, puzzle_policy, job.dataset)
    sent: list[Message] = []
    database.publish = lambda messages, _: sent.extend(messages)
    machine = start_machine(tmp_path / "bucket", 2)
    steps: list[int] = []

    def on_step(_: str, step: int, *__: Any) -> None:
        steps.append(step)
        if steps == [1, 2]:
            machine.kill() if is_replaced else machine.terminate()

    sharding: Sharding = "full" if is_replaced else "none"
    settings = ServiceSettings(
        tmp_path / "work",
        training_threads=1,
        training_processes=2,
        training_sharding=sharding,
        training_machines=place if is_replaced else replace(place, least=1),
    )
    trainer = TrainerHandlers(ServiceContext(database, artifacts, settings, on_training_step=on_step))
    with closing(database), closing(trainer):
        trainer.train(TrainPolicy(phase_id=1))
        with database.transaction() as transaction:
            row: Any = runs.phase_by_id(transaction, 1)
        assert (row.state, row.attempt) == (PhaseState.TRAINING, 1)
        assert sent == [TrainPolicy(phase_id=1)], "it is started again at once"
        assert row.result["num_deaths"] == 0, "also where its processes end before its connection does"
        assert 0 < row.result["saved_step"] < NUM_STEPS
        if is_replaced:
            start_machine(tmp_path / "bucket", 2)
        else:
            monkeypatch.setattr(restmcts_trainer.machines, "SECONDS_FOR_MOST", 0.0)
        steps.clear()
        trainer.train(TrainPolicy(phase_id=1))
        assert steps == list(range(row.result["saved_step"] + 1, NUM_STEPS + 1))
        with database.transaction() as transaction:
            made = runs.checkpoints_of(transaction, 1)["policy-1"]
    got = load_file(artifacts.fetch(made.uri) / "model.safetensors")
    assert difference(got, wanted) <= 1e-6
