"""What this process is, for the record of runs that it creates or continues: its command, the
versions of what it runs, and its machine.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from restmcts.domain.provenance import Start, secret_values, without_secrets, words_without_secrets

PACKAGES = {
    **{"restmcts": "restmcts", "torch": "torch", "transformers": "transformers", "peft": "peft", "vllm": "vllm"},
    **{"celery": "celery", "sqlalchemy": "SQLAlchemy"},
}
"""Distributions whose versions are recorded, by the name that people are shown."""

GPU_SECONDS = 5.0

_command: ContextVar[str | None] = ContextVar("command", default=None)


def note_command(words: Sequence[str]) -> None:
    """Remember the command that this process was called with."""
    _command.set(shlex.join(words_without_secrets(words, secret_values(os.environ))))


def note_call(call: str) -> None:
    """Remember what runs are created by from now on, in this thread, where that is no command: a
    call of a Python function, a request.
    """
    _command.set(without_secrets(call, secret_values(os.environ)))


def this_start() -> Start:
    """Return what a run that is created or continued now is recorded to come from."""
    if _command.get() is None:
        note_command(sys.argv)
    return Start(_command.get() or "", versions(), machine())


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide what a run comes to, those
    that are installed.
    """
    found = {"python": platform.python_version()}
    for name, distribution in PACKAGES.items():
        try:
            found[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def machine() -> dict[str, Any]:
    """Return the machine: "os", "cpu", "cores" that this process may use, "memory_bytes" (None:
    not known) and "gpus", a text each.
    """
    allowed = getattr(os, "sched_getaffinity", None)
    return {
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": len(allowed(0)) if allowed is not None else os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "gpus": _gpus(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (
        value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == "model name"
    )
    return next(named, "") or platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _gpus() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=GPU_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
