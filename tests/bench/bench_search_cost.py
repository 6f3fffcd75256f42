"""What searches cost at equal generated tokens: tokens generated, prefilled, reused and scored,
calls, and seconds.

`python tests/bench/bench_search_cost.py [problems] [tokens a problem]`. Weights are random: the
figures say what a search costs, not what it brings. With CUDA both models have the shape of a
Qwen2.5 of 1.5 B parameters in bfloat16; without, that of a small Llama. Steps are cut at a fixed
length and no solution ends, so that every search has the same work to do. All problems advance in
lockstep: each round is one call of the policy and one of the value model. Compare ratios of one
run, not seconds.
"""

import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from bench_batching import make_tokenizer
from lockstep import Models, search_all
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.search.best_first import BestFirstSettings
from restmcts.domain.search.best_of_n import BestOfNSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.search.settings import SearchSettings
from restmcts.modeling.checkpoints import (
    LoadedModel,
    load_policy,
    load_value_model,
    new_policy,
    new_value_model,
    save_checkpoint,
)
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.value.value_model import TransformersScorer
from transformers import LlamaConfig, PretrainedConfig, Qwen2Config

SMALL_WORDS, LARGE_WORDS = 200, 151_933
SOLUTION_TOKENS = 160
STEP_TOKENS = 16
GENERATION = GenerationSettings(temperature=1.0, max_step_tokens=STEP_TOKENS, max_solution_tokens=SOLUTION_TOKENS)
QUESTION_WORDS = 60
DEPTH = SOLUTION_TOKENS // STEP_TOKENS
METHODS: dict[str, SearchSettings] = {
    "best-of-n, one by one": BestOfNSettings(num_samples=4096, samples_at_once=1),
    "best-of-n, 4 at once": BestOfNSettings(num_samples=4096, samples_at_once=4),
    "mcts-star": MctsStarSettings(mode="collect", stop_threshold=2.0, max_depth=DEPTH, roll_forward_steps=DEPTH),
    "best-first, tokens": BestFirstSettings(stop_threshold=None, min_log_prob=-100.0),
    "best-first, once a step": BestFirstSettings(stop_threshold=None, min_log_prob=-100.0, branch_at="untried-mass"),
    "best-first, 4 in flight": BestFirstSettings(
        stop_threshold=None, min_log_prob=-100.0, branch_at="untried-mass", branches_in_flight=4
    ),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Means a problem, and the seconds that all problems took together."""

    generated: float
    prefilled: float
    reused: float
    scored: float
    rounds: int
    seconds: float


COLUMNS = tuple(Cost.__dataclass_fields__)


def write_models(folder: Path, device: str) -> None:
    shape: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config: PretrainedConfig
    if device == "cuda":
        tokenizer = make_tokenizer(LARGE_WORDS)
        shape |= {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28}
        shape |= {"num_attention_heads": 12, "num_key_value_heads": 2, "max_position_embeddings": 4096}
        config = Qwen2Config(vocab_size=len(tokenizer), tie_word_embeddings=True, **shape)
    else:
        tokenizer = make_tokenizer(SMALL_WORDS)
        shape |= {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4}
        config = LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, max_position_embeddings=512, **shape)
    save_checkpoint(new_policy(config, tokenizer, 0, template="raw"), folder / "policy")
    save_checkpoint(new_value_model(folder / "policy", 0), folder / "value")


def load_models(folder: Path, device: str) -> tuple[LoadedModel, LoadedModel]:
    dtype: Literal["bfloat16", "auto"] = "bfloat16" if device == "cuda" else "auto"
    policy = load_policy(folder / "policy", device=device, dtype=dtype)
    return policy, load_value_model(folder / "value", device=device, dtype=dtype)


def measure(
    settings: SearchSettings, questions: Sequence[str], num_tokens: int, models: tuple[LoadedModel, LoadedModel]
) -> Cost:
    """Search all problems in lockstep with fresh caches."""
    fresh = Models(TransformersProposer(models[0]), TransformersScorer(models[1]))
    searched = search_all(questions, settings, Budget(tokens=num_tokens), fresh, GENERATION)
    reused = searched.mean("reused_tokens")
    prefilled = searched.mean("prompt_tokens") - reused
    return Cost(
        searched.mean("tokens"), prefilled, reused, searched.mean("scored_tokens"), searched.rounds, searched.seconds
    )


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    given = [int(argument) for argument in sys.argv[1:]]
    num_problems, num_tokens = [*given, *((64, 2048) if device == "cuda" else (8, 640))[len(given) :]]
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder), device)
        models = load_models(Path(folder), device)
    generator = random.Random(0)
    questions = [
        " ".join(f"w{generator.randrange(SMALL_WORDS)}" for _ in range(QUESTION_WORDS)) for _ in range(num_problems)
    ]
    parameters = sum(parameter.numel() for parameter in models[0].model.parameters())
    print(
        f"{device}: {parameters / 1e6:,.0f} M parameters each; {num_problems} problems, {num_tokens} generated tokens each"
    )
    measure(METHODS["best-of-n, 4 at once"], questions, SOLUTION_TOKENS, models)
    costs = {name: measure(settings, questions, num_tokens, models) for name, settings in METHODS.items()}
    print(f"{'a problem':26}" + "".join(f"{name:>12}" for name in [*COLUMNS, "us a token", "x"]))
    first: float | None = None
    for name, cost in costs.items():
        pace = 1e6 * cost.seconds / (cost.generated * num_problems)
        first = first or pace
        cells = [*(getattr(cost, column) for column in COLUMNS), pace, pace / first]
        print(f"{name:26}" + "".join(f"{cell:12,.0f}" if cell > 100 else f"{cell:12,.2f}" for cell in cells))


if __name__ == "__main__":
    main()
