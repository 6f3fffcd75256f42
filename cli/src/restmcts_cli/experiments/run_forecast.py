"""What a run will take, before anything of it is stored: from runs that are done, else from a
probe where the run would work in this process.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import quantiles

from restmcts.adapters.models.http_policy.address import is_server
from restmcts.adapters.sql.reads.earlier_runs import earlier_runs
from restmcts.adapters.storage.folder_lock import check_place
from restmcts.domain.forecasts.memory import MemoryForecast, TrainedModel, memory_forecast
from restmcts.domain.forecasts.work import Machine, Measured, WorkForecast, forecast
from restmcts.domain.problems import Problem
from restmcts.domain.runs.methods import METHODS
from restmcts.domain.runs.phases import Phase
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_plan import self_training, spec_plan
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.text import counted
from restmcts.reporting.forecasts import RunForecast
from restmcts.usecases.requested.runs import Models

from restmcts_cli.arguments.connection import DATABASE_FILE, Connection, connect
from restmcts_cli.arguments.model_sources import checkpoint_argument, policy_on_stack
from restmcts_cli.experiments.requested_runs import BASE, model_options, models_of, problem_sets
from restmcts_cli.reports.shown_tables import print_note

CHARACTERS_A_TOKEN = 3
ON_A_STACK = "Times on a stack are those of its workers then: other numbers of workers give others."
Sets = Mapping[str, Sequence[Problem]]


def local_forecast(spec: RunSpec, workdir: Path) -> RunForecast:
    """Return the forecast of a run in this process; the work folder, which need not exist, stays
    as it is.

    Raises:
        InputError: if a file or a model cannot be used.
        StorageError: if the work folder could not be made.
        RestMctsError: if a probe cannot do the run: it says why.
    """
    check_place(workdir)
    phases, sets = spec_plan(spec), problem_sets(spec)
    models = models_of(spec, lambda model, kind: checkpoint_argument(model, kind, spec.models.trust_remote_code))
    machine = Machine(spec.models.trees_in_flight, 1 if spec.models.num_training_threads is None else 2)
    memory = memory_of(spec, sets, models, machine)
    if (workdir / DATABASE_FILE).is_file():
        with connect(workdir) as connection:
            found = _from_runs(spec, phases, sets, models[BASE][1], connection, machine)
        if found is not None and not found[0].unknown:
            return RunForecast(*found, memory, spec.max_tokens)
    from restmcts_local.work_probe import probe_work

    measured = probe_work(spec, sets, models, model_options(spec), note=print_note)
    work = forecast(phases, _sizes(sets), measured, machine, spec.max_tokens)
    return RunForecast(work, probed(measured), memory, spec.max_tokens)


def probed(measured: Measured) -> str:
    """Return what a probe's numbers are from, as the end of a sentence."""
    largest = max((one.num_trees for one in measured.searches), default=0)
    return (
        f"a probe of some seconds on this machine: the first policy trained briefly, and one iteration over "
        f"{counted(largest, 'problem')} of each set"
    )


def stack_forecast(spec: RunSpec, connection: Connection) -> RunForecast:
    """Return the forecast of a run on a stack, from the runs of its database.

    Raises:
        InputError: if a file cannot be used.
    """
    from restmcts.settings import load_settings

    phases, sets = spec_plan(spec), problem_sets(spec)
    policy = models_of(spec, lambda model, kind: policy_on_stack(model) if kind == "policy" else model)[BASE][1]
    machine = Machine(load_settings().max_trees_in_flight, 1)
    found = _from_runs(spec, phases, sets, policy, connection, machine)
    if found is not None:
        return RunForecast(*found, None, spec.max_tokens, (ON_A_STACK,))
    work = forecast(phases, _sizes(sets), Measured("limits"), machine, spec.max_tokens)
    return RunForecast(work, "", None, spec.max_tokens)


def _from_runs(
    spec: RunSpec, phases: Sequence[Phase], sets: Sets, policy: str, connection: Connection, machine: Machine
) -> tuple[WorkForecast, str] | None:
    """Return the forecast from runs that are done, and what these are; None if there are none."""
    with connection.database.transaction() as transaction:
        measured, names = earlier_runs(transaction, connection.artifacts, spec, policy)
    if not names:
        return None
    work = forecast(phases, _sizes(sets), measured, machine, spec.max_tokens)
    return work, named_runs(names)


def named_runs(names: Sequence[str]) -> str:
    """Return what runs a forecast is from, as the end of a sentence."""
    return f"the {'runs' if len(names) > 1 else 'run'} {', '.join(names)}, done with the same policy"


def _sizes(sets: Sets) -> dict[str, int]:
    return {name: len(members) for name, members in sets.items()}


def memory_of(spec: RunSpec, sets: Sets, models: Models, machine: Machine) -> MemoryForecast | None:
    """Return the memory of the run's own models; None where a server has the policy."""
    policy = models[BASE][1]
    if is_server(policy) or spec.models.engine != "transformers":
        return None
    from restmcts.modeling.model_shapes import free_memory, model_shape

    dtype, device = spec.models.dtype, spec.models.device
    tokens = _prompt_tokens(sets) + spec.generation.max_solution_tokens
    called = [model_shape(policy, dtype=dtype, device=device)]
    trainings = [one for one in (spec.policy_training, spec.seed_training) if one is not None]
    trained = [TrainedModel("policy", called[0], max(trainings, key=_batch), tokens)]
    if METHODS.get(spec.method).uses_value(self_training(spec)) and spec.value is None:
        called.append(model_shape(policy, is_value=True, dtype=dtype, device=device))
        trained.append(TrainedModel("value", called[1], spec.value_training, tokens))
    return memory_forecast(
        called,
        trained,
        kept_bytes=spec.models.key_value_bytes,
        batch_tokens=min(spec.models.max_batch_tokens, machine.trees_in_flight * tokens),
        trainings_at_once=machine.trainings_at_once,
        available_bytes=free_memory(device),
    )


def _batch(training: TrainingSettings) -> int:
    return training.batch_size


def _prompt_tokens(sets: Sets) -> int:
    """Return how long most prompts are at most: a guess from their characters."""
    lengths = [len(problem.question) for members in sets.values() for problem in members]
    longest = quantiles(lengths, n=20)[-1] if len(lengths) > 1 else max(lengths, default=0)
    return int(longest) // CHARACTERS_A_TOKEN
