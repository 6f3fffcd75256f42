"""A policy server's weights follow what runs ask for: the follower, the script that restarts
servers, and both under a run.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from restmcts.adapters.models.http_policy.opening import served_name
from restmcts.adapters.models.served_weights import WeightsFollower, wanted_policy
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import promotions, runs
from restmcts.adapters.sql.state.requests import REQUESTS
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.best_of_n import SelfConsistencySettings
from restmcts.errors import InputError
from restmcts.testing.policy_servers import PolicyServer
from restmcts_cli.processes.server_processes import free_ports
from restmcts_local.local_run import LocalRun, ModelOptions
from sqlalchemy import func, select

SCRIPT = Path(__file__).parents[2] / "infra" / "inference" / "serve.sh"
SERVER = (
    "import os, signal; from restmcts.testing.policy_servers import PolicyServer; "
    "PolicyServer(model=os.environ['MODEL_NAME'], port={port}).__enter__(); signal.pause()"
)
Script = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """Starts the script on a pointer; what it says is in the file `log`."""
    started: list[subprocess.Popen[str]] = []
    log = (tmp_path / "log").open("w")

    def start(command: str, **environment: str) -> "subprocess.Popen[str]":
        arguments = ["/bin/sh", str(SCRIPT), str(tmp_path / "current"), command]
        started.append(
            subprocess.Popen(arguments, text=True, stdout=log, stderr=log, env={**os.environ, **environment})
        )
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.wait(30)
    log.close()


def point(folder: Path, name: str) -> None:
    (folder / "pending").write_text(f"{name}\n/weights/{name}\n")
    (folder / "pending").rename(folder / "current")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_script_waits_starts_and_starts_anew_with_other_weights(tmp_path: Path, script: Script) -> None:
    out = tmp_path / "out"
    process = script(f'echo "$MODEL_NAME $MODEL_PATH" >> {out}; exec sleep 100')
    time.sleep(0.2)
    assert not out.exists(), "nothing is named yet"
    point(tmp_path, "first")
    wait_for(lambda: out.is_file() and out.read_text() == "first /weights/first\n")
    point(tmp_path, "second")
    wait_for(lambda: out.read_text().endswith("second /weights/second\n"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143


def test_the_script_can_leave_a_server_that_reloads_alone(tmp_path: Path, script: Script) -> None:
    out = tmp_path / "out"
    point(tmp_path, "first")
    script(f'echo "$MODEL_NAME" >> {out}; exec sleep 100', FOLLOW="0")
    wait_for(out.is_file)
    point(tmp_path, "second")
    time.sleep(2.5)
    assert out.read_text() == "first\n"


def test_a_server_that_ends_ends_the_script(tmp_path: Path, script: Script) -> None:
    point(tmp_path, "first")
    assert script("exit 7").wait(30) == 7


def test_a_server_that_will_not_stop_is_killed(tmp_path: Path, script: Script) -> None:
    out = tmp_path / "out"
    point(tmp_path, "first")
    script(f"trap '' TERM; echo $MODEL_NAME >> {out}; while :; do sleep 0.2; done", GRACE_SECONDS="1")
    wait_for(out.is_file)
    point(tmp_path, "second")
    wait_for(lambda: out.read_text() == "first\nsecond\n")


@pytest.fixture
def policies(tmp_path: Path) -> list[str]:
    """The URIs of two stored policies; what is in them, the servers here do not read."""
    store = FolderArtifactStore(tmp_path / "work" / "artifacts")
    uris = []
    for name in ("base", "policy-1"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(f'{{"is": "{name}"}}')
        uris.append(store.put(folder, "checkpoints", {}).uri)
    return uris


def search(policy: str) -> SearchPhase:
    generation = GenerationSettings(temperature=1.0, max_step_tokens=8, max_solution_tokens=24)
    search = SelfConsistencySettings(num_samples=3)
    return SearchPhase(f"search-{policy}", 1, "collect", "train", policy, None, search, generation=generation)


def make_run(run: LocalRun, policies: list[str]) -> int:
    problems = {"train": [Problem(f"question {number}", "1") for number in range(4)]}
    checkpoints = {name: ("policy", uri) for name, uri in zip(("base", "policy-1"), policies, strict=True)}
    return run.create("served", "search", 0, {}, problems, checkpoints, [search("base"), search("policy-1")])


def test_a_run_with_two_policies_has_each_served_in_its_turn(
    tmp_path: Path, script: Script, policies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("RESTMCTS_POLICY_SERVER", f"openai+http://127.0.0.1:{port}/v1")
    monkeypatch.setenv("RESTMCTS_POLICY_RETRY_SECONDS", "0.5")
    script(f'exec {sys.executable} -c "{SERVER.format(port=port)}"')
    ended = threading.Event()

    def follow(follower: WeightsFollower) -> None:
        while not ended.wait(0.2):
            follower.follow()

    with LocalRun(tmp_path / "work", ModelOptions()) as run:
        run_id = make_run(run, policies)
        follower = WeightsFollower(run.database, run.artifacts, tmp_path)
        thread = threading.Thread(target=follow, args=(follower,))
        thread.start()
        try:
            run.run(run_id)
        finally:
            ended.set()
            thread.join()
        with run.database.transaction() as transaction:
            phases = queries.phase_numbers(transaction, run_id)
            most_attempts = transaction.execute(select(func.max(REQUESTS.c.attempt))).scalar()
    assert [(phase.state, phase.num_done, phase.num_failed) for phase in phases] == [("done", 4, 0)] * 2
    assert most_attempts == 1, "waiting for a server uses up no attempt"
    started = [line for line in (tmp_path / "log").read_text().splitlines() if "starting with" in line]
    assert sorted(line.split()[3] for line in started) == sorted(map(served_name, policies)), "each was started once"


def test_a_server_that_reloads_is_told_once(tmp_path: Path, policies: list[str]) -> None:
    with PolicyServer(model="another") as server, LocalRun(tmp_path / "work", ModelOptions()) as run:
        run_id = make_run(run, policies)
        follower = WeightsFollower(run.database, run.artifacts, tmp_path, f"http://{server.host}")
        assert follower.follow() is None, "nothing asks for a policy yet"
        with run.database.transaction() as transaction:
            promotions.promote(transaction, runs.checkpoints_of(transaction, run_id)["policy-1"])
        for _ in range(2):
            served = follower.follow()
            assert served is not None and served.name == served_name(policies[1])
            assert server.model == served.path == str(tmp_path / served.name)
            assert (Path(served.path) / "config.json").read_text() == '{"is": "policy-1"}'
        with run.database.transaction() as transaction:
            assert wanted_policy(transaction, served.name) is None
            promotions.promote(transaction, runs.checkpoints_of(transaction, run_id)["base"])
        server.model = "restarted with what it was started with"
        follower.follow()
        assert server.model == str(tmp_path / served_name(policies[0]))


def test_all_servers_are_made_to_reload_and_one_that_is_down_keeps_none_from_it(
    tmp_path: Path, policies: list[str]
) -> None:
    (nobody,) = free_ports(1)
    with (
        PolicyServer(model="old") as one,
        PolicyServer(model="old") as two,
        LocalRun(tmp_path / "work", ModelOptions()) as run,
    ):
        run_id = make_run(run, policies)
        with run.database.transaction() as transaction:
            promotions.promote(transaction, runs.checkpoints_of(transaction, run_id)["policy-1"])
        url = f"http://{one.host},127.0.0.1:{nobody},{two.host}"
        with pytest.raises(httpx2.ConnectError):
            WeightsFollower(run.database, run.artifacts, tmp_path, url).follow()
        assert one.model == two.model == str(tmp_path / served_name(policies[1]))


@pytest.mark.parametrize("url", ["sglang:30000", "http://", "http://one:port", "http://one?replicas=all"])
def test_a_malformed_url_of_a_server_that_reloads_is_refused(tmp_path: Path, url: str) -> None:
    with LocalRun(tmp_path / "work", ModelOptions()) as run, pytest.raises(InputError, match="write"):
        WeightsFollower(run.database, run.artifacts, tmp_path, url)


def test_the_next_policy_is_fetched_while_the_one_before_is_served(tmp_path: Path, policies: list[str]) -> None:
    with LocalRun(tmp_path / "work", ModelOptions()) as run:
        run_id = make_run(run, policies)
        with run.database.transaction() as transaction:
            promotions.promote(transaction, runs.checkpoints_of(transaction, run_id)["base"])
        follower = WeightsFollower(run.database, run.artifacts, tmp_path)
        served = follower.follow()
        assert served is not None and served.name == served_name(policies[0])
        fetched = tmp_path / served_name(policies[1])
        assert (fetched / "config.json").read_text() == '{"is": "policy-1"}'
        fetched.unlink()
        follower.follow()
        assert not fetched.is_symlink(), "it is fetched ahead once"


def test_a_policy_on_a_server_of_its_own_is_nobody_elses_to_serve(tmp_path: Path) -> None:
    with LocalRun(tmp_path / "work", ModelOptions()) as run:
        run_id = run.create(
            "r", "search", 0, {}, {}, {"base": ("policy", "openai+http://host/v1?model=m")}, [search("base")]
        )
        with run.database.transaction() as transaction:
            promotions.promote(transaction, runs.checkpoints_of(transaction, run_id)["base"])
            assert wanted_policy(transaction, None) is None
