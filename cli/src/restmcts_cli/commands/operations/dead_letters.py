"""`restmcts dead-letters`: messages that could not be handled."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.domain.text import counted
from restmcts.errors import InputError
from restmcts.reporting.plain_text import shortened

from restmcts_cli.arguments.connection import Workdir, connect
from restmcts_cli.reports.shown_tables import Json, print_fields, print_json, print_note, print_table

if TYPE_CHECKING:
    from restmcts.adapters.sql.database import Transaction

MAX_CHARACTERS = 80

app = typer.Typer(help="List, retry and drop messages that could not be handled.", no_args_is_help=True)

LetterId = Annotated[int, typer.Argument(help="The letter's number, as `dead-letters list` shows it.")]
LetterIds = Annotated[list[int] | None, typer.Argument(help="The letters' numbers.")]
All = Annotated[bool, typer.Option("--all", help="All dead letters.")]


@app.command("list")
def list_(workdir: Workdir = None, json: Json = False) -> None:
    """List dead letters, the oldest first; one that failed again for the same reason is counted.

    Example: [bold]restmcts dead-letters list[/bold]
    """
    from restmcts.adapters.sql.reads import stack_queries

    with connect(workdir) as connection, connection.database.transaction() as transaction:
        rows = stack_queries.list_dead_letters(transaction)
    if json:
        print_json(rows)
        return
    shown = [asdict(row) | {"reason": shortened(row.reason, MAX_CHARACTERS)} for row in rows]
    columns = ("id", "queue", "name", "reason", "num_times", "created_at", "last_at")
    print_table(columns, shown, empty="no dead letters")


@app.command()
def show(letter_id: LetterId, workdir: Workdir = None, json: Json = False) -> None:
    """Show a dead letter with its message and its reason.

    Example: [bold]restmcts dead-letters show 3[/bold]
    """
    from restmcts.adapters.sql.reads import stack_queries

    with connect(workdir) as connection, connection.database.transaction() as transaction:
        rows = stack_queries.list_dead_letters(transaction, letter_id)
    if not rows:
        raise InputError(f"there is no dead letter {letter_id}")
    if json:
        print_json(rows[0])
    else:
        print_fields(asdict(rows[0]))


@app.command()
def retry(letter_ids: LetterIds = None, all: All = False, workdir: Workdir = None, json: Json = False) -> None:
    """Send messages again, on the stack. A local run needs no retry: it wakes everything when it is
    started again.

    Example: [bold]restmcts dead-letters retry 3 4[/bold]
    """
    from restmcts.usecases import steer

    if workdir is not None:
        raise InputError("a local run wakes all its work when it is started again; drop the letter instead")
    with connect(workdir) as connection, connection.database.transaction() as transaction:
        chosen = _chosen(transaction, letter_ids, all)
        for letter_id in chosen:
            steer.retry_dead_letter(transaction, letter_id)
    _report("retried", chosen, json)


@app.command()
def drop(letter_ids: LetterIds = None, all: All = False, workdir: Workdir = None, json: Json = False) -> None:
    """Drop messages.

    Example: [bold]restmcts dead-letters drop --all[/bold]
    """
    from restmcts.usecases import steer

    with connect(workdir) as connection, connection.database.transaction() as transaction:
        chosen = _chosen(transaction, letter_ids, all)
        for letter_id in chosen:
            steer.drop_dead_letter(transaction, letter_id)
    _report("dropped", chosen, json)


def _chosen(transaction: "Transaction", letter_ids: Sequence[int] | None, all: bool) -> list[int]:
    from restmcts.adapters.sql.reads import stack_queries

    if bool(letter_ids) == all:
        raise InputError("name dead letters by their numbers, or all of them with --all")
    return [row.id for row in stack_queries.list_dead_letters(transaction)] if all else list(letter_ids or ())


def _report(done: str, letter_ids: Sequence[int], json: bool) -> None:
    if json:
        print_json({done: list(letter_ids)})
    else:
        print_note(f"{counted(len(letter_ids), 'dead letter')} {done}")
