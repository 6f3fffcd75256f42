"""A run that is given more iterations is the run that it would have been with them from the
beginning; a clone is the same run under another name.
"""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.errors import InputError
from restmcts_cli.reports.live_display import LiveDisplay
from restmcts_dashboard.runs.run_list import side_by_side
from typer.testing import Result

SIZES = {"puzzles.demonstrations": 6, "puzzles.bootstrap": 2, "puzzles.searched": 3, "puzzles.test": 4,
         "puzzles.compared": 2, "puzzles.held_out": 2}  # fmt: skip
SMALL = tuple(text for name, value in SIZES.items() for text in ("--set", f"{name}={value}"))
DEMO = ("--demo", *SMALL)
PHASES = (
    "SELECT phases.name, iteration, spec FROM phases JOIN runs ON runs.id = run_id WHERE runs.name = ? "
    "ORDER BY phases.position"
)
PROBLEMS = (
    "SELECT set_name, problems.position, question, answer FROM problems JOIN runs ON runs.id = run_id "
    "WHERE runs.name = ? ORDER BY 1, 2"
)
CONFIG = "SELECT config FROM runs WHERE name = ?"
DIGESTS = """UPDATE runs SET config = json_set(config, '$.problems', json('{"test": "aa"}')) WHERE name = 'short'"""


def rows(workdir: Path, query: str, name: str) -> list[Any]:
    database = sqlite3.connect(workdir / "run.db")
    found = database.execute(query, (name,)).fetchall()
    database.close()
    return found


def change(workdir: Path, statement: str) -> None:
    database = sqlite3.connect(workdir / "run.db")
    with database:
        database.execute(statement)
    database.close()


def message(result: Result) -> str:
    assert result.exit_code != 0, result.output
    return str(result.exception)


@pytest.fixture
def workdir(document: Callable[..., Any], tmp_path: Path) -> Path:
    """A work folder with a run of one iteration, called "short"."""
    folder = tmp_path / "w"
    document("runs", "create", "short", *DEMO, "--iterations", 1, "--workdir", folder)
    return folder


@pytest.mark.parametrize("state", ["done", "running", "paused"])
def test_an_extended_run_is_the_one_that_was_longer_from_the_beginning(
    document: Callable[..., Any], workdir: Path, state: str
) -> None:
    change(workdir, f"UPDATE runs SET state = '{state}', finished_at = created_at")
    added = document("runs", "extend", "short", "--iterations", 3, "--workdir", workdir)["phases"]
    document("runs", "create", "long", *DEMO, "--iterations", 3, "--workdir", workdir)
    assert rows(workdir, PROBLEMS, "short") == rows(workdir, PROBLEMS, "long")
    extended, long = (rows(workdir, PHASES, name) for name in ("short", "long"))
    again = [phase for phase in extended if phase[0].endswith(", iteration 3")]
    assert [name for name, *_ in again] == ["greedy, iteration 3", *(n for n in added if " @ " in n)]
    of_loop = {name: phase for name, *phase in long if " @ " not in name and name != "greedy"}
    assert {name: phase for name, *phase in extended if name in of_loop} == of_loop
    assert {"collect-3", "policy-3", "control-3"} <= set(added) <= {name for name, *_ in extended}
    assert len(set(rows(workdir, "SELECT phases.position FROM phases JOIN runs ON runs.id = run_id WHERE runs.name = ?",
                        "short"))) == len(extended)  # fmt: skip
    listed = {run["name"]: run for run in document("runs", "list", "--workdir", workdir)}
    assert listed["short"]["state"] == ("paused" if state == "paused" else "running")
    assert listed["short"]["finished_at"] is None or state != "done"


