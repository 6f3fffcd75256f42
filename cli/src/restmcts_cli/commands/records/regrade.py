"""`restmcts regrade`: new verdicts and labels over the stored trees of a run."""

import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.domain.runs.spec_settings import Setting, settings_of, spec_of
from restmcts.domain.text import counted
from restmcts.errors import InputError

from restmcts_cli.arguments.connection import Connection, Workdir, connect
from restmcts_cli.arguments.plugin_files import Plugins
from restmcts_cli.arguments.run_flags import SET, TRUTH, with_flags
from restmcts_cli.reports.shown_tables import Json, print_fields, print_json, print_note, print_table
from restmcts_cli.row_progress import shown_progress

if TYPE_CHECKING:
    from restmcts.adapters.models.http_policy.judges import Judges
    from restmcts.adapters.sql.database import Database
    from restmcts.domain.truth.ledger import RunTruth
    from restmcts.domain.truth.truth_settings import TruthSettings
    from restmcts.usecases.label import Regraded


@with_flags((TRUTH, SET), changes_stored=True)
def regrade(
    run: Annotated[str, typer.Argument(help="Name of the run; it stays as it is.")],
    given: list[Setting],
    name: Annotated[str | None, typer.Option(help="Name of the run with the new verdicts.", show_default=False)] = None,
    annotations: Annotated[
        bool,
        typer.Option(
            "--annotations", help="Let what people say of answers and steps replace verdicts and inferred values."
        ),
    ] = False,
    time_limit: Annotated[float, typer.Option(help="Seconds that one check may take.")] = 5.0,
    plugin: Plugins = None,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Grade the trees of a run again, with the verifier of this version and your plugins.

    Verdicts may come from another source ([bold]--truth[/bold], and its settings by
    [bold]--set[/bold]); those by vote or by judges are compared with the true answers where these
    are known. The new verdicts and labels are a run of their own; nothing is searched anew. What
    changed is said in numbers; the viewer compares the trees of a problem, those of both runs among
    them. A call that was stopped is resumed by the same call.

    With [bold]--annotations[/bold], what people annotated in the viewer comes first: the answer
    that they call right or wrong is so, and a step's label follows from what they say of it.

    Example: [bold]restmcts regrade first --truth votes --set truth.min_share=0.6[/bold]
    """
    name = name or f"{run}-regraded"
    print_note(f"grading the trees of run {run} again, as run {name}")
    from restmcts.adapters.verification.verifier import AnswerVerifier
    from restmcts.usecases.label import regrade as grade_again

    begin = time.monotonic()
    with (
        connect(workdir) as connection,
        AnswerVerifier(time_limit) as verifier,
        closing(_judges()) as judges,
        shown_progress(f"grading {run} again", "tree") as seen,
    ):
        database, truth = connection.database, _truth(connection, run, given)
        for judge in truth.judges if truth is not None else ():
            judges.open(judge)
        found = grade_again(
            database,
            verifier,
            verifier.verifier_version,
            run,
            name,
            seen,
            truth=truth,
            open_judge=judges.open,
            annotated=annotations,
        )
        worth = _worth(database, name)
    _print(found, worth, json)
    if not json:
        print_note(f"{counted(found.num_trees, 'tree')} in {time.monotonic() - begin:,.1f} s")


def _worth(database: "Database", name: str) -> "RunTruth | None":
    """Return what the verdicts of a run are worth."""
    from restmcts.adapters.sql.reads import queries
    from restmcts.adapters.sql.reads.truth import read_truth

    with database.transaction() as transaction:
        row = queries.run_named(transaction, name)
        return read_truth(transaction, row.id, row.config)


def _print(found: "Regraded", worth: "RunTruth | None", json: bool) -> None:
    from restmcts.reporting.truth import mark_of, marked, truth_document, truth_in_words

    if json:
        print_json(_document(found) | {"truth": truth_document(worth)})
        return
    rows: list[dict[str, object]] = [
        {"before": before, "now": now, "leaves": count} for (before, now), count in sorted(found.verdicts.items())
    ]
    print_table(("before", "now", "leaves"), rows, empty="no leaf has a verdict")
    fields = {name: value for name, value in _document(found).items() if name != "verdicts"}
    fields["num_annotated"] = found.num_annotated or None
    print_fields(fields | {"solved_now": marked(fields["solved_now"], mark_of(worth))})
    print_fields(truth_in_words(worth))


def _judges() -> "Judges":
    from restmcts.adapters.models.http_policy.judges import Judges
    from restmcts.settings import load_policy_server_settings

    return Judges(load_policy_server_settings())


def _truth(connection: Connection, run: str, given: list[Setting]) -> "TruthSettings | None":
    """Return where verdicts are to come from: the run's own settings with those that are given;
    None if none is.

    Raises:
        InputError: if a setting of something else is given.
    """
    from restmcts.adapters.sql.reads import queries

    other = next((setting.name for setting in given if not setting.name.startswith("truth.")), None)
    if other is not None:
        raise InputError(f"--set {other}: only settings of verdicts (truth.…) apply to trees that are stored")
    if not given:
        return None
    with connection.database.transaction() as transaction:
        config = queries.run_named(transaction, run).config
    stored = settings_of({"truth": config.get("truth", {})}, f"run {run}")
    return spec_of([*(one for one in stored if one.value is not None and one.value != {}), *given]).truth


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
        "num_annotated": found.num_annotated,
    }
