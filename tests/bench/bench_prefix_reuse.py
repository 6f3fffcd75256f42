"""What kept keys and values save, and how fast that is: `python tests/bench/bench_prefix_reuse.py
[problems] [iterations]`.

MCTS* over 64 problems at 40 iterations, under models of 0.8 million parameters, through the real
handlers, bus and SQLite, with keys and values kept; some of its calls, spread over the whole
search, are asked once more without, and through the library's own `generate`. Figures of one run
are to be compared with one another: the machine may be busy. Some minutes on one core.
"""

import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from bench_batching import MAX_STEP_TOKENS, NUM_WORDS, BenchRun, make_models
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings, ProposeSteps, ScoreSteps
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.modeling.checkpoints import LoadedModel, load_policy, load_value_model
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts_local.local_run import ModelOptions
from transformers import StoppingCriteria

KEY_VALUE_BYTES = 4 * 2**30
REPLAYED_CALLS = 12
# Of the models: with those of bench_batching.py, 8 problems at 10 iterations alone took a minute on
# a busy core.
HIDDEN_SIZE, NUM_LAYERS = 128, 2
SETTINGS = GenerationSettings(temperature=1.0, max_step_tokens=MAX_STEP_TOKENS)


@dataclass(slots=True)
class Recorder:
    """A model behind its port that keeps what it was asked and takes the time."""

    model: Any
    calls: list[tuple[Sequence[str], Sequence[Any], Sequence[Any]]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def propose(self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: GenerationSettings) -> Any:
        return self._timed(self.model.propose, questions, requests, settings)

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> Any:
        return self._timed(self.model.score, questions, requests)

    def _timed(self, call: Any, questions: Sequence[str], requests: Sequence[Any], *arguments: Any) -> Any:
        begin = time.perf_counter()
        answers = call(questions, requests, *arguments)
        self.seconds.append(time.perf_counter() - begin)
        self.calls.append((questions, requests, answers))
        return answers


def search(folder: Path, problems: Sequence[Problem], num_iterations: int, policy: Recorder, value: Recorder) -> float:
    """Search all problems and return the seconds that it took."""
    phase = SearchPhase(
        name="collect",
        iteration=1,
        purpose="evaluate",
        problem_set="train",
        policy="policy",
        value="value",
        search=MctsStarSettings(mode="collect", branch=3, stop_threshold=2.0),
        budget=Budget(iterations=num_iterations),
        generation=SETTINGS,
    )
    checkpoints = {"policy": ("policy", "policy"), "value": ("value", "value")}
    with BenchRun(folder, ModelOptions(max_trees_in_flight=len(problems)), policy, value) as run:
        run_id = run.create("bench", "bench", 0, {}, {"train": problems}, checkpoints, [phase])
        begin = time.perf_counter()
        run.run(run_id)
        return time.perf_counter() - begin


def tokens_without_reuse(policy: Recorder, value: Recorder, encode: Any) -> tuple[int, int]:
    """Return what the policy and the value model would compute if every sample and every
    partial solution stood alone.
    """
    proposed = sum(
        answer.num_prompt_tokens * len(answer.samples) + sum(sample.num_tokens for sample in answer.samples)
        for _, _, answers in policy.calls
        for answer in answers
    )
    scored = sum(
        len(encode(f"{question}\n" + "".join((*request.steps, *branch[: place + 1]))))
        for questions, requests, _ in value.calls
        for question, request in zip(questions, requests, strict=True)
        for branch in request.branches
        for place in range(len(branch))
    )
    return proposed, scored


def tokens_with_prompts_once(policy: Recorder, value: Recorder) -> tuple[int, int]:
    """Return what they would compute with each distinct prompt of a call prefilled once, and
    each branch scored in one pass.
    """
    proposed = scored = 0
    for questions, requests, answers in policy.calls:
        prompts = {
            (q, r.steps, r.begun): a.num_prompt_tokens for q, r, a in zip(questions, requests, answers, strict=True)
        }
        proposed += sum(prompts.values()) + sum(sample.num_tokens for answer in answers for sample in answer.samples)
    for _, _, answers in value.calls:
        scored += sum(answer.num_scored_tokens for answer in answers)
    return proposed, scored


class EnoughLines(StoppingCriteria):
    """Ends a row once it has as many lines as its request wants steps; `wanted` is `[rows]`."""

    def __init__(self, start: int, newline: int, wanted: torch.Tensor) -> None:
        self._start, self._newline, self._wanted = start, newline, wanted

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return (input_ids[:, self._start :] == self._newline).sum(1) >= self._wanted


@torch.inference_mode()
def generate_speed(loaded: LoadedModel, calls: Sequence[tuple[Any, Any, Any]]) -> float:
    """Return the tokens a second of the library's `generate`, the same requests of a call in
    one padded batch.
    """
    tokenizer, num_tokens = loaded.tokenizer, 0
    tokenizer.padding_side = "left"
    newline = tokenizer.convert_tokens_to_ids("\n")
    torch.manual_seed(0)
    begin = time.perf_counter()
    for questions, requests, _ in calls:
        texts = [
            loaded.prompts.text(q, r.steps)
            for q, r in zip(questions, requests, strict=True)
            for _ in range(r.num_samples)
        ]
        wanted = torch.tensor([request.max_steps for request in requests for _ in range(request.num_samples)])
        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        inputs.pop("token_type_ids", None)
        start = inputs["input_ids"].shape[1]
        written = loaded.model.generate(
            **inputs,
            do_sample=True,
            top_k=0,
            max_new_tokens=int(wanted.max()) * MAX_STEP_TOKENS,
            stopping_criteria=[EnoughLines(start, newline, wanted)],
            pad_token_id=tokenizer.pad_token_id,
        )[:, start:]
        is_end = ((written == newline).cumsum(1) >= wanted.unsqueeze(1)) | (written == tokenizer.eos_token_id)
        lengths = torch.where(is_end.any(1), is_end.int().argmax(1) + 1, written.shape[1])
        num_tokens += int(lengths.minimum(wanted * MAX_STEP_TOKENS).sum())
    return num_tokens / (time.perf_counter() - begin)


def main() -> None:
    given = [int(argument) for argument in sys.argv[1:]]
    num_problems, num_iterations = [*given, *(64, 40)[len(given) :]]
    torch.set_num_threads(1)
    generator = random.Random(0)
    problems = [
        Problem(" ".join(f"w{generator.randrange(NUM_WORDS)}" for _ in range(generator.randint(20, 60))), "1")
        for _ in range(num_problems)
    ]
    with tempfile.TemporaryDirectory() as folder:
        make_models(Path(folder), HIDDEN_SIZE, NUM_LAYERS)
        policy_model, value_model = load_policy(Path(folder) / "policy"), load_value_model(Path(folder) / "value")
        policy = Recorder(TransformersProposer(policy_model, key_value_bytes=KEY_VALUE_BYTES))
        value = Recorder(TransformersScorer(value_model, key_value_bytes=KEY_VALUE_BYTES))
        seconds = search(Path(folder) / "run", problems, num_iterations, policy, value)
        print(
            f"{num_problems} problems, {num_iterations} iterations, {sum(len(c[1]) for c in policy.calls):,} policy requests"
        )
        in_policy, in_value = sum(policy.seconds), sum(value.seconds)
        print(f"{seconds:.0f} seconds, of them {in_policy:.0f} in the policy and {in_value:.0f} in the value model")
        alone = tokens_without_reuse(policy, value, value_model.tokenizer.encode)
        once = tokens_with_prompts_once(policy, value)
        computed = policy.model.num_prefill_tokens + policy.model.num_generated_tokens, value.model.num_computed_tokens
        print(f"\n{'tokens computed':28}{'nothing reused':>18}{'a prompt once':>18}{'kept':>18}{'saved':>8}")
        columns = list(zip(("policy", "value model"), alone, once, computed, strict=True))
        for name, *counts in [*columns, ("both", sum(alone), sum(once), sum(computed))]:
            print(f"{name:28}" + "".join(f"{count:18,}" for count in counts) + f"{1 - counts[2] / counts[0]:8.1%}")
        print(
            f"kept: {policy.model.num_generated_tokens:,} generated, {policy.model.num_prefill_tokens:,} prefilled by the policy;",
            end=" ",
        )
        print(f"{value.model.num_padding_tokens:,} of padding in the value model")
        compare_speeds(policy_model, policy, value_model, value)


def compare_speeds(policy_model: LoadedModel, policy: Recorder, value_model: LoadedModel, value: Recorder) -> None:
    """Ask some of the search's calls again, without reuse, with what the search has kept, and
    through `generate`, in turn, so that a busy machine is as busy for each; print how fast each
    was.
    """
    chosen = [policy.calls[number] for number in _spread(len(policy.calls))]
    bare, kept = Recorder(TransformersProposer(policy_model, key_value_bytes=0)), Recorder(policy.model)
    plain = []
    for call in chosen:
        plain.append(generate_speed(policy_model, [call]))
        bare.propose(*call[:2], SETTINGS)
        kept.propose(*call[:2], SETTINGS)
    num_tokens = [sum(sample.num_tokens for answer in answers for sample in answer.samples) for _, _, answers in chosen]
    seconds = {
        "generate": sum(count / speed for count, speed in zip(num_tokens, plain, strict=True)),
        "without reuse": sum(bare.seconds),
        "kept": sum(kept.seconds),
    }
    shown = (f"{k} {sum(num_tokens) / s:,.0f} (x {seconds['generate'] / s:.2f})" for k, s in seconds.items())
    print(f"policy, tokens/s in {len(chosen)} calls:", ", ".join(shown))
    bare, kept = Recorder(TransformersScorer(value_model, key_value_bytes=0)), Recorder(value.model)
    scored = [value.calls[number] for number in _spread(len(value.calls))]
    for call in scored:
        bare.score(*call[:2])
        kept.score(*call[:2])
    without, with_kept = sum(bare.seconds), sum(kept.seconds)
    print(f"value model, seconds in {len(scored)} calls: without reuse {without:.1f}, kept {with_kept:.1f}")


def _spread(num_calls: int) -> range:
    return range(0, num_calls, max(1, num_calls // REPLAYED_CALLS))


if __name__ == "__main__":
    main()
