"""Starts again what dies in a stack of processes, after pauses that grow while it goes on dying.

    python -m restmcts_cli.processes.supervisor FOLDER

`restmcts stack up` starts it, `restmcts stack down` ends it first. It decides by the stack's state
alone, so that it may be killed and started again at any moment.
"""

import logging
import sys
import time
from pathlib import Path

from restmcts.errors import RestMctsError

from restmcts_cli.processes.server_processes import SERVERS
from restmcts_cli.processes.stack_processes import Restarts, Stack

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 1.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
STABLE_SECONDS = 60.0
"""A process that lived that long has not died young: its next pause is the first one again."""


def restart_what_died(stack: Stack, moment: float) -> list[str]:
    """Start again each process that should live, does not, and whose pause is over; return their
    names. `moment` is the time in seconds since the epoch.
    """
    started = []
    with stack.locked():
        for name in stack.wanted():
            restarts = stack.restarts(name)
            if stack.lives(name) or moment < restarts.not_before:
                continue
            stack.note(name, after_a_death(restarts, moment))
            _start(stack, name)
            started.append(name)
    return started


def after_a_death(restarts: Restarts, moment: float) -> Restarts:
    """Return what is noted of a process that died and is started at that moment: it may be started
    again after a pause that doubles with each death in a row.
    """
    stable = moment > restarts.not_before + STABLE_SECONDS
    in_a_row = 0 if stable else restarts.in_a_row + 1
    pause = min(FIRST_PAUSE_SECONDS * 2**in_a_row, LONGEST_PAUSE_SECONDS)
    return Restarts(restarts.count + 1, in_a_row, moment + pause)


def _start(stack: Stack, name: str) -> None:
    log.warning("%s is not running: started again; its log: %s", name, stack.log_file(name))
    try:
        if name in SERVERS:
            stack.launch_server(name)
        else:
            stack.start_worker(name)
    except (RestMctsError, OSError) as error:
        log.error("%s could not be started: %s", name, error)


def main() -> None:
    """Look after the stack of the folder that the command line names, until it is ended."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    stack = Stack(Path(sys.argv[1]))
    while True:
        restart_what_died(stack, time.time())
        time.sleep(SECONDS_BETWEEN_LOOKS)


if __name__ == "__main__":
    main()
