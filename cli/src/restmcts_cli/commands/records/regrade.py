"""`restmcts regrade`: new verdicts and labels over the stored trees of a run."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from restmcts_cli.arguments.connection import Workdir, connect
from restmcts_cli.arguments.plugin_files import Plugins
from restmcts_cli.reports.shown_tables import Json, print_fields, print_json, print_note, print_table

if TYPE_CHECKING:
    from restmcts.usecases.label import Regraded


def regrade(
    run: Annotated[str, typer.Argument(help="Name of the run; it stays as it is.")],
    name: Annotated[str | None, typer.Option(help="Name of the run with the new verdicts.", show_default=False)] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds that one check may take.")] = 5.0,
    plugin: Plugins = None,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Grade the trees of a run again, with the verifier of this version and your plugins.

    The new verdicts and labels are a run of their own; no model is asked. What changed is said in
    numbers; the viewer compares the trees of a problem, those of both runs among them. A call that
    was stopped is resumed by the same call.

    Example: [bold]restmcts regrade first --name first-again --workdir out[/bold]
    """
    from restmcts.adapters.verification.verifier import AnswerVerifier
    from restmcts.usecases.label import regrade as grade_again

    begin = time.monotonic()
    with connect(workdir) as connection, AnswerVerifier(time_limit) as verifier:
        found = grade_again(connection.database, verifier, verifier.verifier_version, run, name or f"{run}-regraded")
    if json:
        print_json(_document(found))
        return
    rows: list[dict[str, object]] = [
        {"before": before, "now": now, "leaves": count} for (before, now), count in sorted(found.verdicts.items())
    ]
    print_table(("before", "now", "leaves"), rows, empty="no leaf has a verdict")
    print_fields({name: value for name, value in _document(found).items() if name != "verdicts"})
    print_note(f"{found.num_trees:,} trees in {time.monotonic() - begin:,.1f} s")


def _document(found: "Regraded") -> dict[str, object]:
    return {
        "run": found.name,
        "num_trees": found.num_trees,
        "num_verdicts_changed": found.num_verdicts_changed,
        "verdicts": [
            {"before": before, "now": now, "num_leaves": count}
            for (before, now), count in sorted(found.verdicts.items())
        ],
        "solved_before": sum(count for (before, _), count in found.solved.items() if before),
        "solved_now": sum(count for (_, now), count in found.solved.items() if now),
        "num_labels": found.num_labels,
        "num_labels_changed": found.num_labels_changed,
    }
