"""LLM judges: in this process, and over servers that speak the protocols of policies
(restmcts.testing.policy_servers).
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import SecretStr
from restmcts.adapters.models.llm_judge import NEITHER, LlmJudge
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.domain.prompts import CHINESE, ENGLISH, TEMPLATES, read_judgement
from restmcts.domain.requests import ScoreSteps
from restmcts.errors import InputError, ModelError, ServerUnavailableError
from restmcts.modeling.prm.reference import parse_reference
from restmcts.ports import StepScorer
from restmcts.settings import PolicyServerSettings
from restmcts.testing.contracts.models import check_step_scorer
from restmcts.testing.policy_servers import PolicyServer, judge_log_probs
from restmcts.testing.prm_models import build_judge
from restmcts_prm_scorer.opening import open_scorer
from transformers import AutoModelForCausalLM, AutoTokenizer

PROTOCOLS = ("tgi", "openai", "chat")
# Each ends its word, so that a longer reply says what its first token says.
REPLIES = ("yes.", " Yes,", "NO!", "no.", "not ")
BRANCHES = (("ab\n", "1\n"), ("2\n", "b\n", "a\n"))
REQUEST = ScoreSteps(0, ("ab\n",), (("1\n", "2\n"), ("b\n",)))
TOKEN = "sk-never-to-be-seen"
Open = Callable[..., LlmJudge]


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer(log_probs_of=partial(judge_log_probs, vocabulary=REPLIES)) as server:
        yield server


@pytest.fixture
def open_(server: PolicyServer, tmp_path: Path) -> Iterator[Open]:
    opened: list[LlmJudge] = []

    def open_it(protocol: str = "openai", query: str = "", **changes: float) -> LlmJudge:
        limits = {"policy_timeout_seconds": 5.0, "policy_retry_seconds": 10.0, **changes}
        settings = PolicyServerSettings(policy_tokens={server.host: SecretStr(TOKEN)}, **limits)
        uri = server.uri(protocol, f"&format=judge{query}")
        judge = open_scorer(uri, FolderArtifactStore(tmp_path), WorkerModelSettings(10_000, 0, servers=settings))
        assert isinstance(judge, LlmJudge)
        opened.append(judge)
        return judge

    yield open_it
    for judge in opened:
        judge.close()


def expected(prompt: str, vocabulary: tuple[str, ...] = REPLIES) -> float:
    """Return P(yes) / (P(yes) + P(no)) of the model behind the server."""
    probabilities = {token: math.exp(value) for token, value in judge_log_probs(prompt, vocabulary).items()}
    yes, no = (sum(p for token, p in probabilities.items() if read_judgement(token) is said) for said in (True, False))
    return yes / (yes + no)


def prompt_of(body: dict[str, Any]) -> str:
    return str(body.get("inputs") or body.get("prompt") or f"{body['messages'][0]['content']}\n")


def raw_prompt(steps: tuple[str, ...], template: str = "plain") -> str:
    chosen = TEMPLATES[template]
    return f"{chosen.question_text('q')}{''.join(steps)}\n{chosen.wording.critics['judge']}\n"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_judge_over_each_protocol_keeps_the_contract(open_: Open, protocol: str) -> None:
    check_step_scorer(lambda: open_(protocol), "question", BRANCHES)
    check_step_scorer(lambda: open_(protocol, "&aggregation=min"), "question", BRANCHES, "min")


@pytest.mark.parametrize("protocol", ["tgi", "openai"])
@pytest.mark.parametrize("template", ["plain", "steps-zh"])
def test_a_value_is_the_probability_of_yes_among_yes_and_no(
    server: PolicyServer, open_: Open, protocol: str, template: str
) -> None:
    (answer,) = open_(protocol, f"&template={template}").score(["q"], [REQUEST])
    solutions = [REQUEST.steps + branch for branch in REQUEST.branches]
    wanted = [
        [expected(raw_prompt(steps[:number], template)) for number in range(2, len(steps) + 1)] for steps in solutions
    ]
    assert [pytest.approx(values) for values in wanted] == [list(values) for values in answer.values]
    assert len({value for values in wanted for value in values}) == 3
    question = (CHINESE if template == "steps-zh" else ENGLISH).critics["judge"]
    assert all(question in (body.get("inputs") or body["prompt"]) for body in server.bodies)
    prompts = [raw_prompt(steps[:number], template) for steps in solutions for number in range(2, len(steps) + 1)]
    assert answer.num_scored_tokens == sum(map(len, prompts))


def test_the_chat_route_is_shown_the_question_and_the_steps(server: PolicyServer, open_: Open) -> None:
    open_("chat", "&prefill=1").score(["what is it?"], [ScoreSteps(0, ("ab\n",), (("12\n",),))])
    (body,) = server.bodies
    (turn,) = body["messages"]
    assert all(text in turn["content"] for text in ("what is it?", "ab\n12", ENGLISH.critics["judge"]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_judge_that_argues_says_the_mean_after_several_examinations(
    server: PolicyServer, open_: Open, protocol: str
) -> None:
    # Not a word of the examination is one of the verdict's, so that they can be told apart.
    examinations = ("right", "wrong", " so", "\n")

    def log_probs_of(prompt: str) -> dict[str, float]:
        examines = ENGLISH.critics["examiner"] in prompt
        return judge_log_probs(prompt, examinations if examines else REPLIES)

    server.log_probs_of = log_probs_of
    judge = open_(protocol, "&argue=6&samples=5")
    solution = ScoreSteps(0, ("ab\n",), (("12\n",),))
    (answer,) = judge.score(["q"], [solution])
    verdicts = [text for text in map(prompt_of, server.bodies) if ENGLISH.critics["judge"] in text]
    arguments = {text.partition("An examination of this solution: ")[2] for text in verdicts}
    assert len(verdicts) == 5 and len(arguments) > 2, "each examination has its verdict"
    assert all("ab\n12" in text and text.count("right") + text.count("wrong") for text in verdicts)
    assert answer.values[0][-1] == pytest.approx(sum(map(expected, verdicts)) / 5)
    assert open_(protocol, "&argue=6&samples=5").score(["q"], [solution]) == [answer], "the same is argued again"
    check_step_scorer(lambda: open_(protocol, "&argue=6&samples=3"), "question", BRANCHES)


def test_a_judge_that_argues_votes_where_no_log_probabilities_are_returned(server: PolicyServer, open_: Open) -> None:
    server.returns_tokens = False
    (answer,) = open_("openai", "&argue=4&samples=4").score(["q"], [ScoreSteps(0, (), (("ab\n",),))])
    assert answer.values[0][0] in (0.0, 0.25, 1 / 3, 0.5, 2 / 3, 0.75, 1.0)
    assert len(server.bodies) > 4


@pytest.mark.parametrize("protocol", ["openai", "chat"])
def test_a_server_without_log_probabilities_is_asked_for_samples(
    server: PolicyServer, open_: Open, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.returns_tokens = False
    judge = open_(protocol, "&samples=200")
    (answer,) = judge.score(["q"], [ScoreSteps(0, (), (("ab\n",),))])
    assert "shares of yes among 200 replies" in caplog.text
    exact_judge = open_(protocol)
    server.returns_tokens = True
    (exact,) = exact_judge.score(["q"], [ScoreSteps(0, (), (("ab\n",),))])
    # four standard errors of a share of 200
    assert answer.values[0][0] == pytest.approx(exact.values[0][0], abs=0.14)
    assert judge.score(["q"], [ScoreSteps(0, (), (("ab\n",),))]) == [answer], "the same replies are sampled again"


def test_a_reply_that_is_neither_counts_half_and_is_told(
    server: PolicyServer, open_: Open, caplog: pytest.LogCaptureFixture
) -> None:
    server.log_probs_of = partial(judge_log_probs, vocabulary=("perhaps", "12", "not", "now"))
    (answer,) = open_().score(["q"], [REQUEST])
    assert answer.values == ((NEITHER, NEITHER), (NEITHER,))
    assert "3 of 3 replies were neither yes nor no" in caplog.text


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("yes", True),
        (" Yes", True),
        ("**Yes**, it is", True),
        ("Y", True),
        ("是", True),
        ("是的。", True),
        ("正确", True),
        ("no", False),
        ("No.", False),
        ("n", False),
        ("否", False),
        ("不是", False),
        ("错误", False),
        ("not sure", None),
        ("yesterday", None),
        ("nothing", None),
        ("12", None),
        ("", None),
        (" \n", None),
    ],
)
def test_replies_are_read_in_both_languages(reply: str, said: bool | None) -> None:
    assert read_judgement(reply) is said


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", ["429", "500", "drop", "half", "garbage"])
def test_what_passes_is_tried_again(server: PolicyServer, open_: Open, protocol: str, fault: str) -> None:
    judge = open_(protocol)
    wanted = judge.score(["q"], [REQUEST])
    server.faults = [fault, fault]
    assert judge.score(["q"], [REQUEST]) == wanted
    assert not server.faults


def test_a_judge_that_is_down_lets_requests_wait(server: PolicyServer, open_: Open) -> None:
    judge = open_(policy_retry_seconds=0.3)
    server.__exit__()
    try:
        with pytest.raises(ServerUnavailableError, match="requests keep waiting") as caught:
            judge.score(["q"], [REQUEST])
        assert TOKEN not in str(caught.value)
    finally:
        server.__enter__()


def test_a_solution_that_does_not_fit_is_refused(open_: Open) -> None:
    with pytest.raises(ModelError, match="does not fit"):
        open_().score(["q"], [ScoreSteps(0, ("a" * 1990 + "\n",), (("b\n",),))])


def test_calls_under_way_are_bounded(server: PolicyServer, open_: Open) -> None:
    server.faults, server.slow_seconds = ["slow"] * 12, 0.05
    open_(query="&concurrency=3").score(["q"], [ScoreSteps(0, (), tuple((f"{number}\n",) for number in range(12)))])
    assert 1 < server.max_at_once <= 3


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("openai+http://host/v1?model=m", "&format=NAME; it may be judge"),
        ("openai+http://host/v1?model=m&format=trl", "it may be judge"),
        ("openai+http://host/v1?format=judge", "name the model"),
        ("openai+http://host/v1?model=m&format=judge&samples=0", "samples is '0'"),
        ("openai+http://host/v1?model=m&format=judge&sampels=3", "unknown option sampels"),
        ("openai+http://host/v1?model=m&format=judge&argue=some", "argue is 'some'"),
        ("folder?format=judge&argue=-1", "argue is '-1'"),
        ("folder?format=judge&sampels=3", "unknown option sampels; there are samples, argue, template"),
    ],
)
def test_a_malformed_reference_is_refused_with_the_way_out(tmp_path: Path, uri: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_scorer(uri, FolderArtifactStore(tmp_path), WorkerModelSettings(10_000, 0))


@torch.inference_mode()
def by_hand(folder: Path, steps: tuple[str, ...]) -> float:
    """Return what the model's own probabilities say, among the twenty most probable tokens."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    probabilities = (
        AutoModelForCausalLM.from_pretrained(folder)
        .eval()(torch.tensor([tokenizer.encode(raw_prompt(steps))]))
        .logits[0, -1]
    ).softmax(0)
    top = probabilities.topk(20)
    said = {tokenizer.decode([int(token)]): float(value) for token, value in zip(top.indices, top.values, strict=True)}
    yes, no = (
        sum(value for token, value in said.items() if read_judgement(token) is answer) for answer in (True, False)
    )
    return yes / (yes + no) if yes + no else NEITHER


