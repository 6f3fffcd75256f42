"""Shows how many rows were read or written, or trees graded: a bar on a terminal, a line a minute
elsewhere.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from restmcts.domain.text import counted
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from restmcts_cli.reports.shown_tables import console, print_note

Row = TypeVar("Row")


class Seen(Protocol):
    """Is called with how much is done."""

    def __call__(self, number: int, done: int | None = None, total: int | None = None) -> None:
        """Show that so many things are done."""
        ...


SECONDS_UNTIL_BAR = 1.0
SECONDS_BETWEEN_LINES = 60.0


def with_progress(
    rows: Iterable[Row], doing: str, total: int | None = None, size: Callable[[Row], int] = lambda _: 1
) -> Iterator[Row]:
    """Yield rows as they come, and show how many there were as `shown_progress` does.

    Args:
        doing: what is done with them: "reading FILE".
        total: the sum of all sizes; None: not known.
        size: of a row, in the unit of the total.
    """
    with shown_progress(doing, "row", total) as seen:
        done = 0
        for number, row in enumerate(rows, start=1):
            yield row
            done += size(row)
            seen(number, done)


@contextmanager
def shown_progress(doing: str, what: str, total: int | None = None) -> Iterator[Seen]:
    """Show on standard error how much of something is done once it takes more than a moment; yield
    what is to be called with the number of things, with their part of the total where that is in
    another unit, and with the total where that is learnt late.

    Args:
        what: one of the things that are counted: "row".
        total: None: not known.
    """
    columns = [TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[seen]}")]
    known = [TaskProgressColumn(), TimeRemainingColumn()] if total is not None else []
    shown = console(stderr=True)
    bar = Progress(*columns, *known, console=shown, transient=True)
    task = bar.add_task(doing, total=total, seen="")
    begin = last = time.monotonic()

    def seen(number: int, done: int | None = None, total: int | None = None) -> None:
        nonlocal last
        bar.update(task, completed=number if done is None else done, total=total, seen=counted(number, what))
        now = time.monotonic()
        if shown.is_terminal and not bar.live.is_started and now - begin > SECONDS_UNTIL_BAR:
            bar.start()
        elif not shown.is_terminal and now - last > SECONDS_BETWEEN_LINES:
            last = now
            print_note(f"{doing}: {counted(number, what)}")

    try:
        yield seen
    finally:
        if bar.live.is_started:
            bar.stop()
