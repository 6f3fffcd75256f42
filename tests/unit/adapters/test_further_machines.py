"""A trainer that waits for further machines: what it says where they are missing, or cannot have
what a job begins with; the machines as processes that wait and end.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import restmcts_trainer.machines
from restmcts import __version__
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.heartbeat import FILE_NAME
from restmcts.domain.runs.phases import TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.training_machines import TrainingMachines
from restmcts.errors import CheckpointError, InputError, MissingMachinesError, is_unavailable
from restmcts.usecases.training_jobs import NotWanted
from restmcts_trainer.further_machine import own_folder
from restmcts_trainer.job import Job, Sources
from restmcts_trainer.machines import FurtherMachines, MachineLostError, SavedStateGoneError, TrainingProcessDiedError
from restmcts_trainer.process import TrainingProcess

PROGRAM = Path(__file__).parents[2] / "e2e/further_machine_process.py"
IN_JOB = Path(__file__).parents[3] / "infra/helm/restmcts/files/training-node.sh"


class Watcher:
    """Of a job of which nothing is heard."""

    def on_wait(self) -> None:
        pass

    def on_step(self, step: int, num_steps: int, loss: float | None) -> None:
        pytest.fail("nothing trains")

    def on_saved(self, step: int, folder: Path) -> None:
        pytest.fail("nothing trains")

    def on_smaller(self, micro_batch: int) -> None:
        pytest.fail("nothing trains")


def check() -> None:
    """Wait as long as it takes."""


@pytest.fixture
def place() -> TrainingMachines:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return TrainingMachines(2, 2, "127.0.0.1", probe.getsockname()[1])


@pytest.fixture
def machines(place: TrainingMachines) -> Iterator[FurtherMachines]:
    with closing(FurtherMachines(place)) as listening:
        yield listening


def test_too_few_machines_make_a_training_wait(
    machines: FurtherMachines, place: TrainingMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restmcts_trainer.machines, "SECONDS_FOR_LEAST", 0.0)
    with (
        pytest.raises(MissingMachinesError, match=f"1 of 2 machines.*=127.0.0.1:{place.port}") as refused,
        machines.together({}, Sources("base", "data"), check, check),
    ):
        pytest.fail("there is no other machine")
    assert is_unavailable(refused.value)


def test_two_trainers_of_a_machine_do_not_take_jobs_for_several(
    machines: FurtherMachines, place: TrainingMachines
) -> None:
    with pytest.raises(InputError, match="RESTMCTS_TRAINING_RENDEZVOUS cannot be listened on"):
        FurtherMachines(place)


def job_in(folder: Path) -> Job:
    phase = TrainPolicyPhase("policy-1", 1, "base", TrainingSettings())
    return Job(phase, "base", folder, folder, sources=Sources("base", "artifact:datasets/0"))


def test_a_trainer_that_is_asked_to_end_waits_for_no_machine(machines: FurtherMachines, tmp_path: Path) -> None:
    with closing(TrainingProcess(machines=machines)) as process:
        process.kill()
        with pytest.raises(TrainingProcessDiedError):
            process.run(job_in(tmp_path), Watcher())


def test_what_a_machine_cannot_fetch_is_named_and_may_come_later(
    machines: FurtherMachines, place: TrainingMachines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restmcts_trainer.machines, "SECONDS_FOR_LEAST", 600.0)
    job = job_in(tmp_path)
    assert job.sources is not None
    arguments = [str(place.port), str(tmp_path / "bucket"), str(tmp_path / "machine"), "1"]
    with subprocess.Popen([sys.executable, str(PROGRAM), *arguments]) as machine:
        for _ in range(2):  # it waits for the next job all the same
            with (
                pytest.raises(CheckpointError, match=r"machine 127.0.0.1: .*artifact:datasets/0"),
                machines.together(job.to_json(), job.sources, check, check),
            ):
                pytest.fail("it has no data")
        machine.kill()


def test_a_saved_state_that_is_gone_is_reported_as_such(
    machines: FurtherMachines, place: TrainingMachines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restmcts_trainer.machines, "SECONDS_FOR_LEAST", 600.0)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows").write_text("data")
    data = FolderArtifactStore(tmp_path / "bucket").put(tmp_path / "data", "datasets", {}).uri
    job, sources = job_in(tmp_path), Sources("base", data, "artifact:training-states/0")
    arguments = [str(place.port), str(tmp_path / "bucket"), str(tmp_path / "machine"), "1"]
    with subprocess.Popen([sys.executable, str(PROGRAM), *arguments]) as machine:
        with (
            pytest.raises(SavedStateGoneError, match=r"machine 127.0.0.1: .*artifact:training-states/0"),
            machines.together(job.to_json(), sources, check, check),
        ):
            pytest.fail("it has no saved state")
        machine.kill()


def said(number: int, **more: object) -> bytes:
    return json.dumps({"number": number, **more}).encode() + b"\n"


GREETING = said(0, version=__version__)


def greeted(place: TrainingMachines, greeting: bytes = GREETING) -> socket.socket:
    """Return the connection of a machine that introduced itself."""
    connection = socket.create_connection((place.host, place.port), timeout=60.0)
    connection.sendall(greeting)
    return connection


def test_a_training_whose_saved_state_is_gone_begins_anew(
    machines: FurtherMachines, place: TrainingMachines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restmcts_trainer.machines, "SECONDS_FOR_LEAST", 600.0)
    saved: list[Any] = []

    def answer(connection: socket.socket) -> None:
        """Have no saved state, and no data when asked again."""
        with connection.makefile("rb") as lines:
            for message in map(json.loads, lines):
                if "job" in message:
                    job = message["job"]
                    saved.append((job["resume_from"], job["sources"]["saved"]))
                    why = {"error": "gone", "is_unavailable": True, "saved_is_gone": len(saved) == 1}
                    connection.sendall(said(message["number"], **why))

    sources = Sources("base", "data", "artifact:training-states/0")
    job = replace(job_in(tmp_path), resume_from=tmp_path / "state", sources=sources)
    with greeted(place) as connection:
        machine = threading.Thread(target=answer, args=(connection,))
        machine.start()
        with closing(TrainingProcess(machines=machines)) as process, pytest.raises(CheckpointError) as refused:
            process.run(job, Watcher())
        machines.close()
        machine.join()
    assert not isinstance(refused.value, SavedStateGoneError)
    assert saved == [(str(tmp_path / "state"), "artifact:training-states/0"), (None, None)]


@pytest.mark.parametrize("greeting", [b"", GREETING], ids=["stranger", "machine"])
@pytest.mark.parametrize(
    "bytes_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(range(256)) + b"\n",
        b"[]\n",
        b"{}\n",
        b'{"number": "0"}\n',
        b"[" * 200_000 + b"\n",
        b" " * 2**21,
    ],
    ids=["http", "binary", "array", "object", "text", "deep", "long"],
)
def test_whoever_says_something_else_is_let_go(
    bytes_: bytes, greeting: bytes, machines: FurtherMachines, place: TrainingMachines
) -> None:
    with greeted(place, greeting + bytes_) as connection:
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""
        with machines._changed:
            assert machines._changed.wait_for(lambda: not machines._present, 60.0)


def test_whoever_says_nothing_is_let_go(
    machines: FurtherMachines, place: TrainingMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restmcts_trainer.machines, "SECONDS_FOR_GREETING", 0.1)
    with greeted(place) as machine:
        with machines._changed:
            assert machines._changed.wait_for(lambda: machines._present, 60.0)
        with greeted(place, b"") as silent:
            assert silent.recv(1) == b""
        assert machines._present, "who introduced itself may be silent"
        machine.close()


def test_a_machine_that_introduces_itself_twice_is_one_machine(
    machines: FurtherMachines, place: TrainingMachines
) -> None:
    with greeted(place, 2 * GREETING) as machine, greeted(place):
        with machines._changed:
            assert machines._changed.wait_for(lambda: len(machines._present) > 1, 60.0)
        machine.close()
        with machines._changed:
            assert machines._changed.wait_for(lambda: len(machines._present) == 1, 60.0)


def test_a_loss_explains_a_training_that_failed_before_it_was_noticed(
    machines: FurtherMachines, place: TrainingMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restmcts_trainer.machines, "SECONDS_FOR_LEAST", 600.0)
    monkeypatch.setattr(restmcts_trainer.machines, "SECONDS_FOR_LOSS", 600.0)
    with greeted(place) as connection:

        def answer() -> None:
            if machines._together is not None:
                connection.sendall(said(1, ready=True))

        with machines.together({}, Sources("base", "data"), answer, check) as one:
            connection.sendall(said(1, ended=1))

            def leave() -> None:
                with machines._changed:
                    machines._changed.wait_for(lambda: one.fault is not None)
                connection.close()

            threading.Thread(target=leave).start()
            assert isinstance(machines.fault_of(one), MachineLostError)


def test_a_connection_that_fails_keeps_no_other_machine_out(
    machines: FurtherMachines, place: TrainingMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[socket.socket] = []

    def refuse(connection: socket.socket) -> None:
        monkeypatch.undo()
        refused.append(connection)
        raise OSError("Too many open files")

    monkeypatch.setattr(restmcts_trainer.machines, "keep_alive", refuse)
    with greeted(place), greeted(place):
        while not machines._present:
            check()
    assert refused


def test_a_machine_of_another_version_is_let_go(machines: FurtherMachines, place: TrainingMachines) -> None:
    with greeted(place, said(0, version="0.0.1")) as connection:
        assert connection.recv(1) == b""
    assert not machines._present


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_machine_that_is_lost_or_silent_before_it_is_ready_makes_a_training_wait(
    is_lost: bool, machines: FurtherMachines, place: TrainingMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restmcts_trainer.machines, "SECONDS_FOR_LEAST", 600.0)
    monkeypatch.setattr(restmcts_trainer.machines, "SECONDS_FOR_READY", 600.0 if is_lost else 0.0)
    with greeted(place) as connection:

        def leave() -> None:
            if is_lost and machines._together is not None:
                connection.close()

        complaint = "it is lost" if is_lost else "did not fetch"
        with (
            pytest.raises(MissingMachinesError, match=f"machine 127.0.0.1:? {complaint}"),
            machines.together({}, Sources("base", "data"), leave, check),
        ):
            pytest.fail("it is not ready")
        if not is_lost:
            assert connection.makefile().read().count("\n") == 1, "it has the job, and is let go"


def test_a_run_that_is_cancelled_waits_for_no_machine(machines: FurtherMachines, tmp_path: Path) -> None:
    class Cancelled(Watcher):
        def on_wait(self) -> None:
            raise NotWanted

    with closing(TrainingProcess(machines=machines)) as process, pytest.raises(NotWanted):
        process.run(job_in(tmp_path), Cancelled())


def environment_of(folder: Path, place: TrainingMachines, nodes: str) -> dict[str, str]:
    settings = {
        "DATABASE_URL": "postgresql://there",
        "REDIS_URL": "redis://there",
        "S3_ENDPOINT": "127.0.0.1:1",
        "TRAINING_NODES": nodes,
        "TRAINING_RENDEZVOUS": f"127.0.0.1:{place.port}",
        "RUN_DIR": str(folder / "run"),
        "CACHE_DIR": str(folder / "cache"),
        "ENV_FILE": "/dev/null",
        "LOG_FORMAT": "text",
    }
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    named = {f"RESTMCTS_{name}": value for name, value in settings.items()}
    return {**os.environ, **named, "PATH": path, "JOB_COMPLETION_INDEX": "1"}


@pytest.mark.parametrize(
    ("command", "status"),
    [(["python", "-m", "restmcts_trainer.further_machine"], 0), (["sh", "-c", IN_JOB.read_text()], 1)],
    ids=["alone", "in a job, where who ends well is not started again"],
)
def test_a_further_machine_gives_signs_of_life_until_it_is_asked_to_end(
    command: list[str], status: int, place: TrainingMachines, machines: FurtherMachines, tmp_path: Path
) -> None:
    environment = environment_of(tmp_path, place, "2:4")
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as machine:
        assert machine.stderr is not None
        assert f"waits for trainings at 127.0.0.1:{place.port}" in machine.stderr.readline()
        assert (tmp_path / "run" / FILE_NAME).is_file()
        machine.send_signal(signal.SIGTERM)
        assert machine.wait() == status
    assert not (tmp_path / "run" / FILE_NAME).exists()


def test_a_further_machine_without_others_says_so(place: TrainingMachines, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "restmcts_trainer.further_machine"]
    environment = environment_of(tmp_path, place, "1")
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("RESTMCTS_TRAINING_NODES is 1"), done.stderr


def test_two_further_machines_of_one_run_folder_are_refused_and_the_trainers_folder_is_left_alone(
    tmp_path: Path,
) -> None:
    of_the_trainer = tmp_path / "training" / "training-1"
    left = tmp_path / "further-machine" / "training-of-one-that-was-killed"
    for folder in (of_the_trainer, left):
        folder.mkdir(parents=True)
    with own_folder(tmp_path) as folder:
        assert of_the_trainer.is_dir() and not left.exists() and folder.parent == tmp_path
        with pytest.raises(InputError, match="RESTMCTS_RUN_DIR"), own_folder(tmp_path):
            pass
    with own_folder(tmp_path):
        pass


def test_a_rendezvous_on_this_machine_is_open_to_no_other(machines: FurtherMachines) -> None:
    assert machines._server.getsockname()[0] == "127.0.0.1"