def test_an_extended_run_is_asked_for_again_with_its_iterations(
    document: Callable[..., Any], shown: Callable[..., str], workdir: Path
) -> None:
    document("runs", "extend", "short", "--iterations", 2, "--max-tokens", 7, "--workdir", workdir)
    assert "iterations = 2\n" in shown("runs", "spec", "short", "--workdir", workdir)
    assert rows(workdir, "SELECT max_tokens FROM runs WHERE name = ?", "short") == [(7,)]


def test_a_run_says_by_which_commands_it_was_made(
    document: Callable[..., Any], shown: Callable[..., str], workdir: Path
) -> None:
    for _ in range(2):
        document("runs", "pause", "short", "--workdir", workdir)
        document("runs", "resume", "short", "--max-tokens", 900, "--workdir", workdir)
    document("runs", "extend", "short", "--iterations", 2, "--workdir", workdir)
    change(workdir, "INSERT INTO runs (name, method, seed, state, config, created_at, tags) "
                    "SELECT 'older', method, seed, state, config, created_at, tags FROM runs")  # fmt: skip
    found = document("runs", "show", "short", "--workdir", workdir)
    place = f"--workdir {workdir} --json"
    commands = [one["command"] for one in found["provenance"]]
    assert commands[0].startswith("restmcts runs create short --demo --set puzzles.demonstrations=6 ")
    assert commands[1:] == [
        f"restmcts runs resume short --max-tokens 900 {place}",
        f"restmcts runs extend short --iterations 2 {place}",
    ]
    assert {"python", "restmcts", "torch", "celery"} <= set(found["provenance"][0]["versions"])
    assert found["provenance"][0]["machine"]["cores"] >= 1
    assert found["spec"]["puzzles"]["searched"] == 3 and found["changed"]["puzzles.searched"] == "3"
    text = shown("runs", "show", "short", "--workdir", workdir)
    for part in ("puzzles.searched=3", commands[0], "GiB of memory", "started (UTC)", "restmcts runs spec short"):
        assert part in text
    older = shown("runs", "show", "older", "--workdir", workdir)
    assert "not recorded (the run is of an earlier version)" in older
    document("runs", "pause", "older", "--workdir", workdir)
    document("runs", "resume", "older", "--workdir", workdir)
    assert document("runs", "show", "older", "--workdir", workdir)["provenance"] is None


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("SELECT 1", "has 1 iteration; to extend it, give more in all"),
        ("UPDATE runs SET state = 'failed'", "run short is failed; a run that is done, running or paused"),
        ("UPDATE runs SET state = 'cancelled'", "run short is cancelled"),
        (
            "UPDATE phases SET state = 'skipped', result = '{\"reason\": \"collect-1 solved no problem\"}' "
            "WHERE name = 'gate-policy-1'",
            "it has no gate-policy-1, as collect-1 solved no problem",
        ),
        (
            "UPDATE phases SET spec = json_set(spec, '$.generation.temperature', 0.5) WHERE name = 'collect-1'",
            "its phase collect-1 was stored with other settings",
        ),
    ],
)
def test_what_cannot_be_extended_is_refused_and_stays_as_it_is(
    call: Callable[..., Result], workdir: Path, before: str, reason: str
) -> None:
    change(workdir, before)
    phases = rows(workdir, PHASES, "short")
    number = 1 if "give more" in reason else 2
    typed = ("runs", "extend", "short", "--iterations", number, "--workdir", workdir)
    refused = message(call(*typed))
    assert reason in refused
    assert message(call(*typed, "--dry-run")) == refused, "what is refused is not forecast"
    assert (f"restmcts runs clone short NEW --workdir {workdir} --set" in refused) == ("gate-policy-1" in reason)
    assert rows(workdir, PHASES, "short") == phases


