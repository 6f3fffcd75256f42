"""What `restmcts compare` runs: for each seed one run that makes the first policy and its control,
then one run a method.

All are ordinary runs in one work folder, which `runs show` can look at; a run that has ended is not
done again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.tables import RunState
from restmcts.domain.problems import Problem
from restmcts.domain.runs.methods import METHODS
from restmcts.domain.runs.phases import Phase
from restmcts.domain.runs.plans import control_plan
from restmcts.domain.runs.spec import RunSpec, written
from restmcts.domain.runs.spec_plan import SEEDS, of_seed, self_training, spec_plan
from restmcts.usecases.requested.runs import run_config
from restmcts.usecases.same_settings import check_same_settings, with_stored_search
from restmcts_local.local_run import LocalRun, ModelOptions

from restmcts_cli.arguments.model_sources import checkpoint_argument
from restmcts_cli.experiments.requested_runs import (
    BASE,
    model_options,
    models_of,
    problem_sets,
)
from restmcts_cli.reports.comparison_report import MethodComparison, MethodRun, SeedRuns
from restmcts_cli.reports.live_display import LiveDisplay
from restmcts_cli.reports.run_report_data import IterationResult
from restmcts_cli.reports.run_results import common_origin, gates_of, iteration_results, iteration_tokens, phase_solved

CONTROL = "control"
SAMPLES = "samples"
REPEAT = 1_000_000
"""Between the seeds of two trainings of one method with one seed."""


@dataclass(frozen=True, slots=True)
class SeedPart:
    """One seed's run, its problems by set, and its base model's URI."""

    spec: RunSpec
    problems: dict[str, list[Problem]]
    base: str


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """What of a comparison is no setting of its runs.

    Attributes:
        searches: settings of the search by method, where they are not the method's own.
        repeats: how often each method is trained with each seed, in another order.
        num_samples: k of the pass@k that is measured of each method's last policy; 0: none.
        named: the dotted names of the settings that are given.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    searches: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    repeats: int = 1
    num_samples: int = 0
    named: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Study:
    """What is compared.

    Attributes:
        spec: the run that every method does in its own way.
        plan: which methods, seeds and repeats.
        same_problems: whether all seeds share theirs.
        setting: returns a seed's part.
    """

    title: str
    spec: RunSpec
    plan: StudyPlan
    same_problems: bool
    setting: Callable[[int], SeedPart]


def study_of(spec: RunSpec, plan: StudyPlan) -> Study:
    """Return a comparison of methods that all do this run, each in its way.

    Raises:
        InputError: if a file or the model cannot be used.
    """
    evaluations = [{"name": SAMPLES, "search": {"algorithm": "self-consistency", "num_samples": plan.num_samples}}]
    own = {"control": True, "evaluations": evaluations if plan.num_samples else [], "seed": 0}
    spec = RunSpec.model_validate({**written(spec), **own})
    if spec.puzzles is not None:
        puzzles = spec.puzzles
        if plan.num_samples:
            spec = spec.model_copy(update={"puzzles": puzzles.model_copy(update={"compared": puzzles.test})})
        title = puzzles.kind.replace("-", " ") + (f", {puzzles.difficulty}" if puzzles.difficulty else "")
        return Study(title, spec, plan, False, lambda seed: _setting(of_seed(spec, seed)))
    sets = problem_sets(spec)
    given = spec if sets[SEEDS] else spec.model_copy(update={"control": False, "seed_training": None})
    title = Path(spec.problems or "").name
    return Study(title, given, plan, True, lambda seed: _setting(of_seed(given, seed), sets))


def _setting(spec: RunSpec, sets: dict[str, list[Problem]] | None = None) -> SeedPart:
    trusted = spec.models.trust_remote_code
    models = models_of(spec, lambda model, kind: checkpoint_argument(model, kind, trusted))
    return SeedPart(spec, sets if sets is not None else problem_sets(spec), models[BASE][1])


def run_study(study: Study, workdir: Path) -> MethodComparison:
    """Do what is not done yet of a study; return what it came to.

    Raises:
        RestMctsError: if a run fails; what is done stays done.
    """
    options = model_options(study.spec)
    done = [_run_seed(study, seed, workdir, options) for seed in study.plan.seeds]
    with LocalRun(workdir, options) as run:
        origin = common_origin(run.database, [run_id for _, run_ids in done for run_id in run_ids])
    return MethodComparison(
        title=study.title,
        methods=study.plan.methods,
        num_iterations=study.spec.iterations,
        budget_tokens=study.spec.budget.tokens or 0,
        same_problems=study.same_problems,
        seeds=tuple(seed for seed, _ in done),
        num_samples=study.plan.num_samples,
        origin=origin,
    )


