"""Shows how many rows have been read or written: a bar on a terminal, a line a minute elsewhere."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from restmcts.domain.text import counted
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from restmcts_cli.reports.shown_tables import console, print_note

Row = TypeVar("Row")

SECONDS_UNTIL_BAR = 1.0
SECONDS_BETWEEN_LINES = 60.0


def with_progress(
    rows: Iterable[Row], doing: str, total: int | None = None, size: Callable[[Row], int] = lambda _: 1
) -> Iterator[Row]:
    """Yield rows as they come, and show on standard error how many there were once that takes more
    than a moment.

    Args:
        doing: what is done with them: "reading FILE".
        total: the sum of all sizes; None: not known.
        size: of a row, in the unit of the total.
    """
    columns = [TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[rows]:,} rows")]
    known = [TaskProgressColumn(), TimeRemainingColumn()] if total is not None else []
    shown = console(stderr=True)
    bar = Progress(*columns, *known, console=shown, transient=True)
    task = bar.add_task(doing, total=total, rows=0)
    begin = last = time.monotonic()
    try:
        for number, row in enumerate(rows, start=1):
            yield row
            bar.update(task, advance=size(row), rows=number)
            now = time.monotonic()
            if shown.is_terminal and not bar.live.is_started and now - begin > SECONDS_UNTIL_BAR:
                bar.start()
            elif not shown.is_terminal and now - last > SECONDS_BETWEEN_LINES:
                last = now
                print_note(f"{doing}: {counted(number, 'row')}")
    finally:
        if bar.live.is_started:
            bar.stop()
