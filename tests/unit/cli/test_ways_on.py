"""What a command says is to be typed next can be typed as it is: it names the work folder, fits the
state of the run, and a run that was extended is asked for by the command that began it.
"""

import re
import shlex
import sqlite3
from collections.abc import Callable
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.storage.folder_lock import lock_folder, name_run
from restmcts_cli.experiments.demo_plan import DEMO, comparison_names, demo_spec
from restmcts_cli.main import app
from restmcts_local.local_run import LocalRun
from typer.testing import CliRunner, Result

ROOT = Path(__file__).parents[3]
Command = Callable[..., Result]
Document = Callable[..., Any]
SMALL = {
    "puzzles.demonstrations": 6, "puzzles.bootstrap": 2, "puzzles.searched": 3, "puzzles.test": 4,
    "puzzles.compared": 2, "puzzles.held_out": 2, "iterations": 1,
}  # fmt: skip
SIZES = tuple(text for name, value in SMALL.items() for text in ("--set", f"{name}={value}"))
WITH_A_RUN = re.compile(r"restmcts (?:runs|problems|datasets|trees|ui|storage|regrade|annotations) [^`;\n]*")


@pytest.fixture
def folder(document: Document, tmp_path: Path) -> Path:
    """A work folder, whose name is to be quoted, with the run "demo" of one iteration."""
    place = tmp_path / "a folder"
    document("runs", "create", "demo", "--demo", "--quick", *SIZES, "--workdir", place)
    return place


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "run.db")) as database, database:
        for statement in statements:
            database.execute(statement)


END = (
    "UPDATE phases SET state = 'skipped', result = '{\"reason\": \"a test\"}'",
    "UPDATE runs SET state = 'done', finished_at = created_at",
)


def said(result: Result) -> str:
    return f"{result.output}\n{result.exception or ''}".replace("\n    ", " ")


def test_every_command_that_is_shown_of_a_work_folder_names_it(folder: Path, call: Command) -> None:
    place = f"--workdir '{folder}'"
    typed: list[tuple[Any, ...]] = [
        ("runs", "list"),
        ("runs", "show", "demo"),
        ("runs", "archive", "demo"),
        ("runs", "delete", "demo"),
        ("runs", "extend", "demo", "--iterations", 2),
        ("runs", "clone", "demo", "second"),
        ("runs", "clone", "demo", "third", "--paused"),
        ("runs", "pause", "demo"),
        ("runs", "archive", "demo"),
        ("runs", "list"),
        ("runs", "resume", "demo"),
    ]
    for words in typed:
        shown = said(call(*words, "--workdir", folder))
        own = " ".join(map(str, ("restmcts", *words)))
        found = [one.strip() for one in WITH_A_RUN.findall(shown)]
        assert [one for one in found if place not in one and not own.startswith(one)] == [], words


@pytest.mark.parametrize(("command", "way"), [("archive", "pause"), ("delete", "cancel")])
def test_a_run_that_waits_is_not_called_running_and_the_way_on_works(
    folder: Path, call: Command, command: str, way: str
) -> None:
    refused = str(call("runs", command, "demo", "--workdir", folder).exception)
    assert "run demo is waiting, as no process works on it" in refused and "running" not in refused
    (typed,) = re.findall(rf"`restmcts (runs {way} demo) --workdir '{folder}'`", refused)
    assert call(*typed.split(), "--workdir", folder).exit_code == 0
    assert call("runs", command, "demo", "--workdir", folder).exit_code == 0


def test_a_run_that_a_process_works_on_is_running(folder: Path, call: Command) -> None:
    with lock_folder(folder) as lock:
        name_run(lock, 1)
        assert "run demo is running;" in str(call("runs", "archive", "demo", "--workdir", folder).exception)
        extended = said(call("runs", "extend", "demo", "--iterations", 2, "--workdir", folder))
        assert "to see it work: restmcts runs watch demo" in extended and "runs work" not in extended


def test_phases_that_an_extension_adds_are_listed_one_a_line(folder: Path, call: Command) -> None:
    lines = said(call("runs", "extend", "demo", "--iterations", 2, "--workdir", folder)).splitlines()
    assert "  collect-2" in lines and "  grade-policy-2" in lines
    assert any(line.startswith("to let it work: restmcts runs work demo --workdir") for line in lines)


