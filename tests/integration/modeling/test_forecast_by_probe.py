"""A run is forecast from a probe that really does a little of it, and leaves nothing."""

import json
from pathlib import Path

import pytest
from restmcts_cli.main import app
from restmcts_local import work_probe
from typer.testing import CliRunner

RUN = """
policy = "number-paths"
method = "rest-mcts"
puzzles = { demonstrations = 20, bootstrap = 10, searched = 9, test = 3, compared = 0, held_out = 3, difficulty = "3-4" }
budget = { tokens = 40, iterations = "null" }
generation = { max_step_tokens = 8, max_solution_tokens = 24 }
seed_training = { num_steps = 6, batch_size = 4 }
policy_training = { num_steps = 500, batch_size = 4 }
value_training = { num_steps = 5, batch_size = 4 }
models = { num_threads = 1, num_training_threads = 1, keep_training_logs = false }
"""


def test_a_probe_measures_every_kind_of_phase_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_probe, "SIZES", (2,))
    (tmp_path / "run.toml").write_text(RUN)
    typed = ["selftrain", str(tmp_path / "run.toml"), "--workdir", str(tmp_path / "work"), "--dry-run", "--json"]
    result = CliRunner().invoke(app, typed)
    assert result.exit_code == 0, result.exception
    found = json.loads(result.stdout)
    assert found["source"] == "probe"
    phases = {phase["name"]: phase for phase in found["phases"]}
    assert phases["policy-0"]["seconds"] > 0
    assert phases["collect-1"]["num_trees"] == 9
    assert phases["collect-1"]["tokens"] > 9 * 20
    assert phases["policy-1"]["num_steps"] == 500
    assert found["memory_bytes"]["expected"] > 450 * 2**20
    assert found["not_measured"] == []
    assert found["seconds"]["low"] < found["seconds"]["expected"] < found["seconds"]["high"]
    assert found["disk_bytes"]["expected"] > 100_000
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


def test_what_more_iterations_take_is_forecast_and_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_probe, "SIZES", (1,))
    (tmp_path / "run.toml").write_text(RUN)
    place = ["--workdir", str(tmp_path / "work")]
    assert CliRunner().invoke(app, ["runs", "create", "first", str(tmp_path / "run.toml"), *place]).exit_code == 0
    before = (tmp_path / "work" / "run.db").read_bytes()
    asked = ["runs", "extend", "first", "--iterations", "4", *place, "--dry-run", "--json"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.exception
    assert result.stderr.startswith("forecast: ")
    phases = {phase["name"]: phase for phase in json.loads(result.stdout)["phases"]}
    assert phases["collect-4"]["num_trees"] == 9 and phases["collect-4"]["seconds"] > 0
    assert (tmp_path / "work" / "run.db").read_bytes() == before
    refused = CliRunner().invoke(app, [part if part != "4" else "1" for part in asked])
    assert "to extend it, give more in all" in str(refused.exception)
