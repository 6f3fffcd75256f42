"""What a run's document comes to: its self-training over named problem sets, and its phases."""

from collections import Counter
from dataclasses import replace

from restmcts.domain.runs.methods import METHODS
from restmcts.domain.runs.phases import Phase, PromotionPhase, SearchPhase, TrainPolicyPhase, TrainValuePhase
from restmcts.domain.runs.plans import BASE, self_training_plan
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.runs.spec import EvaluationSpec, RunSpec, written
from restmcts.domain.search.tool_calls import ToolSettings
from restmcts.errors import InputError

TRAIN, BOOTSTRAP, HELD_OUT, PROBE, TEST = "train", "bootstrap", "held-out", "probe", "test"
SEEDS, COMPARED = "seeds", "compared"
DEMONSTRATIONS = "demos"
FIRST_VALUE = "value-0"


def searched_set(iteration: int) -> str:
    """Return the name of the puzzles that are searched in an iteration, from 1."""
    return f"search-{iteration}"


def self_training(spec: RunSpec) -> SelfTraining:
    """Return the self-training that a run's document asks for.

    Raises:
        InputError: if there is no such method.
    """
    puzzles = spec.puzzles
    numbers = range(1, spec.iterations + 1)
    seeds = SEEDS if puzzles is None else DEMONSTRATIONS
    return SelfTraining(
        num_iterations=spec.iterations,
        train_sets=tuple(TRAIN if puzzles is None else searched_set(number) for number in numbers),
        bootstrap_set=BOOTSTRAP,
        method=spec.method,
        search=spec.search,
        budget=spec.budget,
        generation=spec.generation,
        seed_set=seeds if spec.seed_training is not None or spec.control or spec.seeds_again else None,
        seed_training=spec.seed_training,
        num_bootstrap_samples=spec.num_bootstrap_samples,
        first_labels=spec.labels,
        hint=spec.hint,
        merge_solutions=spec.merge_solutions,
        given_value=spec.value is not None,
        policy_training=spec.policy_training,
        preference_training=spec.preference_training,
        value_training=spec.value_training,
        value_objective=spec.value_objective,
        traces=spec.traces,
        learner=spec.learner,
        seeds_again=spec.seeds_again,
        held_out_set=(PROBE if _probe_set(spec) == PROBE else HELD_OUT) if _has_held_out(spec) else None,
        gate=spec.promotion,
        test_set=TEST if spec.test is not None or (puzzles is not None and puzzles.test) else None,
        control=spec.control,
        truth=spec.truth,
        probe_set=_probe_set(spec),
        num_rounds=spec.rounds,
        max_staleness=spec.max_staleness,
    )


def made_again(name: str, iterations: int) -> str:
    """Return the name of an evaluation that is made again once a run was extended."""
    return f"{name}, iteration {iterations}"


def _probe_set(spec: RunSpec) -> str | None:
    if spec.probe is None:
        return None
    if spec.truth.knows_answers:
        raise InputError(
            "probe: it checks verdicts that no true answer gives; leave it out, or give --truth votes or judge"
        )
    if spec.puzzles is not None and spec.probe != HELD_OUT:
        raise InputError(f"probe: puzzles have their own problems; give {HELD_OUT}, or leave it out")
    return HELD_OUT if spec.probe == HELD_OUT else PROBE


def _has_held_out(spec: RunSpec) -> bool:
    return bool(spec.promotion.num_problems and (spec.puzzles is None or spec.puzzles.held_out))


def spec_plan(spec: RunSpec) -> list[Phase]:
    """Return the phases of a run: the self-training, then the evaluations with its last models.

    Raises:
        InputError: if the run cannot be done as it is asked for.
    """
    phases = self_training_plan(self_training(spec))
    phases += [_evaluation(spec, phases, asked) for asked in spec.evaluations]
    twice = next((name for name, count in Counter(phase.name for phase in phases).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"evaluation {twice}: the run has a phase of that name already; choose another name")
    return [_with_tools(phase, spec.tools) for phase in phases] if spec.tools.max_calls else phases


def _with_tools(phase: Phase, tools: ToolSettings) -> Phase:
    match phase:
        case SearchPhase():
            return replace(phase, tools=tools)
        case TrainPolicyPhase() | TrainValuePhase():
            return replace(phase, calls_tools=True)
        case _:
            return phase


def _evaluation(spec: RunSpec, phases: list[Phase], asked: EvaluationSpec) -> SearchPhase:
    if spec.puzzles is None and spec.test is None:
        raise InputError(f"evaluation {asked.name}: it answers test problems, and the run names none; give `test`")
    value = _last_value(spec, phases)
    if value is None and asked.search.needs_values:
        raise InputError(
            f"evaluation {asked.name}: {asked.search.algorithm} asks a value model, which {spec.method} has not"
        )
    return SearchPhase(
        name=asked.name,
        iteration=spec.iterations,
        purpose="evaluate",
        problem_set=TEST if spec.puzzles is None else COMPARED,
        policy=BASE if asked.policy == "base" else _last_policy(spec, phases),
        value=value,
        search=asked.search,
        budget=asked.budget,
        generation=spec.generation,
    )


def _last_policy(spec: RunSpec, phases: list[Phase]) -> str:
    promoted = [phase.name for phase in phases if isinstance(phase, PromotionPhase) and phase.model == "policy"]
    return promoted[-1] if promoted else f"policy-{spec.iterations}"


def _last_value(spec: RunSpec, phases: list[Phase]) -> str | None:
    """Return the name of the run's last value model, or None if its method has none."""
    if not METHODS.get(spec.method).uses_value(self_training(spec)):
        return None
    promoted = [phase.name for phase in phases if isinstance(phase, PromotionPhase) and phase.model == "value"]
    trained = [phase.name for phase in phases if isinstance(phase, TrainValuePhase)]
    return (promoted or trained or [FIRST_VALUE])[-1]


def of_seed(spec: RunSpec, seed: int) -> RunSpec:
    """Return the same run with another seed; trainings that had the run's get the new one."""
    return RunSpec.model_validate({**written(spec), "seed": seed})
