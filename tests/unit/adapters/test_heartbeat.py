"""The sign of life of a worker, and the check that reads it."""

import json
import subprocess
import sys
import time
from pathlib import Path

from restmcts.adapters.workers.heartbeat import FILE_NAME, Heartbeat, fault_of


def age(folder: Path, **seconds: float) -> None:
    state = json.loads((folder / FILE_NAME).read_text())
    (folder / FILE_NAME).write_text(
        json.dumps({**state, "busy": True, **{key: time.time() - value for key, value in seconds.items()}})
    )


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
