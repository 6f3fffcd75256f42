"""The further machines of a trainer, seen from the first, which knows the job: they connect to it
and wait, fetch what a job begins with, and start their processes when it says so.

Lines of JSON over TCP. The others introduce themselves with the number 0. The first sends the
number of a job with `job`, `start` or nothing more, which ends it; the others answer with its
number and `ready` or `error`, later with `ended`, the exit status of their processes. A connection
that is closed, or silent, is a machine that is lost. Whoever reaches the port may join, as with
torch's own: the network must be trusted.
"""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from restmcts.domain.training_machines import TrainingMachines
from restmcts.errors import CheckpointError, InputError, MissingMachinesError, TrainingError

from restmcts_trainer.job import Sources

log = logging.getLogger(__name__)

SECONDS_FOR_LEAST = 60.0
"""Within which the least number of machines is there, or the job waits as blocked."""
SECONDS_FOR_MOST = 30.0
"""For which machines above the least are waited for."""
SECONDS_BETWEEN_CHECKS = 0.5
# Together half a minute: after that a machine whose network or power is gone is lost.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


@dataclass(eq=False)
class _Machine:
    """One that is connected; `said` is its last answer about the job, None before."""

    connection: socket.socket
    name: str
    said: dict[str, Any] | None = None

    def send(self, **message: object) -> None:
        """Send a line; one that is lost takes none, and is noticed as such."""
        with suppress(OSError):
            self.connection.sendall(json.dumps(message).encode() + b"\n")


@dataclass(eq=False)
class Together:
    """The machines of one training.

    Attributes:
        num_nodes: with the first.
        port: of the first, at which the processes find one another.
        fault: what happened to a further machine or its processes, or None.
        has_lost: whether it is the machine that is lost.
    """

    on_fault: Callable[[], None]
    machines: Sequence[_Machine] = ()
    num_nodes: int = 1
    port: int = 0
    fault: str | None = None
    has_lost: bool = False


class FurtherMachines:
    """Listens for further machines, and lets them train together; for one job at a time.

    Raises:
        InputError: if the port cannot be listened on.
    """

    def __init__(self, wanted: TrainingMachines) -> None:
        self._wanted = wanted
        self._changed = threading.Condition()
        self._present: list[_Machine] = []
        self._together: Together | None = None
        self._number = 0
        has_both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if has_both else socket.AF_INET
        try:
            self._server = socket.create_server(("", wanted.port), family=family, dualstack_ipv6=has_both)
        except OSError as error:
            raise InputError(
                f"port {wanted.port} of RESTMCTS_TRAINING_RENDEZVOUS cannot be listened on: {error.strerror}; "
                "only one trainer of a machine takes jobs for several"
            ) from error
        threading.Thread(target=self._accept, name="further machines", daemon=True).start()

    def close(self) -> None:
        """Let all machines go."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with self._changed:
            for machine in self._present:
                with suppress(OSError):
                    machine.connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def together(
        self, request: dict[str, Any], sources: Sources, check: Callable[[], None], on_fault: Callable[[], None]
    ) -> Iterator[Together]:
        """Yield the machines that train together, once each has what the job begins with and was
        asked to start its processes; end these with the block.

        Args:
            check: is called while the others are waited for; what it raises ends the waiting.
            on_fault: is called, by another thread, if a machine is lost or its processes fail.

        Raises:
            MissingMachinesError: if there are too few.
            CheckpointError: if a machine cannot have what the job begins with.
            TrainingError: if a machine cannot do the job.
        """
        with self._changed:
            machines = self._gathered(check)
            one = Together(on_fault, machines, len(machines) + 1)
            self._together, self._number = one, self._number + 1
            for machine in machines:
                machine.said = None
        try:
            for machine in machines:
                machine.send(number=self._number, job={**request, "sources": asdict(sources)})
            self._wait_until_ready(one, check)
            one.port = _free_port()
            for rank, machine in enumerate(machines, start=1):
                start = {"rank": rank, "num_nodes": one.num_nodes, "port": one.port}
                machine.send(number=self._number, start=start)
            yield one
        finally:
            with self._changed:
                self._together = None
            for machine in machines:
                machine.send(number=self._number)

    def _gathered(self, check: Callable[[], None]) -> list[_Machine]:
        begin, wanted = time.monotonic(), self._wanted
        while True:
            check()
            present, waited = len(self._present) + 1, time.monotonic() - begin
            if present >= wanted.most or (present >= wanted.least and waited >= SECONDS_FOR_MOST):
                return self._present[: wanted.most - 1]
            if present < wanted.least and waited >= SECONDS_FOR_LEAST:
                raise MissingMachinesError(
                    f"{present} of {wanted.least} machines are there to train together; start more with "
                    f"RESTMCTS_TRAINING_RENDEZVOUS={wanted.host}:{wanted.port}"
                )
            self._changed.wait(SECONDS_BETWEEN_CHECKS)

    def _wait_until_ready(self, one: Together, check: Callable[[], None]) -> None:
        with self._changed:
            while one.fault is None and any(machine.said is None for machine in one.machines):
                check()
                self._changed.wait(SECONDS_BETWEEN_CHECKS)
        for machine in one.machines:
            if machine.said is not None and "error" in machine.said:
                raise (CheckpointError if machine.said["is_unavailable"] else TrainingError)(
                    f"machine {machine.name}: {machine.said['error']}"
                )

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, address = self._server.accept()
                keep_alive(connection)
                machine = _Machine(connection, address[0].removeprefix("::ffff:"))
                threading.Thread(target=self._listen, args=(machine,), name=machine.name, daemon=True).start()

    def _listen(self, machine: _Machine) -> None:
        with machine.connection, suppress(OSError, ValueError, LookupError, TypeError):
            for line in machine.connection.makefile(encoding="utf-8"):
                self._hear(machine, json.loads(line))
        with self._changed:
            if machine in self._present:
                self._present.remove(machine)
                self._note(machine, "it is lost", is_lost=True)
                self._changed.notify_all()
                log.info("machine %s is gone", machine.name)

    def _hear(self, machine: _Machine, said: dict[str, Any]) -> None:
        with self._changed:
            if said["number"] == 0:
                self._present.append(machine)
                log.info("machine %s is there to train together", machine.name)
            elif said["number"] == self._number:
                machine.said = said
                if said.get("ended"):
                    self._note(machine, f"its processes ended with exit code {said['ended']}; its log says more")
            self._changed.notify_all()

    def _note(self, machine: _Machine, fault: str, *, is_lost: bool = False) -> None:
        one = self._together
        if one is not None and machine in one.machines and one.fault is None:
            one.fault, one.has_lost = f"machine {machine.name}: {fault}", is_lost
            one.on_fault()


def keep_alive(connection: socket.socket) -> None:
    """Let a connection break off half a minute after the other side has vanished."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):  # not on macOS
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
