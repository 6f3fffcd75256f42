"""A worker's sign of life: a file that a thread rewrites, with the time of the last progress in it,
and the check of it.

    python -m restmcts.adapters.workers.heartbeat --max-age 30

exits with 0 if the file is young enough. Light on purpose: health checks run often.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

FILE_NAME = "heartbeat"
BEAT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Activity:
    """What a worker does (None: it waits), since when (seconds of the epoch), and how many
    tasks and parts of tasks it has done.
    """

    doing: str | None
    since: float
    num_done: int


class Heartbeat:
    """Rewrites `folder/heartbeat` every few seconds, whatever the worker's main thread does."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._progress = time.time()
        self._activity = Activity(None, self._progress, 0)
        self._beside: dict[int, float] = {}
        self._name = ""
        self._in_task = False
        self._lock = threading.Lock()

    def start(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._write()
        self._thread.start()

    def activity(self) -> Activity:
        """Return what the worker does now."""
        return self._activity

    def begin(self, name: str) -> None:
        """Note that a task begins."""
        with self._lock:
            self._name, self._in_task = name, True
            self._note()

    def progress(self) -> None:
        """Note that a part of a task was done: a batch, a training step."""
        with self._lock:
            self._progress = time.time()
            self._activity = replace(self._activity, num_done=self._activity.num_done + 1)

    def end(self) -> None:
        """Note that a task was done; the worker waits for another, unless it works beside."""
        with self._lock:
            self._in_task = False
            self._note(num_done=1)

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Note that a part of what the last task asked for is done by this thread; it makes
        progress by coming to its end.
        """
        with self._lock:
            self._beside[threading.get_ident()] = time.time()
            self._note()
        try:
            yield
        finally:
            with self._lock:
                del self._beside[threading.get_ident()]
                self._note()

    def stop(self) -> None:
        """Take the file away: the worker has ended as it should."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self._path.unlink(missing_ok=True)

    def _note(self, num_done: int = 0) -> None:
        self._progress = time.time()
        doing = self._name if self._in_task or self._beside else None
        since = self._activity.since if doing == self._activity.doing else self._progress
        self._activity = Activity(doing, since, self._activity.num_done + num_done)

    def _run(self) -> None:
        while not self._stopped.wait(BEAT_SECONDS):
            self._write()

    def _write(self) -> None:
        with self._lock:
            # Of several threads the one that is stuck counts, whatever the others do.
            progress = min(
                [*self._beside.values(), *([self._progress] if self._in_task else [])], default=self._progress
            )
        state = {
            "time": time.time(),
            "progress": progress,
            "busy": self._activity.doing is not None,
            "pid": os.getpid(),
        }
        partial = self._path.with_suffix(".partial")
        try:
            partial.write_text(json.dumps(state))
            partial.replace(self._path)
        except OSError:
            # A full disk: the file grows old, and the check says so.
            return


def fault_of(folder: Path, max_age_seconds: float, max_stuck_seconds: float | None = None) -> str | None:
    """Return what is wrong with the worker of that folder, or None if it lives.

    Args:
        max_age_seconds: of the file.
        max_stuck_seconds: without progress within one task; None: however long it takes.
    """
    try:
        state = json.loads((folder / FILE_NAME).read_text())
        age, stuck = time.time() - state["time"], time.time() - state["progress"]
    except (OSError, ValueError, KeyError) as error:
        return f"no heartbeat in {folder} ({error})"
    if age > max_age_seconds:
        return f"the last heartbeat is {age:.0f} s old"
    if max_stuck_seconds is not None and state["busy"] and stuck > max_stuck_seconds:
        return f"no progress for {stuck:.0f} s within a task"
    return None


def main() -> int:
    """Check the heartbeat in RESTMCTS_RUN_DIR (`run`); return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m restmcts.adapters.workers.heartbeat", description="Check that this worker lives."
    )
    parser.add_argument("--max-age", type=float, default=30.0, help="seconds since the last heartbeat")
    parser.add_argument("--max-stuck", type=float, default=None, help="seconds without progress within one task")
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("RESTMCTS_RUN_DIR", "run")))
    options = parser.parse_args()
    fault = fault_of(options.folder, options.max_age, options.max_stuck)
    if fault is not None:
        print(fault, file=sys.stderr)  # noqa: T201
    return 0 if fault is None else 1


if __name__ == "__main__":
    sys.exit(main())
