"""`restmcts runs list`, and what it says of a run as `runs show` does: its state and times."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.domain.text import counted
from restmcts.reporting.figures import duration
from restmcts.reporting.plain_text import shortened
from restmcts.reporting.run_states import NEEDS_A_PROCESS, WAITING, shown_state, work_command

from restmcts_cli.arguments.connection import Workdir, connect
from restmcts_cli.reports.shown_tables import Json, print_json, print_note, print_table

if TYPE_CHECKING:
    from restmcts.adapters.sql.reads.run_times import RunTimes
    from restmcts.adapters.sql.rows import ListedRun, StoredRun

MAX_REASON = 80
_TIMES = ("started (UTC)", "last change (UTC)", "took")


def list_(
    all_: Annotated[bool, typer.Option("--all", help="List archived runs as well.")] = False,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """List runs, the newest first; those that `runs archive` put away are left out.

    Example: [bold]restmcts runs list[/bold]
    """
    found, times, now, place = _found(workdir)
    rows = [row for row in found if all_ or row.archived_at is None]
    if json:
        print_json(rows)
        return
    shown = [replace(row, state=state) for row, state in zip(rows, states_of(rows, workdir), strict=True)]
    print_table(
        ("name", "state", "phases", "trees", "token_budget", "seed", *_TIMES, "tags", "reason"),
        [{**_listed(row), **(times_of(times[row.id], row.state, now) if times else {})} for row in shown],
        empty=f"all {counted(len(found), 'run')} archived: restmcts runs list --all{place}"
        if found
        else f"no runs yet: restmcts runs create NAME{place}",
    )
    note_waiting(workdir, [row.name for row in shown if row.state == WAITING])


def _found(workdir: Path | None) -> "tuple[list[ListedRun], dict[int, RunTimes], datetime | None, str]":
    """Return all runs, their times and the time now, which are not known over HTTP, and the option
    of commands that names the work folder.
    """
    from restmcts_cli.remote import client
    from restmcts_cli.remote import runs as remote

    if (api := client.over_http(workdir)) is not None:
        return remote.listed(api), {}, None, ""
    from restmcts.adapters.sql.reads import queries
    from restmcts.adapters.sql.reads.run_times import run_times

    with connect(workdir) as connection, connection.database.transaction() as transaction:
        return (queries.list_runs(transaction), run_times(transaction, None), transaction.now(), transaction.place)


def states_of(rows: "Sequence[ListedRun | StoredRun]", workdir: Path | None) -> list[str]:
    """Return the states of runs as people are shown them."""
    from restmcts.adapters.storage.folder_lock import folder_use

    use = folder_use(workdir) if workdir is not None else None
    return [shown_state(row.state, is_idle=use is not None and use.is_idle(row.id)) for row in rows]


def state_of(row: "StoredRun", workdir: Path | None) -> str:
    """Return a run's state as people are shown it."""
    return states_of([row], workdir)[0]


def note_waiting(workdir: Path | None, names: Sequence[str]) -> None:
    """Say how runs of a work folder go on that no process works on."""
    if workdir is not None and names:
        print_note(f"no process works on run {names[0]}; to go on: {work_command(names[0], workdir)}")


def times_of(times: "RunTimes", state: str, now: datetime | None) -> dict[str, object]:
    """Return when a run in that state started and last changed, and how long it took."""
    seconds = times.seconds(now if state in NEEDS_A_PROCESS else None)
    moments = (times.started, times.last_change, duration(seconds) if seconds is not None else None)
    return dict(zip(_TIMES, moments, strict=True))


def _listed(row: "ListedRun") -> dict[str, object]:
    budget = f"{row.tokens_spent or 0:,}/{row.max_tokens:,}" if row.max_tokens is not None else None
    return {
        **asdict(row),
        "reason": shortened(row.error, MAX_REASON) if row.error else None,
        "tags": ", ".join(row.tags) or None,
        "phases": f"{row.num_phases_ended}/{row.num_phases}",
        "trees": f"{row.num_trees_ended:,}/{row.num_trees:,}",
        "token_budget": budget,
    }
