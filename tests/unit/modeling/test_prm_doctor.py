"""`restmcts prm doctor`: sound models pass, and each fault is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from restmcts.modeling.prm.doctor import examine
from restmcts.modeling.prm.loading import load_prm
from restmcts.modeling.prm.reference import parse_reference
from restmcts.testing.prm_models import BUILDERS, build_judge, build_thudm, build_trl, make_config, make_tokenizer, save
from restmcts_cli.main import app
from transformers import AutoModelForSequenceClassification
from typer.testing import CliRunner


def faults(folder: Path, options: str = "") -> dict[str, str]:
    prm = load_prm(parse_reference(f"{folder}{options}"), folder)
    return {finding.check: f"{finding.found}; {finding.remedy}" for finding in examine(prm) if not finding.right}


def pad_on(folder: Path, side: str) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": side}))


@pytest.mark.parametrize("name", BUILDERS)
def test_a_sound_model_of_every_format_is_fit(tmp_path: Path, name: str) -> None:
    build, options = BUILDERS[name]
    build(tmp_path)
    pad_on(tmp_path, "left" if name == "thudm" else "right")
    if name == "thudm":
        soften(tmp_path)
    assert faults(tmp_path, options) == {}


def soften(folder: Path) -> None:
    """Make the head's scores lie well inside the range."""
    weights = torch.load(folder / "value_model.pt", weights_only=True)
    weights["LN.weight"] *= 0.02
    weights["LN.bias"] = torch.full_like(weights["LN.bias"], 0.5)
    torch.save(weights, folder / "value_model.pt")


def test_a_value_head_read_at_the_last_position_of_right_padding_is_reported(tmp_path: Path) -> None:
    build_thudm(tmp_path)
    soften(tmp_path)
    pad_on(tmp_path, "right")
    found = faults(tmp_path)
    assert list(found) == ["last position"]
    assert "padded on the right" in found["last position"] and "padding_side to left" in found["last position"]


def test_what_follows_a_step_must_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_trl(tmp_path)
    prm = load_prm(parse_reference(f"{tmp_path}"), tmp_path)
    trunk = prm.reader.trunk

    class BothWays(torch.nn.Module):
        config = trunk.config

        def forward(self, **inputs: Any) -> Any:
            output = trunk(**inputs)
            output.last_hidden_state = output.last_hidden_state + output.last_hidden_state.mean(dim=1, keepdim=True)
            return output

    prm.reader.trunk = BothWays()
    wrong = {finding.check for finding in examine(prm) if not finding.right}
    assert {"prefixes", "padding side"} <= wrong


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda weights: weights["LN.weight"].mul_(50), "range"),
        (lambda weights: weights["LN.weight"].fill_(0), "range"),
        (lambda weights: weights["LN.weight"].fill_(float("nan")), "range"),
    ],
)
def test_a_head_of_another_scale_or_without_training_is_reported(
    tmp_path: Path, change: Callable[[Any], Any], check: str
) -> None:
    build_thudm(tmp_path)
    pad_on(tmp_path, "left")
    weights = torch.load(tmp_path / "value_model.pt", weights_only=True)
    change(weights)
    torch.save(weights, tmp_path / "value_model.pt")
    assert check in faults(tmp_path)


def test_a_short_context_is_reported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(make_config(num_labels=1, max_position_embeddings=400))
    save(tmp_path, model, make_tokenizer())
    assert list(faults(tmp_path)) == ["length limit"]


def test_the_command_shows_a_verdict_and_exits_by_it(tmp_path: Path) -> None:
    build_trl(tmp_path / "sound")
    shown = CliRunner().invoke(app, ["prm", "doctor", str(tmp_path / "sound")])
    assert shown.exit_code == 0 and "trl, as its files show" in shown.stdout and "fit for use" in shown.stdout
    build_thudm(tmp_path / "faulty")
    pad_on(tmp_path / "faulty", "right")
    wrong = CliRunner().invoke(app, ["prm", "doctor", str(tmp_path / "faulty"), "--json"])
    document = json.loads(wrong.stdout)
    assert wrong.exit_code == 1 and not document["right"] and document["format"]["name"] == "thudm"
    assert {"check", "right", "found", "remedy"} == set(document["checks"][0])


def test_a_judge_is_asked(tmp_path: Path) -> None:
    build_judge(tmp_path)
    shown = CliRunner().invoke(app, ["prm", "doctor", f"{tmp_path}?format=judge"])
    assert shown.exit_code == 0, shown.output
    assert "judge, as said" in shown.stdout and "for 9 steps" in shown.stdout and "whole solutions" in shown.stdout


def test_a_server_that_is_not_there_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTMCTS_POLICY_RETRY_SECONDS", "0")
    shown = CliRunner().invoke(app, ["prm", "doctor", "openai+http://127.0.0.1:1/v1?model=m&format=judge", "--json"])
    document = json.loads(shown.stdout)
    assert shown.exit_code == 1 and not document["right"]
    assert {check["remedy"] for check in document["checks"]} == {"start the server, or check its URL"}


def test_formats_are_listed() -> None:
    rows = json.loads(CliRunner().invoke(app, ["prm", "formats", "--json"]).stdout)
    assert {row["name"] for row in rows} == {*BUILDERS, "value", "judge"}
