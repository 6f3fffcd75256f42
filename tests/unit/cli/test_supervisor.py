"""What the supervisor of a stack decides: whom it starts again, and when."""

import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from restmcts.adapters.workers.heartbeat import FILE_NAME, Heartbeat
from restmcts.errors import InputError, RestMctsError
from restmcts_cli.commands.operations.stack import log_files, parse_workers, status_rows
from restmcts_cli.processes import supervisor
from restmcts_cli.processes.stack_processes import Restarts, Stack
from restmcts_cli.processes.supervisor import LONGEST_PAUSE_SECONDS, STABLE_SECONDS, after_a_death, restart_what_died


def stack_of(folder: Path, **state: Any) -> Stack:
    folder.mkdir(exist_ok=True)
    (folder / "state.json").write_text(json.dumps(state))
    return Stack(folder, {})


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was started; nothing really is, so it is dead at the next look."""
    names: list[str] = []
    monkeypatch.setattr(Stack, "start_worker", lambda _, name: names.append(name))
    monkeypatch.setattr(Stack, "launch_server", lambda _, name: names.append(name))
    return names


@pytest.mark.parametrize("written", ["", "[]", "3", '{"members": null}', '{"members": {"redis": {"name": 1}}}'])
def test_a_damaged_state_is_one_sentence(tmp_path: Path, written: str) -> None:
    (tmp_path / "state.json").write_text(written)
    with pytest.raises(RestMctsError, match=r"state\.json cannot be read"):
        Stack(tmp_path, {})


def test_commands_share_the_cache_of_the_workers(tmp_path: Path, started: list[str]) -> None:
    stack = stack_of(tmp_path / "stack", scale={"trainer": 1})
    restart_what_died(stack, 1000.0)
    assert f"RESTMCTS_CACHE_DIR={stack.folder / 'cache'}\n" in stack.env_file.read_text()


def test_pauses_double_while_a_process_dies_young_and_begin_anew_after_it_was_stable() -> None:
    restarts, moment, pauses = Restarts(), 1000.0, []
    for _ in range(9):
        restarts = after_a_death(restarts, moment)
        pauses.append(restarts.not_before - moment)
        moment = restarts.not_before
    assert pauses == [1, 2, 4, 8, 16, 32, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]
    assert restarts.count == 9
    later = restarts.not_before + STABLE_SECONDS + 1
    assert after_a_death(restarts, later).not_before == later + 1


def test_what_died_is_started_again_servers_first_and_no_sooner_than_its_pause(
    tmp_path: Path, started: list[str]
) -> None:
    stack = stack_of(
        tmp_path / "stack", servers={"redis": {"ports": [1], "password": "x"}}, scale={"trainer": 1, "tree-search": 2}
    )
    wanted = ["redis", "trainer-1", "tree-search-1", "tree-search-2"]
    assert restart_what_died(stack, 1000.0) == wanted
    assert restart_what_died(stack, 1000.5) == []
    assert restart_what_died(stack, 1001.0) == wanted
    assert restart_what_died(stack, 1002.5) == []
    assert started == [*wanted, *wanted]
    assert Stack(stack.folder, {}).restarts("trainer-1").count == 2, "other programs see it"


def test_what_cannot_be_started_stops_no_other(
    tmp_path: Path, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Stack, name: str) -> None:
        raise OSError(f"{name}: no such program")

    monkeypatch.setattr(Stack, "launch_server", refuse)
    stack = stack_of(tmp_path / "stack", servers={"redis": {"ports": [1], "password": "x"}}, scale={"trainer": 1})
    restart_what_died(stack, 1000.0)
    assert started == ["trainer-1"]


def test_after_down_nothing_is_wanted_by_anybody_but_the_numbers_are_remembered(tmp_path: Path) -> None:
    stack = stack_of(tmp_path / "stack", scale={"tree-search": 3})
    stack.down()
    assert Stack(stack.folder, {}).scale == {"tree-search": 3}
    assert status_rows(stack, 0.0) == []


def test_status_names_restarts_log_and_when_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = {"pid": 2**22 + 1, "started": 1.0, "stop_signal": 15}
    stack = stack_of(
        tmp_path / "stack",
        members={name: {"name": name, **member} for name in ("trainer-1", "supervisor")},
        scale={"trainer": 1},
        restarts={"trainer-1": {"count": 3, "in_a_row": 3, "not_before": 1008.0}},
    )
    assert [row["state"] for row in status_rows(stack, 1000.0)] == ["not running", "not running"]
    monkeypatch.setattr(Stack, "faults", lambda _: {"trainer-1": "not running", "supervisor": None})
    trainer = status_rows(stack, 1000.0)[0]
    assert trainer["state"] == "not running; started again in 8 s"
    assert (trainer["restarts"], trainer["log"]) == (3, str(stack.folder / "logs" / "trainer-1.log"))


def test_a_worker_without_progress_is_unwell_after_the_limit_that_was_asked_for(tmp_path: Path) -> None:
    own = psutil.Process()
    member = {"name": "trainer-1", "pid": own.pid, "started": own.create_time(), "stop_signal": 15}
    for limits, seconds, is_well in (({}, 1700, True), ({}, 1900, False), ({"max_stuck_seconds": 60}, 90, False)):
        stack = stack_of(tmp_path / "stack", members={"trainer-1": member}, limits=limits)
        heartbeat = Heartbeat(stack.folder / "workers" / "trainer-1")
        heartbeat.begin("trainer.train_value")
        heartbeat.start()
        file = stack.folder / "workers" / "trainer-1" / FILE_NAME
        file.write_text(json.dumps(json.loads(file.read_text()) | {"progress": time.time() - seconds}))
        fault = stack.faults()["trainer-1"]
        heartbeat.stop()
        assert fault is None if is_well else "no progress for" in str(fault)


def test_logs_are_found_by_process_by_kind_and_by_queue(tmp_path: Path) -> None:
    stack = stack_of(tmp_path / "stack", scale={"tree-search": 2, "trainer": 1})
    with pytest.raises(InputError, match="has no log of trainer"):
        log_files(stack, "trainer")
    for name in ("tree-search-1", "tree-search-2"):
        stack.log_file(name).parent.mkdir(exist_ok=True)
        stack.log_file(name).write_text("a line")
    assert [path.name for path in log_files(stack, "tree-search-2")] == ["tree-search-2.log"]
    for kind in ("tree-search", "search"):
        assert [path.name for path in log_files(stack, kind)] == ["tree-search-1.log", "tree-search-2.log"]
    with pytest.raises(InputError, match="no kind of worker is named 'serch'"):
        log_files(stack, "serch")


def test_workers_are_named_as_everywhere_and_by_their_queues() -> None:
    assert parse_workers("search=2,trainer=0") == {"tree-search": 2, "trainer": 0}
    for text in ("search", "search=many", "search=-1", "search=²"):
        with pytest.raises(InputError, match="write it as"):
            parse_workers(text)
    with pytest.raises(InputError, match="tree-search is named twice"):
        parse_workers("search=2,tree-search=1")
    assert supervisor.SECONDS_BETWEEN_LOOKS <= supervisor.FIRST_PAUSE_SECONDS
