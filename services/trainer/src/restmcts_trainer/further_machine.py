"""A further machine of a trainer: `python -m restmcts_trainer.further_machine` connects to the
trainer that takes jobs, at RESTMCTS_TRAINING_RENDEZVOUS, and trains with it until it is asked to
end.

It has the trainer's settings, and reaches the bucket. Knows neither database nor queue.
"""

import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from restmcts import __version__
from restmcts.adapters.observability import logs, metrics
from restmcts.adapters.storage.s3_store import open_bucket
from restmcts.adapters.storage.uris import local_path
from restmcts.adapters.workers.heartbeat import Heartbeat
from restmcts.domain.training_machines import TrainingMachines
from restmcts.errors import (
    CorruptArtifactError,
    InputError,
    MissingArtifactError,
    RestMctsError,
    is_unavailable,
    reason_of,
)
from restmcts.messages.base import Queue
from restmcts.ports import ArtifactStore
from restmcts.settings import load_settings

from restmcts_trainer.job import Job, Sources
from restmcts_trainer.machines import SavedStateGoneError, keep_alive, messages
from restmcts_trainer.process import at_node, kill, launched, start_child

log = logging.getLogger(__name__)

SECONDS_BETWEEN_CALLS = 1.0
SECONDS_PER_CALL = 10.0


class FurtherMachine:
    """Trains with a trainer elsewhere; one job at a time.

    Args:
        workspace: folder for what the processes write.
    """

    def __init__(self, first: TrainingMachines, artifacts: ArtifactStore, workspace: Path, num_processes: int) -> None:
        self._first = first
        self._artifacts = artifacts
        self._workspace = workspace
        self._num_processes = num_processes
        self._folder: Path | None = None
        self._request: dict[str, Any] = {}
        self._child: subprocess.Popen[str] | None = None
        self._reporter: threading.Thread | None = None

    def serve(self) -> None:
        """Train whenever the first machine asks for it, and wait for it where it is not there."""
        reason = ""
        while True:
            try:
                with socket.create_connection((self._first.host, self._first.port), SECONDS_PER_CALL) as connection:
                    connection.settimeout(None)
                    keep_alive(connection)
                    _send(connection, number=0, version=__version__)
                    log.info("waits for trainings at %s:%s", self._first.host, self._first.port)
                    self._serve(connection)
            except (OSError, ValueError) as error:
                if str(error) != reason:  # not again each second
                    reason = str(error)
                    log.warning("%s:%s is not reached: %s", self._first.host, self._first.port, reason)
            finally:
                self._end()
            time.sleep(SECONDS_BETWEEN_CALLS)

    def _serve(self, connection: socket.socket) -> None:
        for message in messages(connection):
            number = message["number"]
            if "start" in message:
                try:
                    self._start(connection, number, **message["start"])
                except (OSError, TypeError) as error:
                    log.warning("cannot start what the first machine trains: %s", error)
                    _send(connection, number=number, failed=reason_of(error), is_unavailable=True)
                continue
            self._end()
            if "job" in message:
                _send(connection, number=number, **self._prepare(message["job"]))

    def _prepare(self, request: dict[str, Any]) -> dict[str, object]:
        """Fetch what a job begins with, and keep the job as this machine's processes read it;
        return the answer.
        """
        try:
            self._folder = self._workspace / f"training-{uuid.uuid4().hex}"
            self._folder.mkdir(parents=True)
            sources = Sources(**request["sources"])
            job = replace(
                Job.from_json(request),
                parent=str(local_path(sources.parent, self._artifacts)),
                dataset=self._artifacts.fetch(sources.dataset),
                folder=self._folder,
                resume_from=None if sources.saved is None else self._saved_state(sources.saved),
            )
            self._request = {**request, **job.to_json()}
        except Exception as error:
            log.warning("cannot do what the first machine trains: %s", error)
            return {
                "error": reason_of(error),
                "is_unavailable": is_unavailable(error) or isinstance(error, OSError),
                "saved_is_gone": isinstance(error, SavedStateGoneError),
            }
        return {"ready": True}

    def _saved_state(self, uri: str) -> Path:
        try:
            return self._artifacts.fetch(uri)
        except (MissingArtifactError, CorruptArtifactError) as error:
            raise SavedStateGoneError(f"the saved state is gone: {error}") from error

    def _start(self, connection: socket.socket, number: int, rank: int, num_nodes: int, port: int) -> None:
        if self._folder is None:
            raise ValueError("what is to start was not announced")
        place = at_node(rank, num_nodes, connection.getpeername()[0], port)
        command = launched(place, self._num_processes, self._folder, self._request)
        self._child = start_child(command, os.environ)
        arguments = (connection, number, self._child)
        self._reporter = threading.Thread(target=self._report, args=arguments, name="reporter", daemon=True)
        self._reporter.start()

    def _end(self) -> None:
        """End the processes of a job, whatever they do, and remove its folder."""
        child, self._child = self._child, None
        folder, self._folder = self._folder, None
        if child is not None:
            kill(child)
            if child.stdin is not None:
                child.stdin.close()  # at which the launched processes end
        if self._reporter is not None:
            self._reporter.join()
            self._reporter = None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _report(self, connection: socket.socket, number: int, child: "subprocess.Popen[str]") -> None:
        assert child.stdout is not None
        with child.stdout, suppress(OSError):
            for line in child.stdout:
                with suppress(ValueError, LookupError, TypeError):  # what torchrun prints is no line of ours
                    said = json.loads(line)
                    _send(connection, number=number, failed=said["error"], is_unavailable=said["is_unavailable"])
            status = child.wait()
            if self._child is child:  # else this machine ended it
                _send(connection, number=number, ended=status)


def _send(connection: socket.socket, **message: object) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def main() -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        InputError: if a setting is missing or wrong.
    """
    settings = load_settings()
    logs.configure(Queue.TRAINER.value, settings.log_format, logging.INFO)
    first = settings.training_machines
    if first is None:
        raise InputError(
            "RESTMCTS_TRAINING_NODES is 1: there is no other machine to train with; set it as the first has it"
        )
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, lambda *_: sys.exit(0))
    heartbeat = Heartbeat(settings.run_dir)
    heartbeat.start()
    metrics.begin(settings.metrics_host, settings.metrics_port, settings.run_dir)
    try:
        with own_folder(settings.run_dir) as workspace:
            FurtherMachine(first, open_bucket(settings), workspace, settings.training_processes).serve()
    finally:
        heartbeat.stop()


@contextmanager
def own_folder(run_dir: Path) -> Iterator[Path]:
    """Yield a folder that no other process uses, without what one that was killed has left in
    it.

    Raises:
        InputError: if another further machine uses it.
    """
    with (run_dir / "further-machine.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"RESTMCTS_RUN_DIR={run_dir} is in use by another further machine: give each a folder of its own"
            ) from error
        folder = run_dir / "further-machine"
        shutil.rmtree(folder, ignore_errors=True)
        yield folder


if __name__ == "__main__":
    try:
        main()
    except RestMctsError as error:
        sys.exit(str(error))
