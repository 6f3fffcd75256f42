"""What is left of a stored run, forecast from what it has done itself and from runs like it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from restmcts.adapters.sql.reads.earlier_runs import earlier_runs
from restmcts.adapters.sql.reads.measured import progress_of, set_sizes
from restmcts.adapters.sql.reads.queries import run_named
from restmcts.adapters.sql.rows import StoredRun
from restmcts.adapters.sql.state.runs import phases_of
from restmcts.adapters.sql.tables import RunState
from restmcts.domain.forecasts.memory import MemoryForecast
from restmcts.domain.forecasts.work import Amount, Machine, Measured, Progress, WorkForecast, forecast
from restmcts.domain.runs.phases import PHASE, Phase
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.text import counted
from restmcts.errors import InputError
from restmcts.reporting.forecasts import RunForecast
from restmcts.usecases.create import Extension, added_phases
from restmcts.usecases.requested.runs import Models
from restmcts.usecases.stored_sets import stored_problem_sets

from restmcts_cli.arguments.connection import Connection
from restmcts_cli.experiments.requested_runs import BASE, model_options, stored_run
from restmcts_cli.experiments.run_forecast import ON_A_STACK, Sets, memory_of, named_runs, probed
from restmcts_cli.reports.shown_tables import print_note

ENDS = {RunState.DONE: "is finished", RunState.FAILED: "has failed", RunState.CANCELLED: "was cancelled"}
NONE = Amount(0.0, 0.0, 0.0)
NO_WORK = WorkForecast("earlier runs", (), NONE, NONE, NONE, NONE)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A stored run, and what is known of its work."""

    run: StoredRun
    spec: RunSpec
    phases: Sequence[Phase]
    sizes: dict[str, int]
    progress: Progress
    measured: Measured
    names: Sequence[str]

    @property
    def models(self) -> Models:
        """The models that the run began with."""
        uris = self.run.config["checkpoints"]
        return {name: ("policy" if name == BASE else "value", uri) for name, uri in uris.items()}

    def work(self, measured: Measured, machine: Machine) -> WorkForecast:
        """Return what is left, by what was measured."""
        return forecast(self.phases, self.sizes, measured, machine, self.spec.max_tokens, self.progress)

    def basis(self) -> str:
        """Return what the numbers are from, as the end of a sentence."""
        own = [f"what run {self.run.name} has done"] if self.progress.phases else []
        return " and ".join([*own, *([named_runs(self.names)] if self.names else [])])


def rest_forecast(
    name: str,
    connection: Connection,
    max_tokens: int | None = None,
    extended: Callable[[StoredRun], Extension] | None = None,
) -> RunForecast:
    """Return the forecast of what is left of a stored run, which stays as it is.

    Args:
        max_tokens: the budget that it is to have; None: its own.
        extended: returns what the run is to be with more iterations; None: it stays as it is.

    Raises:
        InputError: if there is no such run, it has no run file, or it cannot be extended so.
        RestMctsError: if a probe cannot do the run: it says why.
    """
    with connection.database.transaction() as transaction:
        run = run_named(transaction, name)
        if run.state in ENDS and extended is None:
            return RunForecast(NO_WORK, "", None, progress=f"Nothing is left: run {name} {ENDS[RunState(run.state)]}.")
        spec = stored_run(run.config)
        if spec is None:
            raise InputError(f"run {name} has no run file to forecast it from: a version without them stored it")
        spec = spec.model_copy(update={"max_tokens": max_tokens if max_tokens is not None else run.max_tokens})
        policy = run.config["checkpoints"][BASE]
        measured, names = earlier_runs(transaction, connection.artifacts, spec, policy, run.id)
        more = extended(run) if extended is not None else None
        if more is not None:
            added_phases(transaction, run, more)
        stored_phases = [PHASE.validate_python(row.spec) for row in phases_of(transaction, run.id)]
        phases = more.phases if more is not None else stored_phases
        progress = progress_of(transaction, run.id)
        new = dict(more.problems) if more is not None else {}
        sizes = {name: len(members) for name, members in new.items()} | set_sizes(transaction, run.id)
        stored = _Stored(run, spec, phases, sizes, progress, measured, names)
        sets = new | (stored_problem_sets(transaction, run.id) if connection.workdir is not None else {})
    return (
        _here(stored, sets)
        if connection.settings is None
        else _on_stack(stored, connection.settings.max_trees_in_flight)
    )


def _on_stack(stored: _Stored, trees_in_flight: int) -> RunForecast:
    measured = stored.measured if stored.basis() else Measured("limits")
    remarks = (ON_A_STACK,) if stored.basis() else ()
    return _found(stored, stored.work(measured, Machine(trees_in_flight, 1)), stored.basis(), None, remarks)


def _here(stored: _Stored, sets: Sets) -> RunForecast:
    spec, models = stored.spec, stored.models
    machine = Machine(spec.models.trees_in_flight, 1 if spec.models.num_training_threads is None else 2)
    memory = memory_of(spec, sets, models, machine)
    work = stored.work(stored.measured, machine)
    if not work.unknown:
        return _found(stored, work, stored.basis(), memory)
    from restmcts_local.work_probe import probe_work

    measured = probe_work(spec, sets, models, model_options(spec), note=print_note)
    return _found(stored, stored.work(measured, machine), probed(measured), memory)


def _found(
    stored: _Stored, work: WorkForecast, basis: str, memory: MemoryForecast | None, remarks: Sequence[str] = ()
) -> RunForecast:
    spent = stored.progress.tokens
    return RunForecast(work, basis, memory, stored.spec.max_tokens, remarks, _progress(stored), spent)


def _progress(stored: _Stored) -> str:
    """Return what is done of a run, as a sentence."""
    done, num_trees = stored.progress, sum(stored.progress.trees.values())
    if not num_trees and not done.phases:
        return f"Nothing of run {stored.run.name} is done yet."
    return (
        f"Of run {stored.run.name}, {len(done.phases)} of {len(stored.phases)} phases and {counted(num_trees, 'tree')} are done; "
        "the forecast is what is left."
    )
