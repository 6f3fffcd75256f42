"""`restmcts datasets consensus`: labels beside a judge behind a server, whose replies are kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.files.dataset_shards import read_rows
from restmcts.domain.problems import Problem
from restmcts.modeling.checkpoints import LoadedModel, save_checkpoint
from restmcts.testing.knowing_judges import CONTEXT, knowing_judge
from restmcts.testing.policy_servers import PolicyServer
from restmcts_cli.main import app
from typer.testing import CliRunner, Result

KNOWN = [Problem("What is 1 + 2?", None, ("1 + 2 = 3\n", "So 3\n"))]
ROWS = [
    {"prompt": "What is 1 + 2?", "completions": ["1 + 2 = 3", "So 3"], "labels": [1.0, 0.75]},
    {"prompt": "What is 1 + 2?", "completions": ["1 + 2 = 3", "So 4"], "labels": [0.0, 0.0]},
    {"prompt": "What is 1 + 2?", "completions": ["1 + 2 = 4"], "labels": [1.0]},
]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["datasets", *map(str, arguments)])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file, out = tmp_path / "labels.jsonl", tmp_path / "data"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert call("import", file, out, "--format", "stepwise").exit_code == 0
    return out


@pytest.fixture(scope="module")
def server() -> Any:
    with PolicyServer(log_probs_of=knowing_judge(KNOWN, 0.9, 0.1), max_context=CONTEXT) as serving:
        yield serving


def judged(server: PolicyServer, *arguments: object) -> Any:
    result = call("consensus", *arguments, "--judge", server.uri("openai", "&format=judge"), "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


def test_labels_stay_where_the_judge_agrees(server: PolicyServer, data: Path, tmp_path: Path) -> None:
    found = judged(server, data, tmp_path / "agreed")
    rows = read_rows(tmp_path / "agreed")
    assert [row["targets"] for row in rows] == [[1.0, 0.75], [None, 0.0]], "soft labels stay as they were"
    assert [row["leads_to_right"] for row in rows] == [[True, True], [None, False]]
    counts = {name: found[name] for name in ("num_right", "agreed_right", "num_wrong", "agreed_wrong")}
    assert counts == {"num_right": 3, "agreed_right": 2, "num_wrong": 2, "agreed_wrong": 1}
    assert (found["num_rows"], found["rule"], found["refused"]) == (2, "agree", 0)
    assert "has training data already" in str(call("consensus", data, tmp_path / "agreed", "--judge", "x").exception)


def test_a_mean_mixes_both_and_what_the_judge_said_is_not_asked_again(
    server: PolicyServer, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mixed"
    judged(server, data, out, "--rule", "mean", "--weight", 0.25)
    rows = read_rows(out)
    expected = [[0.975, 0.7875], [0.225, 0.025], [0.775]]
    assert [row["targets"] for row in rows] == [pytest.approx(each, abs=1e-6) for each in expected]
    assert [row["leads_to_right"] for row in rows] == [[True, True], [False, False], [True]]
    # As if it had been killed before it wrote its data.
    (out / "card.json").unlink()
    asked = len(server.bodies)
    judged(server, data, out, "--rule", "agree")
    assert len(server.bodies) == asked
    assert [row["targets"] for row in read_rows(out)] == [[1.0, 0.75], [None, 0.0]]


def test_values_of_progress_are_no_judgement(
    data: Path, make_value_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    save_checkpoint(make_value_model(), tmp_path / "value")
    result = call("consensus", data, tmp_path / "out", "--judge", tmp_path / "value")
    assert "say no step right or wrong" in str(result.exception) and not (tmp_path / "out").exists()


def test_a_judge_that_refuses_all_or_agrees_with_nothing_is_one_line(data: Path, tmp_path: Path) -> None:
    with PolicyServer(max_context=5) as small:
        result = call("consensus", data, tmp_path / "a", "--judge", small.uri("openai", "&format=judge"))
    assert "could score no path" in str(result.exception)
    only_wrong = tmp_path / "wrong.jsonl"
    only_wrong.write_text(json.dumps(ROWS[2]) + "\n")
    call("import", only_wrong, tmp_path / "wrong")
    with PolicyServer(log_probs_of=knowing_judge(KNOWN, 0.9, 0.1), max_context=CONTEXT) as sure:
        result = call("consensus", tmp_path / "wrong", tmp_path / "b", "--judge", sure.uri("openai", "&format=judge"))
    assert "agrees with no label" in str(result.exception)
