"""What kept keys and values save, and how fast that is: `python tests/bench/bench_prefix_reuse.py [problems] [iterations]`.

MCTS* over 64 problems at 40 iterations, with the models of bench_batching.py, through the real handlers, bus and SQLite; once with
keys and values kept, once without, and the policy's requests once more through the library's own `generate`. Figures of one run are
to be compared with one another: the machine may be busy.
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
from restmcts.domain.mcts_star import MctsStarSettings
from restmcts.domain.phases import SearchPhase
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings, ProposeSteps, ScoreSteps
from restmcts.domain.search import Budget
from restmcts.modeling.checkpoints import LoadedModel, load_policy, load_value_model
from restmcts.modeling.policy import TransformersProposer
from restmcts.modeling.value_model import TransformersScorer
from restmcts_cli.local_run import ModelOptions

KEY_VALUE_BYTES = 4 * 2**30
GENERATE_CALLS = 12
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
        search=MctsStarSettings(mode="collect", branch=3, end_gate=2.0),
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
    """Return what the policy and the value model would compute if every sample and every partial solution stood alone."""
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


@torch.inference_mode()
def generate_speed(loaded: LoadedModel, calls: Sequence[tuple[Any, Any, Any]]) -> float:
    """Return the tokens a second of the library's `generate`, the same requests of a call in one padded batch, longest first."""
    tokenizer, num_tokens = loaded.tokenizer, 0
    tokenizer.padding_side = "left"
    newline = tokenizer.convert_tokens_to_ids("\n")
    torch.manual_seed(0)
    begin = time.perf_counter()
    for questions, requests, _ in calls:
        texts = [loaded.prompts.text(q, r.steps) for q, r in zip(questions, requests, strict=True) for _ in range(r.num_samples)]
        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        inputs.pop("token_type_ids", None)
        written = loaded.model.generate(
            **inputs,
            do_sample=True,
            top_k=0,
            max_new_tokens=MAX_STEP_TOKENS,
            eos_token_id=[tokenizer.eos_token_id, newline],
            pad_token_id=tokenizer.pad_token_id,
        )[:, inputs["input_ids"].shape[1] :]
        is_end = (written == newline) | (written == tokenizer.eos_token_id)
        num_tokens += int(torch.where(is_end.any(1), is_end.int().argmax(1) + 1, written.shape[1]).sum())
    return num_tokens / (time.perf_counter() - begin)


def speed(policy: Recorder, chosen: Sequence[int]) -> float:
    """Return the tokens a second of the policy in these calls."""
    num_tokens = sum(sample.num_tokens for number in chosen for answer in policy.calls[number][2] for sample in answer.samples)
    return num_tokens / sum(policy.seconds[number] for number in chosen)


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
        make_models(Path(folder))
        policy_model, value_model = load_policy(Path(folder) / "policy"), load_value_model(Path(folder) / "value")
        policies, values, seconds = [], [], []
        for key_value_bytes in (0, KEY_VALUE_BYTES):
            policies.append(Recorder(TransformersProposer(policy_model, key_value_bytes=key_value_bytes)))
            values.append(Recorder(TransformersScorer(value_model, key_value_bytes=key_value_bytes)))
            seconds.append(search(Path(folder) / str(key_value_bytes), problems, num_iterations, policies[-1], values[-1]))
        print(
            f"{num_problems} problems, {num_iterations} iterations, {sum(len(c[1]) for c in policies[1].calls):,} policy requests"
        )
        alone = tokens_without_reuse(policies[1], values[1], value_model.tokenizer.encode)
        print(f"\n{'tokens computed':34}{'nothing reused':>18}{'a prompt once':>18}{'kept':>18}{'saved':>8}")
        models = [[each.model for each in pair] for pair in (policies, values)]
        policy_tokens = [model.num_prefill_tokens + model.num_generated_tokens for model in models[0]]
        value_tokens = [model.num_computed_tokens for model in models[1]]
        for name, needed, counts in (
            ("policy, prompts and steps", alone[0], policy_tokens),
            ("value model", alone[1], value_tokens),
            ("both", sum(alone), [a + b for a, b in zip(policy_tokens, value_tokens, strict=True)]),
        ):
            print(f"{name:34}{needed:18,}{counts[0]:18,}{counts[1]:18,}{1 - counts[1] / needed:8.1%}")
        policy, value = models[0][1], models[1][1]
        print(f"kept: {policy.num_generated_tokens:,} generated, {policy.num_prefill_tokens:,} prefilled by the policy;", end=" ")
        print(f"{value.num_padding_tokens:,} of padding in the value model")
        for name, each in (
            ("whole search", seconds),
            ("policy", [sum(p.seconds) for p in policies]),
            ("value model", [sum(v.seconds) for v in values]),
        ):
            print(f"seconds, {name}: {each[0]:.1f} without, {each[1]:.1f} kept: x {each[0] / each[1]:.2f}")
        full = [number for number, call in enumerate(policies[1].calls) if all(request.max_steps == 1 for request in call[1])]
        chosen = full[:: max(1, len(full) // GENERATE_CALLS)]
        plain = generate_speed(policy_model, [policies[1].calls[number] for number in chosen])
        speeds = [speed(policy, chosen) for policy in policies]
        print(f"tokens/s in {len(chosen)} calls: generate {plain:,.0f}; without {speeds[0]:,.0f} (x {speeds[0] / plain:.2f})")
        print(f"kept {speeds[1]:,.0f} (x {speeds[1] / plain:.2f})")


if __name__ == "__main__":
    main()
