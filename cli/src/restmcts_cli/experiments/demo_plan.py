"""What the demo does: the number paths puzzle with the settings under which a small model
learns it in minutes.
"""

import random
from dataclasses import dataclass, replace

from restmcts.domain.labels.filtering import TraceFilter
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings, derive_seed
from restmcts.domain.runs.phases import Phase, SearchPhase
from restmcts.domain.runs.plans import SelfTraining, self_training_plan
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_first import BestFirstSettings
from restmcts.domain.search.best_of_n import BestOfNSettings, CotSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.search.tree_of_thoughts import StepBeamSettings
from restmcts.domain.tasks.number_paths import FRESH_POLICY, SetSizes, make_problem_sets

NUM_ITERATIONS = 2
MAX_DEPTH = 9
GENERATION = GenerationSettings(temperature=1.0, max_step_tokens=8, max_solution_tokens=64)
COLLECTING = MctsStarSettings(
    mode="collect", branch=3, roll_forward_steps=MAX_DEPTH, end_gate=2.0, max_depth=MAX_DEPTH, keep_rollouts=True
)
COLLECTING_BUDGET = Budget(iterations=3)
PREFERENCE_RATE = 1e-4
TRACES = TraceFilter(top_k=2, rank="shortest")


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How much of everything; `test_budgets` are tokens a problem at test time."""

    demonstrations: int = 1500
    bootstrap: int = 1000
    searched: int = 2200
    test: int = 1000
    compared: int = 300
    held_out: int = 200
    seed_steps: int = 600
    policy_steps: int = 250
    value_steps: int = 160
    test_budgets: tuple[int, ...] = (80, 160)


QUICK = DemoSize(
    demonstrations=600,
    bootstrap=80,
    searched=100,
    test=100,
    compared=40,
    held_out=40,
    seed_steps=150,
    policy_steps=20,
    value_steps=20,
    test_budgets=(80,),
)


def demo_problems(seed: int, size: DemoSize, num_iterations: int = NUM_ITERATIONS) -> dict[str, list[Problem]]:
    """Return the demo's problem sets by name; they share no question, but for the parts
    bootstrap and compared.
    """
    sizes = SetSizes(size.demonstrations, num_iterations, size.searched, size.test, size.held_out)
    sets = make_problem_sets(random.Random(derive_seed(seed, "problems")), sizes)
    return {
        "demos": list(sets.demonstrations),
        "bootstrap": list(sets.demonstrations[: size.bootstrap]),
        "test": list(sets.test),
        "compared": list(sets.test[: size.compared]),
        "held-out": list(sets.validation),
        **{f"search-{number}": list(members) for number, members in enumerate(sets.searched, start=1)},
    }


def base_policy(seed: int) -> str:
    """Return the name of the policy that the run begins with: a Llama of about 90,000
    parameters with fresh weights.
    """
    return f"{FRESH_POLICY}{seed}"


def demo_plan(seed: int, size: DemoSize) -> list[Phase]:
    """Return the demo's phases: the loop with its control, then every method at equal tokens
    with the last models.
    """
    return [*self_training_plan(demo_loop(seed, size)), *_comparison(size)]


def demo_loop(seed: int, size: DemoSize, num_iterations: int = NUM_ITERATIONS) -> SelfTraining:
    """Return the demo's self-training, over the problem sets of `demo_problems`."""
    base = TrainingSettings(
        num_steps=size.seed_steps,
        batch_size=32,
        learning_rate=3e-3,
        optimizer="muon",
        muon_learning_rate=0.01,
        seed=seed,
    )
    further = replace(base, num_steps=size.policy_steps, learning_rate=1.5e-3, muon_learning_rate=0.005)
    return SelfTraining(
        num_iterations=num_iterations,
        train_sets=tuple(f"search-{number}" for number in range(1, num_iterations + 1)),
        bootstrap_set="bootstrap",
        search=COLLECTING,
        budget=COLLECTING_BUDGET,
        generation=GENERATION,
        seed_set="demos",
        seed_training=base,
        policy_training=further,
        preference_training=replace(further, optimizer="adamw", learning_rate=PREFERENCE_RATE),
        value_training=replace(further, num_steps=size.value_steps, batch_size=64),
        traces=TRACES,
        # The question names the number to reach, so the answer is no news to the policy.
        hint="{question}",
        held_out_set="held-out",
        test_set="test",
        control=True,
    )


def _comparison(size: DemoSize) -> list[Phase]:
    methods = {
        "best-of-n": BestOfNSettings(num_samples=64, samples_at_once=1),
        "gated best-of-n": BestOfNSettings(num_samples=64, samples_at_once=1, gate=0.9),
        "step beam": StepBeamSettings(beam_width=2, branch=2, max_depth=MAX_DEPTH),
        "best-first": BestFirstSettings(),
        "MCTS*": MctsStarSettings(
            max_depth=MAX_DEPTH, roll_forward_steps=MAX_DEPTH, keep_rollouts=True, stop_on_any_gated=True, choose="leaf"
        ),
    }
    phases = [_compared("greedy", CotSettings(), None)]
    for budget in size.test_budgets:
        for name, search in methods.items():
            if isinstance(search, StepBeamSettings):
                width = max(budget // 40, 1)
                search = replace(search, beam_width=width)
            phases.append(_compared(name, search, budget))
    return list(phases)


def _compared(method: str, search: object, budget: int | None) -> SearchPhase:
    return SearchPhase(
        name=f"{method} @ {budget}" if budget else method,
        iteration=NUM_ITERATIONS,
        purpose="evaluate",
        problem_set="compared",
        policy=f"gate-policy-{NUM_ITERATIONS}",
        value=f"gate-value-{NUM_ITERATIONS}",
        search=search,  # type: ignore[arg-type]
        budget=Budget(tokens=budget),
        generation=GENERATION,
    )


def comparison_names(size: DemoSize) -> list[tuple[str, str]]:
    """Return the comparison's phase names with the method's name, in the order to be listed."""
    names = [(phase.name, phase.name.partition(" @ ")[0]) for phase in _comparison(size)]
    return sorted(names, key=lambda pair: [method for _, method in names].index(pair[1]))


def settings_shown() -> tuple[tuple[str, str], ...]:
    """Return the settings that a report names, those that depart from the released search first."""
    return (
        (
            "MCTS* at test time",
            "keep_rollouts and stop_on_any_gated; the answer is the finished solution of highest value",
        ),
        ("best-first at test time", "branches at untried tokens, at most 4 a position; gate 0.6 on V + 0.1 log p"),
        (
            "keep_rollouts",
            "on while collecting: the steps of rollouts are labelled too (the released search throws them away)",
        ),
        ("end_gate", "none while collecting"),
        (
            "search",
            f"MCTS*, {COLLECTING_BUDGET.iterations} iterations, branch {COLLECTING.branch}, rollouts to the end",
        ),
        ("traces", f"the {TRACES.top_k} shortest right ones a problem"),
    )
