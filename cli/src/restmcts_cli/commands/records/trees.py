"""`restmcts trees`: list, draw and export search trees."""

import json as json_module
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.errors import InputError
from restmcts.reporting.plain_text import shortened
from restmcts.reporting.tree_text import TreeView, to_dot, tree_lines
from restmcts.reporting.truth import marked
from rich.text import Text

from restmcts_cli.arguments.connection import Workdir, connect
from restmcts_cli.reports.shown_tables import (
    Json,
    console,
    print_fields,
    print_json,
    print_note,
    print_table,
    write_out,
)

if TYPE_CHECKING:
    from restmcts.adapters.sql.rows import ListedTree, TreeWithNodes

MAX_QUESTION_CHARACTERS = 60
COLUMNS = ("id", "phase", "question", "state", "verdict", "solved", "nodes", "iterations", "tokens", "note")

app = typer.Typer(help="Show search trees.", no_args_is_help=True)

TreeId = Annotated[int, typer.Argument(help="The tree's number, as `trees list` shows it.")]


class Format(StrEnum):
    JSON = "json"
    DOT = "dot"
    VERIFIERS = "verifiers"


def _none_found(run: str, phase: str | None, state: str | None, solved: bool | None) -> str:
    asked = [f"--phase {phase}"] if phase is not None else []
    asked += [f"--state {state}"] if state is not None else []
    asked += ["--solved" if solved else "--unsolved"] if solved is not None else []
    return f"run {run} has no tree with {' '.join(asked)}" if asked else f"run {run} has no tree yet"


@app.command("list")
def list_(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    phase: Annotated[str | None, typer.Option(help="Only trees of this phase.")] = None,
    state: Annotated[str | None, typer.Option(help="Only waiting, searching, ended, labelled or failed ones.")] = None,
    solved: Annotated[
        bool | None, typer.Option("--solved/--unsolved", help="Only trees with, or without, a right end.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Trees listed at most.", min=1)] = 20,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """List the trees of a run.

    Example: [bold]restmcts trees list demo --phase collect-1 --solved[/bold]
    """
    from restmcts.adapters.sql.tables import TreeState

    from restmcts_cli.remote import client
    from restmcts_cli.remote import trees as remote

    if state is not None and state not in list(TreeState):
        raise InputError(f"no tree is ever {state!r}; states are {', '.join(TreeState)}")
    if (api := client.over_http(workdir)) is not None:
        found, mark = remote.trees(api, run, phase, state, solved, limit)
    else:
        found, mark = _stored(workdir, run, phase, state, solved, limit)
    if json:
        print_json(found)
        return
    print_table(COLUMNS, [_listed(one, mark) for one in found], empty=_none_found(run, phase, state, solved))
    if len(found) == limit:
        print_note(f"the first {limit}; --limit shows more")


def _stored(
    workdir: Path | None, run: str, phase: str | None, state: str | None, solved: bool | None, limit: int
) -> "tuple[list[ListedTree], str]":
    from restmcts.adapters.sql.reads import queries

    from restmcts_cli.reports.run_results import mark_of_run

    with connect(workdir) as connection, connection.database.transaction() as transaction:
        row = queries.run_named(transaction, run)
        phases = [one.name for one in queries.phase_numbers(transaction, row.id)]
        if phase is not None and phase not in phases:
            raise InputError(f"run {run} has no phase {phase!r}; it has {', '.join(phases)}")
        found = queries.list_trees(transaction, row.id, phase=phase, state=state, solved=solved, limit=limit)
        return found, mark_of_run(transaction, row.id)


def _listed(tree: "ListedTree", mark: str) -> dict[str, object]:
    return {
        **asdict(tree),
        "verdict": marked(tree.verdict, mark),
        "question": shortened(tree.question, MAX_QUESTION_CHARACTERS),
        "note": shortened(tree.error, MAX_QUESTION_CHARACTERS) if tree.error else tree.stop_reason,
    }


@app.command()
def show(
    tree_id: TreeId,
    depth: Annotated[int | None, typer.Option(help="Fold the steps below this depth.", min=0)] = None,
    best: Annotated[bool, typer.Option("--best", help="Only the trace to the chosen answer.")] = False,
    wrong: Annotated[bool, typer.Option("--wrong", help="Only the traces to wrong ends.")] = False,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """Draw a tree: each step with V (value), n (visits) and, once labelled, m, r, w, v; ends with
    their verdict.

    Example: [bold]restmcts trees show 12 --depth 3[/bold]
    """
    tree = _tree(workdir, tree_id)
    if json:
        print_json(tree)
        return
    print_fields(
        {
            name: getattr(tree, name)
            for name in ("run", "phase", "staleness", "problem", "question", "state", "error", "stop_reason")
        }
    )
    print_fields(
        {
            name: getattr(tree, name)
            for name in ("answer", "true_answer", "verdict", "solved", "num_nodes", "iterations", "tokens")
        }
    )
    shown = console()
    shown.print()
    num_lines = 0
    for line in tree_lines([asdict(node) for node in tree.nodes], tree.chosen_node, TreeView(depth, best, wrong)):
        shown.print(line, soft_wrap=True)
        num_lines += 1
    if not num_lines:
        shown.print(Text("no node yet: the search of this tree has not started"))


@app.command()
def export(
    tree_id: TreeId,
    format: Annotated[
        Format,
        typer.Option(
            help="json: everything that is stored of the tree; dot: Graphviz; verifiers: JSON lines, each finished"
            " solution as a trace of the package verifiers."
        ),
    ] = Format.JSON,
    out: Annotated[Path | None, typer.Option(help="Write here instead of to standard output.", dir_okay=False)] = None,
    workdir: Workdir = None,
) -> None:
    """Write a tree for other programs.

    Example: [bold]restmcts trees export 12 --format dot | dot -Tsvg > tree.svg[/bold]
    """
    tree = _tree(workdir, tree_id)
    if format is Format.DOT:
        nodes = [asdict(node) for node in tree.nodes]
        text = to_dot(nodes, tree.chosen_node, shortened(tree.question, MAX_QUESTION_CHARACTERS))
    elif format is Format.VERIFIERS:
        from restmcts.adapters.files.verifiers_traces import tree_traces

        text = "".join(json_module.dumps(trace, ensure_ascii=False) + "\n" for trace in tree_traces(tree))
    else:
        text = json_module.dumps(asdict(tree), default=str, indent=2) + "\n"
    if write_out(text, out):
        print_note(f"tree {tree_id} written to {out}")


def _tree(workdir: Path | None, tree_id: int) -> "TreeWithNodes":
    from restmcts_cli.remote import client
    from restmcts_cli.remote import trees as remote

    if (api := client.over_http(workdir)) is not None:
        return remote.tree(api, tree_id)
    from restmcts.adapters.sql.reads import queries

    with connect(workdir) as connection, connection.database.transaction() as transaction:
        return queries.tree_with_nodes(transaction, tree_id)


@app.command()
def rows(tree: TreeId, workdir: Workdir = None, json: Json = False) -> None:
    """List the rows of training data that a tree gave, and the checkpoints that they trained.

    The other way round: [bold]restmcts datasets trace RUN PHASE ROW[/bold].

    Example: [bold]restmcts trees rows 12[/bold]
    """
    from restmcts_cli.reports.lineage import rows_of_tree

    with connect(workdir) as connection:
        found = rows_of_tree(connection, tree)
    if json:
        print_json(found)
    else:
        columns = ("run", "phase", "number", "node_id", "trained")
        print_table(columns, [asdict(row) for row in found], empty=f"tree {tree} gave no training data")
