"""A policy on a vLLM server that restmcts starts: the same answers as in process, weights swapped
in place, no step attributed to other weights, and a server that dies.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from restmcts.adapters.models.vllm_server.process import VllmSettings
from restmcts.adapters.models.vllm_server.weights import VllmServer, Weights
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.domain.requests import GenerationSettings, ProposeSteps, ScoreSteps, StepsProposed
from restmcts.domain.scoring import Calibration
from restmcts.modeling.checkpoints import load_policy, load_value_model, new_value_model, save_checkpoint
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.value.calibration_files import write_calibration
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts_policy_generator.vllm_engine import VllmEngine, VllmProposer
from restmcts_prm_scorer.opening import open_scorer
from restmcts_prm_scorer.vllm_values import VllmScorer, VllmValues
from safetensors.torch import load_file, save_file

QUESTIONS = (
    "Nora sold clips to 48 of her friends in April, and then she sold half as many in May. How many did she sell in all?",
    "Omar earns 12 dollars an hour and worked for 50 minutes. How much did he earn?",
    "Weng has 3 boxes of 12 eggs each and eats 5 eggs. How many eggs are left?",
)
SETTINGS = GenerationSettings(
    temperature=0.8, max_step_tokens=40, max_solution_tokens=80, step_separator="newline", template="few-shot"
)
NUM_AT_ONCE = 64  # more tokens of prompts than the server reads in one step by default
OpenPolicy = Callable[[Path], VllmProposer]
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def other_weights(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with noise in two layers: it writes other texts."""
    folder = tmp_path_factory.mktemp("other") / "model"
    shutil.copytree(smollm2, folder)
    weights = load_file(folder / "model.safetensors")
    torch.manual_seed(0)
    for name, tensor in weights.items():
        if "layers.5." in name or "layers.20." in name:
            noise = 0.5 * tensor.float().std() * torch.randn(tensor.shape)
            weights[name] = (tensor.float() + noise).to(tensor.dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def engine(vllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    engine = VllmEngine()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESTMCTS_VLLM_COMMAND", str(vllm))
        patch.setenv("RESTMCTS_VLLM_ARGUMENTS", "--max-model-len 2048 --enforce-eager")
        yield engine
    engine.close()


@pytest.fixture
def open_policy(engine: VllmEngine, tmp_path: Path) -> Iterator[Callable[[Path], VllmProposer]]:
    """Opens policies, and closes them at the test's end."""
    with ExitStack() as opened:

        def opening(weights: Path) -> VllmProposer:
            settings = WorkerModelSettings(dtype="float32", log_folder=tmp_path / "logs", engine="vllm")
            proposer = engine.open(str(weights), FolderArtifactStore(tmp_path / "store"), settings)
            assert isinstance(proposer, VllmProposer)
            return opened.enter_context(closing(proposer))

        yield opening


def greedy(number: int = 0) -> ProposeSteps:
    return ProposeSteps(number, (), 1, None, 0, greedy=True, needs_log_probs=True)


def texts(answers: Sequence[StepsProposed]) -> list[str]:
    return ["".join(step.text for step in answer.samples[0].steps) for answer in answers]


def test_both_engines_give_the_same_answers(open_policy: OpenPolicy, smollm2: Path) -> None:
    requests = [greedy(number) for number in range(len(QUESTIONS))]
    served = open_policy(smollm2).propose(QUESTIONS, requests, SETTINGS)
    own = TransformersProposer(load_policy(smollm2, dtype="float32")).propose(QUESTIONS, requests, SETTINGS)
    assert texts(served) == texts(own)
    for one, other in zip(served, own, strict=True):
        assert one.num_prompt_tokens == other.num_prompt_tokens
        for step, wanted in zip(one.samples[0].steps, other.samples[0].steps, strict=True):
            assert step.num_tokens == wanted.num_tokens
            assert step.log_prob == pytest.approx(wanted.log_prob, abs=1e-3)


def test_greedy_by_steps_is_greedy_at_once(open_policy: OpenPolicy, smollm2: Path) -> None:
    proposer = open_policy(smollm2)
    (once,) = proposer.propose(QUESTIONS[:1], [greedy()], SETTINGS)
    steps: list[str] = []
    for wanted in once.samples[0].steps:
        request = ProposeSteps(0, tuple(steps), 1, 1, 0, greedy=True, needs_log_probs=True)
        (step,) = proposer.propose(QUESTIONS[:1], [request], SETTINGS)[0].samples[0].steps
        assert (step.text, step.num_tokens) == (wanted.text, wanted.num_tokens)
        assert step.log_prob == pytest.approx(wanted.log_prob, abs=1e-3)
        steps.append(step.text)
    assert len(steps) >= 2


def test_no_step_is_attributed_to_other_weights(
    engine: VllmEngine, open_policy: OpenPolicy, smollm2: Path, other_weights: Path
) -> None:
    proposers = [open_policy(folder) for folder in (smollm2, other_weights)]
    requests = [greedy(number) for number in range(len(QUESTIONS))]
    first = [texts(proposer.propose(QUESTIONS, requests, SETTINGS)) for proposer in proposers]
    starts = engine._server.num_starts if engine._server else 0
    assert all(one != other for one, other in zip(*first, strict=True)), "the two models write other texts"
    for turn in range(6):
        assert texts(proposers[turn % 2].propose(QUESTIONS, requests, SETTINGS)) == first[turn % 2]
    assert engine._server is not None and engine._server.num_starts == starts, "weights were swapped in place"
    print(f"a swap took {engine._server.swap_seconds:.1f} s")


def test_many_samples_at_once_leave_the_server_alive(
    engine: VllmEngine, open_policy: OpenPolicy, smollm2: Path
) -> None:
    proposer = open_policy(smollm2)
    proposer.propose(QUESTIONS[:1], [greedy()], SETTINGS)
    assert engine._server is not None
    starts = engine._server.num_starts
    questions = [f"{QUESTIONS[number % 3]} And {number} more?" for number in range(NUM_AT_ONCE)]
    requests = [ProposeSteps(number, (), 1, None, seed=number) for number in range(NUM_AT_ONCE)]
    settings = replace(SETTINGS, max_step_tokens=8, max_solution_tokens=8)
    answers = proposer.propose(questions, requests, settings)
    assert all(answer.samples[0].num_tokens for answer in answers)
    assert engine._server.num_starts == starts


def test_a_server_that_dies_is_started_anew(engine: VllmEngine, open_policy: OpenPolicy, smollm2: Path) -> None:
    proposer = open_policy(smollm2)
    before = texts(proposer.propose(QUESTIONS, [greedy(number) for number in range(len(QUESTIONS))], SETTINGS))
    server = engine._server
    assert server is not None and server._process is not None
    for process in psutil.Process(server._process.pid).children(recursive=True):
        process.send_signal(signal.SIGKILL)
    after = texts(proposer.propose(QUESTIONS, [greedy(number) for number in range(len(QUESTIONS))], SETTINGS))
    assert after == before


def test_a_value_model_has_the_same_values_on_vllm_and_keeps_its_own_weights(
    vllm: Path, smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTMCTS_VLLM_COMMAND", str(vllm))
    monkeypatch.setenv("RESTMCTS_VLLM_ARGUMENTS", "--max-model-len 2048 --enforce-eager")
    models = [tmp_path / "first", tmp_path / "second"]
    for seed, folder in enumerate(models):
        model = new_value_model(smollm2, seed=0, value_scale=("identity", "logit")[seed])
        # In steps of bfloat16, in which the folder has its weights.
        head = 0.003 * torch.randn(model.model.score.weight.shape, generator=torch.Generator().manual_seed(seed))
        model.model.score.weight.data = head.bfloat16().float()
        save_checkpoint(model, folder)
    write_calibration(models[1], Calibration(2.0, 0.5), {})
    branches = ((" 12 * 50 = 600.\n", " 600 / 60 = 10.\n"), (" He earned 10.\n",))
    requests = [ScoreSteps(number, (" One.\n",) * number, branches) for number in range(len(QUESTIONS))]
    settings = WorkerModelSettings(dtype="float32", log_folder=tmp_path / "logs", engine="vllm")
    artifacts = FolderArtifactStore(tmp_path / "store")
    with closing(VllmValues()) as values:
        for folder in (*models, models[0]):
            scorer = open_scorer(str(folder), artifacts, settings, values)
            assert isinstance(scorer, VllmScorer)
            served = scorer.score(QUESTIONS, requests)
            scorer.close()
            own = TransformersScorer(load_value_model(folder, dtype="float32")).score(QUESTIONS, requests)
            assert [each.values for each in served] == [
                tuple(pytest.approx(listed, abs=1e-4) for listed in each.values) for each in own
            ]
            assert len({value for each in own for listed in each.values for value in listed}) > len(QUESTIONS)
        assert values.num_starts == 1


def test_a_server_sleeps_when_nobody_asks(vllm: Path, smollm2: Path, tmp_path: Path) -> None:
    settings = VllmSettings(str(vllm), "--max-model-len 512 --enforce-eager", idle_seconds=0.5, log_folder=tmp_path)
    server, weights = VllmServer(settings), Weights("one", str(smollm2), "float32")
    with server.use(weights) as in_use:
        in_use.check()
    deadline = time.monotonic() + 30
    while not server._call("GET", "/is_sleeping").json()["is_sleeping"] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert server._call("GET", "/is_sleeping").json()["is_sleeping"]
    with server.use(weights) as in_use:
        in_use.check()
        assert not server._call("GET", "/is_sleeping").json()["is_sleeping"]
    server.close()


def test_a_run_learns_through_vllm_and_goes_on_after_it_was_killed(vllm: Path, smollm2: Path, tmp_path: Path) -> None:
    sums = [{"question": f"What is {a} + {b}?", "answer": str(a + b)} for a, b in ((2, 3), (4, 5), (6, 1), (10, 7))]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    command: list[str | Path] = [
        Path(sys.executable).with_name("restmcts"),
        "selftrain",
        "sums.jsonl",
        "--policy",
        smollm2,
    ]
    command += [
        "--workdir",
        "run",
        "--engine",
        "vllm",
        "--template",
        "few-shot",
        "--method",
        "rest-em",
        "--iterations",
        "2",
    ]
    command += ["--max-solution-tokens", "64", "--dtype", "float32", "--budget-tokens", "200"]
    command += ["--set", "policy_training.num_steps=2"]
    environment = os.environ | {
        "RESTMCTS_VLLM_COMMAND": str(vllm),
        "RESTMCTS_VLLM_ARGUMENTS": "--max-model-len 1024 --enforce-eager",
    }
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("run/logs/vllm-*.log")) and time.monotonic() < deadline:
        time.sleep(0.5)
    servers = [
        process
        for process in psutil.Process(first.pid).children(recursive=True)
        if "keeper" in " ".join(process.cmdline())
    ]
    first.kill()
    first.wait()
    _, alive = psutil.wait_procs(servers, timeout=30)
    assert servers and not alive, "the server ends with its run"
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=800)
    shown = subprocess.run(
        [command[0], "runs", "show", "selftrain", "--workdir", "run", "--json"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    run = json.loads(shown.stdout)
    assert run["state"] == "done"
