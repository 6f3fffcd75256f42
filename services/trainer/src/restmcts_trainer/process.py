"""Jobs in a child process, seen from the parent."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from restmcts.adapters.files.plugins import loaded_plugins
from restmcts.domain.runs.training_settings import Sharding, TrainingReport
from restmcts.errors import CheckpointError, TrainingError

from restmcts_trainer.job import Job
from restmcts_trainer.memory import give_back_memory


class TrainingProcessDiedError(TrainingError):
    """The child ended without a word: the system or somebody ended it."""


class JobWatcher(Protocol):
    """Is called about a job while it runs; what it raises ends the job."""

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

    With several processes they are started for each job, by torchrun; with `sharding`
    "full" each of them keeps its part of the weights, gradients and optimizer state alone.
    """

    def __init__(self, num_threads: int | None = None, num_processes: int = 1, sharding: Sharding = "none") -> None:
        self._num_threads, self._num_processes = num_threads, num_processes
        self._shards = sharding == "full"
        self._child: subprocess.Popen[str] | None = None
        self._killed = False

    def run(self, job: Job, watcher: JobWatcher) -> TrainingReport | None:
        """Do a job; return its report, or None if there was no data.

        Raises:
            TrainingError: if training fails.
            TrainingProcessDiedError: if the child ends without a word.
            CheckpointError: if the parent, or a plugin, is not available.
        """
        give_back_memory()
        child = self._started(job)
        assert child.stdin is not None and child.stdout is not None
        try:
            if self._num_processes == 1:
                print(self._request(job), file=child.stdin, flush=True)
            for line in child.stdout:
                message: dict[str, Any] = json.loads(line)
                if "step" in message:
                    watcher.on_step(message["step"], message["num_steps"], message["loss"])
                elif "saved" in message:
                    watcher.on_saved(message["at_step"], Path(message["saved"]))
                elif "micro_batch" in message:
                    watcher.on_smaller(message["micro_batch"])
                elif "error" in message:
                    raise (CheckpointError if message.get("is_unavailable") else TrainingError)(message["error"])
                else:
                    return None if message["report"] is None else TrainingReport(**message["report"])
        except BrokenPipeError:
            pass
        self.close()
        raise TrainingProcessDiedError(f"the training process {_end_of(child.returncode)}")

    def _started(self, job: Job) -> subprocess.Popen[str]:
        if self._num_processes > 1:
            self.close()
        if self._child is None or self._child.poll() is not None:
            environment = dict(os.environ)
            if self._num_threads is not None:
                environment["OMP_NUM_THREADS"] = str(self._num_threads)
            command = [sys.executable, *self._launcher(), "-m", "restmcts_trainer.child"]
            if self._num_processes > 1:
                job_file = job.folder / "job.json"
                job_file.write_text(self._request(job), encoding="utf-8")
                command.append(str(job_file))
            self._child = start_child(command, environment)
            if self._killed:
                self._child.kill()
        return self._child

    def _request(self, job: Job) -> str:
        """Return a job as the child reads it: with the plugin files of this process, whose entries
        the job may name.
        """
        plugins = {str(plugin.path): plugin.sha256 for plugin in loaded_plugins()}
        return json.dumps({"plugins": plugins, "shards": self._shards, **job.to_json()})

    def _launcher(self) -> list[str]:
        if self._num_processes == 1:
            return []
        return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(self._num_processes)]

    def kill(self) -> None:
        """Kill the child, also one that is only being started; `run` then raises. Safe in a
        signal handler.
        """
        self._killed = True
        if self._child is not None:
            self._child.kill()
            if self._num_processes > 1 and self._child.stdin is not None:
                self._child.stdin.close()  # at which the launched processes end

    def close(self) -> None:
        """End the child, whatever it does."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
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


def _end_of(status: int) -> str:
    """Return how a process ended, for people; for want of memory the system kills with SIGKILL."""
    if status >= 0:
        return f"ended early, with exit code {status}"
    name = signal.Signals(-status).name
    return f"was ended by {name}" + ("; is there enough memory?" if -status == signal.SIGKILL else "")
