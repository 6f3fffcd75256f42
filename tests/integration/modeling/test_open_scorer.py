"""Scorers opened from what a checkpoint's URI says: the contract, and whole solutions scored by
each format's own rule.
"""

from pathlib import Path

import pytest
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.storage.uris import local_path
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.domain.requests import ScoreSteps
from restmcts.errors import InputError
from restmcts.modeling.prm.format import PRM_FORMATS
from restmcts.ports import StepScorer
from restmcts.testing.contracts.models import check_step_scorer
from restmcts.testing.prm_models import BUILDERS
from restmcts_cli.arguments.model_sources import checkpoint_argument
from restmcts_prm_scorer.opening import open_scorer

BRANCHES = (("ab\n", "c\n"), ("d e f\n", "g\n", "h i\n"))


def opened(tmp_path: Path, uri: str) -> StepScorer:
    return open_scorer(uri, FolderArtifactStore(tmp_path / "artifacts"), WorkerModelSettings(10_000, 2**20))


@pytest.mark.parametrize("name", BUILDERS)
def test_a_whole_solution_is_scored_as_the_formats_authors_do_it(tmp_path: Path, name: str) -> None:
    build, options = BUILDERS[name]
    build(tmp_path)
    check_step_scorer(
        lambda: opened(tmp_path, f"{tmp_path}{options}"), "a + b?", BRANCHES, PRM_FORMATS.get(name).aggregation
    )


def test_a_reference_may_say_another_rule(tmp_path: Path) -> None:
    BUILDERS["math-shepherd"][0](tmp_path)
    request = ScoreSteps(0, (), (BRANCHES[1],), whole=True)
    scores = {}
    for how in ("", "&aggregation=last", "&aggregation=product"):
        scorer = opened(tmp_path, f"{tmp_path}?format=math-shepherd{how}")
        (answer,) = scorer.score(["a + b?"], [request])
        scores[how] = answer.solution_scores[0]
        values = answer.values[0]
    assert scores[""] == min(values) != values[-1]
    assert scores["&aggregation=last"] == values[-1]
    assert scores["&aggregation=product"] == pytest.approx(values[0] * values[1] * values[2])


JUDGE = "openai+http://host:8000/v1?model=some/model&format=judge&samples=4"
POOLED = "pooling+http://host:8000?model=some/prm&format=qwen-math-prm&tokenizer=/models/prm"


@pytest.mark.parametrize("uri", [JUDGE, POOLED, "classify+http://host:30000?model=some/rm&format=orm"])
def test_a_run_names_a_judge_or_a_scoring_server_as_its_value_model(tmp_path: Path, uri: str) -> None:
    assert checkpoint_argument(uri, "value", False) == uri
    weights = local_path(uri, FolderArtifactStore(tmp_path))
    assert weights in ("some/model", "some/prm", "some/rm"), "what training a value model goes on from"
    with pytest.raises(InputError):
        checkpoint_argument(uri, "policy", False)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("openai+http://host:8000/v1?model=m", "it may be judge"),
        (f"{JUDGE}&temperature=1", "unknown option temperature"),
        (f"{POOLED}&samples=3", "unknown option samples"),
        ("pooling+http://host:8000?model=m", "by which format"),
    ],
)
def test_what_a_value_model_cannot_be_is_refused_when_a_run_is_made(uri: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        checkpoint_argument(uri, "value", False)
