"""Runs a command for as long as somebody holds this process's standard input open, and ends all
that came of the command then:

    python -m restmcts.adapters.models.vllm_server.keeper COMMAND ARGUMENT …

A model server starts processes of its own, which a killed parent would leave behind with the
memory of a GPU. Ends with the command's status when the command ends first.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

GRACE_SECONDS = 10.0


def main(command: list[str]) -> int:
    """Run the command until it ends or the standard input does; return its exit status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_end_with_input, args=(child,), daemon=True).start()
    status = child.wait()
    _signal(child.pid, signal.SIGKILL)
    return status


def _end_with_input(child: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):
        pass
    _signal(child.pid, signal.SIGTERM)
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        _signal(child.pid, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
