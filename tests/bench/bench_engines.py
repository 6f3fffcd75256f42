"""How fast a real language model generates here against its library alone, same prompts, one run:
`python tests/bench/bench_engines.py [MODEL] [--vllm]`.

In process: whole solutions in bfloat16 and float32, against the library's own `generate` in both.
With `--vllm`: solutions with log-probabilities through `--engine vllm`, against the same server
asked directly. MODEL is a folder, an id of the hub, or `smollm2`. Each is measured three times, in
turn, after a turn that does not count, in which libraries compile; tokens behind a row's end count
for nobody. Then, by route, the seconds until other weights have answered a request of one token,
which is asked while a batch of the old ones is under way.
"""

import argparse
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import httpx2
import torch
from restmcts.adapters.models.vllm_server.process import SERVED_NAME
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.domain.requests import GenerationSettings, ProposeSteps, StepsProposed
from restmcts.domain.tasks.number_paths import SetSizes
from restmcts.domain.tasks.story_problems import make_story_problem_sets
from restmcts.modeling.checkpoints import LoadedModel, load_policy
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.policy.stored_prompts import load_prompts
from restmcts.modeling.tokenization import TextEncoder
from restmcts.ports import StepProposer
from restmcts_cli.arguments.model_sources import checkpoint_argument

NUM_PROMPTS, NUM_TOKENS, NUM_ROUNDS = 48, 64, 3
CONCURRENCY = 64
NUM_SWAPS, LOAD = 3, 8
SETTINGS = GenerationSettings(
    temperature=0.8,
    max_step_tokens=NUM_TOKENS,
    max_solution_tokens=NUM_TOKENS,
    step_separator="newline",
    template="few-shot",
)


def questions() -> list[str]:
    sizes = SetSizes(demonstrations=0, iterations=1, searched=NUM_PROMPTS, test=1, validation=1, difficulty="1")
    return [problem.question for problem in make_story_problem_sets(random.Random(0), sizes).searched[0]]


def requests(needs_log_probs: bool = False) -> list[ProposeSteps]:
    return [ProposeSteps(n, (), 1, None, seed=n, needs_log_probs=needs_log_probs) for n in range(NUM_PROMPTS)]


def num_tokens(answers: Sequence[StepsProposed]) -> int:
    return sum(sample.num_tokens for answer in answers for sample in answer.samples)


def prompt_tokens(path: str) -> list[list[int]]:
    tokenizer, prompts = load_prompts(path, template=SETTINGS.template)
    texts = [prompts.request_text(question, request) for question, request in zip(questions(), requests(), strict=True)]
    return TextEncoder(tokenizer, prompts.template).encode_prompts(texts)


