"""What is said of a run whose verdicts no probe checks, in the terminal and in a report."""

import json
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads.truth import unchecked_runs
from restmcts.adapters.sql.state import runs, truth_ledger
from restmcts.domain.stats.estimates import Figure, share
from restmcts.domain.truth.ledger import LedgerEntry
from restmcts_cli.reports import live_display
from restmcts_cli.reports.run_report import render_page
from restmcts_cli.reports.run_report_data import IterationResult, Report, SearchResult, json_line
from restmcts_cli.reports.run_results import mark_beside
from rich.console import Console
from typer.testing import Result

Command = Callable[..., Result]
Shown = Callable[..., str]
Document = Callable[..., Any]
VOTES = {"truth": {"source": "votes"}}


def change(workdir: Path, config: dict[str, Any], entries: dict[int, LedgerEntry] | None = None) -> None:
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    with database.transaction() as transaction:
        runs.change_run(transaction, 1, config, goes_on=False)
        truth_ledger.write(transaction, dict.fromkeys(entries or {}, 1), entries or {})
    database.close()


@pytest.mark.parametrize(
    ("config", "entry", "mark"),
    [
        ({}, None, ""),
        ({"truth": {"source": "answers"}}, None, ""),
        (VOTES, None, "unchecked"),
        ({"truth": {"source": "judge"}}, None, "unchecked"),
        ({**VOTES, "probe_set": "test"}, None, ""),
        ({**VOTES, "probe_set": "no such set"}, None, "unchecked"),
        ({"regraded": VOTES}, LedgerEntry("d", 1, "4"), "unchecked"),
        ({"regraded": VOTES}, LedgerEntry("d", 1, "4", 1.0, is_probe=True), ""),
    ],
)
def test_a_run_is_unchecked_where_neither_answers_nor_a_probe_say_what_its_verdicts_are_worth(
    workdir: Path, config: dict[str, Any], entry: LedgerEntry | None, mark: str
) -> None:
    change(workdir, config, {5: entry} if entry is not None else None)
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    with database.transaction() as transaction:
        assert unchecked_runs(transaction, [1, 77]) == ({1} if mark else set())
    assert mark_beside(database, 1) == mark
    database.close()


def test_show_marks_every_accuracy_and_lists_what_flipped(workdir: Path, shown: Shown, document: Document) -> None:
    text = shown("runs", "show", "mine", "--workdir", workdir)
    assert "unchecked" not in text and "flipped" not in text
    change(workdir, VOTES, {5: LedgerEntry("d", 1, "4"), 6: LedgerEntry("d", 2, "a very long answer " * 9)})
    text = shown("runs", "show", "mine", "--workdir", workdir)
    graded = next(line for line in text.splitlines() if line.lstrip().startswith("grade-base"))
    assert re.search(r"\d unchecked .* % .* unchecked", graded), graded
    reached = next(line for line in text.splitlines() if re.match(r" +0 +\d", line))
    assert "unchecked" in reached, reached
    assert re.search(r"2 +4 \([0-9.–]+, tree 5\) +a very long answer a ve… \([0-9.–]+, tree 6\)", text), text
    (flipped,) = document("runs", "show", "mine", "--workdir", workdir)["truth"]["quarantined"]
    assert (flipped["before"]["answer"], flipped["before"]["tree_id"]) == ("4", 5)
    assert (flipped["now"]["iteration"], flipped["now"]["tree_id"]) == (2, 6)
    assert flipped["question"].startswith("train question")


def test_trees_are_listed_with_the_mark_beside_their_verdicts(workdir: Path, shown: Shown) -> None:
    listing = ("trees", "list", "mine", "--phase", "grade-base", "--workdir", workdir)
    assert "unchecked" not in shown(*listing)
    change(workdir, VOTES)
    assert re.search(r"(right|wrong) unchecked", shown(*listing))


def test_a_report_marks_every_accuracy_in_tables_charts_and_sentences() -> None:
    half = Figure.of([1.0, 0.0] * 50)
    more = Figure.of([1.0, 1.0, 0.0, 1.0] * 25)
    done = IterationResult(1, 9, 3, 100, 5, 5, more, half, half)
    search = tuple(SearchResult(name, 100, 90.0, 101, one) for name, one in (("first", half), ("second", more)))
    report = Report("a run", "command", 0, 1.0, (IterationResult(0, greedy=half), done), search, mark="unchecked")
    report = replace(report, solved=share(3, 9))
    page = render_page(report)
    accuracies = re.findall(r"(?:50|75)\.0 % ± [0-9.]+(?! SE)(.{0,10})", page)
    assert len(accuracies) >= 10
    assert all(after.startswith(" unchecked") for after in accuracies), accuracies
    assert re.search(r"\(33\.3 % \[[^)]*\] unchecked\)", page)
    assert page.count("Accuracy by iteration, unchecked") == 2 and "Accuracy against tokens, unchecked" in page
    assert '"unchecked": true' in json_line(report, "page")
    plain = Report("a run", "command", 0, 1.0, report.iterations, search)
    assert "unchecked" not in render_page(plain)


def set_state(workdir: Path, state: str) -> None:
    """Change how far the search of the run is."""
    with closing(sqlite3.connect(workdir / "run.db")) as stored, stored:
        stored.execute("UPDATE phases SET state = ? WHERE name = 'collect-1'", [state])


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_display_of_a_run_that_works_marks_what_it_calls_solved(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    monkeypatch.setattr(live_display, "SECONDS_BETWEEN_FRAMES", 0.01)
    seen = {}
    for config, mark in (({}, ""), (VOTES, " unchecked")):
        change(workdir, config)
        database = Database(f"sqlite:///{workdir / 'run.db'}")
        shown = StringIO()
        display = live_display.LiveDisplay("a run")
        display._console = Console(file=shown, force_terminal=is_terminal, width=150)
        set_state(workdir, "searching")
        with display.watch(database, 1):
            set_state(workdir, "done")
            deadline = time.monotonic() + 30
            while "solved" not in shown.getvalue() and time.monotonic() < deadline:
                time.sleep(0.01)
        database.close()
        seen[mark] = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue())
        assert re.search(rf"\d+ of \d+ solved{mark}\b", seen[mark]), seen[mark]
        assert re.search(rf"trees? done · \d+ of \d+ solved in search{mark}", seen[mark]), seen[mark]
    assert "unchecked" not in seen[""]


QUESTIONS = [{"question": f"How many are {number} and 1?"} for number in range(40)]
LABELLED = [{"question": f"What is {number} + 1?", "answer": number + 1} for number in range(9)]


@pytest.mark.parametrize("rows", [QUESTIONS, QUESTIONS + LABELLED])
def test_a_probe_of_held_out_problems_without_answers_is_refused(
    tmp_path: Path, call: Command, rows: list[dict[str, Any]]
) -> None:
    source = tmp_path / "questions.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    typed = [source, "--policy", "number-paths", "--truth", "votes", "--probe", "held-out", "--workdir", tmp_path / "w"]
    for command in (["runs", "create", "mine"], ["selftrain"]):
        refused = call(*command, *typed)
        assert refused.exit_code != 0 and "no problem is held out that has an answer" in str(refused.exception)
