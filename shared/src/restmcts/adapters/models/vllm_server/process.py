"""The process of a vLLM server: started on a free port of this machine's loopback, with a log file,
and ended with whoever started it.
"""

import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from restmcts.adapters.models.interruption import check_interruption
from restmcts.errors import ModelError

log = logging.getLogger(__name__)
HOST = "127.0.0.1"
SERVED_NAME = "restmcts"
"""The name that requests give: which weights answer is the server's weight version."""
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_END = 15.0
NUM_LOG_LINES = 3
_ENVIRONMENT = {
    # The routes that swap weights; they are open to whoever reaches them, so only on the loopback.
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_HOST_IP": HOST,
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """How a server is started.

    Attributes:
        command: the program, by its name or path; it may live in an environment of its own.
        arguments: further ones of `vllm serve`, as one would type them.
        start_seconds: that it may take until it answers.
        idle_seconds: after which it sleeps: its weights go to the machine's own memory, and a
            training may have the GPU's; 0: never.
        log_folder: of its log file.
    """

    command: str = "vllm"
    arguments: str = ""
    start_seconds: float = 900.0
    idle_seconds: float = 0.0
    log_folder: Path = Path("logs")


def vllm_program(command: str) -> str:
    """Return the path of the program: beside this Python, or where the shell would find it.

    Raises:
        ModelError: if there is none.
    """
    beside = Path(sys.executable).parent / command
    found = str(beside) if beside.is_file() else shutil.which(command)
    if found is None:
        raise ModelError(
            f"the engine vllm needs vLLM, and there is no program {command!r}: pip install vllm (in an environment of its "
            "own if you like, then set RESTMCTS_VLLM_COMMAND to its vllm), or choose --engine transformers"
        )
    return found


def command_line(settings: VllmSettings, weights: str, dtype: str, port: int) -> list[str]:
    """Return the command that serves some weights on a port.

    Raises:
        ModelError: if the program is not there, or the further arguments cannot be read.
    """
    try:
        further = shlex.split(settings.arguments)
    except ValueError as error:
        raise ModelError(f"RESTMCTS_VLLM_ARGUMENTS cannot be read: {error}") from error
    own = ["--served-model-name", SERVED_NAME, "--host", HOST, "--port", str(port), "--dtype", dtype]
    return [vllm_program(settings.command), "serve", weights, *own, *further]


class VllmProcess:
    """A server that is starting, or runs, or has ended.

    Attributes:
        url: where it answers.
        log_file: to which it writes.

    Raises:
        ModelError: if there is no such program, or no log file can be written.
    """

    def __init__(self, settings: VllmSettings, weights: str, dtype: str) -> None:
        port = _free_port()
        command = command_line(settings, weights, dtype, port)
        self.url = f"http://{HOST}:{port}"
        self._settings = settings
        try:
            settings.log_folder.mkdir(parents=True, exist_ok=True)
            self.log_file = settings.log_folder / f"vllm-{os.getpid()}-{port}.log"
            log.info("vLLM is started with %s; its log is %s", weights, self.log_file)
            with self.log_file.open("wb") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "restmcts.adapters.models.vllm_server.keeper", *command],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=os.environ | _ENVIRONMENT,
                    start_new_session=True,
                )
        except OSError as error:
            raise ModelError(f"vLLM cannot be started: {error}") from error

    @property
    def pid(self) -> int:
        """The number of the process whose end is the server's."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def await_ready(self, answers: Callable[[], bool]) -> None:
        """Return once it answers.

        Raises:
            ModelError: if it ends or takes too long; its log's last lines are in the message.
            ServerUnavailableError: if nobody waits for it any more.
        """
        give_up_at = time.monotonic() + self._settings.start_seconds
        while not answers():
            check_interruption()
            if not self.runs:
                raise ModelError(f"vLLM ended before it answered: {self._last_words()} (log: {self.log_file})")
            if time.monotonic() > give_up_at:
                self.close()
                raise ModelError(
                    f"vLLM did not answer within {self._settings.start_seconds:.0f} s (log: {self.log_file})"
                )
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def close(self) -> None:
        """End it, and what it has started; does nothing where it has ended."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _last_words(self) -> str:
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        said = [line.strip() for line in lines if "Error" in line] or [line.strip() for line in lines if line.strip()]
        return " · ".join(line[:200] for line in said[-NUM_LOG_LINES:]) or "it said nothing"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