def generated(loaded: LoadedModel, prompts: Sequence[Sequence[int]]) -> int:
    """Return the tokens that the library's `generate` samples in one batch, ends included."""
    longest, pad = max(map(len, prompts)), loaded.pad_token_id
    ids = torch.tensor([[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    eos = loaded.tokenizer.eos_token_id
    output = loaded.model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=True,
        temperature=SETTINGS.temperature,
        top_k=0,
        max_new_tokens=NUM_TOKENS,
        pad_token_id=pad,
        eos_token_id=eos,
    )
    rows = output[:, longest:].tolist()
    return sum(row.index(eos) + 1 if eos in row else len(row) for row in rows)


def compared(named: dict[str, Callable[[], int]]) -> dict[str, float]:
    """Return tokens a second by name, the mean of rounds in which each had its turn."""
    speeds: dict[str, list[float]] = {name: [] for name in named}
    for generate in named.values():
        generate()
    for _ in range(NUM_ROUNDS):
        for name, generate in named.items():
            begin = time.perf_counter()
            count = generate()
            speeds[name].append(count / (time.perf_counter() - begin))
    means = {name: mean(each) for name, each in speeds.items()}
    for name, each in speeds.items():
        print(f"{name:34}{means[name]:9.1f} tokens/s   ({', '.join(f'{speed:.1f}' for speed in each)})")
    return means


def in_process(path: str) -> None:
    half, whole = load_policy(path, dtype="bfloat16"), load_policy(path, dtype="float32")
    # Models of its own for the library: the others attend as this project lets them.
    plain_half, plain_whole = load_policy(path, dtype="bfloat16"), load_policy(path, dtype="float32")
    prompts = prompt_tokens(path)

    def proposed(loaded: LoadedModel) -> int:
        proposer = TransformersProposer(loaded, key_value_bytes=0)
        return num_tokens(proposer.propose(questions(), requests(), SETTINGS))

    speeds = compared(
        {
            "generate, bfloat16": lambda: generated(plain_half, prompts),
            "generate, float32": lambda: generated(plain_whole, prompts),
            "in process, bfloat16": lambda: proposed(half),
            "in process, float32": lambda: proposed(whole),
        }
    )
    ours_half = speeds["in process, bfloat16"]
    print(f"against generate in bfloat16: {ours_half / speeds['generate, bfloat16']:.2f} (.95 asked)")
    print(f"against generate in float32:  {ours_half / speeds['generate, float32']:.2f}")
    print(f"against float32 in process:   {ours_half / speeds['in process, float32']:.2f} (2 asked)")

    old = TransformersProposer(half)

    def loaded_anew() -> None:
        one_token(TransformersProposer(load_policy(path, dtype="bfloat16")))

    show_swaps("in process", [swap_seconds(old, loaded_anew) for _ in range(NUM_SWAPS)])


def one_token(proposer: StepProposer) -> None:
    proposer.propose(questions()[:1], requests()[:1], replace(SETTINGS, max_step_tokens=1, max_solution_tokens=1))


def swap_seconds(old: StepProposer, ask_new: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds until the old weights have answered what was under way, and until the new
    ones have answered one token, both from the moment at which these are asked.
    """
    finished: list[float] = []

    def load() -> None:
        old.propose(questions()[:LOAD], requests()[:LOAD], SETTINGS)
        finished.append(time.perf_counter())

    under_way = threading.Thread(target=load)
    under_way.start()
    time.sleep(0.5)
    begin = time.perf_counter()
    ask_new()
    ended = time.perf_counter()
    under_way.join()
    return finished[0] - begin, ended - begin


def show_swaps(route: str, seconds: Sequence[tuple[float, float]]) -> None:
    rounds = ", ".join(f"{new:.1f} ({old:.1f})" for old, new in seconds)
    print(f"{route:34}{mean(new for _, new in seconds):9.1f} s until new weights answer (old ones done): {rounds}")


def on_vllm(path: str, folder: Path) -> None:
    from restmcts_policy_generator.vllm_engine import VllmEngine

    settings = WorkerModelSettings(dtype="bfloat16", log_folder=folder / "logs", engine="vllm")
    engine = VllmEngine()
    try:
        proposer: Any = engine.open(path, FolderArtifactStore(folder / "store"), settings)
        proposer.propose(questions()[:2], requests(True)[:2], SETTINGS)
        url = proposer._asked[0]
        client = httpx2.Client(timeout=600.0)
        prompts = prompt_tokens(path)

        def ask(number: int) -> int:
            body = {
                "model": SERVED_NAME,
                "prompt": list(prompts[number]),
                "max_tokens": NUM_TOKENS,
                "temperature": SETTINGS.temperature,
                "seed": number,
                "logprobs": 1,
            }
            answer = client.post(f"{url}/v1/completions", json=body).raise_for_status().json()
            return int(answer["usage"]["completion_tokens"])

        def asked() -> int:
            with ThreadPoolExecutor(CONCURRENCY) as pool:
                return sum(pool.map(ask, range(NUM_PROMPTS)))

        speeds = compared(
            {
                "vLLM asked directly": asked,
                "--engine vllm": lambda: num_tokens(proposer.propose(questions(), requests(True), SETTINGS)),
            }
        )
        print(f"against vLLM: {speeds['--engine vllm'] / speeds['vLLM asked directly']:.2f} (.9 asked)")

        shutil.copytree(path, folder / "other")
        both = [proposer, engine.open(str(folder / "other"), FolderArtifactStore(folder / "store"), settings)]
        turns = [(both[turn % 2], both[1 - turn % 2]) for turn in range(NUM_SWAPS)]
        show_swaps("vLLM, in place", [swap_seconds(old, partial(one_token, new)) for old, new in turns])
        engine.close()
        begin = time.perf_counter()
        one_token(engine.open(path, FolderArtifactStore(folder / "store"), settings))
        print(f"{'vLLM, started anew':34}{time.perf_counter() - begin:9.1f} s until new weights answer")
    finally:
        engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--vllm", action="store_true", help="also the engine vllm (RESTMCTS_VLLM_COMMAND)")
    arguments = parser.parse_args()
    path = checkpoint_argument(arguments.model, "policy", False)
    in_process(path)
    if arguments.vllm:
        with tempfile.TemporaryDirectory() as folder:
            on_vllm(path, Path(folder))


if __name__ == "__main__":
    main()
