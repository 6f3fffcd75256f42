"""The commands `runs`: created, shown and steered, in a work folder."""

import fcntl
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import blocks, runs, token_budget
from restmcts.adapters.sql.state.trees import PHASES, TREES
from restmcts.adapters.storage.folder_lock import lock_folder, name_run
from restmcts.domain.runs.phases import PHASE
from restmcts.domain.runs.splits import MAX_BOOTSTRAP_PROBLEMS
from restmcts.domain.stats.estimates import share
from restmcts.errors import InputError, RestMctsError
from restmcts.usecases import steer
from sqlalchemy import update
from typer.testing import Result

Shown = Callable[..., str]
Document = Callable[..., Any]
Command = Callable[..., Result]


def problem_file(folder: Path, count: int, name: str = "problems.jsonl", first: int = 0) -> Path:
    path = folder / name
    rows = ({"question": f"What is {number} + 1?", "answer": number + 1} for number in range(first, first + count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def message(result: Result) -> str:
    """Return the one line of the error that a command ended with."""
    assert isinstance(result.exception, InputError), (result.output, result.exception)
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_list_counts_what_has_ended(workdir: Path, shown: Shown, document: Document) -> None:
    (row,) = document("runs", "list", "--workdir", workdir)
    assert (row["name"], row["state"], row["num_phases"], row["num_phases_ended"]) == ("mine", "running", 4, 2)
    assert (row["num_trees"], row["num_trees_ended"]) == (10, 10)
    assert "mine" in shown("runs", "list", "--workdir", workdir)


def test_the_only_run_need_not_be_named(
    workdir: Path, shown: Shown, call: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert shown("runs", "show", "--workdir", workdir) == shown("runs", "show", "mine", "--workdir", workdir)
    with closing(sqlite3.connect(workdir / "run.db")) as database, database:
        database.execute("update runs set name = 'first'")
        columns = "method, seed, state, config, created_at, tags"
        database.execute(f"insert into runs (name, {columns}) select 'second', {columns} from runs")
    for command in ("show", "watch", "spec"):
        refused = str(call("runs", command, "--workdir", workdir).exception)
        assert refused.startswith("name one of the 2 runs: ") and "first" in refused and "second" in refused
    for name in [one for one in os.environ if one.startswith("RESTMCTS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    assert str(call("runs", "list").exception).startswith("no work folder is named (--workdir), and the stack")


def test_show_has_the_numbers_of_every_phase(workdir: Path, shown: Shown, document: Document) -> None:
    found = document("runs", "show", "mine", "--workdir", workdir)
    phases = {phase["name"]: phase for phase in found["phases"]}
    assert [phase["state"] for phase in found["phases"]] == ["done", "done", "training", "pending"]
    graded = phases["grade-base"]
    assert graded["accuracy"]["value"] == graded["num_right"] / 4
    assert graded["accuracy"]["interval"] == list(share(graded["num_right"], 4).interval)
    assert graded["num_right"] == graded["result"]["right"]
    assert phases["collect-1"]["accuracy"] is None
    assert phases["collect-1"]["num_solved"] == phases["collect-1"]["result"]["solved"] > 0
    assert found["tokens"] == sum(phase["tokens"] for phase in found["phases"]) > 0
    (base, first) = found["iterations"]
    assert base["greedy"] == graded["accuracy"]
    assert (first["num_trees"], first["num_solved"]) == (6, phases["collect-1"]["num_solved"])
    text = shown("runs", "show", "mine", "--workdir", workdir)
    assert f"{100 * graded['accuracy']['value']:.1f} % [" in text, "four problems: an interval"
    assert "greedy accuracy" in text


def test_pause_resume_cancel(workdir: Path, call: Command, document: Document) -> None:
    def steer(verb: str) -> str:
        return str(document("runs", verb, "mine", "--workdir", workdir)["state"])

    assert steer("pause") == "paused"
    assert "run mine is paused" in message(call("runs", "pause", "mine", "--workdir", workdir))
    assert steer("resume") == "running"
    assert steer("cancel") == "cancelled"
    assert "run mine is cancelled" in message(call("runs", "resume", "mine", "--workdir", workdir))


def test_a_spent_token_budget_is_shown_and_raised(
    workdir: Path, call: Command, shown: Shown, document: Document
) -> None:
    """A tree that still searches would generate more than the run's trees already have."""
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    spent = document("runs", "show", "mine", "--workdir", workdir)["tokens"]
    with database.transaction() as transaction:
        transaction.execute(update(TREES).where(TREES.c.id == 5).values(state="searching"))
        transaction.execute(update(PHASES).where(PHASES.c.name == "collect-1").values(state="searching"))
        steer.set_max_tokens(transaction, "mine", spent - 10)
        token_budget.pause_if_spent(transaction, queries.run_named(transaction, "mine"))
    database.close()
    found = document("runs", "show", "mine", "--workdir", workdir)
    assert (found["state"], found["tokens_spent"], found["max_tokens"]) == ("paused", spent, spent - 10)
    assert found["error"] == f"token budget of {spent - 10} spent ({spent} generated)"
    assert f"{spent}/{spent - 10}" in shown("runs", "list", "--workdir", workdir)
    assert "restmcts runs resume mine" in message(call("runs", "work", "mine", "--workdir", workdir))
    for typed in ((), ("--max-tokens", spent)):
        refused = message(call("runs", "resume", "mine", *typed, "--workdir", workdir))
        assert refused.endswith(f"raise that by --max-tokens, above {spent}")
    assert document("runs", "resume", "mine", "--max-tokens", spent + 10, "--workdir", workdir)["state"] == "running"
    found = document("runs", "show", "mine", "--workdir", workdir)
    assert (found["error"], found["max_tokens"]) == (None, spent + 10)


def test_resume_wakes_what_came_in_meanwhile(workdir: Path) -> None:
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    with database.transaction() as transaction:
        transaction.execute(update(TREES).where(TREES.c.id == 5).values(state="searching"))
        steer.pause(transaction, "mine")
        steer.resume(transaction, "mine")
        assert [emitted.name for emitted in transaction.emitted] == ["search.advance_trees", "coordinator.advance_run"]
    database.close()


def test_a_blocked_run_says_what_it_waits_for(workdir: Path, shown: Shown, document: Document, call: Command) -> None:
    database = Database(f"sqlite:///{workdir / 'run.db'}")
    with database.transaction() as transaction:
        blocks.block_checkpoint(transaction, 1, "someone/model: the hub does not give it")
    assert "someone/model: the hub does not give it" in shown("runs", "list", "--workdir", workdir)
    (listed,) = document("runs", "list", "--workdir", workdir)
    found = document("runs", "show", "mine", "--workdir", workdir)
    for row in (listed, found):
        assert (row["state"], row["error"]) == ("blocked", "someone/model: the hub does not give it")
    assert [(block["need"], block["num_tries"]) for block in found["blocked"]] == [("checkpoint", 1)]
    assert "tried 1 time since" in shown("runs", "show", "mine", "--workdir", workdir)

    def cancel_soon() -> None:
        time.sleep(2.0)
        with database.transaction() as transaction:
            steer.cancel(transaction, "mine")

    thread = threading.Thread(target=cancel_soon)
    thread.start()
    watched = call("runs", "watch", "mine", "--workdir", workdir).stderr
    thread.join()
    database.close()
    assert "run mine is blocked: someone/model: the hub does not give it; it continues by itself" in watched


def test_watch_ends_with_the_run(workdir: Path, call: Command) -> None:
    call("runs", "cancel", "mine", "--workdir", workdir)
    result = call("runs", "watch", "mine", "--workdir", workdir, "--json")
    assert json.loads(result.stdout)["state"] == "cancelled"
    assert result.exit_code == 1


def test_unknown_run_and_folder_are_one_line(
    workdir: Path, call: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert message(call("runs", "show", "yours", "--workdir", workdir)) == "no run is named 'yours'; there are mine"
    assert "contains no run.db" in message(call("runs", "list", "--workdir", tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT"):
        monkeypatch.delenv(f"RESTMCTS_{name}", raising=False)
    assert "--workdir" in message(call("runs", "list"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("runs", "show", "\udcff"),
        ("runs", "cancel", "\udcff"),
        ("runs", "spec", "\udcff"),
        ("runs", "delete", "\udcff"),
        ("checkpoints", "show", "mine", "\udcff"),
        ("datasets", "show", "mine", "\udcff"),
        ("trees", "list", "mine", "--phase", "\udcff"),
        ("trees", "show", 10**30),
        ("dead-letters", "retry", 10**30),
        ("dead-letters", "drop", 10**30),
    ],
    ids=lambda given: " ".join(map(ascii, given)),
)
def test_what_no_database_can_be_asked_is_one_line(workdir: Path, call: Command, arguments: tuple[object, ...]) -> None:
    result = call(*arguments, "--workdir", workdir)
    assert isinstance(result.exception, RestMctsError), (result.output, result.exception)
    assert "\n" not in str(result.exception)


def test_create_stores_what_was_asked_for(tmp_path: Path, document: Document) -> None:
    path, held_out = problem_file(tmp_path, 5), problem_file(tmp_path, 3, "test.jsonl")
    options = (
        "--policy",
        "someone/model",
        "--test",
        held_out,
        "--iterations",
        2,
        "-o",
        "num_alternatives=3",
        "--limit",
        4,
        "--max-tokens",
        900,
    )
    made = document("runs", "create", "new", path, *options, "--workdir", tmp_path / "w")
    assert made == {"run": "new", "id": 1, "state": "running", "problems": {"train": 4, "test": 3}}
    database = Database(f"sqlite:///{tmp_path / 'w' / 'run.db'}")
    with database.transaction() as transaction:
        phases = {row.name: PHASE.validate_python(row.spec) for row in runs.phases_of(transaction, 1)}
        checkpoints = runs.checkpoints_of(transaction, 1)
        assert queries.run_named(transaction, "new").max_tokens == 900
    database.close()
    assert phases["collect-2"].search.num_alternatives == 3
    assert "grade-policy-2" in phases
    assert {name: row.uri for name, row in checkpoints.items()} == {"base": "someone/model"}


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "n" * 5000])
def test_create_refuses_a_name_that_cannot_be_typed_before_it_makes_a_folder(
    tmp_path: Path, call: Command, name: str
) -> None:
    refused = call("runs", "create", name, problem_file(tmp_path, 3), "--workdir", tmp_path / "w")
    assert "the name of a run" in message(refused)
    assert not (tmp_path / "w").exists()


def test_create_is_whole_or_nothing(tmp_path: Path, call: Command, document: Document) -> None:
    path, workdir = problem_file(tmp_path, 3), tmp_path / "w"
    path.write_text(path.read_text() + "no JSON\n")
    strict = call("runs", "create", "new", path, "--policy", "someone/model", "--strict", "--workdir", workdir)
    assert message(strict) == f"{path}, line 4: not JSON"
    assert document("runs", "list", "--workdir", workdir) == []
    lenient = call("runs", "create", "new", path, "--policy", "someone/model", "--workdir", workdir)
    assert f"{path}, line 4: not JSON; passed over" in lenient.stderr
    again = call("runs", "create", "new", path, "--policy", "someone/model", "--workdir", workdir)
    assert "exists already" in message(again)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("new",), "--policy"),
        (("new", "--policy", "no such/model/here"), "no such folder"),
        (("new", "--policy", "someone/model", "--method", "sarsa"), "rest-mcts"),
        (("new", "--policy", "someone/model", "-o", "breadth=4"), "--option: search.breadth: there is no such setting"),
        (("new", "problems.jsonl", "--demo"), "--demo has its own problems"),
    ],
)
def test_create_says_what_is_wrong(tmp_path: Path, call: Command, arguments: tuple[str, ...], expected: str) -> None:
    assert expected in message(call("runs", "create", *arguments, "--workdir", tmp_path))


def test_a_model_folder_must_be_of_the_kind_asked_for(tmp_path: Path, call: Command, document: Document) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = problem_file(tmp_path, 2)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForSequenceClassification"]}))
    wrong = call("runs", "create", "new", path, "--policy", folder, "--workdir", tmp_path / "w")
    assert message(wrong) == f"{folder}: a value model where a policy model is asked for"
    document("runs", "create", "new", path, "--policy", "someone/model", "--value", folder, "--workdir", tmp_path / "w")
    (_, value) = document("checkpoints", "list", "new", "--workdir", tmp_path / "w")
    assert (value["name"], value["uri"]) == ("value-0", f"{folder.resolve()}?format=orm")


def test_a_run_without_problems_is_paused_and_filled_later(tmp_path: Path, call: Command, document: Document) -> None:
    workdir = tmp_path / "w"
    options = ("--policy", "someone/model", "--method", "rest-mcts-paper", "--workdir", workdir)
    assert document("runs", "create", "new", *options)["state"] == "paused"
    num_problems = MAX_BOOTSTRAP_PROBLEMS + 200
    path = problem_file(tmp_path, num_problems)
    added = document("problems", "enqueue", "new", path, "--workdir", workdir)["added"]
    assert added == {"train": 1080, "bootstrap": MAX_BOOTSTRAP_PROBLEMS, "held-out": 120}
    others = problem_file(tmp_path, num_problems, "others.jsonl", first=num_problems)
    added = document("problems", "enqueue", "new", others, "--workdir", workdir)["added"]
    assert added == {"train": 1120, "held-out": 80}
    added = document("problems", "enqueue", "new", path, "--workdir", workdir)["added"]
    assert added == {"train": 1080, "held-out": 120}, "a question goes where it went"
    assert document("runs", "resume", "new", "--workdir", workdir)["state"] == "running"


def test_what_the_image_without_models_can_do(workdir: Path) -> None:
    """The image of the command line has neither torch nor the services nor what draws reports."""
    code = (
        "import sys\n"
        "absent = 'torch', 'transformers', 'datasets', 'jinja2', 'matplotlib', 'restmcts_coordinator', 'restmcts_trainer'\n"
        "sys.modules.update(dict.fromkeys(absent))\n"
        "from restmcts_cli.main import app\n"
        "for words in (['show', 'mine'], ['create', 'demo', '--demo', '--quick']):\n"
        f"    app(['runs', *words, '--workdir', {str(workdir)!r}, '--json'], standalone_mode=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown, made = (json.loads(part) for part in re.split(r"(?<=\n})\s+(?={)", done.stdout))
    assert (shown["state"], made["run"], made["state"]) == ("running", "demo", "running")
    assert [phase["name"] for phase in shown["phases"]][:2] == ["grade-base", "collect-1"]


def test_work_says_that_torch_is_missing(workdir: Path, call: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "restmcts_local.local_run", None)
    assert "restmcts-cli[local]" in message(call("runs", "work", "mine", "--workdir", workdir))


def test_the_demo_run_is_that_of_the_demo(tmp_path: Path, document: Document) -> None:
    asked = ("--demo", "--policy", "someone/model", "--set=puzzles.searched=9", "--set=puzzles.test=9")
    made = document("runs", "create", "demo", *asked, "--set=puzzles.compared=3", "--workdir", tmp_path)
    assert made["problems"]["search-1"] == 9
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    with database.transaction() as transaction:
        names = [phase.name for phase in queries.phase_numbers(transaction, 1)]
    database.close()
    assert names[0] == "policy-0"
    assert "MCTS* @ 80" in names


def test_archived_runs_are_left_out_of_the_list_until_they_are_put_back(
    workdir: Path, call: Command, document: Document
) -> None:
    place = ("--workdir", workdir)
    assert "run mine is waiting, as no process works on it" in message(call("runs", "archive", "mine", *place))
    call("runs", "cancel", "mine", *place)
    assert document("runs", "archive", "mine", *place) == [{"run": "mine", "archived": True}]
    assert document("runs", "list", *place) == []
    (listed,) = document("runs", "list", "--all", *place)
    assert listed["archived_at"]
    assert document("runs", "archive", "mine", "--undo", *place)[0]["archived"] is False
    assert len(document("runs", "list", *place)) == 1


def test_a_run_is_tagged_and_loses_its_tags(workdir: Path, call: Command, shown: Shown, document: Document) -> None:
    place = ("--workdir", workdir)
    assert document("runs", "tag", "mine", "paper", "baseline", *place)["tags"] == ["baseline", "paper"]
    assert document("runs", "list", *place)[0]["tags"] == ["baseline", "paper"]
    assert "baseline" in shown("runs", "list", *place)
    assert document("runs", "tag", "mine", "paper", "--remove", *place)["tags"] == ["baseline"]
    assert "the name of a tag is empty" in message(call("runs", "tag", "mine", " ", *place))


def test_a_run_that_no_process_works_on_is_said_to_wait_for_one(
    workdir: Path, call: Command, document: Document
) -> None:
    name = document("runs", "create", "again", "--demo", "--quick", "--workdir", workdir)["run"]
    way = f"to go on: restmcts runs work {name} --workdir {workdir}"
    for words in (("list",), ("show", name)):
        found = call("runs", *words, "--workdir", workdir)
        assert way in found.stderr and "waiting" in found.stdout and "running" not in found.stdout
        with lock_folder(workdir) as lock:
            for number, waits in ((1, True), (2, False)):
                name_run(lock, number)
                found = call("runs", *words, "--workdir", workdir)
                others = words[0] == "list"
                assert (way in found.stderr, "waiting" in found.stdout) == (waits, waits or others)
                assert ("running" in found.stdout) is (not waits or others)
    assert call("runs", "pause", name, "--workdir", workdir).exit_code == 0
    resumed = call("runs", "resume", name, "--workdir", workdir).stderr
    assert f"run {name} is waiting" in resumed and way in resumed
    assert way not in call("runs", "show", "mine", "--workdir", workdir).stderr


def test_whoever_looks_whether_a_folder_is_locked_keeps_nobody_out_of_it(workdir: Path) -> None:
    with (workdir / "lock").open("w") as looking, ThreadPoolExecutor() as pool:
        fcntl.flock(looking, fcntl.LOCK_SH)
        locked = pool.submit(lock_folder, workdir)
        time.sleep(0.03)
        fcntl.flock(looking, fcntl.LOCK_UN)
        locked.result().close()
        fcntl.flock(looking, fcntl.LOCK_SH)
        with pytest.raises(InputError, match="another restmcts process uses this folder"):
            lock_folder(workdir)


def test_an_unknown_command_of_a_group_is_answered_with_those_that_there_are(call: Command) -> None:
    found = call("prm", "list")
    assert isinstance(found.exception, InputError)
    assert "has no command 'list'; it has bench, calibrate, " in str(found.exception)
