"""Label ended trees, and write training data."""

from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import blocks, runs
from restmcts.adapters.sql.tables import Need, PhaseState
from restmcts.domain.runs.phases import TRAINING_PHASE
from restmcts.messages.commands import LabelTrees, WriteDataset
from restmcts.messages.events import DatasetWritten
from restmcts.ports import ArtifactStore, Verifier
from restmcts.usecases.blocked import blocking
from restmcts.usecases.label import label_trees

from restmcts_value_labeler.datasets import write_dataset


class ValueLabelerHandlers:
    """Handlers of the queue `labels`."""

    def __init__(self, database: Database, artifacts: ArtifactStore, verifier: Verifier) -> None:
        self._database = database
        self._artifacts = artifacts
        self._verifier = verifier

    def label_trees(self, message: LabelTrees) -> None:
        """Label those of the trees that have ended; the others are left as they are."""
        label_trees(self._database, self._verifier, message.tree_ids)

    def write_dataset(self, message: WriteDataset) -> None:
        """Write the data of a training phase as one artifact; again only if it is not there."""
        with self._database.transaction() as transaction:
            row = runs.phase_by_id(transaction, message.phase_id)
            known = runs.dataset_of(transaction, message.phase_id)
        if row is None or row.state != PhaseState.WRITING:
            return
        if known is None:
            phase = TRAINING_PHASE.validate_python(row.spec)
            with blocking(self._database, message.phase_id):
                artifact, card = write_dataset(self._database, self._artifacts, row.run_id, phase)
            with self._database.transaction() as transaction:
                blocks.unblock(transaction, Need.PHASE, message.phase_id)
                if runs.dataset_of(transaction, message.phase_id) is None:
                    runs.add_dataset(transaction, message.phase_id, phase.kind, artifact.uri, artifact.digest, card)
        with self._database.transaction() as transaction:
            transaction.emit(DatasetWritten(run_id=row.run_id))
