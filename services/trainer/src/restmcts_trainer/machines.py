"""The further machines of a trainer, seen from the first, which knows the job: they connect to it
and wait, fetch what a job begins with, and start their processes when it says so.

Lines of JSON over TCP. The others introduce themselves with the number 0 and their version. The
first sends the number of a job with `job`, `start` or nothing more, which ends it; the others
answer with its number and `ready` or `error`, later with `failed`, what one of their processes
says, and `ended`, the exit status of all. A connection that is closed, or silent, is a machine that
is lost. Whoever reaches the port may join, as with torch's own: the network must be trusted.
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

from restmcts import __version__
from restmcts.domain.training_machines import TrainingMachines
from restmcts.errors import CheckpointError, InputError, MissingMachinesError, TrainingError

from restmcts_trainer.job import Sources

log = logging.getLogger(__name__)

SECONDS_FOR_LEAST = 60.0
"""Within which the least number of machines is there, or the job waits as blocked."""
SECONDS_FOR_MOST = 30.0
"""For which machines above the least are waited for."""
SECONDS_FOR_READY = 1500.0
"""In which each machine fetches what a job begins with; less than a worker may be without
progress."""
SECONDS_BETWEEN_CHECKS = 0.5
SECONDS_FOR_GREETING = 30.0
"""In which whoever connects introduces itself."""
SECONDS_FOR_LOSS = 3.0
"""For which a machine that is lost is waited for, once a training failed: what trains with it may
fail before its connection is closed."""
MAX_LINE_BYTES = 2**20
_THIS_MACHINE = ("127.0.0.1", "localhost")
# Half a minute, also after something was sent (in milliseconds): then a machine whose network or
# power is gone is lost.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}


class TrainingProcessDiedError(TrainingError):
    """A process ended without a word: the system or somebody ended it."""


class MachineLostError(TrainingProcessDiedError):
    """One of the machines that trained together was lost."""


class SavedStateGoneError(CheckpointError):
    """The saved state from which a job goes on is no more, or not what was saved."""


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

    def hang_up(self) -> None:
        """Let a machine go, which may come again."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


