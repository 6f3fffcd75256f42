"""Label ended trees, answer calls of tools, and write training data."""

from collections.abc import Iterator, Sequence

from restmcts.adapters.observability import metrics
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import blocks, runs
from restmcts.adapters.sql.state.requests import ClaimedBatch, ClaimedRequest
from restmcts.adapters.sql.tables import Need, PhaseState, RequestKind
from restmcts.domain.runs.phases import TRAINING_PHASE
from restmcts.messages.commands import AnswerWaitingCalls, LabelTrees, WriteDataset
from restmcts.messages.events import DatasetWritten
from restmcts.messages.wire import dump_response, load_call
from restmcts.ports import ArtifactStore, MayBegin, Verifier
from restmcts.usecases.blocked import blocking
from restmcts.usecases.label import label_trees
from restmcts.usecases.serve_claims import WorkerSettings
from restmcts.usecases.serve_models import serve_waiting
from restmcts.usecases.truth.judge import OpenJudge

from restmcts_value_labeler.datasets import write_dataset


class ValueLabelerHandlers:
    """Handlers of the queue `labels`."""

    def __init__(
        self,
        database: Database,
        artifacts: ArtifactStore,
        verifier: Verifier,
        settings: WorkerSettings | None = None,
        open_judge: OpenJudge | None = None,
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._verifier = verifier
        self._settings = settings or WorkerSettings()
        self._open_judge = open_judge

    def label_trees(self, message: LabelTrees) -> None:
        """Label those of the trees that have ended; the others are left as they are."""
        label_trees(self._database, self._verifier, message.tree_ids, self._open_judge)

    def answer_calls(self, _: AnswerWaitingCalls) -> None:
        """Answer the calls of tools that wait; what this machine cannot answer is answered so, and
        counted.
        """
        serve_waiting(self._database, RequestKind.CALL, self._answers, self._settings)

    def _answers(
        self, _: ClaimedBatch, requests: Sequence[ClaimedRequest], may_begin: MayBegin
    ) -> Iterator[tuple[int, str]]:
        for place, request in enumerate(requests):
            if place and not may_begin():
                return
            answered = self._verifier.answer_call(load_call(request.payload))
            metrics.TOOL_CALLS.labels("answered" if answered.is_known else "undecided").inc()
            yield place, dump_response(answered)

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
                    runs.add_dataset(
                        transaction,
                        message.phase_id,
                        phase.kind,
                        artifact.uri,
                        artifact.digest,
                        card,
                        artifact.num_bytes,
                    )
        with self._database.transaction() as transaction:
            transaction.emit(DatasetWritten(run_id=row.run_id))
