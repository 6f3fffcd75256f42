"""A training job once its inputs are on disk. Torch-free: the parent process knows it too."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from restmcts.domain.phases import TRAINING_PHASE, TrainPolicyPhase, TrainValuePhase


@dataclass(frozen=True, slots=True)
class Job:
    """A phase with its inputs: `parent` is a folder or a hub id, `dataset` and `output` are folders."""

    phase: TrainPolicyPhase | TrainValuePhase
    parent: str
    dataset: Path
    output: Path

    def to_json(self) -> dict[str, Any]:
        """Return the job as JSON."""
        phase = TRAINING_PHASE.dump_python(self.phase, mode="json")
        return {"phase": phase, "parent": self.parent, "dataset": str(self.dataset), "output": str(self.output)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the job that `to_json` wrote."""
        phase = TRAINING_PHASE.validate_python(fields["phase"])
        return cls(phase, fields["parent"], Path(fields["dataset"]), Path(fields["output"]))
