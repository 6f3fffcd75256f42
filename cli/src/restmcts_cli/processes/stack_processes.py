"""A stack as plain processes: servers and workers of one folder, found again by process id and
start time.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from restmcts.adapters.workers.heartbeat import fault_of
from restmcts.errors import InputError, RestMctsError

from restmcts_cli.processes.server_processes import SERVERS, Launch, as_user, free_ports

SERVICES = {
    "coordinator": "restmcts_coordinator",
    "search": "restmcts_tree_search",
    "policy": "restmcts_policy_generator",
    "prm": "restmcts_prm_scorer",
    "labels": "restmcts_value_labeler",
    "trainer": "restmcts_trainer",
}
"""The package of each kind of worker, by its queue."""

HEARTBEAT_SECONDS = 30.0
START_SECONDS = 180.0
STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Member:
    """A process of the stack; the start time tells it from another one that got its id later."""

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


class Stack:
    """The stack of a folder: `state.json` knows its processes, `env` holds the settings that
    name its servers.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] = os.environ) -> None:
        self.folder = folder.absolute()
        self._environment = dict(environment)
        self._state = self._read()
        # Held, because a child that is let go of is warned about; they are to outlive this process.
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def env_file(self) -> Path:
        return self.folder / "env"

    @property
    def settings(self) -> dict[str, str]:
        """The settings that name the servers, as environment variables."""
        return dict(self._state["settings"])

    def members(self) -> list[Member]:
        """Return the processes that were started, servers first, whether they live or not."""
        return [Member(**fields) for fields in self._state["members"].values()]

    def up(self, workers: Mapping[str, int]) -> None:
        """Start what is not running, and wait until everything is healthy; workers above the given
        numbers are stopped.

        Raises:
            InputError: if there is no such kind of worker.
            RestMctsError: if something does not start; what runs goes on.
        """
        if unknown := set(workers) - set(SERVICES):
            raise InputError(f"no worker is called {sorted(unknown)[0]!r}: there are {', '.join(SERVICES)}")
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in SERVERS:
            self.start_server(name)
        self._migrate()
        wanted = [f"{kind}-{number}" for kind, count in workers.items() for number in range(1, count + 1)]
        known = [member for member in self.members() if member.name not in SERVERS]
        self._stop(
            [member for member in known if member.name not in wanted and member.name.partition("-")[0] in workers]
        )
        for name in wanted:
            self.start_worker(name)
        self._await_workers(wanted)

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
            if not self._lives(name):
                self._launch(name, server.prepare(self.folder / name, chosen["ports"], chosen["password"]))
            server.await_ready(self.settings)
        self._write()

    def start_worker(self, name: str) -> None:
        """Start a worker ("search-1") if it does not run."""
        if self._lives(name):
            return
        package = SERVICES[name.partition("-")[0]]
        run_dir = self.folder / "workers" / name
        (run_dir / "heartbeat").unlink(missing_ok=True)
        environment = {
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "RESTMCTS_METRICS_PORT": "0",
            **self._environment,
            **self.settings,
        }
        environment |= {"RESTMCTS_RUN_DIR": str(run_dir), "RESTMCTS_CACHE_DIR": str(self.folder / "cache")}
        self._launch(name, Launch(worker_command(package, name), environment))

    def faults(self) -> dict[str, str | None]:
        """Return what is wrong with each process, None where it is well."""
        return {member.name: self._fault(member) for member in self.members()}

    def down(self) -> None:
        """Stop everything that this folder's stack started; workers first. Data stay."""
        members = self.members()
        self._stop([member for member in members if member.name not in SERVERS])
        self._stop([member for member in members if member.name in SERVERS])

    def kill(self, name: str, how: int = signal.SIGKILL) -> None:
        """Send a signal to a process of the stack, if it lives."""
        process = Member(**self._state["members"][name]).process()
        if process is not None:
            process.send_signal(how)

    def stop(self, name: str) -> None:
        """Stop one process as it should be stopped."""
        self._stop([member for member in self.members() if member.name == name])

    def _fault(self, member: Member) -> str | None:
        if member.process() is None:
            return "not running"
        return None if member.name in SERVERS else fault_of(self.folder / "workers" / member.name, HEARTBEAT_SECONDS)

    def _lives(self, name: str) -> bool:
        fields = self._state["members"].get(name)
        return fields is not None and Member(**fields).process() is not None

    def _launch(self, name: str, launch: Launch) -> None:
        self._reap(name)
        logs = self.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / f"{name}.log").open("ab") as log:
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
        from restmcts.adapters.sql.migrate import upgrade

        upgrade(self.settings["RESTMCTS_DATABASE_URL"])

    def _await_workers(self, names: list[str]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while faults := {name: fault for name in names if (fault := self.faults()[name]) is not None}:
            name, fault = next(iter(faults.items()))
            log = self.folder / "logs" / f"{name}.log"
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
            self._state["members"].pop(member.name)
            self._reap(member.name)
        self._write()

    def _read(self) -> dict[str, dict]:  # type: ignore[type-arg]
        try:
            return dict(json.loads((self.folder / "state.json").read_text()))
        except FileNotFoundError:
            return {"servers": {}, "settings": {}, "members": {}}
        except ValueError as error:
            raise RestMctsError(
                f"{self.folder / 'state.json'} cannot be read ({error}): stop its processes by hand"
            ) from error

    def _write(self) -> None:
        lines = "".join(f"{name}={value}\n" for name, value in sorted(self.settings.items()))
        for path, content in ((self.folder / "state.json", json.dumps(self._state, indent=2)), (self.env_file, lines)):
            partial = path.with_name(f".{path.name}.partial")
            partial.touch(mode=0o600)
            partial.write_text(content)
            partial.replace(path)


def worker_command(package: str, name: str) -> list[str]:
    """Return the command line of a worker."""
    options = ["--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    return [sys.executable, "-m", "celery", "-A", f"{package}.app", "worker", *options, "-n", f"{name}@%h"]
