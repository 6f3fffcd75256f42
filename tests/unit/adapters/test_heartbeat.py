"""The sign of life of a worker, and the check that reads it."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from restmcts.adapters.workers import heartbeat as heartbeat_module
from restmcts.adapters.workers.heartbeat import FILE_NAME, Heartbeat, fault_of


def age(folder: Path, **seconds: float) -> None:
    state = json.loads((folder / FILE_NAME).read_text())
    (folder / FILE_NAME).write_text(
        json.dumps({**state, "busy": True, **{key: time.time() - value for key, value in seconds.items()}})
    )


def told(folder: Path, expected: Callable[[str | None], bool]) -> bool:
    """Return whether the check says something, now or within seconds."""
    for _ in range(2000):
        if expected(fault_of(folder, 30.0, max_stuck_seconds=60.0)):
            return True
        threading.Event().wait(0.01)
    return False


def test_a_worker_lives_while_its_file_is_young_and_its_task_goes_on(tmp_path: Path) -> None:
    assert fault_of(tmp_path, 30.0) is not None
    heartbeat = Heartbeat(tmp_path)
    heartbeat.start()
    assert fault_of(tmp_path, 30.0) is None
    age(tmp_path, progress=100.0)
    assert fault_of(tmp_path, 30.0) is None
    assert "no progress" in str(fault_of(tmp_path, 30.0, max_stuck_seconds=60.0))
    age(tmp_path, time=31.0)
    assert "31 s old" in str(fault_of(tmp_path, 30.0))
    heartbeat.stop()
    assert not (tmp_path / FILE_NAME).exists()


def test_a_thread_that_is_stuck_is_seen_beside_tasks_that_end_and_threads_that_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat_module, "BEAT_SECONDS", 0.01)
    clock = [1000.0]
    monkeypatch.setattr(heartbeat_module.time, "time", lambda: clock[0])
    heartbeat, stuck = Heartbeat(tmp_path), threading.Event()

    begun = threading.Event()

    def work() -> None:
        with heartbeat.beside():
            begun.set()
            stuck.wait(60.0)

    thread = threading.Thread(target=work)
    heartbeat.begin("policy.propose_waiting_steps")
    thread.start()
    heartbeat.start()
    assert begun.wait(60.0)
    heartbeat.end()
    clock[0] += 100.0
    for _ in range(3):
        heartbeat.begin("policy.propose_waiting_steps")
        with heartbeat.beside():
            heartbeat.progress()
        heartbeat.end()
    assert heartbeat.activity().doing == "policy.propose_waiting_steps"
    assert told(tmp_path, lambda fault: "no progress for 100 s" in str(fault))
    stuck.set()
    thread.join()
    assert heartbeat.activity().doing is None
    assert told(tmp_path, lambda fault: fault is None)
    heartbeat.stop()


def test_the_check_is_a_light_command(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "restmcts.adapters.workers.heartbeat",
        "--max-age",
        "30",
        "--folder",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no heartbeat" in done.stderr
    assert not any(heavy in done.stderr for heavy in ("sqlalchemy", "pydantic", "celery"))
    heartbeat = Heartbeat(tmp_path)
    heartbeat.start()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    heartbeat.stop()
