"""Leases that are renewed while what they cover goes on: how long that takes is not known
beforehand.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.exc import OperationalError

from restmcts.errors import StorageError

log = logging.getLogger(__name__)

RENEWALS = 3
"""Tries to renew a lease within its length."""


@contextmanager
def renewed(what: str, lease_seconds: float, renew: Callable[[], None]) -> Iterator[None]:
    """Call `renew` from a thread as long as the block runs. A database that is away is waited for:
    the lease then ends, and whoever renews it finds that out.

    Args:
        what: is leased, for the log.
    """
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(lease_seconds / RENEWALS):
            try:
                renew()
            except (OperationalError, StorageError) as error:
                log.warning("the lease of %s is not renewed yet (%s)", what, error)

    thread = threading.Thread(target=run, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
