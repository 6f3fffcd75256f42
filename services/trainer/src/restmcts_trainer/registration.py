"""The checkpoint that a training job made: stored with its card and its lineage, under its phase's
name.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.state import blocks, runs
from restmcts.adapters.sql.tables import Need, PhaseState
from restmcts.domain.runs.phases import TrainPolicyPhase
from restmcts.messages.events import CheckpointTrained
from restmcts.ports import ArtifactStore
from restmcts.usecases.training_jobs import ClaimedJob

from restmcts_trainer.cards import write_card


@dataclass(frozen=True, slots=True)
class MadeCheckpoint:
    """A stored checkpoint; the parent's if nothing was trained, which takes no more bytes."""

    uri: str
    digest: str
    lineage: dict[str, Any]
    num_bytes: int = 0


def store_checkpoint(
    artifacts: ArtifactStore, claim: ClaimedJob, checkpoint: Path, result: dict[str, Any]
) -> MadeCheckpoint:
    """Store what was trained into a folder, before the transaction that names it: it may take
    long.

    Raises:
        StorageError: if the checkpoint cannot be stored.
    """
    lineage = _lineage(claim, result)
    if not checkpoint.exists():
        return MadeCheckpoint(claim.parent.uri, claim.parent.digest, lineage)
    write_card(checkpoint, claim.phase, claim.parent.name, lineage, result)
    artifact = artifacts.put(checkpoint, "checkpoints", lineage)
    return MadeCheckpoint(artifact.uri, artifact.digest, lineage, artifact.num_bytes)


def register(transaction: Transaction, claim: ClaimedJob, made: MadeCheckpoint, result: dict[str, Any]) -> None:
    """End a job with its checkpoint."""
    kind = "policy" if isinstance(claim.phase, TrainPolicyPhase) else "value"
    name, parent = claim.phase.name, claim.parent.name
    runs.add_checkpoint(
        transaction, claim.run_id, name, kind, made.uri, made.digest, parent, made.lineage, made.num_bytes
    )
    runs.set_phase(transaction, claim.phase_id, PhaseState.DONE, result=result)
    blocks.unblock(transaction, Need.PHASE, claim.phase_id)
    transaction.emit(CheckpointTrained(run_id=claim.run_id))


def _lineage(claim: ClaimedJob, result: dict[str, Any]) -> dict[str, Any]:
    lineage = {
        "run_id": claim.run_id,
        "phase": claim.phase.name,
        "iteration": claim.phase.iteration,
        "parent": claim.parent.digest,
        "dataset": claim.dataset.digest,
        "seed": claim.phase.training.seed,
    }
    if result.get("held_out"):
        lineage |= {"held_out_before": result["held_out_before"], "held_out": result["held_out"]}
    return lineage
