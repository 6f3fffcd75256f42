"""`restmcts prm bench`: a reward model on solutions whose steps people have labelled, or on the
labelled trees of a run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from restmcts.errors import InputError

from restmcts_cli.arguments.connection import Workdir, connect
from restmcts_cli.arguments.plugin_files import Plugins
from restmcts_cli.reports.shown_tables import Json, console, print_json, print_note
from restmcts_cli.row_progress import shown_progress

if TYPE_CHECKING:
    from markupsafe import Markup
    from restmcts.domain.labels.labelled_solutions import LabelledSolution
    from restmcts.reporting.tables import Table
    from restmcts_prm_scorer.opening import OpenedPrm

    from restmcts_cli.reward_models.annotated import AnnotatedPath
    from restmcts_cli.reward_models.run_trees import LabelledRunTree
    from restmcts_cli.reward_models.scoring import ScoredSolution


Model = Annotated[
    str,
    typer.Argument(help="A model as --value takes it: folder, hub id or server; MODEL?format=NAME gives the format."),
]
On = Annotated[
    str,
    typer.Option(
        help="What it is measured on: [bold]processbench[/bold] or [bold]prmbench[/bold] (from the hub), "
        "hub:OWNER/NAME, a file or folder in the form of these, of PRM800K, Math-Shepherd or TRL's stepwise "
        "supervision; or the name of a "
        "run, whose labelled trees are scored; or annotations:RUN, what people said of them."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="A folder for values and the page; killed and started again with the same one, it is resumed.",
        file_okay=False,
    ),
]
CheckpointOf = Annotated[
    str | None,
    typer.Option(
        help="A run: MODEL is the name of one of its checkpoints then, and the result is stored with it, for "
        "[bold]checkpoints show[/bold], its page and the card that is published with it."
    ),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a bench; the fields are the command's options."""

    model: str
    on: str
    threshold: float | None
    choose_on: str | None
    split: str
    phase: str | None
    limit: int | None
    out: Path | None
    workdir: Path | None
    checkpoint_of: str | None

    @property
    def scored_model(self) -> str:
        """The model's name among those whose values a folder may keep."""
        return self.model if self.checkpoint_of is None else f"{self.model} of run {self.checkpoint_of}"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a bench shows: tables, sentences, misses, a document, and drawings by the title of the
    table that they are above.
    """

    tables: "list[Table]"
    sentences: list[str]
    misses: list[dict[str, Any]]
    document: dict[str, Any]
    charts: "dict[str, Markup]" = field(default_factory=dict)


def bench(
    model: Model,
    on: On,
    threshold: Annotated[
        float | None,
        typer.Option(help="Value below which (or drop above which) a step is wrong. Without: chosen on one split."),
    ] = None,
    choose_on: Annotated[
        str | None,
        typer.Option(help="The split on which the threshold with the highest F1 is chosen: gsm8k, or the first one."),
    ] = None,
    split: Annotated[str, typer.Option(help="The split of a data set of the hub.")] = "test",
    phase: Annotated[
        str | None, typer.Option(help="The search of a run. Without: its held-out trees, or all of its searches.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Solutions of each split, or trees, at most.", min=1)] = None,
    out: Out = None,
    checkpoint_of: CheckpointOf = None,
    workdir: Workdir = None,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    trust_remote_code: Annotated[bool, typer.Option(help="Run code that comes with the model.")] = False,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Measure a PRM: ProcessBench's F1, PRMBench's score, the AUC of its steps, its speed, and what
    it gets most wrong; on a run's trees AUC, sibling accuracy, calibration, ranks by depth, and the
    accuracy that its values buy at equal tokens.

    A chance of being right calls a step wrong below a threshold, a value of progress where it
    drops by more than one; `restmcts prm formats` says which of the two a format has, and value
    models trained here on chances, or calibrated, have the first.

    Example: [bold]restmcts prm bench Qwen/Qwen2.5-Math-PRM-7B --on processbench --out bench[/bold]
    """
    print_note(f"restmcts prm bench: {model} on {on}")
    from restmcts_cli.reward_models.stored import keep_bench, stored_model

    asked = Asked(model, on, threshold, choose_on, split, phase, limit, out, workdir, checkpoint_of)
    _check(asked)
    uri, artifacts = (model, None) if checkpoint_of is None else stored_model(workdir, checkpoint_of, model)
    measure = _prepared(asked)
    from restmcts_cli.reward_models.opened import opened_prm

    with opened_prm(uri, device=device, trust_remote_code=trust_remote_code, artifacts=artifacts) as opened:
        shown = measure(opened)
    if checkpoint_of is not None:
        keep_bench(workdir, checkpoint_of, model, shown.document)
    _show(shown, out, json)


def _check(asked: Asked) -> None:
    """Raise InputError for what is wrong before anything is read or fetched."""
    from restmcts_cli.arguments.model_sources import check_model_name
    from restmcts_cli.reward_models.sources import BENCHMARKS

    if asked.checkpoint_of is None:
        check_model_name(asked.model, "value")
    known = BENCHMARKS[asked.on][1] if asked.on in BENCHMARKS and len(BENCHMARKS[asked.on][1]) > 1 else ()
    if known and asked.choose_on is not None and asked.choose_on not in known:
        raise InputError(f"{asked.on} has no split {asked.choose_on!r}; it has {', '.join(known)}")


