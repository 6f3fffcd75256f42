"""`restmcts prm train`: from a file of labels to a value model that knows right from wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.files.dataset_shards import POLICY_SCHEMA, write_shards
from restmcts.modeling.checkpoints import LoadedModel, load_value_model, save_checkpoint
from restmcts_cli.main import app
from typer.testing import CliRunner, Result


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def shepherd(word: str, sign: str) -> dict[str, str]:
    return {"input": f"a Step 1: {word} ки", "label": f"a Step 1: {word} {sign}", "task": "mine"}


@pytest.fixture
def trunk(make_policy: Callable[..., LoadedModel], tmp_path: Path) -> Path:
    save_checkpoint(make_policy(), tmp_path / "trunk")
    return tmp_path / "trunk"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file, out = tmp_path / "labels.jsonl", tmp_path / "data"
    rows = [shepherd("good", "+"), shepherd("bad", "-")] * 8
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert call("datasets", "import", file, out, "--format", "math-shepherd").exit_code == 0
    return out


def test_labels_of_others_train_a_value_model_that_a_bench_measures(trunk: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "prm"
    settings = [part for each in ("num_steps=12", "batch_size=8", "learning_rate=0.01") for part in ("-t", each)]
    result = call("prm", "train", data, out, "--trunk", trunk, *settings, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    report = json.loads(result.stdout)
    assert (report["num_examples"], report["num_steps"], report["objective"]) == (16, 12, "soft")
    assert report["last_loss"] < report["first_loss"]
    assert load_value_model(out).value_scale == "logit"
    bench = tmp_path / "bench.jsonl"
    lines = [
        {"prompt": "a", "completions": [f"Step 1: {word}"], "labels": [word == "good"]} for word in ("good", "bad")
    ]
    bench.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found: dict[str, Any] = json.loads(call("prm", "bench", out, "--on", bench, "--json").stdout)
    assert found["rule"] == "below", "values of cross-entropy are chances"
    assert found["headline"] == {"name": "F1", "value": 1.0}


def test_what_cannot_be_trained_is_one_line_and_leaves_nothing(trunk: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "prm"

    def refused(*arguments: object) -> str:
        return str(call("prm", "train", *arguments, "--trunk", trunk).exception)

    assert "no setting 'steps'" in refused(data, out, "-t", "steps=3")
    assert "num_steps" in refused(data, out, "-t", "num_steps=many")
    (tmp_path / "empty").mkdir()
    assert "has no training data" in refused(tmp_path / "empty", out)
    (tmp_path / "policy").mkdir()
    row = {"question": "a", "steps": ["b\n"], "weights": [1.0], "finished": True, "tree_id": None}
    write_shards(iter([row]), POLICY_SCHEMA, {}, tmp_path / "policy")
    assert "data of a policy" in refused(tmp_path / "policy", out)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "train-00000.parquet").write_bytes(b"PAR1")
    assert "cannot be read" in refused(tmp_path / "broken", out)
    assert not out.exists()
    assert "exists already" in refused(data, data)