def _run_seed(study: Study, seed: int, workdir: Path, options: ModelOptions) -> tuple[SeedRuns, list[int]]:
    """Return what a seed came to, and its runs, the one of its first policy first."""
    setting = study.setting(seed)
    loop = self_training(setting.spec)
    control_id = _do(workdir, options, f"{CONTROL}-{seed}", setting, control_plan(loop))
    first = _first_policy(workdir, options, control_id)
    found: dict[str, list[int]] = {}
    for method in study.plan.methods:
        for repeat in range(study.plan.repeats):
            spec = _of_method(setting.spec, method, repeat, study.plan.searches)
            own = SeedPart(spec, setting.problems, first)
            name = f"{method}-{seed}" + (f"-{repeat}" if repeat else "")
            found.setdefault(method, []).append(_do(workdir, options, name, own, spec_plan(spec), study.plan.named))
    with LocalRun(workdir, options) as run:
        graded = iteration_results(run.database, control_id)
        came_to = SeedRuns(
            seed=seed,
            first=graded[0].greedy,
            control=tuple(result.control for result in graded[1:]),
            methods={
                method: tuple(_outcome(run, one, study.spec.iterations) for one in ids) for method, ids in found.items()
            },
        )
    return came_to, [control_id, *(one for ids in found.values() for one in ids)]


def _of_method(spec: RunSpec, method: str, repeat: int, searches: Mapping[str, Mapping[str, object]]) -> RunSpec:
    """Return what a method does: it searches with the run's settings if these are of the algorithm
    that it has by itself, or if it is the run's own method.
    """
    document = {**written(spec), "method": method, "control": False}
    document.pop("seed_training", None)
    own = {"search": searches.get(method, {})}
    if method != spec.method and METHODS.get(method).search["algorithm"] != spec.search.algorithm:
        document |= own
    trainings = {name: document[name] for name in ("policy_training", "value_training") if repeat}
    document |= {name: {**one, "seed": spec.seed + REPEAT * repeat} for name, one in trainings.items()}
    return RunSpec.model_validate(document)


def run_beside(
    spec: RunSpec,
    method: str,
    problems: dict[str, list[Problem]],
    run_id: int,
    workdir: Path,
    name: str,
    *,
    claims: bool = True,
) -> int:
    """Do what is not done yet of a run from the first policy of a stored one; return its id.

    Args:
        claims: whether its promotions are shown with their figures.

    Raises:
        RestMctsError: if it fails; what is done stays done.
    """
    options = model_options(spec)
    alone = _of_method(spec, method, 0, {}).model_copy(update={"evaluations": ()})
    part = SeedPart(alone, problems, _first_policy(workdir, options, run_id))
    return _do(workdir, options, name, part, spec_plan(alone), claims=claims)


def _first_policy(workdir: Path, options: ModelOptions, run_id: int) -> str:
    """Return the URI of the policy with which a run's iterations began."""
    with LocalRun(workdir, options) as run, run.database.transaction() as transaction:
        checkpoints = runs.checkpoints_of(transaction, run_id)
    return checkpoints.get("policy-0", checkpoints[BASE]).uri


def _do(
    workdir: Path,
    options: ModelOptions,
    name: str,
    setting: SeedPart,
    plan: Sequence[Phase],
    named: Collection[str] = (),
    *,
    claims: bool = True,
) -> int:
    """Run to its end what is not done yet of one run; return its id.

    Args:
        named: the dotted names of the settings that are given; a stored run keeps the search that
            it began with if none of these is of the search.

    Raises:
        InputError: if the work folder contains a run of that name with other settings.
    """
    spec, models = setting.spec, {BASE: ("policy", setting.base)}
    display = LiveDisplay(f"restmcts, {name}", claims=claims)
    with LocalRun(workdir, options, display.on_training) as run, display:
        known = run.find(name)
        if known is None:
            config = run_config(spec, models, setting.problems)
            run_id = run.create(name, spec.method, spec.seed, config, setting.problems, models, plan)
        else:
            spec = with_stored_search(spec, known.config, named)
            config = run_config(spec, models, run.divided_as_stored(known, setting.problems))
            check_same_settings(known.config, config, str(workdir), "choose another --workdir")
            run_id = known.id
        if known is None or known.state != RunState.DONE:
            display.watch(run.database, run_id, run.trainings_at_once)
            run.run(run_id)
    return int(run_id)


def _outcome(run: LocalRun, run_id: int, num_iterations: int) -> MethodRun:
    done = {result.iteration: result for result in iteration_results(run.database, run_id)}
    results = [done.get(number, IterationResult(number)) for number in range(1, num_iterations + 1)]
    return MethodRun(
        greedy=tuple(result.greedy for result in results),
        num_policy_samples=tuple(result.num_policy_samples for result in results),
        tokens_before=iteration_tokens(run.database, run_id, 0),
        tokens=tuple(iteration_tokens(run.database, run_id, result.iteration) for result in results),
        gates=gates_of(run.database, run_id),
        solved=phase_solved(run.database, run_id, SAMPLES),
    )
