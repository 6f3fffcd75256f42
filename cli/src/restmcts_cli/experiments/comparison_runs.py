"""What `restmcts compare` runs: for each seed one run that makes the first policy and its control,
then one run a method.

All are ordinary runs in one work folder, which `runs show` can look at; a run that has ended is not
done again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from restmcts.adapters.sql import runs
from restmcts.adapters.sql.tables import RunState
from restmcts.domain.problems import Problem
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.phases import Phase
from restmcts.domain.runs.plans import BASE, SelfTraining, control_plan, self_training_plan
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.protocol import Budget
from restmcts.errors import InputError
from restmcts_local.local_run import LocalRun, ModelOptions

from restmcts_cli.arguments.method_options import apart
from restmcts_cli.arguments.model_sources import checkpoint_argument
from restmcts_cli.commands.learning.selftrain import load_problem_file, run_config
from restmcts_cli.experiments.demo_plan import QUICK, DemoSize, base_policy, demo_loop, demo_problems
from restmcts_cli.reports.comparison_report import MethodComparison, MethodRun, SeedRuns
from restmcts_cli.reports.live_display import LiveDisplay
from restmcts_cli.reports.run_report_data import IterationResult
from restmcts_cli.reports.run_results import gates_of, iteration_results, iteration_tokens

CONTROL = "control"


@dataclass(frozen=True, slots=True)
class Setting:
    """One seed's problems by set, the loop that every method follows, and its base model's URI."""

    loop: SelfTraining
    problems: dict[str, list[Problem]]
    base: str


@dataclass(frozen=True, slots=True)
class Study:
    """What is compared: `setting` gives each seed's part; `same_problems` says whether all
    seeds share theirs; `tiny` is a model for which threads and kept keys and values cost more
    than they bring (decision 0013).
    """

    title: str
    methods: tuple[str, ...]
    num_iterations: int
    num_seeds: int
    budget_tokens: int
    same_problems: bool
    setting: Callable[[int], Setting]
    tiny: bool = False


@dataclass(frozen=True, slots=True)
class GivenSizes:
    """How a person's own problems are trained on."""

    limit: int | None
    num_steps: int
    batch_size: int
    policy_learning_rate: float
    value_learning_rate: float


def demo_study(methods: tuple[str, ...], num_iterations: int, num_seeds: int, budget_tokens: int, quick: bool) -> Study:
    """Return a study on the number paths puzzle, with the demo's sizes."""
    size = QUICK if quick else DemoSize()

    def setting(seed: int) -> Setting:
        loop = replace(demo_loop(seed, size, num_iterations), budget=Budget(tokens=budget_tokens))
        return Setting(loop, demo_problems(seed, size, num_iterations), base_policy(seed))

    return Study("number paths", methods, num_iterations, num_seeds, budget_tokens, False, setting, tiny=True)


def given_study(
    methods: tuple[str, ...],
    num_iterations: int,
    num_seeds: int,
    budget_tokens: int,
    problems: Path,
    test: Path,
    policy: str,
    sizes: GivenSizes,
) -> Study:
    """Return a study on a person's problems and model.

    Raises:
        InputError: if a file or the model cannot be used.
    """
    members = load_problem_file(problems, False, sizes.limit)
    held_out, train = apart(members, 200)
    sets = {
        "train": train,
        "bootstrap": train[:1000],
        "held-out": held_out,
        "test": load_problem_file(test, False, None),
    }
    sets["seeds"] = [problem for problem in train if problem.solution]
    model = checkpoint_argument(policy, "policy", False)

    def setting(seed: int) -> Setting:
        training = TrainingSettings(num_steps=sizes.num_steps, batch_size=sizes.batch_size, seed=seed)
        loop = SelfTraining(
            num_iterations=num_iterations,
            train_sets=("train",) * num_iterations,
            bootstrap_set="bootstrap",
            budget=Budget(tokens=budget_tokens),
            generation=GenerationSettings(),
            policy_training=replace(training, learning_rate=sizes.policy_learning_rate),
            value_training=replace(training, learning_rate=sizes.value_learning_rate),
            held_out_set="held-out",
            test_set="test",
        )
        return Setting(replace(loop, seed_set="seeds", control=True) if sets["seeds"] else loop, sets, model)

    return Study(problems.name, methods, num_iterations, num_seeds, budget_tokens, True, setting)


def run_study(study: Study, workdir: Path, device: str, trees_in_flight: int) -> MethodComparison:
    """Do what is not done yet of a study; return what it came to.

    Raises:
        RestMctsError: if a run fails; what is done stays done.
    """
    options = ModelOptions(device=device, max_trees_in_flight=trees_in_flight, max_batch_tokens=65_536)
    if study.tiny:
        torch.set_num_threads(1)
        options = replace(options, key_value_bytes=0, num_training_threads=1)
    found = tuple(_run_seed(study, seed, workdir, options) for seed in range(study.num_seeds))
    return MethodComparison(
        study.title, study.methods, study.num_iterations, study.budget_tokens, study.same_problems, found
    )


def _run_seed(study: Study, seed: int, workdir: Path, options: ModelOptions) -> SeedRuns:
    setting = study.setting(seed)
    control_id = _do(workdir, options, f"{CONTROL}-{seed}", seed, setting, control_plan(setting.loop), setting.base)
    with LocalRun(workdir, options) as run, run.database.transaction() as transaction:
        checkpoints = runs.checkpoints_of(transaction, control_id)
    first = checkpoints.get("policy-0", checkpoints[BASE]).uri
    found = []
    for method in study.methods:
        loop = replace(setting.loop, method=method, seed_set=None, control=False)
        plan = self_training_plan(loop)
        run_id = _do(workdir, options, f"{method}-{seed}", seed, replace(setting, loop=loop), plan, first)
        found.append((method, run_id))
    with LocalRun(workdir, options) as run:
        graded = iteration_results(run.database, control_id)
        return SeedRuns(
            seed=seed,
            first=graded[0].greedy,
            control=tuple(result.control for result in graded[1:]),
            methods={method: _outcome(run, run_id, study.num_iterations) for method, run_id in found},
        )


def _do(
    workdir: Path, options: ModelOptions, name: str, seed: int, setting: Setting, plan: Sequence[Phase], base: str
) -> int:
    """Run to its end what is not done yet of one run; return its id.

    Raises:
        InputError: if the work folder holds a run of that name with other settings.
    """
    checkpoints = {BASE: ("policy", base)}
    config = run_config(setting.loop, setting.problems, checkpoints, seed)
    display = LiveDisplay(f"restmcts compare, {name}")
    with LocalRun(workdir, options, display.on_training) as run, display:
        known = run.find(name)
        if known is not None and known.config != config:
            raise InputError(
                f"{workdir} holds a comparison with other settings; give them again or choose another --workdir"
            )
        run_id = (
            known.id
            if known is not None
            else run.create(name, setting.loop.method, seed, config, setting.problems, checkpoints, plan)
        )
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
