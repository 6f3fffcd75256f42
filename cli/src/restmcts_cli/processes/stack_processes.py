"""A stack as plain processes: servers and workers of one folder, found again by process id and
start time.

Several programs may change a stack at once (commands, and its supervisor): each takes the folder's
lock and reads the state anew. Knows nothing of when a process is started again: that is the
supervisor's (restmcts_cli.processes.supervisor).
"""

import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from restmcts.adapters.workers.heartbeat import fault_of
from restmcts.errors import RestMctsError
from restmcts.messages.workers import worker_named

from restmcts_cli.processes.server_processes import SERVERS, Launch, as_user, free_ports

SUPERVISOR = "supervisor"
HEARTBEAT_SECONDS = 30.0
MAX_STUCK_SECONDS = 1800.0
"""As long as compose's workers may go without progress within one task."""

START_SECONDS = 180.0
STOP_SECONDS = 30.0
_ENDING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Member:
    """A process of the stack; the start time distinguishes it from another one that got its id
    later.
    """

    name: str
    pid: int
    started: float
    stop_signal: int

    def process(self) -> psutil.Process | None:
        """Return the process if it lives."""
        try:
            process = psutil.Process(self.pid)
            alive = process.create_time() == self.started and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


@dataclass(frozen=True, slots=True)
class Restarts:
    """How often a process was started again after it had died, how often in a row it died young,
    and when (seconds since the epoch) it may be started next.
    """

    count: int = 0
    in_a_row: int = 0
    not_before: float = 0.0