def _prepared(asked: Asked) -> "Callable[[OpenedPrm], Shown]":
    """Return what measures an opened model: what it is measured on is read first, as it is the
    quicker one to fail.

    Raises:
        InputError: if there is nothing to measure it on.
    """
    from restmcts_cli.reward_models.annotated import PREFIX, annotated_paths
    from restmcts_cli.reward_models.results import check_threshold_split
    from restmcts_cli.reward_models.run_trees import finished_paths, mark_of_named, paths_of_trees, trees_of_run
    from restmcts_cli.reward_models.scoring import check_values_file
    from restmcts_cli.reward_models.sources import is_source, labelled_solutions

    if asked.on.startswith(PREFIX):
        run = asked.on.removeprefix(PREFIX)
        with connect(asked.workdir) as connection, connection.database.transaction() as transaction:
            annotated = annotated_paths(transaction, run, asked.limit)
        check_values_file(asked.out, asked.scored_model, [path.solution for path in annotated])
        return lambda opened: _on_annotations(asked, opened, run, annotated)
    if is_source(asked.on):
        solutions = labelled_solutions(asked.on, asked.split, asked.limit)
        if asked.threshold is None:
            check_threshold_split(asked.on, solutions, asked.choose_on)
        check_values_file(asked.out, asked.scored_model, solutions)
        return lambda opened: _on_solutions(asked, opened, solutions)
    try:
        with connect(asked.workdir) as connection, connection.database.transaction() as transaction:
            found = trees_of_run(transaction, asked.on, asked.phase, asked.limit)
            mark = mark_of_named(transaction, asked.on)
    except InputError as error:
        raise InputError(f"{asked.on} is no file, folder or benchmark; as the name of a run: {error}") from error
    paths = paths_of_trees(found)
    paths += finished_paths(found, {path.key for path in paths})
    check_values_file(asked.out, asked.scored_model, paths)
    return lambda opened: _on_trees(asked, opened, found, paths, mark)


def _on_solutions(asked: Asked, opened: "OpenedPrm", solutions: "list[LabelledSolution]") -> Shown:
    from restmcts_cli.reward_models.bench_report import bench_document, bench_table, shown_misses
    from restmcts_cli.reward_models.results import bench_result, sentences

    scored = _scored(asked, opened, solutions)
    result = bench_result(
        asked.model,
        opened.format.name,
        asked.on,
        opened.rule,
        solutions,
        scored,
        threshold=asked.threshold,
        choose_on=asked.choose_on,
    )
    return Shown([bench_table(result)], sentences(result), shown_misses(result), bench_document(result))


def _on_annotations(asked: Asked, opened: "OpenedPrm", run: str, paths: "list[AnnotatedPath]") -> Shown:
    from restmcts_cli.reward_models.annotated import (
        annotation_bench,
        annotation_document,
        annotation_sentences,
        annotation_table,
    )

    scored = _scored(asked, opened, [path.solution for path in paths])
    name = opened.format.name
    result = annotation_bench(asked.model, name, run, opened.rule, paths, scored, asked.threshold)
    return Shown([annotation_table(result)], annotation_sentences(result), [], annotation_document(result))


def _on_trees(
    asked: Asked, opened: "OpenedPrm", found: "list[LabelledRunTree]", paths: "list[LabelledSolution]", mark: str
) -> Shown:
    from restmcts.domain.stats.tree_values import tree_values
    from restmcts.domain.stats.value_choices import ScoredTree, value_choices

    from restmcts_cli.reward_models.run_report import (
        RunBench,
        calibration_chart,
        run_document,
        run_sentences,
        run_tables,
    )
    from restmcts_cli.reward_models.run_trees import step_orders, steps_by_problem, values_of_nodes

    scored = _scored(asked, opened, paths)
    values = values_of_nodes(found, paths, scored)
    problems = steps_by_problem(found, values)
    searched = [ScoredTree(one.problem, one.tree, one.verdicts, values[one.tree_id]) for one in found]
    refused = [one.reason for one in scored if one.values is None]
    if not problems:
        raise InputError(f"{asked.model} could score no path of run {asked.on}: {refused[0]}")
    tokens, seconds = sum(one.tokens for one in scored), sum(one.seconds for one in scored)
    result = RunBench(
        asked.model,
        opened.format.name,
        asked.on,
        mark,
        asked.phase,
        tree_values(problems),
        step_orders(found, values),
        value_choices(searched, opened.aggregation),
        sum(one.has_labels for one in found),
        len(paths),
        len(refused),
        tokens,
        seconds,
    )
    tables = run_tables(result)
    return Shown(tables, run_sentences(result), [], run_document(result), {tables[0].title: calibration_chart(result)})


def _scored(asked: Asked, opened: "OpenedPrm", solutions: "Sequence[LabelledSolution]") -> "list[ScoredSolution]":
    from restmcts_cli.reward_models.scoring import score_solutions

    with shown_progress(f"scoring with {asked.model}", "path", len(solutions)) as seen:
        return score_solutions(opened.scorer, solutions, asked.out, asked.scored_model, seen)


def _show(shown: Shown, out: Path | None, json: bool) -> None:
    from restmcts_cli.reward_models.bench_report import PAGE, write_page

    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_page(shown.tables[0].title, shown.sentences, shown.tables, shown.charts, shown.misses, out / PAGE)
    if json:
        print_json(shown.document)
    else:
        for table in shown.tables:
            console().print(table.terminal())
        for sentence in shown.sentences:
            console().print(f"• {sentence}", markup=False, highlight=False, soft_wrap=True)
    if out is not None:
        print_note(f"the page is in {out}")
