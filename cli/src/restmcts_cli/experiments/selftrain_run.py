"""What `restmcts selftrain` and `restmcts.selftrain` run: one self-training in a work folder, with
its progress on standard error; and what its report says.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.rows import StoredRun
from restmcts.adapters.sql.state.runs import find_run
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_plan import spec_plan
from restmcts.domain.text import counted
from restmcts.usecases.requested.runs import Models, Sets, run_config
from restmcts.usecases.same_settings import check_same_settings, with_stored_iterations, with_stored_search
from restmcts.usecases.stored_sets import divided_as_stored
from restmcts_local.local_run import LocalRun

from restmcts_cli.arguments.connection import DATABASE_FILE, connect
from restmcts_cli.arguments.model_sources import checkpoint_argument
from restmcts_cli.arguments.run_requests import SELFTRAIN_RUN
from restmcts_cli.experiments.requested_runs import (
    as_extended,
    model_options,
    models_of,
    problem_sets,
)
from restmcts_cli.reports.live_display import LiveDisplay
from restmcts_cli.reports.run_report_data import Report
from restmcts_cli.reports.run_results import (
    collected_solved,
    example_tree,
    failed_trees,
    iteration_results,
    mark_beside,
    run_origin,
    run_seconds,
    warnings_of,
)


@dataclass(frozen=True, slots=True)
class SelftrainRun:
    """A self-training that has ended, in its open work folder; `spec` is what was run."""

    run: LocalRun
    run_id: int
    spec: RunSpec


@contextmanager
def selftrained_here(spec: RunSpec, workdir: Path, named: Collection[str]) -> Iterator[SelftrainRun]:
    """Work on the self-training of a folder until it has ended; yield it.

    Args:
        named: the dotted names of the settings that are given.

    Raises:
        InputError: if a file or model cannot be used, or the folder contains another run.
        RestMctsError: if the run fails, or is paused; what is done stays done.
    """
    spec = as_extended(spec, workdir, SELFTRAIN_RUN)
    phases = spec_plan(spec)
    sets = problem_sets(spec)
    trusted = spec.models.trust_remote_code
    models = models_of(spec, lambda model, kind: checkpoint_argument(model, kind, trusted))
    display = LiveDisplay(
        f"restmcts selftrain in {workdir}", f"restmcts selftrain --workdir {quote(str(workdir))} resumes it"
    )
    with LocalRun(workdir, model_options(spec), display.on_training) as run, display:
        known = run.find(SELFTRAIN_RUN)
        if known is None:
            config = run_config(spec, models, sets)
            run_id = run.create(SELFTRAIN_RUN, spec.method, spec.seed, config, sets, models, phases, spec.max_tokens)
        else:
            with run.database.transaction() as transaction:
                spec = _as_stored(transaction, known, spec, named, models, sets, workdir)
            run_id = run.known(known, spec.max_tokens)
        display.watch(run.database, run_id, run.trainings_at_once)
        run.run(run_id, takes_max_tokens=True, notifies=True)
        yield SelftrainRun(run, run_id, spec)


def is_resumed(spec: RunSpec, workdir: Path, named: Collection[str]) -> bool:
    """Return whether a folder holds the self-training that is asked for, which is then resumed.

    Raises:
        InputError: if a file or model cannot be used, or the folder contains another run.
    """
    if not (workdir / DATABASE_FILE).is_file():
        return False
    with connect(workdir) as connection, connection.database.transaction() as transaction:
        known = find_run(transaction, SELFTRAIN_RUN)
        if known is None:
            return False
        spec = with_stored_iterations(spec, known.config)
        trusted = spec.models.trust_remote_code
        models = models_of(spec, lambda model, kind: checkpoint_argument(model, kind, trusted))
        _as_stored(transaction, known, spec, named, models, problem_sets(spec), workdir)
        return True


def _as_stored(
    transaction: Transaction,
    known: StoredRun,
    spec: RunSpec,
    named: Collection[str],
    models: Models,
    sets: Sets,
    workdir: Path,
) -> RunSpec:
    """Return what is asked for as it is stored; raise InputError if another run is."""
    spec = with_stored_search(spec, known.config, named)
    config = run_config(spec, models, divided_as_stored(transaction, known.id, sets))
    check_same_settings(known.config, config, str(workdir), "choose another --workdir")
    return spec


def selftrain_report(database: Database, run_id: int, workdir: Path, spec: RunSpec) -> Report:
    """Return what the report of a work folder's self-training says."""
    num_failed = failed_trees(database, run_id)
    failed = (
        (f"{counted(num_failed, 'tree')} failed; see the reasons in the table `trees` of run.db.",)
        if num_failed
        else ()
    )
    return Report(
        title=f"{spec.method} self-training",
        command=f"restmcts selftrain --workdir {quote(str(workdir))}",
        seed=spec.seed,
        seconds=run_seconds(database, run_id),
        iterations=iteration_results(database, run_id),
        tree=example_tree(database, run_id, f"collect-{spec.iterations}")
        or example_tree(database, run_id, "collect-1"),
        notes=(*failed, *warnings_of(database, run_id)),
        origin=run_origin(database, run_id),
        mark=mark_beside(database, run_id),
        solved=collected_solved(database, run_id),
    )
