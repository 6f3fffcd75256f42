"""Several value models as one: values, where they are named, and what is refused."""

import json
import math
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from restmcts.adapters.files.trained_on import TRAINED_ON
from restmcts.adapters.models.ensemble import EnsembleScorer, members_of, parse_ensemble
from restmcts.adapters.sql.database import Database
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.storage.uris import local_path
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.domain.problems import question_digest
from restmcts.domain.requests import ScoreSteps, StepsScored
from restmcts.domain.scoring import Calibration
from restmcts.errors import InputError, ModelError
from restmcts.modeling.checkpoints import new_value_model, save_checkpoint
from restmcts.modeling.value.calibration_files import write_calibration
from restmcts.testing.contracts.models import check_step_scorer
from restmcts.testing.policy_servers import END, PolicyServer
from restmcts.testing.prm_models import build_causal
from restmcts_cli.arguments.connection import Connection
from restmcts_cli.arguments.model_sources import checkpoint_argument, locate_model
from restmcts_cli.main import app
from restmcts_prm_scorer.opening import open_scorer
from typer.testing import CliRunner, Result

QUESTION = "a + b?"
BRANCHES = (("ab\n", "c\n"), ("d e f\n", "g\n", "h i\n"))
WHOLE = ScoreSteps(0, ("ab\n",), BRANCHES, whole=True)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three value models whose values, chances, differ."""
    folder = tmp_path_factory.mktemp("members")
    build_causal(folder / "policy")
    made = []
    for seed in range(3):
        loaded = new_value_model(folder / "policy", seed, value_scale="logit")
        torch.manual_seed(seed)
        with torch.no_grad():
            loaded.model.score.weight.normal_(std=0.3)
        save_checkpoint(loaded, folder / f"value-{seed}")
        made.append(str(folder / f"value-{seed}"))
    save_checkpoint(new_value_model(folder / "policy", 0), folder / "progress")
    return made


@pytest.fixture
def progress(members: list[str], tmp_path: Path) -> Path:
    """A value model whose values are progress."""
    return Path(shutil.copytree(Path(members[0]).parent / "progress", tmp_path / "progress"))


def scored(tmp_path: Path, uri: str, *requests: ScoreSteps) -> list[StepsScored]:
    scorer = open_scorer(uri, FolderArtifactStore(tmp_path / "artifacts"), WorkerModelSettings(10_000, 2**20))
    try:
        return scorer.score([QUESTION] * len(requests), requests)
    finally:
        if hasattr(scorer, "close"):
            scorer.close()


@pytest.mark.parametrize("penalty", [0.0, 1.0, -0.5, 100.0])
def test_a_value_is_the_mean_less_the_penalty_times_the_deviation(
    members: list[str], tmp_path: Path, penalty: float
) -> None:
    request = ScoreSteps(0, (), BRANCHES)
    alone = [scored(tmp_path, member, request)[0] for member in members]
    (together,) = scored(tmp_path, f"ensemble+{','.join(members)}?penalty={penalty}", request)
    (mirrored,) = scored(tmp_path, f"ensemble+{','.join(reversed(members))}?penalty={penalty}", request)
    assert together.values == mirrored.values
    spread = []
    for branch, values in enumerate(together.values):
        for step, value in enumerate(values):
            three = torch.tensor([one.values[branch][step] for one in alone], dtype=torch.float64)
            wanted = float(three.mean() - penalty * three.std(correction=0))
            assert value == pytest.approx(min(max(wanted, 0.0), 1.0), abs=1e-12)
            spread.append(float(three.std()))
    assert min(spread) > 0.01
    assert together.num_scored_tokens == sum(one.num_scored_tokens for one in alone)


def test_it_scores_as_every_scorer_does_and_one_member_is_itself(members: list[str], tmp_path: Path) -> None:
    uri = f"ensemble+{','.join(f'{member}?aggregation=mean' for member in members)}&penalty=0.5"
    settings = WorkerModelSettings(10_000, 2**20)
    check_step_scorer(
        lambda: open_scorer(uri, FolderArtifactStore(tmp_path), settings), QUESTION, BRANCHES, aggregation="mean"
    )
    requests = (ScoreSteps(0, (), BRANCHES), WHOLE)
    for itself, alone in zip(
        scored(tmp_path, f"ensemble+{members[0]}?penalty=3", *requests),
        scored(tmp_path, members[0], *requests),
        strict=True,
    ):
        assert itself.values == alone.values
        assert itself.solution_scores == pytest.approx(alone.solution_scores, abs=1e-6)


def test_each_member_is_asked_once_a_batch() -> None:
    class Counting:
        num_calls = 0

        def score(self, questions: Any, requests: Any) -> list[StepsScored]:
            self.num_calls += 1
            return [StepsScored(one.number, tuple((0.25,) * len(b) for b in one.branches), 2, 1) for one in requests]

    scorers = [Counting(), Counting()]
    requests = [ScoreSteps(number, (), BRANCHES) for number in range(5)]
    answers = EnsembleScorer(scorers, 1.0, "last").score([QUESTION] * 5, requests)
    assert [scorer.num_calls for scorer in scorers] == [1, 1]
    assert [(one.number, one.num_scored_tokens, one.num_reused_tokens) for one in answers] == [
        (number, 4, 2) for number in range(5)
    ]


def test_a_server_may_be_a_member(members: list[str], tmp_path: Path) -> None:
    request = ScoreSteps(0, (), BRANCHES)
    with PolicyServer(log_probs_of=lambda _: {"yes": -0.1, "no": -3.0, END: -30.0}, max_context=20_000) as server:
        judge = server.uri("openai", "&format=judge")
        uri = checkpoint_argument(f"ensemble+{judge},{members[0]}?penalty=0.5", "value", False)
        assert members_of(uri) == (judge, members[0])
        (together,) = scored(tmp_path, uri, request)
    yes = 1 / (1 + math.exp(-2.9))
    (alone,) = scored(tmp_path, members[0], request)
    for values, own in zip(together.values, alone.values, strict=True):
        wanted = [(yes + value) / 2 - 0.5 * abs(yes - value) / 2 for value in own]
        assert values == pytest.approx(wanted, abs=1e-6)


def test_members_that_do_not_fit_are_refused(members: list[str], progress: Path, tmp_path: Path) -> None:
    request = ScoreSteps(0, (), BRANCHES)
    with pytest.raises(ModelError, match=rf"chances: {members[0]}; progress: {progress}\); calibrate"):
        scored(tmp_path, f"ensemble+{members[0]},{progress}", request)
    with pytest.raises(ModelError, match=r"last: .*; mean: .*add &aggregation="):
        scored(tmp_path, f"ensemble+{members[0]},{members[1]}?aggregation=mean", request)
    with pytest.raises(ModelError, match="no/where"):
        scored(tmp_path, f"ensemble+{members[0]},{tmp_path}/no/where", request)
    write_calibration(progress, Calibration(2.0, 0.5), {})
    (fitting,) = scored(tmp_path, f"ensemble+{members[0]},{progress}", request)
    assert all(0.0 < value < 1.0 for values in fitting.values for value in values)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("ensemble+", "write ensemble"),
        ("ensemble+a/b,", "write ensemble"),
        ("ensemble+a/b,ensemble+c/d", "write ensemble"),
        ("ensemble+a/b,a/b", "a/b is named twice"),
        ("ensemble+a/b?penalty=much", "the penalty is 'much'"),
        ("ensemble+a/b?penalty=nan", "the penalty is 'nan'"),
        ("ensemble+a/b?penalty=1,c/d?penalty=2", "one penalty"),
        ("ensemble+nowhere/at/all,a/b", "nowhere/at/all"),
        ("ensemble+a/b?format=nothing", "nothing"),
        ("a/b?format=ensemble", "name the members"),
    ],
)
def test_what_is_no_ensemble_is_refused_when_a_run_is_made(uri: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        checkpoint_argument(uri, "value", False)


def test_a_penalty_belongs_to_the_ensemble_and_options_to_their_member() -> None:
    written = "ensemble+a?penalty=-1.5,b?format=trl&separator=%2C"
    ensemble = parse_ensemble(written)
    assert ensemble.members == ("a", "b?format=trl&separator=%2C") and ensemble.penalty == -1.5
    assert parse_ensemble(ensemble.uri) == ensemble
    with pytest.raises(InputError, match="name one of a, b"):
        local_path("ensemble+a,b", FolderArtifactStore(Path("nowhere")))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_bench_is_resumed_with_equal_values(members: list[str], tmp_path: Path) -> None:
    rows = [
        {"problem": f"What is {n} + 2?", "steps": [f"{n} + 2 = {n + 2}.", "So it is."], "label": -(n % 2)}
        for n in range(8)
    ]
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    uri = f"ensemble+{','.join(members)}?penalty=1"
    arguments = ("prm", "bench", uri, "--on", tmp_path / "bench.jsonl", "--json", "--out")
    whole = json.loads(call(*arguments, tmp_path / "whole").stdout)
    assert (whole["format"], whole["rule"]) == ("ensemble", "below")
    call(*arguments, tmp_path / "killed")
    values = tmp_path / "killed" / "values.jsonl"
    values.write_text("".join(values.read_text().splitlines(keepends=True)[:4]))
    call(*arguments, tmp_path / "killed")
    read = [
        {json.loads(line)["place"]: json.loads(line)["values"] for line in file.read_text().splitlines()[1:]}
        for file in (tmp_path / "whole" / "values.jsonl", values)
    ]
    assert len(read[0]) == 8
    for place, listed in read[0].items():
        assert listed == pytest.approx(read[1][place], abs=1e-6)
    doctor = json.loads(call("prm", "doctor", uri, "--json").stdout)
    assert doctor["format"]["name"] == "ensemble" and {one["check"] for one in doctor["checks"]} >= {"answers"}


def test_a_run_is_made_with_an_ensemble_unless_it_would_train_it(
    members: list[str], tmp_path: Path, problem_lines: Callable[[int], Path]
) -> None:
    uri = f"ensemble+{members[0]},{members[1]}?penalty=1"
    typed = ("runs", "create", "new", problem_lines(40), "--policy", "someone/model", "--value", uri)
    refused = call(*typed, "--workdir", tmp_path / "one")
    assert "cannot be trained, and value-1 goes on from it" in str(refused.exception)
    made = call(*typed, "--method", "self-rewarding", "--workdir", tmp_path / "two")
    assert made.exit_code == 0, (made.output, made.exception)
    listed = json.loads(call("checkpoints", "list", "new", "--workdir", tmp_path / "two", "--json").stdout)
    assert [one["uri"] for one in listed if one["kind"] == "value"] == [
        f"ensemble+{members[0]},{members[1]}?penalty=1.0"
    ]
    pulled = call("checkpoints", "pull", "new", "value-0", tmp_path / "pulled", "--workdir", tmp_path / "two")
    assert "has no files of its own" in str(pulled.exception)


def test_a_search_follows_the_values_of_an_ensemble(
    members: list[str], tmp_path: Path, problem_lines: Callable[[int], Path]
) -> None:
    second = Path(shutil.copytree(members[1], tmp_path / "trained"))
    (second / TRAINED_ON).write_text(f"{question_digest('1 + 1?')}\n")
    policy, uri = Path(members[0]).parent / "policy", f"ensemble+{members[0]},{second}?aggregation=last&penalty=1"
    typed = ("evaluate", problem_lines(2), "--policy", policy, "--value", uri, "--methods", "best-first")
    limits = ("--budgets", 40, "--max-step-tokens", 6, "--max-solution-tokens", 24, "--out", tmp_path / "out", "--json")
    done = call(*typed, *limits)
    assert done.exit_code == 0, (done.output, done.exception)
    assert json.loads(done.stdout)["num_seen"] == 1
    with closing(sqlite3.connect(tmp_path / "out" / "work" / "run.db")) as database:
        rows = database.execute(
            "SELECT question, step, model_value FROM nodes JOIN trees ON trees.id = tree_id "
            "JOIN problems ON problems.id = problem_id WHERE parent_id = 0 AND model_value IS NOT NULL"
        ).fetchall()
    assert len(rows) > 2
    for question, step, value in rows:
        scorer = open_scorer(uri, FolderArtifactStore(tmp_path / "artifacts"), WorkerModelSettings(10_000, 0))
        (answer,) = scorer.score([question], [ScoreSteps(0, (), ((step,),))])
        assert value == pytest.approx(answer.values[0][0], abs=1e-4)


def test_a_stack_gets_the_members_as_artifacts(members: list[str], tmp_path: Path) -> None:
    store = FolderArtifactStore(tmp_path / "artifacts")
    database = Database(f"sqlite:///{tmp_path / 'stack.db'}")
    uri, digest = locate_model(
        Connection(database, lambda: store), f"ensemble+{members[0]},{members[1]}?penalty=1", "value"
    )
    database.close()
    stored = members_of(uri)
    assert all(member.startswith("artifact:checkpoints/") for member in stored)
    assert members_of(digest) == tuple(member.rpartition("/")[2] for member in stored)
    request = ScoreSteps(0, (), BRANCHES)
    (answer,) = open_scorer(uri, store, WorkerModelSettings()).score([QUESTION], [request])
    (wanted,) = scored(tmp_path, f"ensemble+{members[0]},{members[1]}?penalty=1", request)
    assert answer.values == wanted.values


@pytest.fixture
def problem_lines(tmp_path: Path) -> Callable[[int], Path]:
    def write(count: int) -> Path:
        path = tmp_path / "problems.jsonl"
        path.write_text("".join(json.dumps({"question": f"{n} + 1?", "answer": n + 1}) + "\n" for n in range(count)))
        return path

    return write
