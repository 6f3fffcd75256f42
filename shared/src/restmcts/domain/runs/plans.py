"""What a self-training run does, as a list of phases (arXiv:2406.03816, Algorithm 1): what all
methods share.

What a method does of its own is in restmcts.domain.runs.methods.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace

from restmcts.domain.runs.methods import METHODS, Method, Models
from restmcts.domain.runs.phases import (
    Phase,
    PromotionPhase,
    Purpose,
    SearchPhase,
    TrainPolicyPhase,
    TrainValuePhase,
)
from restmcts.domain.runs.promotion import VALUE_BENCH
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.runs.splits import Round
from restmcts.domain.runs.training_settings import TrainingSettings
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
    models = [Models(first, policy, value)]
    earlier: set[str] = set()
    for iteration in range(1, run.num_iterations + 1):
        own: set[str] = set()
        for part in _rounds(run):
            made = _phases_of_method(run, method, iteration, models)
            own = {phase.name for phase in made}
            if part is not None:
                made = [_in_round(phase, part, own, earlier) for phase in made]
            phases += [*_probing(run, iteration, made), *made]
            policy = _gated_policy(run, phases, iteration, round_name(f"policy-{iteration}", part), policy, part)
            if f"value-{iteration}" in own:
                name = round_name(f"value-{iteration}", part)
                value = _gated_value(run, phases, iteration, name, value, first, part)
            models.append(Models(first, policy, value))
        earlier |= own
        phases += _grading(run, iteration, f"policy-{iteration}", policy)
    return phases + (_control(run, first) if run.control else [])


def round_name(name: str, part: Round | None) -> str:
    """Return the name of an iteration's phase in one of its rounds: "policy-1.2"; in the last one,
    which leaves what the iteration comes to, as without rounds.
    """
    return name if part is None or part.is_last else f"{name}.{part.number}"


def _rounds(run: SelfTraining) -> Sequence[Round | None]:
    return [None] if run.num_rounds == 1 else [Round(number, run.num_rounds) for number in range(1, run.num_rounds + 1)]


def _phases_of_method(run: SelfTraining, method: Method, iteration: int, models: Sequence[Models]) -> list[Phase]:
    """Return what the method does next: it searches with models that are as old as they may be, and
    trains the newest.

    Args:
        models: with which each round began, and those of now.
    """
    staleness = min(run.max_staleness, len(models) - 1)
    trained = method.iterate(run, iteration, models[-1])
    searched = method.iterate(run, iteration, models[-1 - staleness])
    return [
        _believing(run, replace(search, staleness=staleness) if isinstance(search, SearchPhase) else phase)
        for search, phase in zip(searched, trained, strict=True)
    ]


def _in_round(phase: Phase, part: Round, own: Set[str], earlier: Set[str]) -> Phase:
    """Return an iteration's phase as one of its rounds does it.

    A round before the last learns from its own trees alone. The last one learns what else the
    method learns from: of earlier iterations, and for the value model of the whole iteration.

    Args:
        own: names of the iteration's phases.
        earlier: those of earlier iterations.
    """

    def here(name: str) -> str:
        return round_name(name, part) if name in own else name

    def spread(names: Sequence[str], several: Set[str]) -> tuple[str, ...]:
        found: list[str] = []
        for name in names:
            numbers = range(1, part.count + 1) if name in several else ()
            found += [round_name(name, Round(number, part.count)) for number in numbers] or [here(name)]
        return tuple(found)

    def learned(names: Sequence[str], several: Set[str]) -> tuple[str, ...]:
        return spread(names, several) if part.is_last else tuple(here(name) for name in names if name in own)

    name = here(phase.name)
    match phase:
        case SearchPhase():
            samples_of = here(phase.samples_of) if phase.samples_of is not None else None
            follows = spread(phase.follows, earlier)
            policy, value = here(phase.policy), here(phase.value) if phase.value is not None else None
            return replace(
                phase, name=name, policy=policy, value=value, follows=follows, samples_of=samples_of, round=part
            )
        case TrainPolicyPhase():
            sources, training = learned(phase.sources, earlier), _part_of(phase.training, part)
            return replace(phase, name=name, parent=here(phase.parent), sources=sources, training=training, round=part)
        case TrainValuePhase():
            sources, training = learned(phase.sources, own | earlier), _part_of(phase.training, part)
            parent = here(phase.parent) if phase.parent is not None else None
            return replace(phase, name=name, parent=parent, sources=sources, training=training, round=part)
        case _:
            return replace(phase, name=name, round=part)


def _part_of(training: TrainingSettings, part: Round) -> TrainingSettings:
    """Return a training with the round's part of the iteration's optimizer steps, where their
    number is given.

    Raises:
        InputError: if there are not enough steps.
    """
    if training.num_steps is None:
        return training
    if training.num_steps < part.count:
        raise InputError(
            f"rounds: {part.count} rounds divide {training.num_steps} optimizer steps of a training; give each at least one"
        )
    return replace(training, num_steps=part.size(training.num_steps))


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


def _gated_policy(
    run: SelfTraining,
    phases: list[Phase],
    iteration: int,
    candidate: str,
    previous: str | None,
    part: Round | None = None,
) -> str:
    """Add the promotion of a new policy, if the run has any; return the name by which the promoted
    policy goes after it. In a round both are evaluated on its held-out problems, which no other
    round of the iteration has.
    """
    if run.held_out_set is None:
        return candidate
    evidence = _evaluation(run, iteration, f"held-out-{candidate}", "evaluate", run.held_out_set, candidate)
    promotion = PromotionPhase(
        f"gate-{candidate}", iteration, "policy", candidate, evidence.name, previous, run.gate.margin
    )
    if part is not None and previous is not None:
        evidence = replace(evidence, round=part)
        before = replace(evidence, name=f"held-out-before-{candidate}", policy=previous)
        promotion = replace(promotion, round=part, incumbent_evidence=before.name)
        phases.append(before)
    phases += [evidence, promotion]
    return promotion.name


def _gated_value(
    run: SelfTraining,
    phases: list[Phase],
    iteration: int,
    candidate: str,
    previous: str | None,
    first_policy: str,
    part: Round | None = None,
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
        part,
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
