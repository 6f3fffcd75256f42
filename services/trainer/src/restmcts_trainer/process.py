"""Jobs in a child process, seen from the parent."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import psutil
from restmcts.adapters.files.plugins import loaded_plugins
from restmcts.domain.runs.training_settings import Sharding, TrainingReport
from restmcts.errors import CheckpointError, TrainingError

from restmcts_trainer.job import Job, Sources
from restmcts_trainer.machines import (
    FurtherMachines,
    MachineLostError,
    SavedStateGoneError,
    Together,
    TrainingProcessDiedError,
)
from restmcts_trainer.memory import give_back_memory

log = logging.getLogger(__name__)


class JobWatcher(Protocol):
    """Is called about a job while it runs; what it raises ends the job."""

    def on_wait(self) -> None:
        """Take note that the job waits for other machines, now and then."""
        ...

    def on_step(self, step: int, num_steps: int, loss: float | None) -> None:
        """Take note of a step; now and then with the mean loss since the last report."""
        ...

    def on_saved(self, step: int, folder: Path) -> None:
        """Take over the folder of a saved state."""
        ...

    def on_smaller(self, micro_batch: int) -> None:
        """Take note that memory sufficed for so many examples of a forward pass only."""
        ...


class TrainingProcess:
    """A child that does one job after the other; started with the first, ended by `close`, or with
    this process, which gives back what it has freed before each job.

    With several processes, here or with those of further machines, they are started for each job,
    by torchrun; with `sharding` "full" each of them keeps its part of the weights, gradients and
    optimizer state alone.
    """

    def __init__(
        self,
        num_threads: int | None = None,
        num_processes: int = 1,
        sharding: Sharding = "none",
        machines: FurtherMachines | None = None,
    ) -> None:
        self._num_threads, self._num_processes, self._machines = num_threads, num_processes, machines
        self._is_alone = num_processes == 1 and machines is None
        self._shards = sharding == "full"
        self._child: subprocess.Popen[str] | None = None
        self._killed = False

    def run(self, job: Job, watcher: JobWatcher) -> TrainingReport | None:
        """Do a job; return its report, or None if there was no data.

        Raises:
            TrainingError: if training fails.
            TrainingProcessDiedError: if the child ends without a word, or a machine is lost.
            CheckpointError: if the parent, or a plugin, is not available.
            MissingMachinesError: if fewer machines are there than train together, or one is lost or
                silent before they do.
        """
        give_back_memory()
        if self._machines is None:
            return self._run(job, watcher, None)
        assert job.sources is not None, "other machines fetch them"
        try:
            return self._run_with_others(job, job.sources, self._machines, watcher)
        except SavedStateGoneError as error:
            log.warning("phase %s starts from the beginning: %s", job.phase.name, error)
            anew, sources = replace(job, resume_from=None), replace(job.sources, saved=None)
            return self._run_with_others(anew, sources, self._machines, watcher)

    def _run_with_others(
        self, job: Job, sources: Sources, machines: FurtherMachines, watcher: JobWatcher
    ) -> TrainingReport | None:
        request = self._request(job)

        def check() -> None:
            if self._killed:
                raise TrainingProcessDiedError("the training process was ended before it began")
            watcher.on_wait()

        with machines.together(request, sources, check, self._end) as together:
            try:
                return self._run(job, watcher, together)
            except TrainingError as error:
                fault = together.fault if self._killed else machines.fault_of(together)
                if isinstance(fault, MachineLostError) or (fault and isinstance(error, TrainingProcessDiedError)):
                    raise fault from error
                raise
            finally:
                self.close()  # torchrun waits for the others' to end by themselves

    def _run(self, job: Job, watcher: JobWatcher, together: Together | None) -> TrainingReport | None:
        child = self._started(job, together)
        assert child.stdin is not None and child.stdout is not None
        try:
            if self._is_alone:
                print(json.dumps(self._request(job)), file=child.stdin, flush=True)
            for line in child.stdout:
                message: dict[str, Any] = json.loads(line)
                if "step" in message:
                    watcher.on_step(message["step"], message["num_steps"], message["loss"])
                elif "saved" in message:
                    watcher.on_saved(message["at_step"], Path(message["saved"]))
                elif "micro_batch" in message:
                    watcher.on_smaller(message["micro_batch"])
                elif "error" in message:
                    raise (CheckpointError if message["is_unavailable"] else TrainingError)(message["error"])
                else:
                    return None if message["report"] is None else TrainingReport(**message["report"])
        except BrokenPipeError:
            pass
        self.close()
        raise TrainingProcessDiedError(f"the training process {_end_of(child.returncode)}")

    def _started(self, job: Job, together: Together | None) -> subprocess.Popen[str]:
        if not self._is_alone:
            self.close()
        if self._child is None or self._child.poll() is not None:
            environment = dict(os.environ)
            if self._num_threads is not None:
                environment["OMP_NUM_THREADS"] = str(self._num_threads)
            command = [sys.executable, "-m", "restmcts_trainer.child"]
            if not self._is_alone:
                place = (
                    ["--standalone"] if together is None else at_node(0, together.num_nodes, "localhost", together.port)
                )
                command = launched(place, self._num_processes, job.folder, self._request(job))
            self._child = start_child(command, environment)
            if self._killed or (together is not None and together.fault is not None):
                self._end()
        return self._child

    def _request(self, job: Job) -> dict[str, Any]:
        """Return a job as the child reads it: with the plugin files of this process, whose entries
        the job may name.
        """
        plugins = {str(plugin.path): plugin.sha256 for plugin in loaded_plugins()}
        return {"plugins": plugins, "shards": self._shards, **job.to_json()}

    def kill(self) -> None:
        """Kill the child, also one that is only being started; `run` then raises. Safe in a
        signal handler.
        """
        self._killed = True
        self._end()

    def _end(self) -> None:
        child = self._child
        if child is not None:
            child.kill()
            if not self._is_alone and child.stdin is not None:
                child.stdin.close()  # at which the launched processes end

    def close(self) -> None:
        """End the child, whatever it does."""
        child, self._child = self._child, None
        if child is not None:
            kill(child)
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    # What a killed child did not read is still to be written.
                    with suppress(BrokenPipeError):
                        pipe.close()


def start_child(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    """Return the child, started in a session of its own, with pipes to it and from it."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def kill(child: "subprocess.Popen[str]") -> None:
    """Kill a child and what it has launched, which otherwise ends by itself, unless it hangs."""
    with suppress(psutil.Error):
        for process in psutil.Process(child.pid).children(recursive=True):
            with suppress(psutil.Error):
                process.kill()
    child.kill()


