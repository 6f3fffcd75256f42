"""What `restmcts probe` runs: some samples of every problem, then a search of it in as many tokens.

Both are ordinary runs in one work folder, which `runs show` can look at.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote

from restmcts.adapters.sql.reads.sample_counts import SampleCount, sample_counts
from restmcts.adapters.sql.state import runs
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SEARCH_PHASE, SearchPhase
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_plan import TRAIN
from restmcts.domain.search.best_of_n import SelfConsistencySettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.stats.spread import ProbedOutcome, spread_of
from restmcts.errors import InputError, RestMctsError
from restmcts.usecases.requested.runs import Models, run_config
from restmcts.usecases.same_settings import check_same_settings
from restmcts_local.local_run import LocalRun

from restmcts_cli.arguments.model_sources import checkpoint_argument
from restmcts_cli.experiments.requested_runs import BASE, model_options, models_of, problem_sets
from restmcts_cli.reports.live_display import LiveDisplay
from restmcts_cli.reports.probe_report import Probe

SAMPLES, TREES = "samples", "trees"
METHOD = "probe"
WAY_OUT = "choose another --workdir"


def run_probe(spec: RunSpec, num_samples: int, workdir: Path) -> Probe:
    """Do what is not done yet of a probe; return what it found.

    Raises:
        InputError: if a file or the model cannot be used, or the folder holds another probe.
        RestMctsError: if a run fails; what is done stays done.
    """
    problems = problem_sets(spec)[TRAIN]
    models = models_of(spec, lambda model, kind: checkpoint_argument(model, kind, spec.models.trust_remote_code))
    sampling = SearchPhase(
        name=SAMPLES,
        iteration=0,
        purpose="evaluate",
        problem_set=TRAIN,
        policy=BASE,
        value=None,
        search=SelfConsistencySettings(num_samples=num_samples),
        generation=spec.generation,
    )
    samples = _counts(spec, sampling, problems, models, workdir)
    sample_tokens = sum(one.tokens for one in samples) / len(samples)
    budget = max(round(sample_tokens), 1)
    searching = replace(sampling, name=TREES, search=spec.search, budget=Budget(tokens=budget))
    trees = _counts(spec, searching, problems, models, workdir)
    outcomes = [ProbedOutcome(one.num_right, tree.solved) for one, tree in zip(samples, trees, strict=True)]
    search_tokens = sum(one.tokens for one in trees) / len(trees)
    return Probe(spread_of(outcomes, num_samples), spec.search.algorithm, budget, sample_tokens, search_tokens)


def _counts(
    spec: RunSpec, phase: SearchPhase, problems: Sequence[Problem], models: Models, workdir: Path
) -> list[SampleCount]:
    """Do a phase as a run of its own, unless it is done; return what it came to."""
    display = LiveDisplay(f"restmcts probe in {workdir}, {phase.name}")
    config = run_config(spec, models, {TRAIN: problems})
    with LocalRun(workdir, model_options(spec)) as run, display:
        known = run.find(phase.name)
        if known is None:
            run_id = run.create(phase.name, METHOD, spec.seed, config, {TRAIN: problems}, models, [phase])
        else:
            check_same_settings(known.config, config, str(workdir), WAY_OUT)
            _check_same_phase(run, known.id, phase, workdir)
            run_id = run.known(known, None)
        display.watch(run.database, run_id)
        run.run(run_id)
        with run.database.transaction() as transaction:
            found = sample_counts(transaction, run_id, phase.name)
    if not any(one.num_samples for one in found):
        raise RestMctsError(f"no problem got an answer; `restmcts ui --workdir {quote(str(workdir))}` shows why")
    return found


def _check_same_phase(run: LocalRun, run_id: int, phase: SearchPhase, workdir: Path) -> None:
    """Raise InputError if a stored run samples or searches otherwise: its document does not say how
    many samples were asked for.
    """
    with run.database.transaction() as transaction:
        stored = SEARCH_PHASE.validate_python(runs.phases_of(transaction, run_id)[0].spec)
    if stored != phase:
        raise InputError(f"{workdir} holds a probe with another number of samples; give it again or {WAY_OUT}")
