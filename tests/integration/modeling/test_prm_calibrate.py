"""`restmcts prm calibrate`: a folder that differs in its temperature alone, and scores so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ScoreSteps
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.scoring import Calibration
from restmcts.domain.search.best_of_n import SelfConsistencySettings
from restmcts.errors import ModelError
from restmcts.modeling.checkpoints import LoadedModel, load_value_model, save_checkpoint
from restmcts.modeling.prm.loading import load_prm
from restmcts.modeling.prm.reference import parse_reference
from restmcts.modeling.value.calibration_files import CALIBRATION_FILE
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts.testing.prm_models import build_trl
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts_cli.main import app
from typer.testing import CliRunner

REQUEST = ScoreSteps(0, (), (("ab\n", "c\n"), ("d\n",)), whole=True)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, search_folder: Callable[..., int]) -> Path:
    path = tmp_path_factory.mktemp("searched")
    problems = [Problem(f"problem {number}", RIGHT_ANSWER) for number in range(6)]
    phase = SearchPhase("held-out-trees", 0, "held-out", "train", "base", None, SelfConsistencySettings(num_samples=5))
    search_folder(path, "mine", problems, [phase], RandomModels(answer_rate=0.7))
    return path


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["prm", *map(str, arguments)])


def scores(folder: Path) -> list[float]:
    prm = load_prm(parse_reference(str(folder)), folder)
    scorer = TransformersScorer(prm.loaded, reader=prm.reader)
    (answer,) = scorer.score(["abc"], [REQUEST])
    return [value for values in answer.values for value in values]


@pytest.fixture
def value_folder(make_value_model: Callable[..., LoadedModel], tmp_path: Path) -> Path:
    save_checkpoint(make_value_model(), tmp_path / "value")
    return tmp_path / "value"


def test_a_calibrated_folder_differs_in_its_temperature_alone(work: Path, value_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "calibrated"
    result = call("calibrate", value_folder, "--on", "mine", "--workdir", work, "--out", out, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    found = json.loads(result.stdout)
    names = {path.name for path in value_folder.iterdir()}
    assert {path.name for path in out.iterdir()} == names | {CALIBRATION_FILE}
    assert all((out / name).read_bytes() == (value_folder / name).read_bytes() for name in names)
    kept = json.loads((out / CALIBRATION_FILE).read_text())
    assert {name: kept[name] for name in ("temperature", "bias")} == found["calibration"]
    assert kept["NLL"] == {name: found["nll"][name]["value"] for name in ("before", "after")}
    assert kept["run"] == "mine" and found["num_problems"] <= 6 and found["num_folds"] == min(5, found["num_problems"])
    fitted = Calibration(**found["calibration"])
    assert scores(out) == pytest.approx([fitted.applied(value) for value in scores(value_folder)])
    measured = [
        json.loads(call("bench", folder, "--on", "mine", "--workdir", work, "--json").stdout)
        for folder in (value_folder, out)
    ]
    assert measured[0]["auc"] == measured[1]["auc"] and measured[0]["siblings"] == measured[1]["siblings"]
    assert measured[0]["calibration_error"]["value"] == pytest.approx(found["calibration_error"]["before"]["value"])
    again = call("calibrate", out, "--on", "mine", "--workdir", work, "--out", tmp_path / "again", "--json")
    kept = json.loads((tmp_path / "again" / CALIBRATION_FILE).read_text())
    twice = Calibration(kept["temperature"], kept["bias"])
    assert fitted.then(Calibration(**json.loads(again.stdout)["calibration"])) == twice


def test_a_calibrated_model_that_is_trained_further_has_none(value_folder: Path, tmp_path: Path) -> None:
    (value_folder / CALIBRATION_FILE).write_text('{"temperature": 2.0, "bias": 0.0}')
    loaded = load_value_model(value_folder)
    assert loaded.calibration == Calibration(2.0, 0.0)
    save_checkpoint(loaded, tmp_path / "next")
    assert load_value_model(tmp_path / "next").calibration is None


def test_a_model_of_another_format_is_calibrated_too(work: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "trl", tmp_path / "out"
    build_trl(folder)
    found = call("calibrate", folder, "--on", "mine", "--workdir", work, "--out", out, "--json")
    fitted = Calibration(**json.loads(found.stdout)["calibration"])
    assert fitted.bias == 0.0
    assert scores(out) == pytest.approx([fitted.applied(value) for value in scores(folder)])
    said = " ".join(
        call("calibrate", folder, "--on", "mine", "--workdir", work, "--out", tmp_path / "b").stdout.split()
    )
    assert f"Temperature {fitted.temperature:.3f}, bias 0.000" in said and "The order of values is as before" in said


@pytest.mark.parametrize("text", ["{", "[]", '{"temperature": 0, "bias": 0}', '{"temperature": "x", "bias": 0}'])
def test_a_damaged_calibration_is_one_line(value_folder: Path, text: str) -> None:
    (value_folder / CALIBRATION_FILE).write_text(text)
    with pytest.raises(ModelError, match="remove it for values as they were"):
        load_value_model(value_folder)


def test_what_cannot_be_calibrated_is_refused_and_nothing_is_written(
    work: Path, value_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    refused = call("calibrate", value_folder, "--on", "mine", "--workdir", work, "--out", tmp_path / "full")
    assert "is not empty" in str(refused.exception)
    arguments = ("--on", "mine", "--workdir", work, "--limit", 1, "--out", tmp_path / "new")
    assert "at least two" in str(call("calibrate", value_folder, *arguments).exception)
    assert not (tmp_path / "new").exists()
