"""What `restmcts compare` runs: for each seed one run that makes the first policy and its control,
then one run a method.

All are ordinary runs in one work folder, which `runs show` can look at; a run that has ended is not
done again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.tables import RunState
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import Phase
from restmcts.domain.runs.plans import control_plan
from restmcts.domain.runs.spec import RunSpec, written
from restmcts.domain.runs.spec_plan import SEEDS, of_seed, self_training, spec_plan
from restmcts.usecases.same_settings import check_same_settings
from restmcts_local.local_run import LocalRun, ModelOptions

from restmcts_cli.arguments.model_sources import checkpoint_argument
from restmcts_cli.experiments.requested_runs import (
    BASE,
    model_options,
    models_of,
    problem_sets,
    run_config,
)
from restmcts_cli.reports.comparison_report import MethodComparison, MethodRun, SeedRuns
from restmcts_cli.reports.live_display import LiveDisplay
from restmcts_cli.reports.run_report_data import IterationResult
from restmcts_cli.reports.run_results import gates_of, iteration_results, iteration_tokens

CONTROL = "control"


# What a comparison on a person's own problems has in place of a run's defaults: a number of steps,
# so that all methods train as long.
OWN_PROBLEMS = {
    "iterations": 2,
    "budget": {"iterations": None},
    "policy_training": {"num_steps": 200},
    "value_training": {"num_steps": 200},
    "models": {"trees_in_flight": 1100, "max_batch_tokens": 65_536},
}


@dataclass(frozen=True, slots=True)
class SeedPart:
    """One seed's run, its problems by set, and its base model's URI."""

    spec: RunSpec
    problems: dict[str, list[Problem]]
    base: str


@dataclass(frozen=True, slots=True)
class Study:
    """What is compared: `setting` gives each seed's part; `same_problems` says whether all
    seeds share theirs.
    """

    title: str
    methods: tuple[str, ...]
    spec: RunSpec
    num_seeds: int
    same_problems: bool
    setting: Callable[[int], SeedPart]


def study_of(spec: RunSpec, methods: tuple[str, ...], num_seeds: int) -> Study:
    """Return a comparison of methods that all do this run, each in its way.

    Raises:
        InputError: if a file or the model cannot be used.
    """
    spec = RunSpec.model_validate({**written(spec), "control": True, "evaluations": [], "seed": 0})
    if spec.puzzles is not None:
        return Study(
            spec.puzzles.kind.replace("-", " "),
            methods,
            spec,
            num_seeds,
            False,
            lambda seed: _setting(of_seed(spec, seed)),
        )
    sets = problem_sets(spec)
    given = spec if sets[SEEDS] else spec.model_copy(update={"control": False, "seed_training": None})
    title = Path(spec.problems or "").name
    return Study(title, methods, given, num_seeds, True, lambda seed: _setting(of_seed(given, seed), sets))


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
    found = tuple(_run_seed(study, seed, workdir, options) for seed in range(study.num_seeds))
    budget = study.spec.budget.tokens or 0
    return MethodComparison(study.title, study.methods, study.spec.iterations, budget, study.same_problems, found)


def _run_seed(study: Study, seed: int, workdir: Path, options: ModelOptions) -> SeedRuns:
    setting = study.setting(seed)
    loop = self_training(setting.spec)
    control_id = _do(workdir, options, f"{CONTROL}-{seed}", setting, control_plan(loop))
    with LocalRun(workdir, options) as run, run.database.transaction() as transaction:
        checkpoints = runs.checkpoints_of(transaction, control_id)
    first = checkpoints.get("policy-0", checkpoints[BASE]).uri
    found = []
    for method in study.methods:
        spec = setting.spec.model_copy(update={"method": method, "seed_training": None, "control": False})
        own = SeedPart(spec, setting.problems, first)
        found.append((method, _do(workdir, options, f"{method}-{seed}", own, spec_plan(spec))))
    with LocalRun(workdir, options) as run:
        graded = iteration_results(run.database, control_id)
        return SeedRuns(
            seed=seed,
            first=graded[0].greedy,
            control=tuple(result.control for result in graded[1:]),
            methods={method: _outcome(run, run_id, study.spec.iterations) for method, run_id in found},
        )


def _do(workdir: Path, options: ModelOptions, name: str, setting: SeedPart, plan: Sequence[Phase]) -> int:
    """Run to its end what is not done yet of one run; return its id.

    Raises:
        InputError: if the work folder holds a run of that name with other settings.
    """
    spec, models = setting.spec, {BASE: ("policy", setting.base)}
    display = LiveDisplay(f"restmcts compare, {name}")
    with LocalRun(workdir, options, display.on_training) as run, display:
        known = run.find(name)
        if known is None:
            config = run_config(spec, models, setting.problems)
            run_id = run.create(name, spec.method, spec.seed, config, setting.problems, models, plan)
        else:
            config = run_config(spec, models, run.divided_as_stored(known, setting.problems))
            check_same_settings(known.config, config, str(workdir), "choose another --workdir")
            run_id = known.id
        if known is None or known.state != RunState.DONE:
            display.watch(run.database, run_id)
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
    )