def test_a_clone_has_the_settings_and_the_problems_of_its_run(
    document: Callable[..., Any], shown: Callable[..., str], workdir: Path
) -> None:
    change(workdir, "UPDATE problems SET question = 'edited', digest = 'edited' WHERE set_name = 'search-1'")
    change(workdir, DIGESTS)
    document("runs", "clone", "short", "twin", "--workdir", workdir)
    assert rows(workdir, PHASES, "twin") == rows(workdir, PHASES, "short")
    assert rows(workdir, PROBLEMS, "twin") == rows(workdir, PROBLEMS, "short")
    assert shown("runs", "spec", "twin", "--workdir", workdir) == shown("runs", "spec", "short", "--workdir", workdir)
    configs = [json.loads(found) for name in ("short", "twin") for (found,) in rows(workdir, CONFIG, name)]
    assert configs[0]["problems"] == configs[1]["problems"] == {"test": "aa"}
    assert side_by_side(configs)[0] == {}, "nothing differs"


def test_a_clone_is_changed_by_flags_and_draws_puzzles_of_another_seed(
    document: Callable[..., Any], shown: Callable[..., str], workdir: Path
) -> None:
    change(workdir, DIGESTS)
    document("runs", "clone", "short", "other", "--seed", 5, "--budget-tokens", 99, "--paused", "--workdir", workdir)
    text = shown("runs", "spec", "other", "--workdir", workdir)
    assert "seed = 5\n" in text and "tokens = 99\n" in text
    assert rows(workdir, PROBLEMS, "other") != rows(workdir, PROBLEMS, "short")
    assert json.loads(rows(workdir, CONFIG, "other")[0][0])["problems"] == {}
    assert rows(workdir, "SELECT state FROM runs WHERE name = ?", "other") == [("paused",)]


def test_sets_of_puzzles_may_be_empty(document: Callable[..., Any], tmp_path: Path) -> None:
    """As `restmcts selftrain` has it: nothing is tested, held out or compared."""
    none = [text for name in ("test", "compared", "held_out", "bootstrap") for text in ("--set", f"puzzles.{name}=0")]
    created = document("runs", "create", "one", *DEMO, *none, "--set", "evaluations=[]", "--workdir", tmp_path / "w")
    assert created["problems"] == {"demos": 6, "search-1": 3, "search-2": 3}
    phases = [name for name, *_ in rows(tmp_path / "w", PHASES, "one")]
    assert "collect-2" in phases and not any(name.startswith(("grade", "gate", "held-out")) for name in phases)


def test_a_run_that_was_filled_from_a_file_is_cloned_without_the_file(
    document: Callable[..., Any], tmp_path: Path
) -> None:
    path, workdir = tmp_path / "problems.jsonl", tmp_path / "w"
    path.write_text("".join(f'{{"question": "{number} + 1?", "answer": "{number + 1}"}}\n' for number in range(30)))
    options = ("--policy", "someone/model", "--workdir", workdir)
    document("runs", "create", "first", path, *options)
    path.unlink()
    counts = document("runs", "clone", "first", "second", "--workdir", workdir)["problems"]
    assert sum(counts[name] for name in ("train", "held-out")) == 30
    assert rows(workdir, PROBLEMS, "second") == rows(workdir, PROBLEMS, "first")


def test_a_folder_alone_resumes_nothing_where_it_has_no_self_training_run(
    call: Callable[..., Result], tmp_path: Path
) -> None:
    nothing = call("selftrain", "--workdir", tmp_path / "new", "--set", "search.branch=4")
    assert isinstance(nothing.exception, InputError) and not (tmp_path / "new").exists()
    assert "has no run of selftrain that could be resumed: give problems or a run file" in str(nothing.exception)
    assert call("runs", "create", "mine", *DEMO, "--workdir", tmp_path).exit_code == 0
    other = str(call("selftrain", "--workdir", tmp_path).exception)
    assert f"its runs are mine: restmcts runs work NAME --workdir {tmp_path}" in other