def test_a_list_of_archived_runs_alone_says_how_they_are_listed(folder: Path, call: Command) -> None:
    for verb in ("pause", "archive"):
        assert call("runs", verb, "demo", "--workdir", folder).exit_code == 0
    shown = call("runs", "list", "--workdir", folder).output
    assert f"all 1 run archived: restmcts runs list --all --workdir '{folder}'" in " ".join(shown.split())
    assert "demo" in call("runs", "list", "--all", "--workdir", folder).output


@pytest.mark.parametrize("command", [("runs", "clone"), ("runs", "work"), ("regrade",)])
def test_flags_that_change_a_stored_run_show_no_defaults_of_a_new_one(command: tuple[str, ...]) -> None:
    wide = {"COLUMNS": "300", "TERMINAL_WIDTH": "300"}
    shown = CliRunner().invoke(app, [*command, "--help"], env=wide).output
    own = {"--time-limit"}
    found = [line for line in shown.splitlines() if "[default:" in line and not own & set(line.split())]
    assert found == []
    assert "[default: 1]" in CliRunner().invoke(app, ["runs", "create", "--help"], env=wide).output


def test_the_example_of_a_clone_works_on_a_run_of_the_default_method(folder: Path, call: Command) -> None:
    shown = CliRunner().invoke(app, ["runs", "clone", "--help"], env={"COLUMNS": "300", "TERMINAL_WIDTH": "300"}).output
    (options,) = re.findall(r"restmcts runs clone first second (--set \S+)", shown)
    assert call("runs", "clone", "demo", "second", *options.split(), "--workdir", folder).exit_code == 0


@pytest.fixture
def begins(call: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Type a command that is interrupted when its run is stored."""

    def type_it(*words: object) -> None:
        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(LocalRun, "run", interrupt)
            assert call(*words).exit_code != 0

    return type_it


@pytest.mark.parametrize("is_recorded", [True, False])
def test_an_extended_demo_is_resumed_and_reported_by_its_own_command(
    is_recorded: bool, tmp_path: Path, begins: Callable[..., None], call: Command, document: Document
) -> None:
    folder = tmp_path / "a folder"
    typed = ("demo", "--quick", *SIZES, "--out", folder)
    begins(*typed)
    document("runs", "extend", "demo", "--iterations", 2, "--workdir", folder)
    change(folder, *END, *(() if is_recorded else ("UPDATE runs SET provenance = NULL",)))
    done = call(*typed, "--json")
    assert done.exit_code == 0, done.exception
    again = shlex.join(map(str, ("restmcts", *typed)))
    if not is_recorded:
        again = f"restmcts demo --task number-paths --seed 0 --quick --out '{folder}'"
    (shown,) = re.findall(r"<pre>(.*)</pre>", (folder / "report.html").read_text())
    assert unescape(shown) == again
    worked = said(call("runs", "work", "demo", "--workdir", folder))
    assert (f"to write its report {folder / 'report.html'} again: {again}" in worked) == is_recorded
    assert call(*typed, "--set", "iterations=2").exit_code == 0
    assert "iterations (2 -> 3)" in str(call(*typed, "--set", "iterations=3").exception)


def test_an_extended_self_training_is_reported_again_by_whatever_goes_on_with_it(
    begins: Callable[..., None], call: Command, document: Document, tmp_path: Path
) -> None:
    file, folder = ROOT / "examples" / "first-run.toml", tmp_path / "w"
    typed = ("selftrain", file, *SIZES)
    begins(*typed, "--workdir", folder)
    document("runs", "extend", "selftrain", "--iterations", 2, "--workdir", folder)
    change(folder, *END)
    page = folder / "report.html"
    for words in (("runs", "work", "selftrain"), typed, ("selftrain",), (*typed, "--dry-run")):
        page.unlink(missing_ok=True)
        done = call(*words, "--workdir", folder)
        assert done.exit_code == 0, done.exception
        assert page.is_file() == (f"report: {page}" in said(done)) == (words[-1] != "--dry-run")
        assert (f"restmcts ui --workdir {folder}" in said(done)) == (words[0] == "selftrain" and page.is_file())


def test_the_searches_that_an_extended_demo_shows_are_those_of_its_last_models() -> None:
    spec = demo_spec(0, DEMO)
    first, extended = comparison_names(spec), comparison_names(spec, 3)
    assert [(f"{name}, iteration 3", method) for name, method in first] == extended
