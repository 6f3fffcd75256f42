"""A worker's sign of life: a file that a thread rewrites, with the time of the last progress in it, and the check of it.

    python -m restmcts.adapters.heartbeat --max-age 30

exits with 0 if the file is young enough. Light on purpose: health checks run often.
"""

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path

FILE_NAME = "heartbeat"
BEAT_SECONDS = 5.0


class Heartbeat:
    """Rewrites `folder/heartbeat` every few seconds, whatever the worker's main thread does."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._progress = time.time()
        self._busy = False

    def start(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._write()
        self._thread.start()

    def begin(self) -> None:
        """Note that a task begins."""
        self._busy = True
        self._progress = time.time()

    def progress(self) -> None:
        """Note that something was done: a batch, a training step."""
        self._progress = time.time()

    def end(self) -> None:
        """Note that the worker waits for a task."""
        self._busy = False
        self._progress = time.time()

    def stop(self) -> None:
        """Take the file away: the worker has ended as it should."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._stopped.wait(BEAT_SECONDS):
            self._write()

    def _write(self) -> None:
        state = {"time": time.time(), "progress": self._progress, "busy": self._busy, "pid": os.getpid()}
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
    parser = argparse.ArgumentParser(prog="python -m restmcts.adapters.heartbeat", description="Check that this worker lives.")
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