def test_a_folder_alone_names_the_plugin_that_its_run_was_made_with(
    call: Callable[..., Result], tmp_path: Path
) -> None:
    assert call("runs", "create", "selftrain", *DEMO, "--workdir", tmp_path).exit_code == 0
    with closing(sqlite3.connect(tmp_path / "run.db")) as database, database:
        (config,) = database.execute("select config from runs").fetchone()
        stored = json.loads(config)
        stored["spec"]["search"]["algorithm"] = "of-the-plugin"
        stored["plugins"] = {"my_search.py": "0" * 64}
        database.execute("update runs set config = ?", [json.dumps(stored)])
    refused = str(call("selftrain", "--workdir", tmp_path).exception)
    assert "was made with the plugin my_search.py: name it again, --plugin my_search.py" in refused


@pytest.mark.parametrize("ended", [KeyboardInterrupt, SystemExit])
def test_after_ctrl_c_and_sigterm_a_display_says_how_the_run_is_resumed(
    capsys: pytest.CaptureFixture[str], ended: type[BaseException]
) -> None:
    with pytest.raises(ended), LiveDisplay("restmcts selftrain in w", "the same command resumes it"):
        raise ended
    assert "restmcts selftrain in w: what is done is kept; the same command resumes it" in capsys.readouterr().err
    with pytest.raises(ValueError, match="a fault"), LiveDisplay("restmcts selftrain in w"):
        raise ValueError("a fault")
    assert capsys.readouterr().err == ""


def test_after_ctrl_c_a_display_says_how_far_the_run_is_now(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    with pytest.raises(KeyboardInterrupt), LiveDisplay("a run") as display:
        display.watch(database, 1)
        with closing(sqlite3.connect(workdir / "run.db")) as stored, stored:
            stored.execute("update phases set state = 'training' where name = 'policy-1'")
        display.on_training("policy-1", 7, 20, 0.5)
        raise KeyboardInterrupt
    database.close()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "interrupted" in line]
    assert "policy-1 step 7/20, loss 0.500" in line


@pytest.mark.parametrize(("state", "num_done"), [("running", 2), ("done", 2), ("running", 0)])
def test_phases_that_ended_before_are_not_shown_with_the_time_of_now(
    workdir: Path, capsys: pytest.CaptureFixture[str], state: str, num_done: int
) -> None:
    change(workdir, f"UPDATE phases SET state = 'done' WHERE position < {num_done}")
    change(workdir, f"UPDATE runs SET state = '{state}'")
    (num_phases,) = rows(
        workdir, "SELECT count(*) FROM phases JOIN runs ON runs.id = run_id WHERE runs.name = ?", "short"
    )[0]
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    with LiveDisplay("a run") as display:
        display.watch(database, 1)
        change(workdir, "UPDATE phases SET state = 'done'")
        change(workdir, "UPDATE runs SET state = 'done'")
    database.close()
    lines = capsys.readouterr().err.splitlines()
    told = [line.partition("] ")[2] for line in lines]
    assert len([line for line in told if ": done" in line]) == (0 if state == "done" else num_phases - num_done)
    assert (f"ended before: 2 of {num_phases} phases; nothing of them is done again" in told) == (
        state == "running" and num_done > 0
    )
    assert told.count(f"done: all {num_phases} phases") == (state == "running"), "said once, before anybody is notified"


@pytest.mark.parametrize("claims", [True, False])
def test_a_display_that_claims_nothing_shows_no_figures_of_promotions(
    workdir: Path, capsys: pytest.CaptureFixture[str], claims: bool
) -> None:
    result = json.dumps({"reason": "promoted: accuracy 12.5 % [5.5, 26.1] (40 problems)"})
    with closing(sqlite3.connect(workdir / "run.db")) as stored, stored:
        stored.execute("update phases set kind = 'gate', result = ? where name = 'policy-1'", [result])
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    with LiveDisplay("a demo", claims=claims) as display:
        display.watch(database, 1)
        change(workdir, "UPDATE phases SET state = 'done' WHERE name = 'policy-1'")
    database.close()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "policy-1: done" in line]
    assert line.endswith("(40 problems)" if claims else "done · promoted")
