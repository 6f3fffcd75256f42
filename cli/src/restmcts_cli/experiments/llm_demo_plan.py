"""What `restmcts demo --model smollm2` does: a language model of the public teaches itself word
problems, in sizes that a laptop manages.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from restmcts.domain.runs.spec import PuzzleSets, RunSpec
from restmcts.domain.tasks.story_problems import KIND

MODEL = "smollm2"
BASE_ANSWERS, TRAINED_ANSWERS = "base model, greedy", "greedy"


@dataclass(frozen=True, slots=True)
class LlmDemoSize:
    """How much of everything; `tokens` are those of a problem that is searched."""

    difficulty: str = "1"
    demonstrations: int = 60
    searched: int = 400
    test: int = 300
    compared: int = 40
    seed_steps: int = 80
    policy_steps: int = 40
    value_steps: int = 16
    tokens: int = 240


LLM_SMOKE = LlmDemoSize(
    demonstrations=8,
    searched=4,
    test=0,
    compared=0,
    seed_steps=2,
    policy_steps=1,
    value_steps=1,
    tokens=80,
)


def llm_demo_spec(seed: int, size: LlmDemoSize) -> RunSpec:
    """Return the run: a few worked examples first, then the loop with its control, then the model
    as it came beside the trained one, and searches at equal tokens.
    """
    return RunSpec.model_validate(
        {
            "policy": MODEL,
            "seed": seed,
            "iterations": 2,
            "puzzles": PuzzleSets(
                kind=KIND,
                difficulty=size.difficulty,
                demonstrations=size.demonstrations,
                bootstrap=0,
                searched=size.searched,
                test=size.test,
                compared=size.compared,
                held_out=0,
            ),
            "method": "rest-mcts",
            "budget": {"tokens": size.tokens, "iterations": None},
            "generation": {"max_step_tokens": 40, "max_solution_tokens": 160, "step_separator": "newline"},
            "traces": {"top_k": 2, "rank": "shortest"},
            "control": size.test > 0,
            "seeds_again": True,
            "seed_training": _training(size.seed_steps, 2e-4),
            "policy_training": _training(size.policy_steps, 1e-4),
            "value_training": _training(size.value_steps, 5e-5),
            "evaluations": list(_evaluations(size)) if size.compared else [],
            "models": {"template": "plain", "trees_in_flight": 100, "key_value_bytes": 2**29},
        }
    )


def _training(num_steps: int, learning_rate: float) -> dict[str, object]:
    # In bfloat16 a step takes 3.0 s on two cores that have AMX, in float32 4.9 s.
    return {
        "num_steps": num_steps,
        "batch_size": 4,
        "gradient_accumulation": 2,
        "learning_rate": learning_rate,
        "warmup_ratio": 0.1,
        "precision": "auto",
    }


def _evaluations(size: LlmDemoSize) -> Iterator[dict[str, object]]:
    yield {"name": BASE_ANSWERS, "search": {"algorithm": "cot"}, "policy": "base"}
    yield {"name": TRAINED_ANSWERS, "search": {"algorithm": "cot"}}
    methods: dict[str, dict[str, object]] = {
        "best-of-n": {"algorithm": "best-of-n", "num_samples": 8, "samples_at_once": 1},
        "best-first": {"algorithm": "best-first"},
    }
    for name, search in methods.items():
        yield {"name": f"{name} @ {size.tokens}", "search": search, "budget": {"tokens": size.tokens}}
