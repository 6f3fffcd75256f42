"""`restmcts problems`: bring problems into the project's form, and into runs."""

import json as json_module
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from restmcts.adapters.files.problem_files import BadLine
from restmcts.domain.runs.spec_plan import TRAIN
from restmcts.domain.text import counted
from restmcts.errors import InputError, StorageError
from restmcts.reporting.plain_text import shortened

from restmcts_cli.arguments.connection import Workdir, connect
from restmcts_cli.arguments.plugin_files import Plugins, refuse_plugins_on_stack
from restmcts_cli.arguments.problem_sources import SOURCES, form_of_source, nothing_usable, read_source, usable
from restmcts_cli.reports.shown_tables import Json, print_fields, print_json, print_note, print_table

if TYPE_CHECKING:
    from restmcts.adapters.sql.database import Transaction
    from restmcts.domain.problem_review import ProblemReview
    from restmcts.domain.problems import Problem

    from restmcts_cli.remote.client import Api

MAX_QUESTION_CHARACTERS = 100
MAX_SHOWN_LINES = 20

app = typer.Typer(help="Check and import problems, add them to runs, list them.", no_args_is_help=True)

Source = Annotated[str, typer.Argument(help=SOURCES)]
Split = Annotated[str, typer.Option(help="The split of a data set of the hub.")]
Seed = Annotated[int, typer.Option(help="The seed of the demo's puzzles.", min=0)]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad line instead of reporting it.")]
Limit = Annotated[int | None, typer.Option(help="Read only this many problems, from the first on.", min=1)]


