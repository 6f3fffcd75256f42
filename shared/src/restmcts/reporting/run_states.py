"""The state of a run for people, where a work folder has runs that no process works on."""

from pathlib import Path
from shlex import quote

WAITING = "waiting"
"""The state in which a run is shown that would go on if a process worked on it."""

NEEDS_A_PROCESS = ("running", "blocked")


def shown_state(state: str, *, is_idle: bool) -> str:
    """Return a run's state as people are shown it.

    Args:
        is_idle: whether no process works on the run.
    """
    return WAITING if is_idle and state in NEEDS_A_PROCESS else state


def work_command(name: str, workdir: Path) -> str:
    """Return the command that lets a waiting run of a work folder go on."""
    return f"restmcts runs work {quote(name)} --workdir {quote(str(workdir))}"
