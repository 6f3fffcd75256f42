"""The self-training methods, each by what it does of its own: how its first value model is made,
and what an iteration does.

A method is an entry of `METHODS`. Everything else (seed training, promotion, evaluation, control)
is the same for all of them and is in restmcts.domain.runs.plans. Names of what a method makes:
the checkpoints "value-0", "policy-N" and, where it trains a value model in every iteration,
"value-N"; the trees "collect-N".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from restmcts.domain.labels.filtering import PairFilter
from restmcts.domain.runs.phases import Phase, SearchPhase, TrainPolicyPhase, TrainValuePhase
from restmcts.domain.runs.self_training import FirstLabels, SelfTraining
from restmcts.domain.runs.training_settings import ValueObjective
from restmcts.domain.search.best_first import BestFirstSettings
from restmcts.domain.search.best_of_n import BestOfNSettings, SelfConsistencySettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.search.settings import ALGORITHM, SearchSettings
from restmcts.domain.search.step_rollouts import StepRolloutsSettings
from restmcts.errors import InputError
from restmcts.registry import Registry

NUM_HALVINGS = 4
"""Enough to find the first wrong step of sixteen; of more the place stays known to
within a few steps."""

NUM_PROBES = 2
"""Samples of each problem that decide whether it is searched."""

MAX_SAMPLES = 1024
"""Of a problem where the budget says how many there are."""


@dataclass(frozen=True, slots=True)
class Models:
    """What an iteration begins with, by name: the run's first policy, and the promoted policy
    and value model.
    """

    first_policy: str
    policy: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Method:
    """A self-training method.

    Attributes:
        summary: one line for people.
        iterate: returns the phases of an iteration.
        uses_value: returns whether the run has a value model.
        first_value: returns the phases that make "value-0" of the first policy, none if the method
            does without one; not asked where one is given.
        search: settings of the search of a run that names none, by `algorithm`.
    """

    summary: str
    iterate: Callable[[SelfTraining, int, Models], list[Phase]]
    uses_value: Callable[[SelfTraining], bool] = lambda run: False
    first_value: Callable[[SelfTraining, str], list[Phase]] = lambda run, policy: []
    search: Mapping[str, object] = field(default_factory=lambda: {ALGORITHM: "mcts-star"})


def _rest_mcts(run: SelfTraining, iteration: int, models: Models) -> list[Phase]:
    """Search, infer the values of the steps, train both models (arXiv:2406.03816, Algorithm 1).

    A search that asks no value model leaves the first one to the trees of the first iteration.
    """
    collect = SearchPhase(
        name=f"collect-{iteration}",
        iteration=iteration,
        purpose="collect",
        problem_set=run.train_sets[iteration - 1],
        policy=models.policy,
        value=models.value if run.search.needs_values else None,
        search=run.search,
        budget=run.budget,
        generation=run.generation,
    )
    # Values of another source are not mixed with inferred ones.
    has_bootstrap = _asks_first_value(run) and not run.given_value and run.first_labels in (None, "values")
    first = ("bootstrap",) if has_bootstrap else ()
    sources = (*first, *(f"collect-{number}" for number in range(1, iteration + 1)))
    value = _value_training(run, iteration, models.value, models.first_policy, sources)
    return [collect, value, _supervised(run, iteration, models.policy, collect.name)]


def _rest_mcts_probed(run: SelfTraining, iteration: int, models: Models) -> list[Phase]:
    """Do as ReST-MCTS* does, with the same budget in all, but sample each problem twice first, and
    search those alone that are neither settled nor hopeless (restmcts.domain.runs.allocation).

    Both models learn from the samples too.
    """
    collect, value, policy = _rest_mcts(run, iteration, models)
    assert isinstance(collect, SearchPhase) and isinstance(value, TrainValuePhase)
    assert isinstance(policy, TrainPolicyPhase)
    probe = replace(
        _samples(run, iteration, models.policy),
        name=f"probe-{iteration}",
        search=SelfConsistencySettings(num_samples=NUM_PROBES),
    )
    own_set = run.train_sets[iteration - 1]
    earlier = (f"collect-{number}" for number in range(1, iteration) if run.train_sets[number - 1] == own_set)
    probes = tuple(f"probe-{number}" for number in range(1, iteration + 1))
    return [
        probe,
        replace(collect, follows=(probe.name, *earlier), allocates=True),
        replace(value, sources=(*value.sources, *probes)),
        replace(policy, sources=(*policy.sources, probe.name)),
    ]


def _rest_mcts_restarts(run: SelfTraining, iteration: int, models: Models) -> list[Phase]:
    """Do as ReST-MCTS* does under half the tokens, then sample on, under the rest, from steps of
    these trees after which some solutions are right and some wrong (restart states of ReST-RL,
    arXiv:2508.19576; departures: chosen by the value of the step, not among those of the best
    solution, and learned from as the trees are).

    The value model learns from the whole trees alone: what lies below a chosen step says nothing of
    the steps before it.

    Raises:
        InputError: if the run's budget has no tokens to divide.
    """
    if run.budget.tokens is None:
        raise InputError("rest-mcts-restarts divides the tokens of a tree; give --budget-tokens")
    half = replace(run, budget=_halved(run.budget))
    collect, value, policy = _rest_mcts(half, iteration, models)
    assert isinstance(collect, SearchPhase) and isinstance(policy, TrainPolicyPhase)
    restart = replace(
        collect,
        name=f"restart-{iteration}",
        value=None,
        search=StepRolloutsSettings(num_rollouts=MAX_SAMPLES, rollouts_at_once=1),
        budget=replace(run.budget, iterations=None),
        follows=(collect.name,),
        allocates=True,
        restarts=True,
    )
    return [collect, restart, value, replace(policy, sources=(*policy.sources, restart.name))]


def _halved(budget: Budget) -> Budget:
    return replace(budget, tokens=max(budget.tokens // 2, 1)) if budget.tokens is not None else budget


def _rest_best_first(run: SelfTraining, iteration: int, models: Models) -> list[Phase]:
    """Do as ReST-MCTS* does, over trees of best-first branching that spend the whole budget."""
    return _rest_mcts(_asking_values(run), iteration, models)


def _asking_values(run: SelfTraining) -> SelfTraining:
    search = run.search if isinstance(run.search, BestFirstSettings) else BestFirstSettings(stop_threshold=None)
    return replace(run, search=replace(search, score=True))


def _asks_first_value(run: SelfTraining) -> bool:
    return run.search.needs_values or run.first_labels is not None


def _first_value(run: SelfTraining, policy: str) -> list[Phase]:
    """Return the phases that make V_0's data from the source that the run names, and V_0; none
    where nobody would ask it.
    """
    return _first_value_from(run.first_labels or "values", run, policy) if _asks_first_value(run) else []


def _first_value_from(labels: FirstLabels, run: SelfTraining, policy: str) -> list[Phase]:
    searches: list[SearchPhase] = []
    objective: ValueObjective = "mse"
    match labels:
        case "values":
            samples = _bootstrap(run, policy, SelfConsistencySettings(num_samples=run.num_bootstrap_samples))
            searches = [replace(samples, merge_solutions=run.merge_solutions)]
        case "hard-rollouts" | "soft-rollouts":
            rollouts = StepRolloutsSettings(num_rollouts=run.num_bootstrap_samples)
            searches = [replace(_bootstrap(run, policy, rollouts), labels=labels)]
            objective = "hard" if labels == "hard-rollouts" else "soft"
        case "first-error":
            searches = _binary_search(run, policy)
            objective = "hard"
    training = _value_training(run, 0, None, policy, tuple(phase.name for phase in searches))
    solutions_of = run.bootstrap_set if labels == "corrupted" else None
    return [*searches, replace(training, objective=objective, solutions_of=solutions_of)]


def _bootstrap(run: SelfTraining, policy: str, search: SearchSettings) -> SearchPhase:
    return SearchPhase(
        name="bootstrap",
        iteration=0,
        purpose="bootstrap",
        problem_set=run.bootstrap_set,
        policy=policy,
        value=None,
        search=search,
        generation=run.generation,
    )


def _binary_search(run: SelfTraining, policy: str) -> list[SearchPhase]:
    """Sample a solution a problem; then halve the part of each wrong one in which its first
    wrong step lies, a phase each time.
    """
    rollouts = StepRolloutsSettings(num_rollouts=run.num_bootstrap_samples)
    phases = [replace(_bootstrap(run, policy, SelfConsistencySettings(num_samples=1)), labels="hard-rollouts")]
    for number in range(1, NUM_HALVINGS + 1):
        follows = tuple(phase.name for phase in phases)
        phases.append(
            replace(_bootstrap(run, policy, rollouts), name=f"halve-{number}", labels="hard-rollouts", follows=follows)
        )
    return phases


def _math_shepherd(run: SelfTraining, iteration: int, models: Models) -> list[Phase]:
    """Sample, train on the right solutions whose least step value is highest under a model of
    rollouts (arXiv:2312.08935).
    """
    collect = _samples(run, iteration, models.policy, models.value)
    traces = replace(run.traces, rank="least-value")
    return [collect, replace(_supervised(run, iteration, models.policy, collect.name), traces=traces)]


def _star(run: SelfTraining, iteration: int, models: Models) -> list[Phase]:
    """Sample under half the budget; ask what is not solved again, with its answer as a hint,
    under the other half; train on what is right, without the hint (STaR, arXiv:2203.14465;
    departure: as in `_rest_em`).
    """
    collect = replace(_samples(run, iteration, models.policy), budget=_halved(run.budget))
    explain = replace(collect, name=f"explain-{iteration}", follows=(collect.name,), hint=run.hint)
    return [collect, explain, _supervised(run, iteration, models.policy, collect.name, explain.name)]


def _rest_em(run: SelfTraining, iteration: int, models: Models) -> list[Phase]:
    """Sample, keep what is right, fine-tune (ReST^EM, arXiv:2312.06585; departure: each
    iteration goes on from the one before it, as ReST-MCTS* does, where theirs begins with the
    base again).
    """
    collect = _samples(run, iteration, models.policy)
    return [collect, _supervised(run, iteration, models.policy, collect.name)]


def _self_rewarding(run: SelfTraining, iteration: int, models: Models) -> list[Phase]:
    """Sample, let the model itself say what is best and worst, learn to prefer the one
    (arXiv:2401.10020).

    The judge is the value model that the run was given (an LLM with a judge's prompt, say); without
    one it is the policy's own likelihood of its solutions. No true answer is used.
    """
    collect = _samples(run, iteration, models.policy, models.value)
    training = run.preference_training or replace(
        run.policy_training, learning_rate=run.policy_training.learning_rate / 10
    )
    pairs = PairFilter(between="solutions")
    name = f"policy-{iteration}"
    return [
        collect,
        TrainPolicyPhase(name, iteration, models.policy, training, (collect.name,), objective="dpo", pairs=pairs),
    ]


def _samples(run: SelfTraining, iteration: int, policy: str, value: str | None = None) -> SearchPhase:
    """Return a phase that samples whole solutions, one after the other, until the budget is
    spent.
    """
    return SearchPhase(
        name=f"collect-{iteration}",
        iteration=iteration,
        purpose="collect",
        problem_set=run.train_sets[iteration - 1],
        policy=policy,
        value=value,
        search=BestOfNSettings(num_samples=MAX_SAMPLES, samples_at_once=1, score=value is not None),
        budget=run.budget,
        generation=run.generation,
    )


def _supervised(run: SelfTraining, iteration: int, parent: str, *sources: str) -> TrainPolicyPhase:
    return TrainPolicyPhase(
        f"policy-{iteration}",
        iteration,
        parent,
        run.policy_training,
        sources,
        solutions_of=run.seed_set if run.seeds_again else None,
        traces=run.traces,
        learner=run.learner,
    )


def _value_training(
    run: SelfTraining, iteration: int, parent: str | None, trunk: str, sources: tuple[str, ...]
) -> TrainValuePhase:
    training = replace(run.value_training, seed=run.value_training.seed + iteration)
    return TrainValuePhase(
        f"value-{iteration}", iteration, parent, trunk, training, sources, objective=run.value_objective
    )


METHODS: Registry[Method] = Registry("methods", "self-training method")
METHODS.add(
    "rest-mcts",
    Method(
        "trees; their right paths train the policy, inferred values of all steps the value model (ReST-MCTS*)",
        _rest_mcts,
        lambda run: True,
        _first_value,
        {ALGORITHM: "best-first", "score": False},
    ),
)
METHODS.add(
    "rest-mcts-probed",
    Method(
        "as rest-mcts, after two samples of each problem: what these settle is not searched",
        _rest_mcts_probed,
        lambda run: True,
        _first_value,
        {ALGORITHM: "best-first", "score": False},
    ),
)
METHODS.add(
    "rest-mcts-restarts",
    Method(
        "as rest-mcts under half the tokens, then samples from steps after which outcomes vary",
        _rest_mcts_restarts,
        lambda run: True,
        _first_value,
        {ALGORITHM: "best-first", "score": False},
    ),
)
METHODS.add(
    "rest-mcts-paper",
    Method("as the paper does it: MCTS* under a value model; both learn", _rest_mcts, lambda run: True, _first_value),
)
METHODS.add(
    "rest-best-first",
    Method(
        "as rest-mcts, over best-first trees that ask the value model",
        _rest_best_first,
        lambda run: True,
        lambda run, policy: _first_value(_asking_values(run), policy),
        {ALGORITHM: "best-first"},
    ),
)
METHODS.add(
    "rest-forked",
    Method(
        "as rest-mcts, over samples that fork where the policy is least certain (forked)",
        _rest_mcts,
        lambda run: True,
        _first_value,
        {ALGORITHM: "forked"},
    ),
)
METHODS.add(
    "math-shepherd",
    Method(
        "samples, the right ones that a model of rollouts likes train the policy (MATH-SHEPHERD)",
        _math_shepherd,
        lambda run: True,
        lambda run, policy: _first_value_from(run.first_labels or "hard-rollouts", run, policy),
    ),
)
METHODS.add("star", Method("samples, and explanations of given answers, train the policy (STaR)", _star))
METHODS.add("rest-em", Method("samples, the right ones train the policy (ReST^EM)", _rest_em))
METHODS.add(
    "self-rewarding",
    Method("samples, the model prefers those that it thinks best", _self_rewarding, lambda run: run.given_value),
)
