"""A training job once its inputs are on disk. Torch-free: the parent process knows it too."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from restmcts.domain.runs.phases import TRAINING_PHASE, TrainPolicyPhase, TrainValuePhase


@dataclass(frozen=True, slots=True)
class Sources:
    """URIs of what a job begins with, for machines that fetch it themselves.

    Attributes:
        parent: also a folder or a hub id, which then is the same everywhere.
        saved: the state from which it goes on, or None.
    """

    parent: str
    dataset: str
    saved: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A phase with its inputs, and where its outputs go.

    Attributes:
        parent: a folder or a hub id.
        dataset: folder of the training data.
        folder: of the job, made by who runs it: the checkpoint will be in `output`, saved states
            and event files beside it.
        resume_from: folder of a saved state, or None.
        keeps_log: whether event files are written.
        sources: of parent, dataset and `resume_from`; None where no other machine needs them.
    """

    phase: TrainPolicyPhase | TrainValuePhase
    parent: str
    dataset: Path
    folder: Path
    resume_from: Path | None = None
    keeps_log: bool = True
    sources: Sources | None = None

    @property
    def output(self) -> Path:
        return self.folder / "checkpoint"

    @property
    def log_folder(self) -> Path:
        return self.folder / "log"

    def to_json(self) -> dict[str, Any]:
        """Return the job as JSON, without its sources."""
        phase = TRAINING_PHASE.dump_python(self.phase, mode="json")
        resume_from = None if self.resume_from is None else str(self.resume_from)
        paths = {"dataset": str(self.dataset), "folder": str(self.folder), "resume_from": resume_from}
        return {"phase": phase, "parent": self.parent, "keeps_log": self.keeps_log, **paths}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the job that `to_json` wrote."""
        phase = TRAINING_PHASE.validate_python(fields["phase"])
        resume_from = None if fields["resume_from"] is None else Path(fields["resume_from"])
        return cls(
            phase, fields["parent"], Path(fields["dataset"]), Path(fields["folder"]), resume_from, fields["keeps_log"]
        )