@dataclass(eq=False)
class Together:
    """The machines of one training.

    Attributes:
        num_nodes: with the first.
        port: of the first, at which the processes find one another.
        fault: what happened to a further machine or its processes, or None.
    """

    on_fault: Callable[[], None]
    machines: Sequence[_Machine] = ()
    num_nodes: int = 1
    port: int = 0
    fault: CheckpointError | TrainingError | None = None


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
        self._let_go: set[str] = set()
        try:
            self._server = _server_of(wanted)
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
                machine.hang_up()

    def fault_of(self, one: Together) -> CheckpointError | TrainingError | None:
        """Return what happened to a further machine or its processes in a training that failed,
        None if nothing did; one that is lost may be noticed a moment later.
        """
        with self._changed:
            if one.machines:
                self._changed.wait_for(lambda: isinstance(one.fault, MachineLostError), SECONDS_FOR_LOSS)
            return one.fault

    @contextmanager
    def together(
        self, request: dict[str, Any], sources: Sources, check: Callable[[], None], on_fault: Callable[[], None]
    ) -> Iterator[Together]:
        """Yield the machines that train together, once each has what the job begins with and was
        asked to start its processes; end these with the block.

        Args:
            check: is called now and then while the others are waited for; what it raises ends the
                waiting.
            on_fault: is called, by another thread, if a machine is lost or its processes fail.

        Raises:
            MissingMachinesError: if there are too few, or one is lost or silent before it is ready.
            SavedStateGoneError: if a machine cannot have the saved state, nor will later.
            CheckpointError: if a machine cannot have what else the job begins with.
            TrainingError: if a machine cannot do the job.
        """
        one = self._gathered(check, on_fault)
        machines = one.machines
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

    def _gathered(self, check: Callable[[], None], on_fault: Callable[[], None]) -> Together:
        begin = time.monotonic()
        while True:
            check()
            with self._changed:
                machines = self._chosen(time.monotonic() - begin)
                if machines is not None:
                    for machine in machines:
                        machine.said = None
                    self._number += 1
                    self._together = Together(on_fault, machines, len(machines) + 1)
                    return self._together
                self._changed.wait(SECONDS_BETWEEN_CHECKS)

    def _chosen(self, waited: float) -> list[_Machine] | None:
        """Return who trains with the first; None: others are waited for."""
        present, wanted = len(self._present) + 1, self._wanted
        if present >= wanted.most or (present >= wanted.least and waited >= SECONDS_FOR_MOST):
            return self._present[: wanted.most - 1]
        if present < wanted.least and waited >= SECONDS_FOR_LEAST:
            raise MissingMachinesError(
                f"{present} of {wanted.least} machines are there to train together; start more with "
                f"RESTMCTS_TRAINING_RENDEZVOUS={wanted.host}:{wanted.port}"
            )
        return None

    def _wait_until_ready(self, one: Together, check: Callable[[], None]) -> None:
        begin = time.monotonic()
        while True:
            check()
            with self._changed:
                silent = [machine for machine in one.machines if machine.said is None]
                if one.fault is not None or not silent:
                    break
                if time.monotonic() - begin >= SECONDS_FOR_READY:
                    for machine in silent:
                        machine.hang_up()
                    raise MissingMachinesError(
                        f"machine {', '.join(machine.name for machine in silent)} did not fetch what the training "
                        f"begins with in {SECONDS_FOR_READY:.0f} s"
                    )
                self._changed.wait(SECONDS_BETWEEN_CHECKS)
        for machine in one.machines:
            if machine.said is not None and "error" in machine.said:
                raise _error(machine, machine.said, "error")
        if one.fault is not None:
            raise MissingMachinesError(str(one.fault))

    def _accept(self) -> None:
        while self._server.fileno() >= 0:
            try:
                self._take(*self._server.accept())
            except (OSError, RuntimeError) as error:
                if self._server.fileno() >= 0:
                    log.warning("a further machine is not taken: %s", error)
                    time.sleep(SECONDS_BETWEEN_CHECKS)

    def _take(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        machine = _Machine(connection, address[0].removeprefix("::ffff:"))
        try:
            keep_alive(connection)
            threading.Thread(target=self._listen, args=(machine,), name=machine.name, daemon=True).start()
        except BaseException:
            connection.close()
            raise

    def _listen(self, machine: _Machine) -> None:
        try:
            with machine.connection, suppress(OSError, ValueError):
                machine.connection.settimeout(SECONDS_FOR_GREETING)
                for said in messages(machine.connection):
                    self._hear(machine, said)
        finally:
            with self._changed:
                if machine in self._present:
                    self._present.remove(machine)
                    log.info("machine %s is gone", machine.name)
                    self._note(machine, MachineLostError(f"machine {machine.name}: it is lost"))
                    self._changed.notify_all()

    def _hear(self, machine: _Machine, said: dict[str, Any]) -> None:
        with self._changed:
            if machine not in self._present:
                self._welcome(machine, said)
            elif said["number"] == self._number:
                if "failed" in said:
                    self._note(machine, _error(machine, said, "failed"))
                elif said.get("ended"):
                    died = f"its processes ended with exit code {said['ended']}; its log says more"
                    self._note(machine, TrainingProcessDiedError(f"machine {machine.name}: {died}"))
                elif machine.said is None:
                    machine.said = said
            self._changed.notify_all()

    def _welcome(self, machine: _Machine, said: dict[str, Any]) -> None:
        version = said.get("version")
        if said["number"] != 0 or version is None:
            raise ValueError("it does not introduce itself")
        if version == __version__:
            machine.connection.settimeout(None)
            self._present.append(machine)
            self._let_go.discard(machine.name)
            log.info("machine %s is there to train together", machine.name)
            return
        if machine.name not in self._let_go:  # it comes again each second
            self._let_go.add(machine.name)
            log.warning("machine %s is of version %.50s, this is %s", machine.name, version, __version__)
        machine.hang_up()

    def _note(self, machine: _Machine, fault: CheckpointError | TrainingError) -> None:
        """Note what is wrong with a machine; the first fault counts, but that one is lost explains
        what others say.
        """
        one = self._together
        if one is None or machine not in one.machines:
            return
        if one.fault is None or isinstance(fault, MachineLostError):
            one.fault = fault
            one.on_fault()


def _error(machine: _Machine, said: dict[str, Any], name: str) -> CheckpointError | TrainingError:
    reason = f"machine {machine.name}: {said[name]}"
    if said.get("saved_is_gone"):
        return SavedStateGoneError(reason)
    return (CheckpointError if said.get("is_unavailable") else TrainingError)(reason)


def messages(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """Yield what comes over a connection, each with a number, until it is closed.

    Raises:
        ValueError: if something else comes.
        OSError: if the connection fails.
    """
    with connection.makefile("rb") as lines:
        while line := lines.readline(MAX_LINE_BYTES):
            try:
                message = json.loads(line)
            except RecursionError as error:
                raise ValueError("what comes is nested too deeply") from error
            if not isinstance(message, dict) or not isinstance(message.get("number"), int):
                raise ValueError("what comes is no message of a machine that trains")
            yield message


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


def _server_of(wanted: TrainingMachines) -> socket.socket:
    """Return what listens at the rendezvous: on this machine alone if that is its address, else
    on all networks, as the others may know this machine by another address than it does itself.
    """
    if wanted.host in _THIS_MACHINE:
        return socket.create_server((wanted.host, wanted.port))
    has_both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if has_both else socket.AF_INET
    return socket.create_server(("", wanted.port), family=family, dualstack_ipv6=has_both)
