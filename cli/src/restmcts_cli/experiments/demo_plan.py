"""What the demo does: the number paths puzzle with the settings under which a small model
learns it in minutes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from restmcts.domain.problems import Problem
from restmcts.domain.runs.spec import PuzzleSets, RunSpec
from restmcts.domain.runs.spec_plan import made_again
from restmcts.domain.tasks.number_paths import EASY, HARD, KIND
from restmcts.usecases.requested.runs import puzzle_sets

NUM_ITERATIONS = 2
TOKEN_EXAMPLES = 0.09
"""What generating a token takes, in examples of a training: the time left is guessed from that
until a search has been seen.
"""
MAX_DEPTH = 9


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How much of everything; `test_budgets` are tokens a problem at test time. What is not given
    is as much as comparisons take (docs/results.md).
    """

    demonstrations: int = 1500
    bootstrap: int = 1000
    searched: int = 900
    test: int = 1000
    compared: int = 300
    held_out: int = 200
    seed_steps: int = 600
    policy_steps: int = 250
    value_steps: int = 160
    test_budgets: tuple[int, ...] = (80, 160)
    difficulty: str = HARD
    control: bool = True
    seed_batch: int = 32
    value_batch: int = 64


# A first policy that is trained briefly leaves search more to teach, and as many test puzzles as
# these keep the error of the difference from ReST^EM near a point (docs/results.md).
DEMO = DemoSize(seed_steps=400, test=2000, compared=200)

# What rises on most seeds in a minute (docs/results.md): the sizes of examples/first-run.toml.
# There is no time for a control, nor for ReST^EM beside it.
QUICK = DemoSize(
    bootstrap=200,
    searched=400,
    test=300,
    compared=0,
    held_out=40,
    policy_steps=110,
    value_steps=40,
    test_budgets=(),
    control=False,
    seed_batch=16,
    value_batch=32,
)

# So little of everything that no figure would mean anything: nothing is evaluated.
SMOKE = DemoSize(
    demonstrations=600,
    bootstrap=80,
    searched=100,
    test=0,
    compared=0,
    held_out=0,
    seed_steps=150,
    policy_steps=20,
    value_steps=20,
    test_budgets=(),
    difficulty=EASY,
    control=False,
)


# The model is too small for its products to be shared between threads: two cost more than they
# bring. Keys and values are not kept: to look them up takes longer than so small a model does
# (decision 0013).
MODELS = {
    "trees_in_flight": 1100,
    "max_batch_tokens": 65_536,
    "key_value_bytes": 0,
    "num_threads": 1,
    "num_training_threads": 1,
    "keep_training_logs": False,
}


# What the paper does, on these puzzles: rollouts to the end, all of whose steps are labelled too
# (the released search throws them away), and no threshold while collecting.
PAPER_SEARCH = {
    "algorithm": "mcts-star",
    "branch": 3,
    "roll_forward_steps": MAX_DEPTH,
    "stop_threshold": 2.0,
    "max_depth": MAX_DEPTH,
    "keep_rollouts": True,
}
SEARCHES_OF_METHODS = {"rest-mcts-paper": PAPER_SEARCH}
TOKENS = 170


def demo_spec(seed: int, size: DemoSize, num_iterations: int = NUM_ITERATIONS) -> RunSpec:
    """Return the demo as a run like any other: the loop with its control, then every method at
    equal tokens with the last models.
    """
    further = {"learning_rate": 1.5e-3, "muon_learning_rate": 0.005}
    return RunSpec.model_validate(
        {
            "policy": KIND,
            "seed": seed,
            "iterations": num_iterations,
            "puzzles": _puzzles(size),
            "budget": {"tokens": TOKENS, "iterations": None},
            "generation": {"temperature": 1.0, "max_step_tokens": 8, "max_solution_tokens": 64},
            "traces": {"top_k": 2, "rank": "shortest"},
            # The question names the number to reach, so the answer is no news to the policy.
            "hint": "{question}",
            "control": size.control,
            "seed_training": _training(
                size.seed_steps, batch_size=size.seed_batch, learning_rate=3e-3, muon_learning_rate=0.01
            ),
            "policy_training": _training(size.policy_steps, **further),
            "value_training": _training(size.value_steps, batch_size=size.value_batch, **further),
            "preference_training": _training(
                size.policy_steps, optimizer="adamw", learning_rate=1e-4, muon_learning_rate=0.005
            ),
            "evaluations": list(_evaluations(size)),
            "models": MODELS,
        }
    )


def _training(num_steps: int, **settings: object) -> dict[str, object]:
    return {"num_steps": num_steps, "batch_size": 32, "optimizer": "muon", **settings}


def _puzzles(size: DemoSize) -> PuzzleSets:
    return PuzzleSets(
        demonstrations=size.demonstrations,
        bootstrap=size.bootstrap,
        searched=size.searched,
        test=size.test,
        compared=size.compared,
        held_out=size.held_out,
        difficulty=size.difficulty,
    )


def demo_problems(seed: int, size: DemoSize, num_iterations: int = NUM_ITERATIONS) -> dict[str, list[Problem]]:
    """Return the demo's problem sets by name."""
    return puzzle_sets(_puzzles(size), seed, num_iterations)


def mcts_star(max_depth: int) -> dict[str, object]:
    """Return the settings of the MCTS* that a demo's comparison shows."""
    return {
        "algorithm": "mcts-star",
        "max_depth": max_depth,
        "roll_forward_steps": max_depth,
        "keep_rollouts": True,
        "stop_on_any_gated": True,
        "choose": "leaf",
    }


def _evaluations(size: DemoSize) -> Iterator[dict[str, object]]:
    if size.compared:
        yield {"name": "greedy", "search": {"algorithm": "cot"}}
    samples = {"algorithm": "best-of-n", "num_samples": 64, "samples_at_once": 1}
    for tokens in size.test_budgets:
        methods: dict[str, dict[str, object]] = {
            "best-of-n": samples,
            "gated best-of-n": {**samples, "stop_threshold": 0.9},
            "step beam": {
                "algorithm": "step-beam",
                "beam_width": max(tokens // 40, 1),
                "branch": 2,
                "max_depth": MAX_DEPTH,
            },
            "best-first": {"algorithm": "best-first"},
            "MCTS*": mcts_star(MAX_DEPTH),
        }
        for name, search in methods.items():
            yield {"name": f"{name} @ {tokens}", "search": search, "budget": {"tokens": tokens}}


def comparison_names(spec: RunSpec, extended_to: int | None = None) -> list[tuple[str, str]]:
    """Return the comparison's phase names with the method's name, in the order to be listed; of a
    run that was extended to so many iterations, those of its last models.
    """
    names = [
        (made_again(asked.name, extended_to) if extended_to else asked.name, asked.name.partition(" @ ")[0])
        for asked in spec.evaluations
    ]
    return sorted(names, key=lambda pair: [method for _, method in names].index(pair[1]))
