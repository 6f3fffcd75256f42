"""What a self-training run does, as a list of phases (arXiv:2406.03816, Algorithm 1): what all
methods share.

What a method does of its own is in restmcts.domain.runs.methods.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from restmcts.domain.runs.methods import METHODS, Models
from restmcts.domain.runs.phases import Phase, PromotionPhase, Purpose, SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.promotion import VALUE_BENCH
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.search.best_of_n import CotSettings, SelfConsistencySettings
from restmcts.errors import InputError

BASE = "base"
HELD_OUT_TREES = "held-out-trees"


def self_training_plan(run: SelfTraining) -> list[Phase]:
    """Return the phases of a run, in an order in which each finds what it needs.

    Raises:
        InputError: if there is no method of the run's name.
    """
    method = METHODS.get(run.method)
    phases, first = _seed_training(run)
    has_value = method.uses_value(run)
    first_value = method.first_value(run, first) if has_value and not run.given_value else []
    phases += [_believing(run, phase) for phase in first_value]
    policy = _gated_policy(run, phases, 0, first, None)
    has_first = has_value and (run.given_value or bool(first_value))
    value = _gated_value(run, phases, 0, "value-0", None, first) if has_first else None
    phases += _grading(run, 0, first, policy)
    for iteration in range(1, run.num_iterations + 1):
        made = [_believing(run, phase) for phase in method.iterate(run, iteration, Models(first, policy, value))]
        phases += [*_probing(run, iteration, made), *made]
        policy = _gated_policy(run, phases, iteration, f"policy-{iteration}", policy)
        if any(phase.name == f"value-{iteration}" for phase in made):
            value = _gated_value(run, phases, iteration, f"value-{iteration}", value, first)
        phases += _grading(run, iteration, f"policy-{iteration}", policy)
    return phases + (_control(run, first) if run.control else [])


def _believing(run: SelfTraining, phase: Phase) -> Phase:
    """Return a phase of a method with the run's source of verdicts.

    Raises:
        InputError: if the phase needs true answers that the run is not to use.
    """
    if not isinstance(phase, SearchPhase) or run.truth.knows_answers:
        return phase
    if phase.hint is not None:
        raise InputError(f"{run.method} gives the policy true answers as hints; it needs --truth answers")
    return replace(phase, truth=run.truth)


def _probing(run: SelfTraining, iteration: int, made: Sequence[Phase]) -> Iterator[SearchPhase]:
    """Yield the search of the probe's problems as the iteration searches its own."""
    collect = next((phase for phase in made if phase.name == f"collect-{iteration}"), None)
    if isinstance(collect, SearchPhase) and run.probe_set is not None and not run.truth.knows_answers:
        yield replace(
            collect,
            name=f"truth-{iteration}",
            purpose="probe",
            problem_set=run.probe_set,
            follows=(),
            allocates=False,
            samples_of=None,
        )


def control_plan(run: SelfTraining) -> list[Phase]:
    """Return the phases of a run without its method: the first policy, and the control if the
    run has one.
    """
    phases, first = _seed_training(run)
    phases += _grading(run, 0, first, first)
    return phases + (_control(run, first) if run.control else [])


def _seed_training(run: SelfTraining) -> tuple[list[Phase], str]:
    """Return the phases that make the first policy, and its name."""
    if run.seed_set is None:
        return [], BASE
    training = run.seed_training or run.policy_training
    return [TrainPolicyPhase("policy-0", 0, BASE, training, solutions_of=run.seed_set)], "policy-0"


def _control(run: SelfTraining, policy: str) -> list[Phase]:
    """Return the phases that train the first policy as often and as long as the method does, on
    the seed data alone.
    """
    phases: list[Phase] = []
    for iteration in range(1, run.num_iterations + 1):
        training = TrainPolicyPhase(
            f"control-{iteration}", iteration, policy, run.policy_training, solutions_of=run.seed_set
        )
        policy = training.name
        phases += [training, *_grading(run, iteration, policy, policy)]
    return phases


def _gated_policy(run: SelfTraining, phases: list[Phase], iteration: int, candidate: str, previous: str | None) -> str:
    """Add the promotion of a new policy, if the run has any; return the name by which the promoted
    policy goes after it.
    """
    if run.held_out_set is None:
        return candidate
    evidence = _evaluation(run, iteration, f"held-out-{candidate}", "evaluate", run.held_out_set, candidate)
    promotion = PromotionPhase(
        f"gate-{candidate}", iteration, "policy", candidate, evidence.name, previous, run.gate.margin
    )
    phases += [evidence, promotion]
    return promotion.name


def _gated_value(
    run: SelfTraining, phases: list[Phase], iteration: int, candidate: str, previous: str | None, first_policy: str
) -> str:
    if run.held_out_set is None:
        return candidate
    if previous is None:
        phases.append(_evaluation(run, 0, HELD_OUT_TREES, "held-out", run.held_out_set, first_policy))
    promotion = PromotionPhase(
        f"gate-{candidate}",
        iteration,
        "value",
        candidate,
        HELD_OUT_TREES,
        previous,
        run.gate.margin,
        run.gate.value_metric,
        run.gate.value_gain,
        VALUE_BENCH if run.gate.value_bench is not None else None,
    )
    phases.append(promotion)
    return promotion.name


def _grading(run: SelfTraining, iteration: int, name: str, policy: str) -> Iterator[SearchPhase]:
    if run.test_set is not None:
        yield _evaluation(run, iteration, f"grade-{name}", "evaluate", run.test_set, policy)


def _evaluation(
    run: SelfTraining, iteration: int, name: str, purpose: Purpose, problem_set: str, policy: str
) -> SearchPhase:
    """Return a phase without a value model: greedy solutions, or as many samples as value models
    are evaluated on.
    """
    search = CotSettings() if purpose == "evaluate" else SelfConsistencySettings(num_samples=run.gate.num_samples)
    return SearchPhase(name, iteration, purpose, problem_set, policy, None, search, generation=run.generation)
