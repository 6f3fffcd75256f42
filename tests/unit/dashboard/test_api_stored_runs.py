"""More iterations, copies and tags over HTTP: under quotas, recorded, and what is refused."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import projects, runs
from restmcts_dashboard.api import stored_run_routes

from tests.unit.dashboard.api_project import PROBLEMS, Projects, two_projects

NEW = {"name": "new", "spec": {"policy": "number-paths", "iterations": 2}, "problems": PROBLEMS, "paused": True}


@pytest.fixture
def made(folder: Path, tmp_path: Path) -> Iterator[Projects]:
    shutil.copy(folder / "run.db", tmp_path / "run.db")
    found = two_projects(tmp_path / "run.db")
    assert found.ask("run", "POST", "/runs", NEW)[0] == 201
    yield found
    found.database.close()


def test_a_run_is_extended_cloned_and_tagged_and_all_of_it_is_recorded(made: Projects) -> None:
    status, extended = made.ask("run", "POST", "/runs/new/extend", {"iterations": 3, "max_tokens": 5000})
    assert status == 200 and extended["iterations"] == 3 and "collect-3" in extended["phases"]
    names = [phase["name"] for phase in made.ask("run", "GET", "/runs/new")[1]["phases"]]
    assert set(extended["phases"]) < set(names)
    status, twin = made.ask("run", "POST", "/runs/new/clone", {"name": "twin", "spec": {"seed": 3}, "paused": True})
    assert status == 201 and (twin["run"], twin["state"]) == ("twin", "paused")
    with made.database.transaction() as transaction:
        ids = {name: queries.run_named(transaction, name).id for name in ("new", "twin")}
        given = {name: [row.question for row in runs.problems_of(transaction, ids[name], "train")] for name in ids}
    assert given["new"] == given["twin"] and len(given["twin"]) > 20
    _, spec = made.ask("read", "GET", "/runs/twin/spec")
    assert (spec["seed"], spec["iterations"], spec["problems"], spec["max_tokens"]) == (3, 3, "inline", None)
    assert made.ask("run", "POST", "/runs/twin/tags", {"tags": ["b", " a "]})[1]["tags"] == ["a", "b"]
    assert made.ask("run", "POST", "/runs/twin/tags", {"tags": ["b"], "remove": True})[1]["tags"] == ["a"]
    assert made.actions() == [
        ("run", action, name)
        for action, name in (
            ("run.create", "new"),
            ("run.extend", "new"),
            ("run.clone", "twin"),
            ("run.tag", "twin"),
            ("run.tag", "twin"),
        )
    ]


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("extend", {"iterations": 2}, 409, "has 2 iterations; to extend it, give more in all"),
        ("extend", {"iterations": 0}, 400, "iterations"),
        ("extend", {"iterations": 99_999}, 400, "iterations"),
        ("extend", {"iterations": 9_000}, 409, "iterations times rounds, and evaluations, are 9,000; at most 1,000"),
        ("extend", {}, 400, "iterations is missing"),
        ("clone", {}, 400, "name is missing"),
        ("clone", {"name": "new"}, 409, "a run named 'new' exists already"),
        ("clone", {"name": "a/b"}, 400, "cannot be a part of an address"),
        ("clone", {"name": "c", "spec": {"problems": "/etc/passwd"}}, 400, "a clone has the problems of its run"),
        ("clone", {"name": "c", "spec": {"test": "/etc/passwd"}}, 400, "a clone has the problems of its run"),
        (
            "clone",
            {"name": "c", "spec": {"probe": "/etc/passwd", "truth.source": "votes"}},
            400,
            "has the problems of its",
        ),
        ("clone", {"name": "c", "spec": {"promotion.value_bench": "/etc"}}, 400, "labelled solutions"),
        ("clone", {"name": "c", "spec": {"plugins": ["/etc/x.py"]}}, 400, "plugins"),
        ("clone", {"name": "c", "spec": {"policy": "/etc"}}, 400, "policy: '/etc' cannot be named over HTTP"),
        ("clone", {"name": "c", "spec": {"value": "../x"}}, 400, "value: '../x' cannot be named over HTTP"),
        ("clone", {"name": "c", "spec": {"iterations": 5000}}, 400, "at most 1,000"),
        ("clone", {"name": "c", "spec": {"colour": 1}}, 400, "colour"),
        ("clone", {"name": "c", "spec": {"hint": "a\0b"}}, 400, "NUL"),
        ("tags", {"tags": []}, 400, "tags"),
        ("tags", {"tags": ["a"] * 101}, 400, "tags"),
        ("tags", {"tags": ["a\nb"]}, 400, "tag"),
        ("tags", {"tags": [""]}, 400, "tag"),
    ],
)
def test_what_cannot_be_done_is_refused(made: Projects, path: str, body: Any, status: int, reason: str) -> None:
    before = made.actions()
    found = made.ask("run", "POST", f"/runs/new/{path}", body)
    assert (found[0], reason in found[1]["reason"]) == (status, True), found
    assert made.actions() == before and len(made.ask("run", "GET", "/runs")[1]) == 2


def test_a_run_of_very_many_problems_is_not_copied(made: Projects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_run_routes, "MAX_COPIED", 10)
    status, answer = made.ask("run", "POST", "/runs/new/clone", {"name": "twin"})
    assert (status, answer["reason"]) == (400, "run new has 30 problems: over HTTP at most 10 are copied")
    monkeypatch.setattr(stored_run_routes, "MAX_COPIED", 30)
    monkeypatch.setattr(stored_run_routes, "MAX_COPIED_CHARACTERS", 400)
    status, answer = made.ask("run", "POST", "/runs/new/clone", {"name": "twin"})
    assert status == 400 and "characters: over HTTP at most 400 are copied" in answer["reason"]


def test_a_run_has_no_more_tags_than_a_list_shows(made: Projects) -> None:
    for begin in ("a", "b"):
        tags = [f"{begin}{number}" for number in range(60)]
        status, answer = made.ask("run", "POST", "/runs/new/tags", {"tags": tags})
    assert status == 409 and answer["reason"] == "run new would have 120 tags; at most 100: take some away"
    assert len(made.ask("run", "POST", "/runs/new/tags", {"tags": ["a0"], "remove": True})[1]["tags"]) == 59


def test_quotas_hold(made: Projects) -> None:
    assert made.ask("run", "POST", "/runs/new/resume", {"max_tokens": 600})[0] == 200
    with made.database.transaction() as transaction:
        projects.set_quotas(transaction, "physics", max_tokens=1000)
        used = projects.usage(transaction, projects.project_named(transaction, "physics").id).tokens
    left = max(1000 - used, 0)
    status, answer = made.ask("run", "POST", "/runs/new/extend", {"iterations": 3, "max_tokens": 601 + left})
    assert status == 409 and "tokens left for run new" in answer["reason"]
    asked = {"name": "large", "spec": {"max_tokens": left + 1}}
    status, answer = made.ask("run", "POST", "/runs/new/clone", asked)
    assert status == 409 and "tokens left for run large" in answer["reason"]
    with made.database.transaction() as transaction:
        projects.set_quotas(transaction, "physics", max_tokens=0, max_bytes=1)
    for path, body in (("extend", {"iterations": 3}), ("clone", {"name": "more"})):
        status, answer = made.ask("run", "POST", f"/runs/new/{path}", body)
        assert status == 409 and "bytes" in answer["reason"], answer


def test_a_run_of_operators_keeps_what_no_project_may_name(made: Projects) -> None:
    with made.database.transaction() as transaction:
        row = queries.run_named(transaction, "new")
        spec = {**row.config["spec"], "policy": "/models/theirs"}
        runs.change_run(transaction, row.id, {**row.config, "spec": spec}, goes_on=False)
    status, answer = made.ask("run", "POST", "/runs/new/clone", {"name": "copy"})
    assert status == 400 and "'/models/theirs' cannot be named over HTTP" in answer["reason"]