def launched(place: Sequence[str], num_processes: int, folder: Path, request: Mapping[str, Any]) -> list[str]:
    """Return the command by which torchrun starts the processes of this machine, which read the
    request from the job's folder.

    Args:
        place: torchrun's arguments that say who the others are.
    """
    job_file = folder / "job.json"
    job_file.write_text(json.dumps(request), encoding="utf-8")
    processes = ["--nproc-per-node", str(num_processes), "-m", "restmcts_trainer.child", str(job_file)]
    return [sys.executable, "-m", "torch.distributed.run", *place, *processes]


def at_node(rank: int, num_nodes: int, host: str, port: int) -> list[str]:
    """Return what torchrun is to know of its place among several machines.

    Args:
        host: of the first machine.
        port: where the first machine keeps what the processes say of themselves.
    """
    first = ["--master-addr", host, "--master-port", str(port)]
    return ["--nnodes", str(num_nodes), "--node-rank", str(rank), *first]


def _end_of(status: int) -> str:
    """Return how a process ended, for people; for want of memory the system kills with SIGKILL."""
    if status >= 0:
        return f"ended early, with exit code {status}; the trainer's log says more"
    name = signal.Signals(-status).name
    return f"was ended by {name}" + ("; is there enough memory?" if -status == signal.SIGKILL else "")
