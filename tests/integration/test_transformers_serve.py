"""Policies behind HTTP against a real server, `transformers serve`, over a tiny model made
here: contract, and a whole run.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import torch
from restmcts.adapters.models.http_policy.address import parse_address
from restmcts.adapters.models.http_policy.opening import open_policy
from restmcts.adapters.models.http_policy.proposer import HttpProposer
from restmcts.adapters.models.llm_judge import JudgeSettings, LlmJudge
from restmcts.adapters.sql.reads import queries
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings, ProposeSteps
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.best_of_n import SelfConsistencySettings
from restmcts.errors import ModelError, ServerUnavailableError
from restmcts.settings import PolicyServerSettings
from restmcts.testing.contracts.models import check_step_proposer, check_step_scorer
from restmcts_cli.processes.server_processes import free_ports
from restmcts_local.local_run import LocalRun, ModelOptions
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

LETTERS = "\nabcdefghijklmnopqrstuvwxyz0123?"
CHAT_TEMPLATE = "{% for turn in messages %}{{ turn['content'] }}\n{% endfor %}"
START_SECONDS = 180.0
SETTINGS = GenerationSettings(temperature=1.0, max_step_tokens=8, max_solution_tokens=24)
# It seeds one generator for all requests: only one after another do they depend on their seeds
# alone.
ONE_AT_A_TIME = "&concurrency=1"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of random weights over single characters."""
    vocabulary = {token: place for place, token in enumerate(["<eos>", *LETTERS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=LETTERS[-1]))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", chat_template=CHAT_TEMPLATE)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    llama = LlamaForCausalLM(config)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's base URL."""
    (port,) = free_ports(1)
    log = (tmp_path_factory.mktemp("serve") / "log").open("w")
    command = [str(Path(sys.executable).with_name("transformers")), "serve", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path_factory.mktemp("hub"))}
    process = subprocess.Popen([*command, "--device", "cpu"], stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None and time.monotonic() < deadline, Path(log.name).read_text()
            try:
                httpx2.get(f"http://127.0.0.1:{port}/health").raise_for_status()
                break
            except httpx2.HTTPError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()
        log.close()


def opened(
    server: str, model: Path | str, protocol: str = "openai", query: str = ONE_AT_A_TIME, retry: float = 20.0
) -> HttpProposer:
    address = parse_address(f"{protocol}+{server}?model={model}{query}")
    return open_policy(address, PolicyServerSettings(policy_retry_seconds=retry))


@pytest.mark.parametrize("protocol", ["openai", "chat"])
def test_both_routes_keep_the_contract(server: str, model: Path, protocol: str) -> None:
    made: list[HttpProposer] = []

    def make() -> HttpProposer:
        made.append(opened(server, model, protocol))
        return made[-1]

    check_step_proposer(make, "question", ("ab\n", "c\n"))
    for proposer in made:
        proposer.close()


def test_the_server_writes_what_the_model_writes_in_this_process(server: str, model: Path) -> None:
    from restmcts.modeling.checkpoints import load_policy
    from restmcts.modeling.policy.proposer import TransformersProposer

    request = ProposeSteps(0, ("ab\n",), 1, 1, seed=1, greedy=True)
    here = TransformersProposer(load_policy(model, template="plain")).propose(["question"], [request], SETTINGS)[0]
    proposer = opened(server, model)
    there = proposer.propose(["question"], [request], SETTINGS)[0]
    proposer.close()
    # The tokenizer keeps no text, so that steps here are lines; a server's are what was written.
    assert [step.text.strip() for step in there.samples[0].steps] == [
        step.text.strip() for step in here.samples[0].steps
    ]
    assert there.num_prompt_tokens == here.num_prompt_tokens
    assert there.samples[0].num_tokens == here.samples[0].num_tokens


@pytest.mark.parametrize("protocol", ["openai", "chat"])
def test_it_samples_by_seed_though_the_model_says_nothing_of_sampling(server: str, model: Path, protocol: str) -> None:
    proposer = opened(server, model, protocol)
    request = ProposeSteps(0, (), 6, None, seed=1)
    first, again = (proposer.propose(["question"], [request], SETTINGS)[0].samples for _ in range(2))
    proposer.close()
    assert len({sample.steps for sample in first}) > 3
    assert first == again


def test_it_tells_no_log_probabilities_and_a_search_that_needs_them_hears_it(server: str, model: Path) -> None:
    proposer = opened(server, model)
    request = ProposeSteps(0, (), 1, None, seed=1, greedy=True, num_alternatives=2, needs_log_probs=True)
    with pytest.raises(ModelError, match="returns no log-probabilities"):
        proposer.propose(["question"], [request], SETTINGS)
    proposer.close()


def test_it_judges_by_sampled_replies(server: str, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    made: list[LlmJudge] = []

    def make() -> LlmJudge:
        made.append(LlmJudge(opened(server, model), JudgeSettings(num_samples=4)))
        return made[-1]

    check_step_scorer(make, "question", (("ab\n",), ("c\n", "d\n")))
    assert "values are shares of yes among 4 replies" in caplog.text
    for judge in made:
        judge.close()


def test_a_model_that_it_cannot_serve_lets_requests_wait(server: str, tmp_path: Path) -> None:
    proposer = opened(server, tmp_path / "nosuch", retry=0.5)
    with pytest.raises(ServerUnavailableError):
        proposer.propose(["question"], [ProposeSteps(0, (), 1, 1, seed=1)], SETTINGS)
    proposer.close()


def test_a_run_searches_with_a_policy_by_uri(server: str, model: Path, tmp_path: Path) -> None:
    phase = SearchPhase(
        "search", 1, "collect", "train", "base", None, SelfConsistencySettings(num_samples=3), generation=SETTINGS
    )
    problems = {"train": [Problem(f"question {letter}", "1") for letter in "abc"]}
    with LocalRun(tmp_path / "work", ModelOptions()) as run:
        policy = f"openai+{server}?model={model}{ONE_AT_A_TIME}"
        run_id = run.create("served", "search", 0, {}, problems, {"base": ("policy", policy)}, [phase])
        run.run(run_id)
        with run.database.transaction() as transaction:
            numbers = queries.phase_numbers(transaction, run_id)[0]
    assert (numbers.state, numbers.num_done, numbers.num_failed) == ("done", 3, 0)
    assert numbers.tokens > 0
