"""Calls at the same time, for tests of what several processes do to the same rows."""

import threading
from collections.abc import Callable, Sequence


def all_at_once(calls: Sequence[Callable[[], object]]) -> list[BaseException]:
    """Do all calls, each in a thread of its own; return what they raised.

    Raises:
        AssertionError: if one does not end within a minute.
    """
    errors: list[BaseException] = []

    def guarded(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "it waits forever"
    return errors
