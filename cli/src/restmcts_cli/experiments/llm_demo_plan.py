"""What `restmcts demo --model smollm2` does: a language model of the public teaches itself word
problems, in sizes that a laptop manages.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from restmcts.domain.runs.spec import PuzzleSets, RunSpec
from restmcts.domain.tasks.story_problems import KIND

from restmcts_cli.experiments.demo_plan import mcts_star

MODEL = "smollm2"
BASE_ANSWERS, TRAINED_ANSWERS = "base model, greedy", "greedy"
MAX_DEPTH = 12


@dataclass(frozen=True, slots=True)
class LlmDemoSize:
    """How much of everything; `test_tokens` are those of a problem at test time."""

    difficulty: str = "2"
    demonstrations: int = 120
    bootstrap: int = 60
    searched: int = 200
    test: int = 200
    compared: int = 60
    seed_steps: int = 45
    policy_steps: int = 32
    value_steps: int = 24
    test_tokens: int = 240


LLM_QUICK = LlmDemoSize(
    difficulty="1",
    demonstrations=8,
    bootstrap=2,
    searched=4,
    test=4,
    compared=2,
    seed_steps=2,
    policy_steps=1,
    value_steps=1,
    test_tokens=80,
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
                bootstrap=size.bootstrap,
                searched=size.searched,
                test=size.test,
                compared=size.compared,
                held_out=0,
            ),
            "method": "rest-mcts-paper",
            "search": {
                "branch": 3,
                "roll_forward_steps": MAX_DEPTH,
                "stop_threshold": 2.0,
                "max_depth": MAX_DEPTH,
                "keep_rollouts": True,
            },
            "budget": {"iterations": 3},
            "generation": {
                "temperature": 0.8,
                "max_step_tokens": 40,
                "max_solution_tokens": 160,
                "step_separator": "newline",
            },
            "traces": {"top_k": 2, "rank": "value"},
            "num_bootstrap_samples": 2,
            "control": True,
            "seed_training": _training(size.seed_steps, 1e-4),
            "policy_training": _training(size.policy_steps, 5e-5),
            "value_training": _training(size.value_steps, 5e-5),
            "evaluations": list(_evaluations(size)),
            "models": {"template": "plain", "trees_in_flight": 200},
        }
    )


def _training(num_steps: int, learning_rate: float) -> dict[str, object]:
    return {
        "num_steps": num_steps,
        "batch_size": 8,
        "learning_rate": learning_rate,
        "warmup_ratio": 0.1,
        "precision": "bfloat16",
        "packing": True,
    }


def _evaluations(size: LlmDemoSize) -> Iterator[dict[str, object]]:
    yield {"name": BASE_ANSWERS, "search": {"algorithm": "cot"}, "policy": "base"}
    yield {"name": TRAINED_ANSWERS, "search": {"algorithm": "cot"}}
    methods: dict[str, dict[str, object]] = {
        "best-of-n": {"algorithm": "best-of-n", "num_samples": 8, "samples_at_once": 1},
        "MCTS*": mcts_star(MAX_DEPTH),
    }
    for name, search in methods.items():
        yield {"name": f"{name} @ {size.test_tokens}", "search": search, "budget": {"tokens": size.test_tokens}}


def llm_settings_shown(spec: RunSpec) -> tuple[tuple[str, str], ...]:
    """Return the settings that a report names."""
    puzzles = spec.puzzles or PuzzleSets()
    return (
        ("worked examples", f"{puzzles.demonstrations}, on which the first policy and the control are trained"),
        ("problems", f"{puzzles.kind}, difficulty {puzzles.difficulty}, {puzzles.searched} searched in each iteration"),
        ("search", f"MCTS*, {spec.budget.iterations} iterations, branch 3, rollouts to the end and kept"),
        ("traces", f"{spec.traces.top_k} right ones a problem, those that the value model likes best"),
        ("right", "the answer, and every sum on the way"),
    )
