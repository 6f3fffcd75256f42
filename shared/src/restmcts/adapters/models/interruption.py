"""Calls that end when nobody wants what they were made for: whoever serves requests says so, and
calls that are under way ask.

What is asked is a function of the current context, so that nothing between the two has to hand it
on, and threads that a model starts for a call have to be given it (`carried`).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from restmcts.errors import ServerUnavailableError

Result = TypeVar("Result")
IsOver = Callable[[], bool]
SECONDS_BETWEEN_LOOKS = 0.25


class InterruptedCallError(ServerUnavailableError):
    """A call was ended from this side; what it was made for waits again."""

    def __init__(self) -> None:
        super().__init__("interrupted: the worker ends, or nobody waits for the answer any more")


_IS_OVER: ContextVar[IsOver] = ContextVar("is_over", default=lambda: False)


@contextmanager
def interrupted_by(is_over: IsOver) -> Iterator[None]:
    """Let calls that are made in the block end once `is_over` says so."""
    token = _IS_OVER.set(is_over)
    try:
        yield
    finally:
        _IS_OVER.reset(token)


def check_interruption() -> None:
    """Raise InterruptedCallError if what is done here should end."""
    if _IS_OVER.get()():
        raise InterruptedCallError


def pause(seconds: float) -> None:
    """Wait, and look meanwhile.

    Raises:
        InterruptedCallError: if what waits should end.
    """
    end = time.monotonic() + seconds
    check_interruption()
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, SECONDS_BETWEEN_LOOKS))
        check_interruption()


def carried(function: Callable[..., Result]) -> Callable[..., Result]:
    """Return a function that ends, in whatever thread it is called, when what is done here
    should.
    """
    is_over = _IS_OVER.get()

    def called(*arguments: object) -> Result:
        with interrupted_by(is_over):
            check_interruption()
            return function(*arguments)

    return called
