"""How full batches are and where the time goes, for 1, 8 and 64 trees in flight: `python
tests/bench/bench_batching.py`.

MCTS* collects trees under a policy and a value model of 4 million parameters each (Llama, hidden
256, 4 layers, random weights), through the real handlers, bus and SQLite. Models are loaded
beforehand. Figures of one run are to be compared with one another: the machine may be busy.
"""

import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from restmcts.adapters.workers.service import OpenModels
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.modeling.checkpoints import load_policy, new_value_model, save_checkpoint
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.training.training import initialise_policy
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts_local.local_run import LocalRun, ModelOptions
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

NUM_WORDS = 3000
MAX_STEP_TOKENS = 20
NUM_ITERATIONS = 2
TREES_IN_FLIGHT = (1, 8, 64)
MIN_TREES = 2
REQUIRED_SHARE = 0.85


@dataclass(slots=True)
class Timed:
    """A model behind its port that counts calls, requests and rows, and takes the time inside
    and around it.
    """

    model: Any
    num_calls: int = 0
    num_requests: int = 0
    num_rows: int = 0
    seconds: float = 0.0
    begin_forward_seconds: float = field(init=False)
    begin_passes: int = field(init=False)

    def __post_init__(self) -> None:
        self.begin_forward_seconds = self.model.forward_seconds
        self.begin_passes = self.model.num_forward_passes

    @property
    def forward_seconds(self) -> float:
        return float(self.model.forward_seconds - self.begin_forward_seconds)

    @property
    def num_passes(self) -> int:
        return int(self.model.num_forward_passes - self.begin_passes)

    def propose(self, questions: Sequence[str], requests: Sequence[Any], settings: GenerationSettings) -> Any:
        return self._count(requests, [request.num_samples for request in requests], questions, requests, settings)

    def score(self, questions: Sequence[str], requests: Sequence[Any]) -> Any:
        return self._count(requests, [len(request.branches) for request in requests], questions, requests)

    def _count(self, requests: Sequence[Any], rows: Sequence[int], *arguments: Any) -> Any:
        begin = time.perf_counter()
        answers = (self.model.propose if len(arguments) == 3 else self.model.score)(*arguments)
        self.seconds += time.perf_counter() - begin
        self.num_calls += 1
        self.num_requests += len(requests)
        self.num_rows += sum(rows)
        return answers


class BenchRun(LocalRun):
    """A local run over models that are loaded already."""

    def __init__(self, workdir: Path, options: ModelOptions, policy: Timed, value: Timed) -> None:
        super().__init__(workdir, options, opened=OpenModels(lambda _: policy, lambda _: value))


def make_tokenizer(num_words: int = NUM_WORDS) -> PreTrainedTokenizerFast:
    words = [f"w{number}" for number in range(num_words)]
    backend = Tokenizer(
        models.WordLevel({token: place for place, token in enumerate(["<eos>", "<unk>", "\n", *words])}, "<unk>")
    )
    split = pre_tokenizers.Split
    backend.pre_tokenizer = pre_tokenizers.Sequence([split("\n", "isolated"), split(Regex(" +"), "removed")])
    backend.decoder = decoders.Sequence(
        [decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse(), decoders.Replace(Regex(" ?\n ?"), "\n")]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>")


def make_models(
    folder: Path, hidden_size: int = 256, num_layers: int = 4
) -> tuple[TransformersProposer, TransformersScorer]:
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 43 // 16,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        tie_word_embeddings=True,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    initialise_policy(config, tokenizer, folder / "policy", 0, template="raw")
    policy = load_policy(folder / "policy")
    value = new_value_model(folder / "policy", 0)
    torch.nn.init.normal_(value.model.score.weight, std=0.02, generator=torch.Generator().manual_seed(1))
    save_checkpoint(value, folder / "value")
    num_parameters = sum(parameter.numel() for parameter in policy.model.parameters())
    print(
        f"policy and value model: {num_parameters / 1e6:.1f} M parameters each; torch threads: {torch.get_num_threads()}"
    )
    return TransformersProposer(policy), TransformersScorer(value)


def measure(workdir: Path, num_in_flight: int, num_trees: int, proposer: Any, scorer: Any) -> dict[str, float]:
    policy, value = Timed(proposer), Timed(scorer)
    search = MctsStarSettings(mode="collect", branch=3, stop_threshold=2.0)
    phase = SearchPhase(
        name="collect",
        iteration=1,
        purpose="evaluate",
        problem_set="train",
        policy="policy",
        value="value",
        search=search,
        budget=Budget(iterations=NUM_ITERATIONS),
        generation=GenerationSettings(temperature=1.0, max_step_tokens=MAX_STEP_TOKENS),
    )
    generator = random.Random(0)
    problems = [
        Problem(" ".join(f"w{generator.randrange(NUM_WORDS)}" for _ in range(generator.randint(20, 60))), "1")
        for _ in range(num_trees)
    ]
    checkpoints = {"policy": ("policy", "policy"), "value": ("value", "value")}
    with BenchRun(workdir, ModelOptions(max_trees_in_flight=num_in_flight), policy, value) as run:
        run_id = run.create("bench", "bench", 0, {}, {"train": problems}, checkpoints, [phase])
        begin = time.perf_counter()
        run.run(run_id)
        seconds = time.perf_counter() - begin
        with run.database.transaction() as transaction:
            result = dict(
                transaction.connection.exec_driver_sql("SELECT sum(tokens) t, sum(nodes) n FROM trees").one()._mapping
            )
    return {
        "trees": num_trees,
        "seconds": seconds,
        "requests a call": policy.num_requests / policy.num_calls,
        "samples a call": policy.num_rows / policy.num_calls,
        "value requests a call": value.num_requests / value.num_calls,
        "value rows a call": value.num_rows / value.num_calls,
        "tokens/s": result["t"] / seconds,
        "nodes/s": result["n"] / seconds,
        "policy forward": policy.forward_seconds / seconds,
        "value forward": value.forward_seconds / seconds,
        "around the models": (policy.seconds + value.seconds - policy.forward_seconds - value.forward_seconds)
        / seconds,
        "all else": 1.0 - (policy.seconds + value.seconds) / seconds,
        "forward": (policy.forward_seconds + value.forward_seconds) / seconds,
    }


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        models = make_models(Path(folder))
        measure(Path(folder) / "warm-up", MIN_TREES, MIN_TREES, *models)
        columns = {
            number: measure(Path(folder) / f"run-{number}", number, max(number, MIN_TREES), *models)
            for number in TREES_IN_FLIGHT
        }
    print(f"\n{'trees in flight':34}" + "".join(f"{number:>12}" for number in columns))
    for name in columns[1]:
        is_share = name in ("policy forward", "value forward", "around the models", "all else", "forward")
        cells = (f"{column[name]:12.1%}" if is_share else f"{column[name]:12,.1f}" for column in columns.values())
        label = "share of wall: " + name if is_share else name
        print(f"{label:34}" + "".join(cells))
    for number in TREES_IN_FLIGHT[1:]:
        ratios = ", ".join(
            f"{name} x {columns[number][name] / columns[1][name]:.1f}" for name in ("tokens/s", "nodes/s")
        )
        print(f"{number} trees in flight against 1: {ratios}")
    share = columns[TREES_IN_FLIGHT[-1]]["forward"]
    print(f"share of wall time in forward passes at 64 trees: {share:.1%} (required: {REQUIRED_SHARE:.0%})")


if __name__ == "__main__":
    main()
