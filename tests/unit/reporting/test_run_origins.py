"""Where a run comes from, in words."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from restmcts.domain.runs.spec import RunSpec, flattened, written
from restmcts.domain.runs.spec_settings import changed_settings
from restmcts.reporting.run_origins import NOT_RECORDED, RunOrigin

START = {
    "when": "2026-01-01T10:00:00+00:00",
    "command": "restmcts selftrain first-run.toml --workdir w",
    "versions": {"python": "3.11.9", "torch": "2.9.0"},
    "machine": {"os": "Linux", "cpu": "A CPU", "cores": 2, "memory_bytes": 3 * 2**30, "gpus": []},
}


@dataclass
class Run:
    """A stored run."""

    config: Mapping[str, Any]
    provenance: Sequence[Mapping[str, Any]] | None = None
    name: str = "mine"
    created_at: datetime = field(default=datetime(2026, 1, 1, 10, tzinfo=UTC))
    finished_at: datetime | None = None


def changed(**settings: Any) -> dict[str, Any]:
    found = changed_settings(RunSpec.model_validate(settings).model_dump(mode="json"))
    assert found is not None
    return found


def test_only_settings_that_are_not_the_default_are_changed() -> None:
    assert changed() == {}
    assert changed(policy="m", seed=7, budget={"nodes": 40}) == {"policy": "m", "seed": 7, "budget.nodes": 40}
    assert changed(generation={"temperature": 0.3})["generation.temperature"] == 0.3


def test_what_a_choice_brings_with_it_is_no_change_and_the_choice_is() -> None:
    assert changed(method="rest-em") == {"method": "rest-em"}
    assert changed(search={"algorithm": "mcts-star"}) == {"search.algorithm": "mcts-star"}
    assert changed(value="v") == {"value": "v"}
    assert changed(puzzles={}) == {"puzzles.kind": "number-paths"}
    assert changed(puzzles={"searched": 3}) == {"puzzles.kind": "number-paths", "puzzles.searched": 3}
    assert changed(seed_training={"num_steps": 9}) == {"seed_training.num_steps": 9}


def test_changed_settings_come_first_and_none_is_lost() -> None:
    spec = RunSpec.model_validate({"policy": "m", "models": {"device": "auto"}})
    origin = RunOrigin(Run({"spec": spec.model_dump(mode="json")}), None)
    assert list(origin.settings)[:2] == list(origin.changed) == ["policy", "models.device"]
    assert set(flattened(written(spec))) <= set(origin.settings)
    assert origin.settings_lines() == {
        "changed settings": "policy = m\nmodels.device = auto",
        "all settings": "restmcts runs spec mine",
    }


def test_every_value_of_a_setting_is_readable() -> None:
    spec = RunSpec.model_validate(
        {
            "policy": "m",
            "hint": "",
            "budget": {"iterations": None, "tokens": 9},
            "models": {"keep_training_logs": False},
            "evaluations": [
                {"name": "one path", "search": {"algorithm": "cot"}},
                {"name": "best of 4", "search": {"algorithm": "best-of-n", "num_samples": 4}, "budget": {"tokens": 50}},
            ],
        }
    )
    origin = RunOrigin(Run({"spec": spec.model_dump(mode="json")}), None)
    assert origin.changed == {
        "policy": "m",
        "hint": "(empty)",
        "budget.tokens": "9",
        "budget.iterations": "none",
        "models.keep_training_logs": "false",
        "evaluations.one path": "search.algorithm=cot",
        "evaluations.best of 4": "search.algorithm=best-of-n, search.num_samples=4, budget.tokens=50",
    }
    assert not any(sign in value for value in origin.settings.values() for sign in ("{", "–", "null", "None"))


def test_settings_that_this_version_does_not_know_are_shown_as_they_are() -> None:
    origin = RunOrigin(Run({"spec": {"policy": "m", "of_a_later_version": 1}}), None)
    assert (origin.changed, origin.settings) == ({}, {"policy": "m", "of_a_later_version": "1"})


def test_no_setting_is_shown_with_a_secret() -> None:
    spec = {
        "policy": "openai+http://me:pass-word@h/v1?model=m",
        "api_key": "pass-word",
        "judges": ["http://pass-word@h"],
    }
    origin = RunOrigin(Run({"spec": spec}), None)
    assert "pass-word" not in f"{origin.settings} {origin.spec} {origin.document} {origin.settings_lines()}"


def test_commands_versions_machine_and_times_are_said_and_later_ones_by_what_differs() -> None:
    later = {**START, "command": "restmcts runs work mine", "when": "2026-01-02T10:00:00+00:00",
             "machine": {**START["machine"], "gpus": ["H200, 143771 MiB"]}}  # fmt: skip
    run = Run({"spec": {}}, [START, later], finished_at=datetime(2026, 1, 3, tzinfo=UTC))
    lines = RunOrigin(run, datetime(2026, 1, 1, 11, tzinfo=UTC)).lines()
    assert lines["command"] == START["command"]
    assert lines["versions"] == "python 3.11.9, torch 2.9.0"
    assert lines["machine"] == "A CPU, 2 cores, 3.0 GiB of memory, no NVIDIA GPU, Linux"
    assert lines["continued (1)"].startswith("2026-01-02 10:00:00 UTC: restmcts runs work mine; machine A CPU")
    assert "H200" in lines["continued (1)"] and "versions" not in lines["continued (1)"]
    assert "first-run.toml" in lines["run file"] and "restmcts runs spec mine" in lines["run file"]
    assert [lines[f"{name} (UTC)"] for name in ("created", "started", "ended")] == [
        "2026-01-01 10:00:00",
        "2026-01-01 11:00:00",
        "2026-01-03 00:00:00",
    ]


def test_a_run_of_an_earlier_version_says_that_nothing_was_recorded() -> None:
    lines = RunOrigin(Run({}), None).lines()
    assert {lines[name] for name in ("command", "versions", "machine")} == {NOT_RECORDED}


def test_a_report_has_all_of_it_as_a_table_and_as_json() -> None:
    command = "restmcts evaluate 'a\nfile'"
    run = Run({"spec": {"policy": "m"}}, [{**START, "command": command}], finished_at=datetime(2026, 1, 3, tzinfo=UTC))
    origin = RunOrigin(run, None)
    table = origin.table("evaluation")
    assert table.title == "Where this evaluation comes from"
    assert dict(table.rows) == {**origin.lines(), **origin.settings_lines(), "command": "restmcts evaluate 'a file'"}
    document = json.loads(json.dumps(origin.dated_document))
    assert (document["changed"], document["provenance"][0]["command"]) == ({"policy": "m"}, command)
    assert (document["started_at"], document["finished_at"]) == (None, "2026-01-03T00:00:00+00:00")
