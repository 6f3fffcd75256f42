"""A work folder belongs to one process at a time."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from restmcts.errors import InputError, StorageError

NUM_TRIES, SECONDS_BETWEEN_TRIES = 5, 0.02
"""`folder_use` has the lock for a moment, which is no process that works on the folder."""


def check_place(workdir: Path) -> None:
    """Let a work folder be one that is there, or that could be made; nothing is kept of the try.

    Raises:
        StorageError: if it cannot be made or written to.
    """
    with _usable(workdir):
        nearest = next(place for place in (workdir, *workdir.absolute().parents) if place.exists())
        with TemporaryDirectory(dir=nearest, prefix=".restmcts-"):
            return


@contextmanager
def _usable(workdir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{workdir}: cannot be used as work folder ({error.strerror})") from error


@dataclass(frozen=True, slots=True)
class FolderUse:
    """Whether a process has locked a work folder, and the run that it works on, if on one."""

    is_locked: bool
    run_id: int | None = None

    def is_idle(self, run_id: int) -> bool:
        """Return whether no process works on a run of the folder."""
        return not self.is_locked or self.run_id != run_id


def folder_use(workdir: Path) -> FolderUse:
    """Return what a work folder, which must be there, is used for."""
    try:
        with (workdir / "lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                named = file.read()
                return FolderUse(True, int(named) if named.isdecimal() else None)
    except OSError:  # no process has locked it yet, or this one may not look
        pass
    return FolderUse(False)


def name_run(lock: IO[str], run_id: int) -> None:
    """Say in a locked folder which run its process works on; a full disk keeps no run from it."""
    with suppress(OSError):
        lock.truncate(0)
        lock.write(str(run_id))
        lock.flush()


def lock_folder(workdir: Path) -> IO[str]:
    """Return an open file that keeps other processes out of a work folder while it is open; the
    folder is made if it is missing.

    Raises:
        InputError: if another process has the folder.
        StorageError: if it cannot be made or written to.
    """
    with _usable(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / "lock").open("a+")
    for _ in range(NUM_TRIES):
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            return file
        time.sleep(SECONDS_BETWEEN_TRIES)
    file.close()
    raise InputError(f"{workdir}: another restmcts process uses this folder; wait for it or choose another --workdir")
