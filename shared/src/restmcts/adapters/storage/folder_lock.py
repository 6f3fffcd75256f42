"""A work folder belongs to one process at a time."""

import fcntl
from pathlib import Path
from typing import IO

from restmcts.errors import InputError, StorageError


def lock_folder(workdir: Path) -> IO[str]:
    """Return an open file that keeps other processes out of a work folder while it is open; the
    folder is made if it is missing.

    Raises:
        InputError: if another process has the folder.
        StorageError: if it cannot be made or written to.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / "lock").open("w")
    except OSError as error:
        raise StorageError(f"{workdir}: cannot be used as work folder ({error.strerror})") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise InputError(
            f"{workdir}: another restmcts process uses this folder; wait for it or choose another --workdir"
        ) from error
    return file