@app.command("import")
def import_(
    source: Source,
    out: Annotated[Path, typer.Argument(help="File to write, as JSON lines.", dir_okay=False)],
    split: Split = "train",
    seed: Seed = 0,
    strict: Strict = False,
    limit: Limit = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Read problems from any source, check them, and write those that can be used as a file of JSON
    lines.

    Example: [bold]restmcts problems import hub:openai/gsm8k:main gsm8k.jsonl --limit 500[/bold]
    """
    print_note(f"restmcts problems import: {source} to {out}")
    items = read_source(source, split=split, seed=seed, strict=strict, limit=limit)
    num_problems = _write(usable(source, items), out)
    if json:
        print_json({"source": source, "file": str(out), "num_problems": num_problems})
    else:
        print_note(f"{counted(num_problems, 'problem')} written to {out}")


def _write(problems: "Iterable[Problem]", out: Path) -> int:
    """Write the file whole or not at all; return how many problems it holds."""
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    num_problems = 0
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            for problem in problems:
                file.write(_line(problem))
                num_problems += 1
        if num_problems:
            unfinished.replace(out)
    except OSError as error:
        raise StorageError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    if not num_problems:
        raise nothing_usable("the source", ())
    return num_problems


def _line(problem: "Problem") -> str:
    row = {"question": problem.question, "answer": problem.answer, "solution": problem.solution, "kind": problem.kind}
    return json_module.dumps({name: value for name, value in row.items() if value is not None}) + "\n"


@app.command()
def enqueue(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    source: Source,
    set_name: Annotated[
        str, typer.Option("--set", help="Problem set of the run; `problems list RUN` names them.")
    ] = TRAIN,
    split: Split = "train",
    seed: Seed = 0,
    strict: Strict = False,
    limit: Limit = None,
    workdir: Workdir = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Add problems to a set of a run, before the phase that searches it starts. After an error,
    none are added; over HTTP, the parts of a large file that came before it are. Training problems
    of a run whose verdicts rest on votes or judges need no answers.

    Example: [bold]restmcts problems enqueue mine problems.jsonl[/bold]
    """
    print_note(f"restmcts problems enqueue {run}: {source}")
    from restmcts.domain.problem_review import ProblemReview

    from restmcts_cli.remote import client

    review = ProblemReview()
    if workdir is None:
        refuse_plugins_on_stack()

    def passing(needs_answers: bool) -> "Iterator[Problem]":
        read = read_source(source, split=split, seed=seed, strict=strict, limit=limit, needs_answers=needs_answers)
        return review.passing(_at_least_one(usable(source, read), source))

    if (api := client.over_http(workdir)) is not None:
        counts = _sent(api, run, set_name, passing)
    else:
        counts = _stored(workdir, run, set_name, passing)
    for remark in review.remarks(source):
        print_note(remark)
    if json:
        print_json({"run": run, "added": counts})
    else:
        print_note(
            f"run {run}: " + ", ".join(f"{counted(count, 'problem')} added to {name}" for name, count in counts.items())
        )


def _sent(api: "Api", run: str, set_name: str, passing: "Callable[[bool], Iterator[Problem]]") -> dict[str, int]:
    from restmcts_cli.remote.new_runs import enqueue
    from restmcts_cli.remote.runs import spec_of_run

    needs_answers = set_name != TRAIN or spec_of_run(api, run).truth.knows_answers
    return enqueue(api, run, set_name, passing(needs_answers))


def _stored(
    workdir: Path | None, run: str, set_name: str, passing: "Callable[[bool], Iterator[Problem]]"
) -> dict[str, int]:
    from restmcts.usecases.create import enqueue_problems

    with connect(workdir) as connection, connection.database.transaction() as transaction:
        needs_answers = set_name != TRAIN or _knows_answers(transaction, run)
        return enqueue_problems(transaction, run, set_name, passing(needs_answers))


def _knows_answers(transaction: "Transaction", run: str) -> bool:
    """Return whether true answers give a run's verdicts."""
    from restmcts.adapters.sql.reads import queries
    from restmcts.adapters.sql.reads.truth import source_of_verdicts

    return source_of_verdicts(queries.run_named(transaction, run).config) is None


@app.command()
def check(
    source: Source,
    test: Annotated[str | None, typer.Option(help="Problems to evaluate on: questions in both are counted.")] = None,
    split: Split = "train",
    seed: Seed = 0,
    limit: Limit = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Report what would be read: format, kinds of answers, refused lines, questions that come twice
    or have two answers, and questions shared with a test set.

    Nothing is written; the exit code is 2 if no problem can be used.

    Example: [bold]restmcts problems check problems.jsonl --test held-out.jsonl[/bold]
    """
    print_note(f"restmcts problems check: {source}" + (f" and {test}" if test is not None else ""))
    from restmcts.domain.problem_review import overlap_remark

    review, bad_lines = _reviewed(source, split, seed, limit)
    checked = [_checked(source, review, bad_lines)]
    remark = num_shared = None
    if test is not None:
        test_review, test_bad_lines = _reviewed(test, split, seed, limit)
        checked.append(_checked(test, test_review, test_bad_lines))
        num_shared = review.num_shared(test_review)
        remark = overlap_remark(review, test_review, (source, test)) or f"no question of {test} is in {source}"
    if json:
        print_json({"sources": checked, "num_shared": num_shared})
    else:
        for one in checked:
            _show_check(one)
        if remark is not None:
            print_note(remark)
    for one in checked:
        if not one.num_problems:
            raise nothing_usable(one.source, [BadLine(refused.line, refused.reason) for refused in one.refused])


def _reviewed(source: str, split: str, seed: int, limit: int | None) -> "tuple[ProblemReview, list[BadLine]]":
    from restmcts.domain.problem_review import ProblemReview
    from restmcts.domain.problems import Problem

    review, bad_lines = ProblemReview(), []
    for item in read_source(source, split=split, seed=seed, strict=False, limit=limit):
        if isinstance(item, Problem):
            review.add(item)
        else:
            bad_lines.append(item)
    return review, bad_lines


@dataclass(frozen=True, slots=True)
class _RefusedLine:
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Conflict:
    question: str
    answers: list[str]


@dataclass(frozen=True, slots=True)
class _CheckedSource:
    """What is said of a source; the names are those of the JSON document."""

    source: str
    form: str
    num_problems: int
    kinds: dict[str, int]
    num_solutions: int
    refused: list[_RefusedLine]
    num_duplicates: int
    conflicts: list[_Conflict]


def _checked(source: str, review: "ProblemReview", bad_lines: "list[BadLine]") -> _CheckedSource:
    return _CheckedSource(
        source=source,
        form=form_of_source(source),
        num_problems=review.num_problems,
        kinds=dict(review.kinds),
        num_solutions=review.num_solutions,
        refused=[_RefusedLine(bad.line_number, bad.reason) for bad in bad_lines],
        num_duplicates=review.num_duplicates,
        conflicts=[_Conflict(question, answers) for question, *answers in review.conflicts],
    )


def _show_check(checked: _CheckedSource) -> None:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in checked.kinds.items())
    shown = ("source", "form", "num_problems", "num_solutions")
    repeated = {"repeated, same answer": checked.num_duplicates, "repeated, other answer": len(checked.conflicts)}
    print_fields({**{name: getattr(checked, name) for name in shown}, **repeated, "kinds": kinds or None})
    if checked.refused:
        print_table(("line", "reason"), [asdict(line) for line in checked.refused[:MAX_SHOWN_LINES]], empty="")
        print_note(f"{counted(len(checked.refused), 'line')} refused; --json lists all of them")
    for conflict in checked.conflicts[:MAX_SHOWN_LINES]:
        question = shortened(conflict.question, MAX_QUESTION_CHARACTERS)
        print_note(f"two answers, {' and '.join(conflict.answers)}: {question}")


def _at_least_one(problems: "Iterator[Problem]", source: str) -> "Iterator[Problem]":
    any_came = False
    for problem in problems:
        any_came = True
        yield problem
    if not any_came:
        raise nothing_usable(source, ())


@app.command("list")
def list_(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    set_name: Annotated[str | None, typer.Option("--set", help="List this set's problems instead of the sets.")] = None,
    limit: Annotated[int, typer.Option(help="Problems listed at most.", min=1)] = 20,
    workdir: Workdir = None,
    json: Json = False,
) -> None:
    """List the problem sets of a run, or the problems of one set.

    Example: [bold]restmcts problems list demo --set test --limit 5[/bold]
    """
    from restmcts.adapters.sql.reads import queries

    with connect(workdir) as connection, connection.database.transaction() as transaction:
        row = queries.run_named(transaction, run)
        sets = queries.list_problem_sets(transaction, row.id)
        if set_name is not None and set_name not in {one.set for one in sets}:
            raise InputError(
                f"run {run} has no problem set {set_name!r}; it has {', '.join(one.set for one in sets) or 'none'}"
            )
        found = queries.list_problems(transaction, row.id, set_name, limit) if set_name is not None else []
    if json:
        print_json(found if set_name is not None else sets)
        return
    empty = f"run {run} has no problems yet: restmcts problems enqueue {quote(run)} FILE{connection.database.place}"
    if set_name is None:
        shown = [asdict(one) | {"example": shortened(one.example, MAX_QUESTION_CHARACTERS)} for one in sets]
        print_table(("set", "num_problems", "example"), shown, empty=empty)
    else:
        shown = [asdict(one) | {"question": shortened(one.question, MAX_QUESTION_CHARACTERS)} for one in found]
        print_table(("position", "question", "answer", "kind"), shown, empty=empty)