class Stack:
    """The stack of a folder: `state.json` knows its processes and how many workers are wanted,
    `env` holds the settings that name its servers.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] = os.environ) -> None:
        self.folder = folder.absolute()
        self._environment = dict(environment)
        self._locks = 0
        self._state = self._read()
        # Kept, because a child that is let go of is warned about; they are to outlive this process.
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def env_file(self) -> Path:
        return self.folder / "env"

    @property
    def settings(self) -> dict[str, str]:
        """The settings that name the servers, as environment variables."""
        return dict(self._state["settings"])

    @property
    def scale(self) -> dict[str, int]:
        """How many workers of each kind were last asked for; it outlives `down`."""
        return dict(self._state["scale"])

    @property
    def max_stuck_seconds(self) -> float:
        """After which a worker that makes no progress within one task is stuck."""
        return float(self._state["limits"].get("max_stuck_seconds", MAX_STUCK_SECONDS))

    def wanted(self) -> list[str]:
        """Return the names of all processes that should live: servers of this stack's own, then
        workers.
        """
        servers = [name for name in SERVERS if name in self._state["servers"]]
        return [*servers, *(f"{kind}-{number + 1}" for kind, count in self.scale.items() for number in range(count))]

    def restarts(self, name: str) -> Restarts:
        """Return what the supervisor noted of a process."""
        return Restarts(**self._state["restarts"].get(name, {}))

    def note(self, name: str, restarts: Restarts) -> None:
        """Store what the supervisor notes of a process."""
        self._state["restarts"][name] = asdict(restarts)
        self._write()

    def log_file(self, name: str) -> Path:
        """Return the file that a process writes to."""
        return self.folder / "logs" / f"{name}.log"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other programs from changing the stack, and know what they have changed."""
        if self._locks == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock_file = (self.folder / "lock").open("w")
            fcntl.flock(self._lock_file, fcntl.LOCK_EX)
            self._state = self._read()
        self._locks += 1
        try:
            yield
        finally:
            self._locks -= 1
            if self._locks == 0:
                self._lock_file.close()

    def members(self) -> list[Member]:
        """Return the processes that were started, servers first, whether they live or not."""
        return [Member(**fields) for fields in self._state["members"].values()]

    def up(self, workers: Mapping[str, int], max_stuck_seconds: float | None = None) -> None:
        """Start what is not running, and wait until everything is healthy; workers above the given
        numbers are stopped, kinds that are not named stay as they are, and so does the limit if it
        is None. Restarts of the named kinds are counted anew.

        Raises:
            InputError: if there is no such kind of worker.
            RestMctsError: if something does not start; what runs goes on.
        """
        asked = {worker_named(kind): count for kind, count in workers.items()}
        with self.locked():
            for name in SERVERS:
                self.start_server(name)
            self._migrate()
            self._state["scale"] |= asked
            if max_stuck_seconds is not None:
                self._state["limits"]["max_stuck_seconds"] = max_stuck_seconds
            past = self._state["restarts"]
            self._state["restarts"] = {name: one for name, one in past.items() if kind_of(name) not in asked}
            self._write()
            wanted = self.wanted()
            kept = {*wanted, SUPERVISOR}
            self._stop([member for member in self.members() if member.name not in kept])
            names = [name for name in wanted if name not in SERVERS]
            for name in names:
                self.start_worker(name)
            self._await_workers(names)

    def supervise(self) -> None:
        """Start the supervisor, if it does not run."""
        with self.locked():
            if not self._lives(SUPERVISOR):
                command = [sys.executable, "-m", "restmcts_cli.processes.supervisor", str(self.folder)]
                self._launch(SUPERVISOR, Launch(command, self._environment))

    def start_server(self, name: str) -> None:
        """Start a server, if the settings name none and it does not run, and wait until it
        serves.
        """
        server = SERVERS[name]
        if server.variable in self._environment:
            named = {key: value for key, value in self._environment.items() if key.startswith("RESTMCTS_")}
            self._state["settings"] |= {key: named[key] for key in server.settings(0, "") if key in named}
        else:
            if name not in self._state["servers"]:
                self._state["servers"][name] = {
                    "ports": free_ports(server.num_ports),
                    "password": secrets.token_hex(16),
                }
            chosen = self._state["servers"][name]
            self._state["settings"] |= server.settings(chosen["ports"][0], chosen["password"])
            self._write()
            self.launch_server(name)
            server.await_ready(self.settings)
        self._write()

    def launch_server(self, name: str) -> None:
        """Start a server that this stack has chosen ports for, if it does not run."""
        if not self._lives(name):
            chosen = self._state["servers"][name]
            self._launch(name, SERVERS[name].prepare(self.folder / name, chosen["ports"], chosen["password"]))

    def start_worker(self, name: str) -> None:
        """Start a worker ("tree-search-1") if it does not run."""
        if self._lives(name):
            return
        package = f"restmcts_{kind_of(name).replace('-', '_')}"
        run_dir = self.folder / "workers" / name
        (run_dir / "heartbeat").unlink(missing_ok=True)
        environment = {
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "RESTMCTS_METRICS_PORT": "0",
            **self._environment,
            **self.settings,
        }
        environment |= self._own_url(kind_of(name))
        environment |= {"RESTMCTS_RUN_DIR": str(run_dir), "RESTMCTS_CACHE_DIR": str(self.folder / "cache")}
        self._launch(name, Launch(worker_command(package, name), environment))

    def faults(self) -> dict[str, str | None]:
        """Return what is wrong with each process, None where it is well."""
        return {member.name: self._fault(member) for member in self.members()}

    def down(self) -> None:
        """Stop everything that this folder's stack started; workers first. Data stay."""
        with self.locked():
            members = self.members()
            self._stop([member for member in members if member.name == SUPERVISOR])
            self._stop([member for member in members if member.name not in (*SERVERS, SUPERVISOR)])
            self._stop([member for member in members if member.name in SERVERS])

    def kill(self, name: str, how: int = signal.SIGKILL) -> None:
        """Send a signal to a process of the stack, if it lives."""
        process = Member(**self._state["members"][name]).process()
        if process is not None:
            process.send_signal(how)

    def stop(self, name: str) -> None:
        """Stop one process as it should be stopped."""
        with self.locked():
            self._stop([member for member in self.members() if member.name == name])

    def lives(self, name: str) -> bool:
        """Return whether a process of that name was started and lives."""
        return self._lives(name)

    def _fault(self, member: Member) -> str | None:
        if member.process() is None:
            return "not running"
        return (
            None
            if member.name in (*SERVERS, SUPERVISOR)
            else fault_of(self.folder / "workers" / member.name, HEARTBEAT_SECONDS, self.max_stuck_seconds)
        )

    def _lives(self, name: str) -> bool:
        fields = self._state["members"].get(name)
        return fields is not None and Member(**fields).process() is not None

    def _launch(self, name: str, launch: Launch) -> None:
        self._reap(name)
        self.log_file(name).parent.mkdir(parents=True, exist_ok=True)
        with self.log_file(name).open("ab") as log, uninterrupted():
            child = self._children[name] = subprocess.Popen(
                launch.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **launch.environment},
                start_new_session=True,
                **as_user(launch.user),
            )
            started = psutil.Process(child.pid).create_time()
            self._state["members"][name] = asdict(Member(name, child.pid, started, int(launch.stop_signal)))
            self._write()

    def _reap(self, name: str) -> None:
        """Let go of a child that has ended."""
        if child := self._children.pop(name, None):
            child.wait()

    def _migrate(self) -> None:
        """Bring the database to this version; on a server of this stack's own each kind of worker
        has a role with its rights alone.
        """
        from restmcts.adapters.sql import roles
        from restmcts.adapters.sql.migrate import upgrade

        upgrade(self.settings["RESTMCTS_DATABASE_URL"])
        if "postgres" in self._state["servers"]:
            roles.set_up(self.settings["RESTMCTS_DATABASE_URL"], self.folder / "roles")

    def _own_url(self, kind: str) -> dict[str, str]:
        from restmcts.adapters.sql.roles import FILE

        file = self.folder / "roles" / kind / FILE
        return {"RESTMCTS_DATABASE_URL": file.read_text()} if file.is_file() else {}

    def _await_workers(self, names: list[str]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while faults := {name: fault for name in names if (fault := self.faults()[name]) is not None}:
            name, fault = next(iter(faults.items()))
            log = self.log_file(name)
            if fault == "not running":
                raise RestMctsError(f"worker {name} ended while it started: see {log}")
            if time.monotonic() > deadline:
                raise RestMctsError(f"worker {name}: {fault}: see {log}")
            time.sleep(0.2)

    def _stop(self, members: list[Member]) -> None:
        processes = []
        for member in members:
            process = member.process()
            if process is not None:
                process.send_signal(member.stop_signal)
                processes.append(process)
        for process in psutil.wait_procs(processes, timeout=STOP_SECONDS)[1]:
            process.kill()
        for member in members:
            self._state["members"].pop(member.name, None)
            self._reap(member.name)
        self._write()

    def _read(self) -> dict[str, dict]:  # type: ignore[type-arg]
        parts = ("servers", "settings", "members", "scale", "restarts", "limits")
        empty: dict[str, dict] = {part: {} for part in parts}  # type: ignore[type-arg]
        try:
            found = {**empty, **json.loads((self.folder / "state.json").read_text())}
            for fields in found["members"].values():
                Member(**fields)
            return found
        except FileNotFoundError:
            return empty
        except (ValueError, TypeError, AttributeError) as error:
            raise RestMctsError(
                f"{self.folder / 'state.json'} cannot be read ({error}): stop its processes by hand"
            ) from error

    def _write(self) -> None:
        # Commands share the workers' cache, and leave none in the folder that they are called in.
        settings = {**self.settings, "RESTMCTS_CACHE_DIR": str(self.folder / "cache")}
        lines = "".join(f"{name}={value}\n" for name, value in sorted(settings.items()))
        for path, content in ((self.folder / "state.json", json.dumps(self._state, indent=2)), (self.env_file, lines)):
            partial = path.with_name(f".{path.name}.partial")
            partial.touch(mode=0o600)
            partial.write_text(content)
            partial.replace(path)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for asked in came:
            signal.raise_signal(asked)


def kind_of(name: str) -> str:
    """Return the kind of a worker from its name ("tree-search" of "tree-search-1")."""
    return name.rpartition("-")[0]


def worker_command(package: str, name: str) -> list[str]:
    """Return the command line of a worker."""
    options = ["--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    return [sys.executable, "-m", "celery", "--quiet", "-A", f"{package}.app", "worker", *options, "-n", f"{name}@%h"]
