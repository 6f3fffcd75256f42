"""Reward models behind HTTP against servers that speak the published protocols over a real tiny
model (restmcts.testing.scoring_servers), well and badly: the scores are those of the same model
in this process.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from restmcts.adapters.models.http_scorer.scorer import HttpScorer
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.domain.requests import ScoreSteps
from restmcts.errors import InputError, ModelError, ServerUnavailableError
from restmcts.modeling.prm.format import PRM_FORMATS
from restmcts.modeling.prm.loading import load_prm
from restmcts.modeling.prm.reference import parse_reference
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts.settings import PolicyServerSettings
from restmcts.testing.contracts.models import check_step_scorer
from restmcts.testing.prm_models import BUILDERS
from restmcts.testing.scoring_servers import ScoringServer
from restmcts_prm_scorer.opening import open_scorer

POOLED = [each.name for each in PRM_FORMATS.values() if "pooling" in each.routes]
# Formats whose steps end in a token of their own, which vLLM's STEP pooling returns alone.
STEP_TOKENS = {"qwen-math-prm": "<extra_0>", "math-shepherd": " ки", "math-psa": " \n\n\n\n\n"}
QUESTIONS = ["what is a + b?", "a", "a"]
REQUESTS = [
    ScoreSteps(0, (), (("ab\n",), ("cd\n", "e f g\n", "h\n"))),
    ScoreSteps(1, ("a\n", "b b\n"), (("c + cc\n",),)),
    ScoreSteps(2, ("a\n", "b b\n"), (("c + cc\n", "d\n"), ("e\n",)), whole=True),
]
BRANCHES = (("ab\n", "c\n"), ("d e f\n", "g\n", "h i\n"))
TOKEN = "sk-never-to-be-seen"
Open = Callable[..., HttpScorer]


class Served:
    """A model of a format, in this process and behind a server."""

    def __init__(self, folder: Path, server: ScoringServer, name: str) -> None:
        self.server, self.name, self.folder = server, name, folder / name
        build, options = BUILDERS[name]
        build(self.folder)
        self.separator = "&separator=%0A%0A" if name == "trl" else ""
        self.prm = load_prm(parse_reference(f"{self.folder}{options}"), self.folder)
        self.here = TransformersScorer(self.prm.loaded, reader=self.prm.reader, aggregation=self.prm.format.aggregation)
        server.prm, server.good_class = self.prm, self.prm.format.good_class
        self.opened: list[HttpScorer] = []

    def open(self, route: str = "pooling", query: str = "", **changes: float) -> HttpScorer:
        limits = {"policy_timeout_seconds": 5.0, "policy_retry_seconds": 10.0, **changes}
        settings = PolicyServerSettings(policy_tokens={self.server.host: SecretStr(TOKEN)}, **limits)
        uri = self.server.scoring_uri(route, f"&format={self.name}&tokenizer={self.folder}{self.separator}{query}")
        scorer = open_scorer(
            uri, FolderArtifactStore(self.folder / "artifacts"), WorkerModelSettings(10_000, 0, servers=settings)
        )
        assert isinstance(scorer, HttpScorer)
        self.opened.append(scorer)
        return scorer


@pytest.fixture
def server() -> Iterator[ScoringServer]:
    with ScoringServer(model="prm") as server:
        yield server


@pytest.fixture
def serve(tmp_path: Path, server: ScoringServer) -> Iterator[Callable[[str], Served]]:
    served: list[Served] = []

    def begin(name: str) -> Served:
        served.append(Served(tmp_path, server, name))
        return served[-1]

    yield begin
    for one in served:
        for scorer in one.opened:
            scorer.close()


def numbers(answers: list[Any]) -> list[float]:
    return [value for answer in answers for values in (*answer.values, answer.solution_scores) for value in values]


def same_scores(served: Served, scorer: HttpScorer) -> None:
    here, there = served.here.score(QUESTIONS, REQUESTS), scorer.score(QUESTIONS, REQUESTS)
    assert max(numbers(here)) - min(numbers(here)) > 0.05, "the values differ, so that the comparison says something"
    assert numbers(there) == pytest.approx(numbers(here), abs=1e-5)
    assert [answer.num_scored_tokens for answer in there] == [answer.num_scored_tokens for answer in here]


@pytest.mark.parametrize("name", POOLED)
def test_scores_by_token_are_those_of_the_model_in_this_process(serve: Callable[[str], Served], name: str) -> None:
    served = serve(name)
    same_scores(served, served.open())
    assert set(served.server.tasks) == ({None} if name == "orm" else {"token_classify"})


@pytest.mark.parametrize("name", STEP_TOKENS)
def test_scores_of_step_tokens_alone_are_read_too(serve: Callable[[str], Served], name: str) -> None:
    served = serve(name)
    served.server.pooling_type = "STEP"
    served.server.step_tag_id = served.prm.loaded.tokenizer.convert_tokens_to_ids(STEP_TOKENS[name])
    same_scores(served, served.open())


@pytest.mark.parametrize("route", ["pooling", "classify"])
def test_an_outcome_reward_model_gives_one_score_a_text(serve: Callable[[str], Served], route: str) -> None:
    served = serve("orm")
    served.server.pooling_type = "LAST"
    same_scores(served, served.open(route))


@pytest.mark.parametrize("name", POOLED)
def test_every_format_keeps_the_contract(serve: Callable[[str], Served], name: str) -> None:
    served = serve(name)
    check_step_scorer(served.open, "a + b?", BRANCHES, PRM_FORMATS.get(name).aggregation)
    check_step_scorer(lambda: served.open(query="&aggregation=mean"), "a + b?", BRANCHES, "mean")


@pytest.mark.parametrize("route", ["pooling", "classify"])
@pytest.mark.parametrize("fault", ["429", "500", "503", "drop", "half", "garbage"])
def test_what_passes_is_tried_again(serve: Callable[[str], Served], route: str, fault: str) -> None:
    served = serve("orm")
    served.server.faults = [fault, fault]
    same_scores(served, served.open(route))
    assert not served.server.faults


def test_a_slow_answer_is_given_up_and_asked_for_again(serve: Callable[[str], Served]) -> None:
    served = serve("qwen-math-prm")
    served.server.faults, served.server.slow_seconds = ["slow"], 3.0
    same_scores(served, served.open(policy_timeout_seconds=0.5))


@pytest.mark.parametrize("fault", ["500", "drop", "half", "garbage", "401", "404"])
def test_what_does_not_pass_lets_requests_wait_and_shows_no_token(
    serve: Callable[[str], Served], caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    served = serve("qwen-math-prm")
    served.server.faults = [fault] * 100
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ServerUnavailableError) as caught:
        served.open(policy_retry_seconds=0.6, query="&concurrency=2").score(QUESTIONS, REQUESTS)
    assert caught.value.retryable
    assert TOKEN not in str(caught.value) + caplog.text


def test_a_server_that_is_down_or_serves_another_model_lets_requests_wait(serve: Callable[[str], Served]) -> None:
    served = serve("qwen-math-prm")
    scorer, unconnected = (served.open(policy_retry_seconds=0.3) for _ in range(2))
    served.server.model = "another"
    with pytest.raises(ServerUnavailableError, match="serves another; requests for prm wait"):
        scorer.score(QUESTIONS, REQUESTS)
    assert not served.server.bodies, "nothing was asked of it but who it is"
    served.server.__exit__()
    try:
        with pytest.raises(ServerUnavailableError, match="requests keep waiting"):
            unconnected.score(QUESTIONS, REQUESTS)
    finally:
        served.server.__enter__()


@pytest.mark.parametrize("route", ["pooling", "classify"])
def test_a_model_that_changes_under_a_batch_is_noticed(serve: Callable[[str], Served], route: str) -> None:
    served = serve("orm")
    scorer = served.open(route, policy_retry_seconds=0.3)

    def change() -> None:
        served.server.model = "another"

    served.server.on_request = change
    with pytest.raises(ServerUnavailableError, match=r"another|does not exist"):
        scorer.score(QUESTIONS, REQUESTS)


def test_a_text_is_never_cut_and_a_rejection_fails_at_once(serve: Callable[[str], Served]) -> None:
    served = serve("qwen-math-prm")
    scorer = served.open()
    with pytest.raises(ModelError, match="maximum context length"):
        scorer.score(["a" * 2400], REQUESTS[:1])
    served.server.faults = ["422"]
    with pytest.raises(ModelError, match="fault 422"):
        scorer.score(["a"], REQUESTS[:1])


def test_a_token_goes_to_the_host_that_it_is_set_for(serve: Callable[[str], Served]) -> None:
    served = serve("qwen-math-prm")
    served.open().score(QUESTIONS, REQUESTS)
    assert set(served.server.authorizations) == {f"Bearer {TOKEN}"}


def test_calls_under_way_are_bounded(serve: Callable[[str], Served]) -> None:
    served = serve("qwen-math-prm")
    served.server.faults, served.server.slow_seconds = ["slow"] * 12, 0.05
    branches = tuple((f"{number}\n",) for number in range(12))
    served.open(query="&concurrency=3").score(["a"], [ScoreSteps(0, (), branches)])
    assert 1 < served.server.max_at_once <= 3


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("qwen-math-prm", {"pooling_type": "LAST"}, "gives 1 scores for .* start it with pooling"),
        ("qwen-math-prm", {"pooling_type": "STEP", "step_tag_id": 7}, "gives . scores for .* start it with pooling"),
        ("qwen-math-prm", {"good_class": None}, "as a score; is the format the model's own"),
        ("orm", {"good_class": 1}, "as a score; is the format the model's own"),
    ],
)
def test_what_is_not_of_the_format_is_refused_in_one_line(
    serve: Callable[[str], Served], name: str, changes: dict[str, Any], said: str
) -> None:
    served = serve(name)
    for attribute, value in changes.items():
        setattr(served.server, attribute, value)
    with pytest.raises(ModelError, match=said) as caught:
        served.open().score(QUESTIONS, REQUESTS)
    assert "\n" not in str(caught.value)


def test_logits_are_not_taken_for_probabilities(
    serve: Callable[[str], Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve("qwen-math-prm")
    rows = served.server._rows
    monkeypatch.setattr(served.server, "_rows", lambda ids, activated: rows(ids, activated=False), raising=False)
    with pytest.raises(ModelError, match="are not probabilities"):
        served.open().score(QUESTIONS, REQUESTS)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("pooling+http://host:1?model=m", "by which format"),
        (
            "pooling+http://host:1?model=m&format=skywork",
            "it may be math-psa, math-shepherd, orm, qwen-math-prm, rlhflow, trl",
        ),
        ("pooling+http://host:1?model=m&format=judge", "by which format"),
        ("classify+http://host:1?model=m&format=qwen-math-prm", "it may be orm"),
        ("pooling+http://host:1?format=orm", "name the model"),
        ("pooling+http://host:1?model=m&format=orm&tokeniser=t", "unknown option tokeniser"),
        ("pooling+http://host:1?model=m&format=orm&concurrency=0", "at least 1"),
        ("pooling+ftp://host:1?model=m&format=orm", "no scoring server"),
        ("pooling+http://host:1?model=m&format=orm&tokenizer=/nosuch", "no such folder"),
    ],
)
def test_a_malformed_reference_is_refused_with_the_way_out(tmp_path: Path, uri: str, said: str) -> None:
    with pytest.raises((InputError, ModelError), match=said):
        open_scorer(uri, FolderArtifactStore(tmp_path), WorkerModelSettings(10_000, 0))


def test_a_password_in_a_reference_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        uri = "pooling+http://me:hunter2@host:1?model=m&format=orm"
        open_scorer(uri, FolderArtifactStore(tmp_path), WorkerModelSettings(10_000, 0))
    assert "hunter2" not in str(caught.value)
