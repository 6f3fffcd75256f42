"""Run the containers of both charts, as Helm renders them, on the Docker engine of this machine.

    docker compose build
    python -m tests.charts.run

It installs the trial servers and restmcts, waits until every probe succeeds, looks at what each
container may do, stops and kills workers under a run, and compares that run's figures with those of
the same demo in one process. Exits with 1 at the first difference. `--values FILE` goes to the
chart of the trial servers, for other images; `--set` to that of restmcts; `--keep` leaves all
containers as they are.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.charts.to_compose import Stack, translated

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PROJECT = "restmcts-charts"
# a name that Services share with settings: RESTMCTS_DASHBOARD_PORT is one, and a link of a pod
RELEASES = {"trial-servers": "trial", "restmcts": "restmcts"}
VALUES = (
    *("image.tag=latest", "postgresql.host=trial-postgres", "postgresql.adminSecret.name=trial-servers"),
    *("redis.secret.name=trial-servers", "s3.endpoint=trial-minio:9000", "s3.secure=false"),
    "s3.adminSecret.name=trial-servers",
)
COUNTS = ("num_trees", "num_solved", "num_tokens", "num_policy_samples", "num_value_samples")
WAIT_SECONDS = 900
PATIENT = {"COMPOSE_HTTP_TIMEOUT": str(WAIT_SECONDS)}

# run in a container: what its first process is, what it may write to, and which keys it has
LOOK = """
import json, os
writable = []
for folder, below, _ in os.walk("/"):
    if folder in ("/proc", "/sys", "/dev"):
        below.clear()
    elif os.access(folder, os.W_OK):
        writable.append(folder)
        below.clear()
status = dict(line.split(":\\t", 1) for line in open("/proc/1/status").read().splitlines() if ":\\t" in line)
keys = "/var/lib/restmcts/secrets/"
print(json.dumps({
    "user": ":".join(status[key].split()[0] for key in ("Uid", "Gid")),
    "capabilities": int(status["CapBnd"], 16) | int(status["CapEff"], 16),
    "gains_none": status["NoNewPrivs"].strip(),
    "writable": sorted(writable),
    "keys": {name: os.path.getsize(keys + name) > 0 for name in os.listdir(keys) if not name.startswith("..")},
}))
"""


class Difference(Exception):
    """Something does not run as it is rendered."""


def output_of(*command: str, stdin: str | None = None) -> str:
    """Return what a command prints.

    Raises:
        Difference: it failed.
    """
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | PATIENT
    )
    if done.returncode:
        said = f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
        raise Difference(f"{' '.join(command)[:200]} ended with {done.returncode}:\n{said}")
    return done.stdout


def rendered(chart: str, *more: str) -> list[dict[str, Any]]:
    text = output_of(str(BIN / "helm"), "template", RELEASES[chart], f"infra/helm/{chart}", *more)
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def until(what: str, holds: Callable[[], bool]) -> None:
    """Wait until it holds.

    Raises:
        Difference: it does not, after WAIT_SECONDS.
    """
    end = time.monotonic() + WAIT_SECONDS
    while not holds():
        if time.monotonic() > end:
            raise Difference(f"not within {WAIT_SECONDS} s: {what}")
        time.sleep(2)
    print(f"ok: {what}", flush=True)


class Containers:
    """The containers of a stack, by the names of compose's services."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self._file = folder / "docker-compose.yml"
        self._file.touch(mode=0o600)
        self._file.write_text(yaml.safe_dump(stack.compose(), sort_keys=False), encoding="utf-8")
        self._command = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
        self._ids: dict[str, str] = {}

    def compose(self, *arguments: str) -> str:
        return output_of(*self._command, "--project-name", PROJECT, "--file", str(self._file), *arguments)

    def of(self, service: str) -> str:
        if service not in self._ids:
            [self._ids[service]] = output_of(
                *("docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}"),
                *("--filter", f"label=com.docker.compose.service={service}"),
            ).split()
        return self._ids[service]

    def state(self, service: str) -> dict[str, Any]:
        [found] = json.loads(output_of("docker", "inspect", self.of(service)))
        return dict(found["State"])

    def probe(self, service: str, command: Sequence[str]) -> int:
        """Return with what a probe's command ends."""
        return subprocess.run(
            ["docker", "exec", self.of(service), *command], capture_output=True, check=False
        ).returncode

    def has_ended(self, service: str) -> bool:
        return bool(self.state(service)["Status"] == "exited")

    def is_healthy(self, service: str) -> bool:
        return bool(self.state(service)["Health"]["Status"] == "healthy")

    def command_line(self, *arguments: str) -> str:
        return output_of("docker", "exec", self.of("pod-restmcts-cli"), "restmcts", *arguments)


def check_start(containers: Containers) -> None:
    """Start everything; one-shot containers end with 0, and every probe succeeds."""
    containers.compose("up", "--detach")
    services = containers.stack.services
    for name, service in services.items():
        if service["restart"] == "no":
            until(f"{name} has ended", partial(containers.has_ended, name))
            if code := containers.state(name)["ExitCode"]:
                raise Difference(f"{name} ended with {code}")
    for name in (name for name, service in services.items() if "healthcheck" in service):
        until(f"{name} is healthy", partial(containers.is_healthy, name))
    for name, service in services.items():
        for kind, command in service.get("x-probes", {}).items():
            if code := containers.probe(name, command):
                raise Difference(f"the {kind} of {name} ends with {code}")


