"""Runs over HTTP: created, filled and steered, each change recorded with it; what is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import projects, runs
from restmcts_dashboard.api.bodies import MAX_BODY_BYTES

from tests.unit.dashboard.api_project import PROBLEMS, SEARCHED, Projects, two_projects

NEW = {"name": "new", "spec": {"policy": "number-paths"}, "problems": PROBLEMS}
PUZZLES = {"demonstrations": 6, "bootstrap": 3, "searched": 3, "test": 4, "compared": 2, "held_out": 2}


@pytest.fixture
def made(folder: Path, tmp_path: Path) -> Iterator[Projects]:
    shutil.copy(folder / "run.db", tmp_path / "run.db")
    found = two_projects(tmp_path / "run.db")
    yield found
    found.database.close()


def asked_in(counts: dict[str, int]) -> int:
    """Return how many problems for training there are, those that are held out among them."""
    return counts["train"] + counts.get("held-out", 0)


def stored(made: Projects, name: str) -> Any:
    with made.database.transaction() as transaction:
        return runs.find_run(transaction, name)


def test_a_run_is_created_filled_and_steered_and_all_of_it_is_recorded(made: Projects) -> None:
    spec = {"policy": "Qwen/Qwen3-0.6B", "iterations": 2, "budget": {"tokens": 500}, "promotion.num_problems": 3}
    body = {"name": "sums", "spec": spec, "test": PROBLEMS[:4], "paused": True}
    status, created = made.ask("run", "POST", "/runs", {**body, "problems": PROBLEMS[4:]})
    assert status == 201, created
    assert created["run"] == "sums" and created["state"] == "paused"
    assert created["problems"]["test"] == 4 and asked_in(created["problems"]) == 26
    added = made.ask("run", "POST", "/runs/sums/problems", {"problems": [{"question": "2 + 2?", "answer": 4}]})
    assert added[0] == 200 and asked_in(added[1]["added"]) == 1
    assert made.ask("run", "POST", "/runs/sums/problems?set=test", {"problems": PROBLEMS[5:6]})[1]["added"] == {
        "test": 1
    }
    assert made.ask("run", "POST", "/runs/sums/resume", {"max_tokens": 9000}) == (
        200,
        {"run": "sums", "state": "running"},
    )
    assert made.ask("run", "POST", "/runs/sums/pause") == (200, {"run": "sums", "state": "paused"})
    assert made.ask("run", "POST", "/runs/sums/pause")[0] == 409
    assert made.ask("run", "POST", "/runs/sums/resume") == (200, {"run": "sums", "state": "running"})
    assert made.ask("run", "POST", "/runs/sums/cancel") == (200, {"run": "sums", "state": "cancelled"})
    _, found = made.ask("read", "GET", "/runs/sums/spec")
    assert found["iterations"] == 2 and found["budget"]["tokens"] == 500 and found["promotion"]["num_problems"] == 3
    assert (found["problems"], found["test"], found["policy"]) == ("inline", "inline", "Qwen/Qwen3-0.6B")
    _, run = made.ask("read", "GET", "/runs/sums")
    assert (run["state"], run["max_tokens"], run["tokens_spent"]) == ("cancelled", 9000, 0)
    actions = ["run.create", "problems.add", "problems.add", "run.resume", "run.pause", "run.resume", "run.cancel"]
    assert made.actions() == [("run", action, "sums") for action in actions]
    with made.database.transaction() as transaction:
        details = [row.detail for row in projects.audit(transaction, "physics", 10)[::-1]]
    assert details[1:4] == [{"set": "train", "problems": 1}, {"set": "test", "problems": 1}, {"max_tokens": 9000}]


def test_a_run_is_recorded_to_come_from_the_token_that_made_it(made: Projects) -> None:
    assert made.ask("run", "POST", "/runs", {**NEW, "paused": True})[0] == 201
    assert made.ask("admin", "POST", "/runs/new/resume")[0] == 200
    commands = [one["command"] for one in stored(made, "new").provenance]
    assert commands == ["HTTP API, token run", "HTTP API, token admin"]


def test_a_stored_spec_makes_the_same_run_again(made: Projects) -> None:
    assert made.ask("run", "POST", "/runs", NEW)[0] == 201
    _, spec = made.ask("run", "GET", "/runs/new/spec")
    again = {**NEW, "name": "again", "spec": {**spec, "problems": None}}
    assert made.ask("run", "POST", "/runs", again)[0] == 201
    assert stored(made, "again").config == stored(made, "new").config


def test_puzzles_are_drawn_by_the_server_and_a_run_without_problems_waits(made: Projects) -> None:
    puzzles = {"name": "puzzles", "spec": {"policy": "number-paths", "puzzles": PUZZLES}}
    status, created = made.ask("run", "POST", "/runs", puzzles)
    assert (status, created["state"]) == (201, "running")
    assert created["problems"]["search-1"] == 3
    _, empty = made.ask("run", "POST", "/runs", {"name": "empty", "spec": {"policy": "number-paths"}})
    assert (empty["state"], empty["problems"]) == ("paused", {"train": 0})


def test_problems_are_read_as_rows_of_files_are(made: Projects) -> None:
    rows = [
        {"question": "What is 7 - 2?", "answer": "#### 5"},
        {"question": "What is 7 - 3?", "answer": 4.0, "solution": ["7 - 3 is 4", "The answer is 4"]},
        {"question": "What is 7 - 4?", "answer": "3", "kind": "numeric"},
    ]
    spec = {"policy": "number-paths", "promotion": {"num_problems": 0}}
    assert made.ask("run", "POST", "/runs", {"name": "rows", "spec": spec, "problems": rows})[0] == 201
    with made.database.transaction() as transaction:
        found = queries.list_problems(transaction, queries.run_named(transaction, "rows").id, "train", 9)
    assert [(one.answer, one.kind) for one in found] == [("5", "math"), ("4", "math"), ("3", "numeric")]
    assert found[1].solution == ["7 - 3 is 4\n", "The answer is 4\n"]


def spec(**settings: Any) -> dict[str, Any]:
    return {**NEW, "spec": {"policy": "number-paths", **settings}}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({**NEW, "spec": {}}, "policy is missing"),
        (spec(policy="/etc"), "policy: '/etc' cannot be named over HTTP"),
        (spec(policy="."), "cannot be named over HTTP"),
        (spec(policy="~"), "cannot be named over HTTP"),
        (spec(policy="tests"), "cannot be named over HTTP"),
        (spec(policy="models/.."), "cannot be named over HTTP"),
        (spec(policy="smollm2"), "cannot be named over HTTP"),
        (spec(policy="artifact:../../etc"), "cannot be named over HTTP"),
        (spec(policy="artifact:/etc"), "cannot be named over HTTP"),
        (spec(policy="artifact:/etc/restmcts"), "cannot be named over HTTP"),
        (spec(policy="artifact:checkpoints"), "cannot be named over HTTP"),
        (spec(value="artifact:checkpoints/abc/def"), "cannot be named over HTTP"),
        (spec(policy="openai+http://here:8000/v1?model=/etc"), "cannot be named over HTTP"),
        (spec(policy="openai+http://here:8000/v1"), "name the model that the server serves"),
        (spec(policy="openai+http://me:secret@here:8000/v1?model=a"), "password"),
        (spec(policy="a" * 300), "cannot be named over HTTP"),
        (spec(policy=f"openai+http://here/v1?model=a&concurrency={'1' * 5000}"), "concurrency is '111"),
        (spec(value=f"some/one?format=judge&samples={'1' * 5000}"), "samples is '111"),
        (spec(value="some/one?format=judge&samples=10001"), "more than 10,000 samples"),
        (spec(value="chat+http://here/v1?model=a&format=judge&argue=20000"), "more than 10,000 samples or tokens"),
        (
            spec(search={"algorithm": "best-of-n", "num_samples": 10**9}),
            "search: num_samples is 1,000,000,000; at most",
        ),
        (spec(search={"algorithm": "best-of-n", "num_samples": 10**400}), "spec: search: num_samples is 1"),
        (spec(num_bootstrap_samples=10**9), "num_bootstrap_samples is 1,000,000,000; at most 10,000"),
        (spec(promotion={"num_samples": 10**9}), "promotion.num_samples is 1,000,000,000; at most 10,000"),
        (spec(value="/etc"), "value: '/etc' cannot be named over HTTP"),
        (spec(value="ensemble+some/one,/etc"), "value: '/etc' cannot be named over HTTP"),
        (spec(value="some/one?format=implicit&reference=/etc"), "value: reference: '/etc' cannot be named"),
        (spec(value="some/one?path=/etc"), "unknown option path"),
        (spec(value="pooling+http://here:1?model=a&format=b&tokenizer=/etc"), "value: '/etc' cannot be named"),
        (spec(value="pooling+http://here:1?model=a"), "by which format this server scores"),
        (spec(problems="/etc/passwd"), "spec.problems is '/etc/passwd': problems come with the request"),
        (spec(problems="hub:openai/gsm8k"), "spec.problems is 'hub:openai/gsm8k': problems come with"),
        (spec(test="/etc/passwd"), "spec.test is '/etc/passwd': problems come with the request"),
        (spec(probe="x.jsonl", truth={"source": "votes"}), "spec.probe is 'x.jsonl': problems come with"),
        (spec(**{"promotion.value_bench": "/etc"}), "spec.promotion.value_bench: labelled solutions cannot"),
        (spec(promotion={"value_bench": "/etc"}), "spec.promotion.value_bench: labelled solutions cannot"),
        (spec(plugins=["/tmp/mine.py"]), "spec.plugins: a stack runs only the plugins"),
        (spec(truth={"source": "judge", "judges": ["/etc"]}), "no policy server"),
        (spec(iterations=2000), "iterations times rounds, and evaluations, are 2,000; at most 1,000"),
        ({**spec(puzzles={"searched": 60_000}), "problems": []}, "puzzles in all iterations; at most 50,000"),
        (spec(puzzles=PUZZLES), "puzzles have their own problems"),
        (
            {**spec(evaluations=[{"name": "collect-1", "search": {"algorithm": "cot"}}]), "test": PROBLEMS},
            "evaluation collect-1: the run has a phase of that name already",
        ),
        (spec(hint="a" * 2**20, method="star", iterations=1000), "spec: it has 1,048,"),
        (spec(**{f"key{number}": 1 for number in range(10**5)}), "characters as JSON; at most 32,768"),
        (spec(iterations="many"), "iterations is 'many'; give a whole number"),
        (spec(colour=1), "spec: colour: there is no such setting"),
        (spec(hint="a\0b"), '"spec" contains a NUL character'),
        (spec(hint="a\ud800b"), '"spec" is not valid Unicode'),
        (spec(hint={"deep": [[[1]]]}), "hint"),
        ({**NEW, "name": "a/b"}, "name: 'a/b' cannot be a part of an address"),
        ({**NEW, "name": ".."}, "name: '..' cannot be a part of an address"),
        ({**NEW, "name": 5}, "name: Input should be a valid string"),
        ({**NEW, "colour": 1}, "colour: Extra inputs are not permitted"),
        ({"spec": {}}, "name is missing"),
        ([], "the body: "),
        ({**NEW, "problems": [{"question": "a"}]}, 'problems, problem 1: no "answer"'),
        ({**NEW, "problems": [*PROBLEMS, {"question": " ", "answer": 1}]}, "problems, problem 31: "),
        ({**NEW, "problems": [{"question": "a\0", "answer": 1}]}, '"question" contains a NUL character'),
        ({**NEW, "problems": [{"question": "a\ud800", "answer": 1}]}, '"question" is not valid Unicode'),
        ({**NEW, "problems": [{"question": "a", "answer": 1, "kind": "nope"}]}, "nope"),
        ({**NEW, "test": [{"question": "a"}]}, 'test, problem 1: no "answer"'),
    ],
)
def test_what_is_no_run_of_a_project_is_refused(made: Projects, body: Any, reason: str) -> None:
    status, answer = made.ask("run", "POST", "/runs", body)
    assert (status, reason in answer["reason"]) == (400, True), answer
    assert made.actions() == []
    assert stored(made, "new") is None


@pytest.mark.parametrize("policy", ["Qwen/Qwen3-0.6B", "gpt2", "artifact:checkpoints/abc", "number-paths"])
@pytest.mark.parametrize("value", [None, "some/values", "ensemble+some/one,other/one?penalty=1.0"])
def test_models_that_every_worker_reaches_can_be_named(made: Projects, policy: str, value: str | None) -> None:
    given = {"value": value} if value is not None else {}
    status, answer = made.ask("run", "POST", "/runs", spec(policy=policy, **given))
    assert status == 201 or "ensemble" in str(answer), answer


def test_what_the_stack_has_already_or_quotas_do_not_allow_is_a_conflict(made: Projects) -> None:
    assert made.ask("run", "POST", "/runs", NEW)[0] == 201
    status, answer = made.ask("stranger", "POST", "/runs", NEW)
    assert (status, answer) == (409, {"reason": "a run named 'new' exists already: choose another name"})
    assert made.ask("run", "POST", f"/runs/{SEARCHED}/resume")[0] == 409
    assert made.ask("run", "POST", f"/runs/{SEARCHED}/problems", {"problems": PROBLEMS})[0] == 409
    with made.database.transaction() as transaction:
        projects.set_quotas(transaction, "chemistry", max_tokens=1000)
    asked = {**NEW, "name": "large", "spec": {"policy": "number-paths", "max_tokens": 1001}}
    status, answer = made.ask("stranger", "POST", "/runs", asked)
    assert status == 409 and "chemistry has 1,000 of 1,000 tokens left" in answer["reason"]
    assert stored(made, "large") is None
    assert made.ask("stranger", "POST", "/runs", {**asked, "spec": {"policy": "number-paths"}})[0] == 201
    assert made.ask("stranger", "GET", "/runs/large")[1]["max_tokens"] == 1000
    assert made.ask("stranger", "GET", "/project")[1]["usage"]["tokens"] == 1000
    assert made.actions() == [("run", "run.create", "new")]


def test_a_body_beyond_the_limit_is_refused(made: Projects) -> None:
    secret = {"Authorization": f"Bearer {made.secrets['run']}", "Content-Type": "application/json"}
    large = json.dumps({**NEW, "problems": [{"question": "a" * MAX_BODY_BYTES, "answer": 1}]}).encode()
    for content in (large, iter([large[:5_000_000], large[5_000_000:]])):
        assert made.client.post("/api/v1/runs", content=content, headers=secret).status_code == 413
    for content, reason in ((b"{", "the body is no JSON"), (b"[" * 100_000, ""), (b"\xff", "")):
        found = made.client.post("/api/v1/runs", content=content, headers=secret)
        assert found.status_code == 400 and reason in found.json()["reason"]
    as_text = {**secret, "Content-Type": "text/plain"}
    found = made.client.post("/api/v1/runs", content=json.dumps(NEW).encode(), headers=as_text)
    assert found.status_code == 400 and "Content-Type: application/json" in found.json()["reason"]
    deep = b'{"name": "new", "spec": ' + b'{"a":' * 900 + b"1" + b"}" * 901
    assert made.client.post("/api/v1/runs", content=deep, headers=secret).status_code == 400
    assert made.actions() == []