@pytest.mark.parametrize("key_value_bytes", [0, 2**20])
def test_a_judge_in_this_process_reads_the_models_own_probabilities(tmp_path: Path, key_value_bytes: int) -> None:
    build_judge(tmp_path / "model")

    def judge() -> LlmJudge:
        uri = f"{tmp_path / 'model'}?format=judge"
        scorer = open_scorer(
            uri, FolderArtifactStore(tmp_path / "artifacts"), WorkerModelSettings(10_000, key_value_bytes)
        )
        assert isinstance(scorer, LlmJudge)
        return scorer

    check_step_scorer(judge, "question", BRANCHES)
    branches = tuple((f"{letter}\n", "a\n") for letter in "abcdefgh")
    (answer,) = judge().score(["q"], [ScoreSteps(0, (), branches)])
    wanted = [[by_hand(tmp_path / "model", branch[:number]) for number in (1, 2)] for branch in branches]
    assert [list(values) for values in answer.values] == [pytest.approx(values, abs=1e-5) for values in wanted]
    differing = {value for values in wanted for value in values if value not in (0.0, 1.0, NEITHER)}
    assert len(differing) > 2, "the comparison says something"


def test_a_judge_in_this_process_that_argues_is_a_scorer(tmp_path: Path) -> None:
    build_judge(tmp_path / "model")

    def judge(query: str = "&argue=6&samples=3") -> StepScorer:
        uri = f"{tmp_path / 'model'}?format=judge{query}"
        return open_scorer(uri, FolderArtifactStore(tmp_path / "artifacts"), WorkerModelSettings(10_000, 2**20))

    check_step_scorer(judge, "question", BRANCHES)
    (argued,), (plain,) = (judge(query).score(["q"], [REQUEST]) for query in ("&argue=6&samples=3", ""))
    assert argued.values != plain.values and argued.num_scored_tokens > 3 * plain.num_scored_tokens


def test_what_a_reference_says_of_a_judge_is_read() -> None:
    reference = parse_reference("chat+http://host/v1?model=m&format=judge&samples=4&aggregation=mean")
    assert (reference.place, reference.format, reference.aggregation) == ("chat+http://host/v1", "judge", "mean")
    assert reference.options == {"model": "m", "samples": "4"}
