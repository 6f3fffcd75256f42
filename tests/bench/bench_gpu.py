"""What a GPU does with weights of the shape of a Qwen2.5 of 1.5 B parameters: `make bench-gpu`, or
`python tests/bench/bench_gpu.py [problems] [tokens a problem]`.

Whole solutions in process against the library's own `generate`; searches, with the share of their
time in forward passes; training with and without LoRA; and, where `RESTMCTS_VLLM_COMMAND` names a
vLLM, the engine vllm and the seconds until it has other weights. Weights are random: the figures
say what is spent, not what it brings. Without CUDA the models are small, which shows only that all
of it works.
"""

import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bench_search_cost import (
    GENERATION,
    METHODS,
    QUESTION_WORDS,
    SMALL_WORDS,
    SOLUTION_TOKENS,
    load_models,
    write_models,
)
from lockstep import Models, search_all
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.domain.requests import ProposeSteps
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.forked import ForkedSettings
from restmcts.domain.search.protocol import Budget
from restmcts.modeling.checkpoints import LoadedModel
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.training.training import train_policy
from restmcts.modeling.training.training_loop import Attempt
from restmcts.modeling.training.training_rows import PolicyExample
from restmcts.modeling.value.value_model import TransformersScorer

WHOLE = replace(GENERATION, max_step_tokens=SOLUTION_TOKENS)
SEARCHES = {
    "best-of-n": METHODS["best-of-n, 4 at once"],
    "mcts-star": METHODS["mcts-star"],
    "best-first": METHODS["best-first, once a step"],
    "forked": ForkedSettings(),
}
TRAINING = TrainingSettings(num_steps=8, batch_size=8, packing=True, warmup_ratio=0.1)
LORA_RANK = 16
NUM_SWAPS = 4


def words(generator: random.Random, count: int) -> str:
    return " ".join(f"w{generator.randrange(SMALL_WORDS)}" for _ in range(count))


def begin_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> str:
    return f"{torch.cuda.max_memory_allocated() / 2**30:5.1f} GiB" if torch.cuda.is_available() else ""


def shown(name: str, num_tokens: float, seconds: float, more: str = "") -> None:
    print(f"{name:34}{num_tokens / seconds:10,.0f} tokens/s {seconds:8.1f} s   {more:34}{peak_memory()}", flush=True)


def whole_solutions(policy: LoadedModel, questions: Sequence[str]) -> None:
    """One batch of as many rows; the library's never end by themselves, ours hardly ever."""
    proposer = TransformersProposer(policy, key_value_bytes=0)
    requests = [ProposeSteps(place, (), 1, None, seed=place) for place in range(len(questions))]
    ids = torch.tensor([policy.tokenizer(question)["input_ids"] for question in questions], device=policy.device)
    for _ in range(2):
        begin_memory()
        begin = time.perf_counter()
        policy.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            top_k=0,
            min_new_tokens=SOLUTION_TOKENS,
            max_new_tokens=SOLUTION_TOKENS,
            pad_token_id=policy.pad_token_id,
        )
        shown("generate", SOLUTION_TOKENS * len(questions), time.perf_counter() - begin)
        begin_memory()
        begin = time.perf_counter()
        answers = proposer.propose(questions, requests, WHOLE)
        num_tokens = sum(sample.num_tokens for answer in answers for sample in answer.samples)
        shown("in process", num_tokens, time.perf_counter() - begin)


def searches(models: tuple[LoadedModel, LoadedModel], questions: Sequence[str], num_tokens: int) -> None:
    for name, settings in SEARCHES.items():
        begin_memory()
        proposer, scorer = TransformersProposer(models[0]), TransformersScorer(models[1])
        searched = search_all(questions, settings, Budget(tokens=num_tokens), Models(proposer, scorer), GENERATION)
        forward = proposer.forward_seconds + scorer.forward_seconds
        share = f"{100 * forward / searched.seconds:.0f} % in forward passes"
        shown(name, searched.mean("tokens") * len(questions), searched.seconds, share)


def trainings(folder: Path, questions: Sequence[str], generator: random.Random) -> None:
    examples = [PolicyExample(question, (words(generator, SOLUTION_TOKENS),)) for question in questions]
    for name, rank in (("training", None), (f"training, LoRA of rank {LORA_RANK}", LORA_RANK)):
        begin_memory()
        steps: list[float] = []
        output = folder / "trained"
        settings = replace(TRAINING, lora_rank=rank, precision="bfloat16")
        attempt = Attempt(on_progress=lambda *_, steps=steps: steps.append(time.perf_counter()))
        report = train_policy(folder / "policy", examples, settings, output, attempt)
        shutil.rmtree(output)
        num_tokens = (report.num_steps - 1) * TRAINING.batch_size * (QUESTION_WORDS + SOLUTION_TOKENS)
        shown(name, num_tokens, steps[-1] - steps[0], f"{report.seconds:.1f} s with loading and saving")


def on_vllm(folder: Path, questions: Sequence[str], device: str) -> None:
    from restmcts_policy_generator.vllm_engine import VllmEngine

    shutil.copytree(folder / "policy", folder / "copy")
    settings = WorkerModelSettings(device=device, dtype="bfloat16", log_folder=folder / "logs", engine="vllm")
    requests = [ProposeSteps(n, (), 1, None, seed=n, needs_log_probs=True) for n in range(len(questions))]
    engine = VllmEngine()
    try:
        store = FolderArtifactStore(folder / "store")
        proposers: list[Any] = [engine.open(str(folder / name), store, settings) for name in ("policy", "copy")]
        proposers[0].propose(questions[:2], requests[:2], WHOLE)
        begin = time.perf_counter()
        answers = proposers[0].propose(questions, requests, WHOLE)
        num_tokens = sum(sample.num_tokens for answer in answers for sample in answer.samples)
        shown("--engine vllm", num_tokens, time.perf_counter() - begin)
        for number in range(NUM_SWAPS):
            begin = time.perf_counter()
            proposers[1 - number % 2].propose(questions[:1], requests[:1], replace(WHOLE, max_solution_tokens=1))
            print(f"first token of other weights after {time.perf_counter() - begin:.2f} s")
    finally:
        engine.close()


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    given = [int(argument) for argument in sys.argv[1:]]
    num_problems, num_tokens = [*given, *((64, 2048) if device == "cuda" else (8, 320))[len(given) :]]
    generator = random.Random(0)
    questions = [words(generator, QUESTION_WORDS) for _ in range(num_problems)]
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder), device)
        models = load_models(Path(folder), device)
        parameters = sum(parameter.numel() for parameter in models[0].model.parameters())
        name = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
        print(f"{name}: {parameters / 1e6:,.0f} M parameters each; {num_problems} problems")
        whole_solutions(models[0], questions)
        searches(models, questions, num_tokens)
        del models
        if device == "cuda":
            torch.cuda.empty_cache()
        trainings(Path(folder), questions, generator)
        if "RESTMCTS_VLLM_COMMAND" in os.environ:
            on_vllm(Path(folder), questions, device)


if __name__ == "__main__":
    main()
