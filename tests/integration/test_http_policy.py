"""Policies behind HTTP against servers that speak their protocols
(restmcts.testing.policy_servers, after the published schemas of text-generation-inference and
OpenAI), well and badly. test_transformers_serve.py has the real one.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest
from pydantic import SecretStr
from restmcts.adapters.models.http_policy.address import parse_address
from restmcts.adapters.models.http_policy.opening import open_policy
from restmcts.adapters.models.http_policy.proposer import HttpProposer
from restmcts.domain.prompts import TEMPLATES
from restmcts.domain.requests import GenerationSettings, ProposeSteps, StepsProposed
from restmcts.errors import ModelError, ServerUnavailableError
from restmcts.settings import PolicyServerSettings
from restmcts.testing.contracts.models import check_step_proposer
from restmcts.testing.policy_servers import END, PolicyServer, log_probs_after

PROTOCOLS = ("tgi", "openai", "chat")
TOKEN = "sk-never-to-be-seen"
SETTINGS = GenerationSettings(temperature=1.0, max_step_tokens=12, max_solution_tokens=30)
STEP = ProposeSteps(0, ("ab\n",), 4, 1, seed=3)
Open = Callable[..., HttpProposer]


@pytest.fixture
def server() -> Iterator[PolicyServer]:
    with PolicyServer() as server:
        yield server


@pytest.fixture
def open_(server: PolicyServer) -> Iterator[Open]:
    opened: list[HttpProposer] = []

    def open_it(protocol: str = "openai", query: str = "", **changes: float) -> HttpProposer:
        limits = {"policy_timeout_seconds": 5.0, "policy_retry_seconds": 10.0, **changes}
        settings = PolicyServerSettings(policy_tokens={server.host: SecretStr(TOKEN)}, **limits)
        opened.append(open_policy(parse_address(server.uri(protocol, query)), settings))
        return opened[-1]

    yield open_it
    for proposer in opened:
        proposer.close()


def texts(answer: StepsProposed) -> list[tuple[str, ...]]:
    return [tuple(step.text for step in sample.steps) for sample in answer.samples]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_protocol_keeps_the_contract(open_: Open, protocol: str) -> None:
    check_step_proposer(lambda: open_(protocol), "question", ("ab\n", "1\n"))


@pytest.mark.parametrize("returns_tokens", [True, False])
@pytest.mark.parametrize("honours_n", [True, False])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_all_samples_come_whatever_the_server_makes_of_n(
    server: PolicyServer, open_: Open, protocol: str, honours_n: bool, returns_tokens: bool
) -> None:
    server.honours_n, server.returns_tokens = honours_n, returns_tokens
    proposer = open_(protocol)
    first, again = (proposer.propose(["q"], [STEP], SETTINGS)[0] for _ in range(2))
    assert len(first.samples) == 4
    assert len(set(texts(first))) > 1, "samples of one request differ"
    assert texts(first) == texts(again)


def test_a_server_that_can_is_asked_once_for_all_samples(server: PolicyServer, open_: Open) -> None:
    open_().propose(["q"], [STEP], SETTINGS)
    assert server.bodies[0]["n"] == 4
    assert all(body["prompt"] != server.bodies[0]["prompt"] for body in server.bodies[1:]), (
        "what follows goes on after blank lines"
    )


def test_every_protocol_samples_what_the_prompt_and_the_seed_say(server: PolicyServer, open_: Open) -> None:
    one = ProposeSteps(0, ("ab\n",), 1, 1, seed=5)
    by_text = [texts(open_(protocol).propose(["q"], [one], SETTINGS)[0]) for protocol in ("tgi", "openai")]
    assert by_text[0] == by_text[1]
    prompts = {body.get("inputs") or body["prompt"] for body in server.bodies if body.get("inputs") or body.get("n")}
    assert min(prompts, key=len) == "Problem: q\nSolution:\nab\n"
    other = ProposeSteps(0, ("ab\n",), 8, 1, seed=6)
    assert texts(open_().propose(["q"], [other], SETTINGS)[0]) != by_text[0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tokens_log_probabilities_and_prompt_are_counted(server: PolicyServer, open_: Open, protocol: str) -> None:
    proposer = open_(protocol, "&prefill=1" if protocol == "chat" else "")
    answer = proposer.propose(["q"], [ProposeSteps(0, ("ab\n",), 6, 2, seed=1)], SETTINGS)[0]
    assert sum(sample.num_tokens for sample in answer.samples) == server.num_generated
    greedy = proposer.propose(["q"], [ProposeSteps(0, ("ab\n",), 1, 1, seed=1, greedy=True)], SETTINGS)[0]
    step = greedy.samples[0].steps[0]
    assert (step.text, step.num_tokens) == ("a2a2a2a2a2a2", SETTINGS.max_step_tokens)
    expected = sum(log_probs_after("ab\n" + step.text[:place])[step.text[place]] for place in range(step.num_tokens))
    assert step.log_prob == pytest.approx(expected)
    if protocol != "chat":
        assert greedy.num_prompt_tokens == len("Problem: q\nSolution:\nab\n")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_greedy_takes_the_most_probable_tokens_once_for_all_samples(
    server: PolicyServer, open_: Open, protocol: str
) -> None:
    request = ProposeSteps(0, ("ab\n",), 3, 1, seed=1, greedy=True)
    answer = open_(protocol).propose(["q"], [request], SETTINGS)[0]
    assert len(answer.samples) == 3 and len(set(texts(answer))) == 1
    best = max(log_probs_after("ab\n").items(), key=lambda pair: pair[1])[0]
    assert protocol == "chat" or answer.samples[0].steps[0].text.startswith(best)
    assert all(body.get("temperature", 0) == 0 for body in server.bodies)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_whole_solutions_end_where_the_model_ends_them(open_: Open, protocol: str) -> None:
    answer = open_(protocol).propose(["q"], [ProposeSteps(0, (), 12, None, seed=2)], SETTINGS)[0]
    assert {sample.ended for sample in answer.samples} == {True, False}, "some ran out of tokens"
    for sample in answer.samples:
        assert sample.num_tokens <= SETTINGS.max_solution_tokens
        assert all(END not in step.text and step.text.strip() for step in sample.steps)
        assert sample.ended or sample.num_tokens == SETTINGS.max_solution_tokens


@pytest.mark.parametrize("protocol", ["tgi", "openai"])
def test_alternatives_lead_to_steps_that_begin_with_them(open_: Open, protocol: str) -> None:
    proposer = open_(protocol)
    request = ProposeSteps(0, ("ab\n",), 1, 1, seed=1, greedy=True, num_alternatives=3, needs_log_probs=True)
    step = proposer.propose(["q"], [request], SETTINGS)[0].samples[0].steps[0]
    assert step.alternatives
    for alternative in step.alternatives:
        before = alternative.begun[:-1]
        assert alternative.log_prob == pytest.approx(log_probs_after("ab\n" + before)[alternative.begun[-1]])
        assert step.text.startswith(before) and not step.text.startswith(alternative.begun)
        assert alternative.position == len(before)
    branch = step.alternatives[0]
    continued = ProposeSteps(1, ("ab\n",), 1, 1, seed=1, greedy=True, begun=branch.begun)
    answer = proposer.propose(["q"], [continued], SETTINGS)[0]
    assert answer.samples[0].steps[0].text.startswith(branch.begun)


def test_a_search_that_reads_log_probabilities_is_refused_by_a_server_without(
    server: PolicyServer, open_: Open
) -> None:
    server.returns_tokens = False
    with pytest.raises(ModelError, match="log-probabilities"):
        open_().propose(["q"], [ProposeSteps(0, (), 1, 1, seed=1, needs_log_probs=True)], SETTINGS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", ["429", "500", "503", "drop", "half", "garbage"])
def test_what_passes_is_tried_again(server: PolicyServer, open_: Open, protocol: str, fault: str) -> None:
    proposer = open_(protocol)
    expected = texts(proposer.propose(["q"], [STEP], SETTINGS)[0])
    server.faults = [fault, fault]
    assert texts(proposer.propose(["q"], [STEP], SETTINGS)[0]) == expected
    assert not server.faults


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("poison", ["\0", "\ud800"], ids=["nul", "surrogate"])
def test_text_that_no_request_can_hold_is_cleaned_before_it_is_gone_on_from(
    server: PolicyServer, open_: Open, protocol: str, poison: str
) -> None:
    server.log_probs_of = partial(log_probs_after, vocabulary=(f"a{poison}", "\n", END))
    proposer = open_(protocol)
    answers = [proposer.propose(["q"], [replace(STEP, seed=seed)], SETTINGS)[0] for seed in range(4)]
    written = [step.text for answer in answers for sample in answer.samples for step in sample.steps]
    assert any("a\ufffd" in text for text in written) and not any(poison in text for text in written)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_slow_answer_is_given_up_and_asked_for_again(server: PolicyServer, open_: Open, protocol: str) -> None:
    server.faults, server.slow_seconds = ["slow"], 3.0
    answer = open_(protocol, policy_timeout_seconds=0.5).propose(["q"], [ProposeSteps(0, (), 1, 1, seed=1)], SETTINGS)[
        0
    ]
    assert len(answer.samples) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", ["500", "drop", "half", "garbage", "401", "404"])
def test_what_does_not_pass_lets_requests_wait_and_shows_no_token(
    server: PolicyServer, open_: Open, caplog: pytest.LogCaptureFixture, protocol: str, fault: str
) -> None:
    server.faults = [fault] * 100
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ServerUnavailableError) as caught:
        open_(protocol, policy_retry_seconds=0.6).propose(["q"], [STEP], SETTINGS)
    assert caught.value.retryable
    assert TOKEN not in str(caught.value) + caplog.text
    assert caught.value.__suppress_context__, "a traceback would show the library's own error"
    if fault in ("500", "401", "404"):
        assert f"fault {fault}" in str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_rejected_request_fails_at_once(server: PolicyServer, open_: Open, protocol: str) -> None:
    proposer = open_(protocol)
    server.faults = ["422"]
    with pytest.raises(ModelError, match="fault 422"):
        proposer.propose(["q"], [ProposeSteps(0, (), 1, 1, seed=1)], SETTINGS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_is_down_lets_requests_wait(server: PolicyServer, open_: Open, protocol: str) -> None:
    proposer = open_(protocol, policy_retry_seconds=0.3)
    server.__exit__()
    try:
        with pytest.raises(ServerUnavailableError, match="requests keep waiting"):
            proposer.propose(["q"], [STEP], SETTINGS)
    finally:
        server.__enter__()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_token_goes_to_the_host_that_it_is_set_for(
    server: PolicyServer, open_: Open, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_(protocol).propose(["q"], [STEP], SETTINGS)
    assert set(server.authorizations) == {f"Bearer {TOKEN}"}
    server.authorizations.clear()
    for variable in ("HF_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.setenv(variable, "of-another-host")
    proposer = open_policy(
        parse_address(server.uri(protocol)), PolicyServerSettings(policy_tokens={"other:1": SecretStr(TOKEN)})
    )
    proposer.propose(["q"], [STEP], SETTINGS)
    proposer.close()
    assert not any(TOKEN in header or "of-another-host" in header for header in server.authorizations)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_step_is_taken_from_another_model(server: PolicyServer, open_: Open, protocol: str) -> None:
    proposer = open_(protocol, policy_retry_seconds=0.3)
    server.model = "another"
    with pytest.raises(ServerUnavailableError, match="another"):
        proposer.propose(["q"], [STEP], SETTINGS)
    assert all(body.get("max_tokens") == 1 for body in server.bodies), "nothing was asked of it but who it is"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_that_changes_under_a_batch_is_noticed(server: PolicyServer, open_: Open, protocol: str) -> None:
    proposer = open_(protocol, policy_retry_seconds=0.3)

    def change() -> None:
        server.model = "another"

    server.on_request = change
    with pytest.raises(ServerUnavailableError, match=r"another|does not exist"):
        proposer.propose(["q"], [ProposeSteps(0, (), 1, 1, seed=1)], SETTINGS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_calls_under_way_are_bounded(server: PolicyServer, open_: Open, protocol: str) -> None:
    server.faults, server.slow_seconds = ["slow"] * 12, 0.05
    requests = [ProposeSteps(number, (), 1, 1, seed=number) for number in range(12)]
    open_(protocol, "&concurrency=3").propose(["q"] * 12, requests, SETTINGS)
    assert 1 < server.max_at_once <= 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_once_no_more_may_begin_what_was_asked_for_is_answered_and_no_more_is(open_: Open, protocol: str) -> None:
    requests = [ProposeSteps(number, (), 1, 1, seed=number) for number in range(12)]
    proposer = open_(protocol, "&concurrency=1")
    begun = dict(proposer.stream(["q"] * 12, requests, SETTINGS, lambda: False))
    whole = proposer.propose(["q"] * 12, requests, SETTINGS)
    assert (
        sorted(begun) == list(range(8)) and [texts(begun[place]) for place in range(8)] == list(map(texts, whole))[:8]
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_question_is_never_cut(server: PolicyServer, open_: Open, protocol: str) -> None:
    proposer = open_(protocol)
    with pytest.raises(ModelError, match="the question does not fit the context"):
        proposer.propose(["q" * 2000], [ProposeSteps(0, (), 1, 1, seed=1)], SETTINGS)
    long = ProposeSteps(0, ("a" * 1990 + "\n",), 2, 1, seed=1)
    assert proposer.propose(["q"], [long], SETTINGS)[0].samples == (), (
        "a partial solution without room is not continued"
    )
    half = ProposeSteps(0, (), 1, None, seed=1)
    server.max_context = 300
    assert len(proposer.propose(["q" * 100], [half], GenerationSettings(1.0, 1.0, 12, 200))[0].samples) == 1
    assert all("q" * 100 in str(body) for body in server.bodies if "q" * 50 in str(body))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_run_chooses_the_template_and_critics_are_asked_in_its_words(
    server: PolicyServer, open_: Open, protocol: str
) -> None:
    proposer = open_(protocol)
    settings = replace(SETTINGS, template="steps-zh")
    critic = ProposeSteps(0, ("ab\n",), 1, 1, seed=3, greedy=True, critic="common")
    step = ProposeSteps(1, ("ab\n",), 1, 1, seed=3, analysis="再算一遍")
    proposer.propose(["q"] * 2, [critic, step], settings)
    wording = TEMPLATES["steps-zh"].wording
    asked, hinted = (
        [
            body
            for body in server.bodies
            if text in str(body.get("inputs") or body.get("prompt") or body.get("messages"))
        ]
        for text in (wording.critics["common"], "再算一遍")
    )
    assert asked and hinted and not any(body in hinted for body in asked)
    if protocol == "chat":
        assert "ab" in asked[0]["messages"][-1]["content"] and asked[0]["messages"][-1]["role"] == "user"
    else:
        with pytest.raises(ModelError, match=r"use chat\+http"):
            proposer.propose(["q"], [step], replace(SETTINGS, template="chat"))


def test_a_token_that_stops_is_counted_and_told_also_where_a_server_leaves_it_out_of_answers(
    server: PolicyServer, open_: Open
) -> None:
    expected = open_().propose(["q"], [replace(STEP, num_samples=1, greedy=True)], SETTINGS)[0].samples
    sampled = open_().propose(["q"], [replace(STEP, num_samples=1)], SETTINGS)[0].samples
    server.like_llama_cpp = True
    proposer = open_()
    for _ in range(2):
        assert proposer.propose(["q"], [replace(STEP, num_samples=1, greedy=True)], SETTINGS)[0].samples == expected
        assert proposer.propose(["q"], [replace(STEP, num_samples=1)], SETTINGS)[0].samples == sampled


def test_blank_lines_and_ends_of_llama_cpp_cost_no_log_probabilities_and_every_sample_is_counted(
    server: PolicyServer, open_: Open
) -> None:
    server.like_llama_cpp = True
    proposer = open_()
    num_blank = num_ended = 0
    for seed in range(12):
        request = ProposeSteps(0, ("ab\n",), 3, 1, seed=seed, needs_log_probs=True, num_alternatives=2)
        answer = proposer.propose(["q"], [request], SETTINGS)[0]
        assert len(answer.samples) == 3
        for sample in answer.samples:
            num_ended += sample.ended
            for step in sample.steps:
                num_blank += step.text.startswith("\n")
                ended = sample.ended * log_probs_after("ab\n" + step.text)[END]
                log_probs = [
                    log_probs_after("ab\n" + step.text[:place])[step.text[place]] for place in range(len(step.text))
                ]
                assert step.log_prob == pytest.approx(sum(log_probs) + ended)
                assert step.num_tokens == len(step.text) + sample.ended
    assert num_blank and num_ended