def check_rights(containers: Containers) -> None:
    """Compare what each container of ours may do with what is rendered."""
    for name, service in containers.stack.services.items():
        if service["restart"] == "no" or not service.get("read_only"):
            continue
        seen = json.loads(output_of("docker", "exec", "-i", containers.of(name), "python", "-", stdin=LOOK))
        [keys] = [mount["source"] for mount in service["volumes"] if mount["target"].endswith("/secrets")]
        expected = {
            "user": service["user"],
            "capabilities": 0,
            "gains_none": "1",
            "writable": sorted(
                mount["target"]
                for mount in service["volumes"]
                if not mount["read_only"] and not mount["target"].startswith("/dev/")
            ),
            "keys": dict.fromkeys(containers.stack.volumes[keys]["files"], True),
        }
        if seen != expected:
            raise Difference(f"{name}: {seen} is not {expected}")
        print(f"ok: {name} is {seen['user']}, writes to {len(seen['writable'])} folders, has {', '.join(seen['keys'])}")


def check_upgrade(containers: Containers) -> None:
    """The setup job runs again, as before an upgrade; the keys of the services stay good."""
    print(containers.command_line("doctor"))
    for name, service in containers.stack.services.items():
        if service["restart"] == "no" and name.startswith("pod-"):
            output_of("docker", "start", "--attach", containers.of(name))
    containers.command_line("doctor")
    print("ok: the setup job ran again, and restmcts doctor finds nothing wrong")


def check_stuck(containers: Containers, name: str) -> None:
    """A worker that is stopped fails its liveness probe, and goes on when it is continued."""
    command = containers.stack.services[name]["x-probes"]["livenessProbe"]
    output_of("docker", "kill", "--signal", "STOP", containers.of(name))
    until(f"the liveness probe of {name}, stopped, fails", lambda: containers.probe(name, command) != 0)
    output_of("docker", "kill", "--signal", "CONT", containers.of(name))
    until(f"the liveness probe of {name}, continued, succeeds", lambda: containers.probe(name, command) == 0)


def check_run(containers: Containers, folder: Path) -> None:
    """A run whose workers are killed gives what the demo gives in one process."""
    containers.command_line("runs", "create", "first", "--demo", "--quick")
    for name in ("pod-restmcts-tree-search", "pod-restmcts-policy-generator"):
        check_stuck(containers, name)
        # what a kubelet does after failed probes, without the time to end
        output_of("docker", "restart", "--time", "0", containers.of(name))
        until(f"{name}, killed and started again, is healthy", partial(containers.is_healthy, name))
    containers.command_line("runs", "watch", "first")
    of_stack = json.loads(containers.command_line("runs", "show", "first", "--json"))
    if of_stack["state"] != "done":
        raise Difference(f"the run is {of_stack['state']}")
    if any("JOB_COMPLETION_INDEX" in one.get("environment", {}) for one in containers.stack.services.values()):
        # whose sums have other last digits, which grow in a training
        print(f"ok: the run is done, its models trained by several machines: {_figures(of_stack)}")
        return
    output_of(str(BIN / "restmcts"), "demo", "--quick", "--out", str(folder / "demo"))
    of_process = json.loads(
        output_of(str(BIN / "restmcts"), "runs", "show", "--json", "--workdir", str(folder / "demo"))
    )
    if _figures(of_stack) != _figures(of_process):
        raise Difference(f"the run has {_figures(of_stack)}; in one process {_figures(of_process)}")
    print(f"ok: the run gives what it gives in one process: {_figures(of_stack)}")


def _figures(run: dict[str, Any]) -> list[list[float]]:
    return [[*(row[name] for name in COUNTS), row["greedy"]["value"]] for row in run["iterations"]]


def check_end(containers: Containers) -> None:
    """Every container of ours ends within its time when it is asked to, as at an eviction."""
    for name, service in containers.stack.services.items():
        if "healthcheck" in service:
            output_of("docker", "stop", "--time", service["stop_grace_period"].removesuffix("s"), containers.of(name))
            code = containers.state(name)["ExitCode"]
            # that of a job fails on purpose, to be started again
            if code not in ((1,) if service["restart"] == "on-failure" else (0, 143)):
                raise Difference(f"{name}, asked to end, ended with {code}")
    print("ok: workers and dashboard end when they are asked to")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.charts.run", description="Run the charts' containers.")
    parser.add_argument("--values", help="file of values for the chart of the trial servers")
    parser.add_argument("--set", default="", help="further values for the chart restmcts: workers.trainer.nodes=2")
    parser.add_argument("--keep", action="store_true", help="leave the containers as they are")
    options = parser.parse_args(arguments)
    servers = rendered("trial-servers", *(["--values", options.values] if options.values else []))
    stack = translated([servers, rendered("restmcts", "--set", ",".join([*VALUES, options.set]))])
    for what, why in sorted(stack.not_checked.items()):
        print(f"not checked: {what}: {why}")
    folder = Path(tempfile.mkdtemp(prefix="restmcts-charts-"))
    containers = Containers(stack, folder)
    try:
        check_start(containers)
        check_rights(containers)
        check_upgrade(containers)
        check_run(containers, folder)
        check_end(containers)
    except Difference as difference:
        print(f"NOT AS RENDERED: {difference}", file=sys.stderr)
        return 1
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            containers.compose("down", "--volumes")
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
