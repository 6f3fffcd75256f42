"""What is known of the work that a run would be: from runs of the same database that are done."""

from collections.abc import Iterable, Mapping

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads.measured import bytes_a_node, run_work, runs_like
from restmcts.adapters.sql.state import runs
from restmcts.domain.forecasts.work import Measured, Source
from restmcts.domain.runs.spec import RunSpec
from restmcts.ports import ArtifactStore

SPEED = ("device", "dtype", "engine", "trees_in_flight")
"""Settings of models that decide how fast they are."""


def earlier_runs(
    transaction: Transaction, artifacts: ArtifactStore, spec: RunSpec, policy: str, own_id: int | None = None
) -> tuple[Measured, list[str]]:
    """Return what runs of the same policy took that are done, and their names; nothing if there is
    none.

    Args:
        policy: where the run's first policy is from.
        own_id: of the run itself if it is stored; what is done of it is measured too, and it is not
            among the names.
    """
    like = runs_like(transaction, policy, {name: getattr(spec.models, name) for name in SPEED})
    found = [run for run in like if run.id != own_id]
    ids = [run.id for run in found] + ([own_id] if own_id is not None else [])
    measured = measured_in(transaction, artifacts, ids, "earlier runs")
    return measured, [run.name for run in found]


def measured_in(
    transaction: Transaction,
    artifacts: ArtifactStore,
    run_ids: Iterable[int],
    source: Source,
    step_seconds: Mapping[str, float] | None = None,
) -> Measured:
    """Return what runs took, and how large their trees and checkpoints are on disk.

    Args:
        step_seconds: of one optimizer step, by phase, where trainings were watched.
    """
    ids = list(run_ids)
    works = [run_work(transaction, run_id, step_seconds) for run_id in ids]
    return Measured(
        source,
        [search for work in works for search in work.searches],
        [training for work in works for training in work.trainings],
        bytes_a_node(transaction),
        _checkpoint_bytes(transaction, artifacts, ids),
    )


def _checkpoint_bytes(transaction: Transaction, artifacts: ArtifactStore, run_ids: Iterable[int]) -> dict[str, int]:
    """Return how large the largest checkpoint of each kind is that the runs have stored."""
    stored = [row for run_id in run_ids for row in runs.checkpoints_of(transaction, run_id).values()]
    sizes = {artifact.uri: artifact.num_bytes for artifact in artifacts.stored("checkpoints")} if stored else {}
    found: dict[str, int] = {}
    for row in stored:
        if row.uri in sizes:
            found[row.kind] = max(found.get(row.kind, 0), sizes[row.uri])
    return found
