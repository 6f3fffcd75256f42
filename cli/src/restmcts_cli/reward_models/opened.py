"""A reward model opened from what a person calls it: weights on this machine, a judge, or a
server.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.storage.uris import local_path
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.domain.scoring import Aggregation
from restmcts.domain.stats.first_errors import Rule
from restmcts.errors import InputError, ModelError
from restmcts.modeling.prm.format import PRM_FORMATS, PrmFormat
from restmcts.modeling.prm.known.own import IMPLICIT, JUDGE
from restmcts.modeling.prm.loading import LoadedPrm, load_prm
from restmcts.modeling.prm.reference import ModelReference, parse_reference
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts.ports import ArtifactStore, StepScorer
from restmcts.settings import load_policy_server_settings
from restmcts_prm_scorer.opening import open_scorer


@dataclass(frozen=True, slots=True)
class OpenedPrm:
    """A reward model ready to be asked.

    Attributes:
        prm: its weights; None where it is asked: a judge, or a server.
        said: whether the person said the format.
        aggregation: of the values of steps to a whole solution's score.
    """

    format: PrmFormat
    scorer: StepScorer
    prm: LoadedPrm | None
    said: bool
    aggregation: Aggregation

    @property
    def rule(self) -> Rule:
        """The rule by which its values call a step wrong: the format's, but of values that are
        chances whatever the format, as those of cross-entropy and calibrated ones.
        """
        loaded = self.prm.loaded if self.prm is not None else None
        is_chance = loaded is not None and (loaded.value_scale == "logit" or loaded.calibration is not None)
        return "below" if is_chance else self.format.rule


@contextmanager
def opened_prm(
    model: str, *, device: str, trust_remote_code: bool, artifacts: ArtifactStore | None = None
) -> Iterator[OpenedPrm]:
    """Open a model, and give it back at the end.

    Args:
        model: as --value takes it.
        artifacts: where a checkpoint's files are; None: nowhere.

    Raises:
        InputError: if it cannot be loaded, or is no PRM that is known.
    """
    reference = parse_reference(model)
    with TemporaryDirectory() as folder:
        store = artifacts or FolderArtifactStore(Path(folder))
        try:
            opened = _open(model, reference, store, device, trust_remote_code)
        except ModelError as error:
            raise InputError(str(error)) from error
        try:
            yield opened
        finally:
            if hasattr(opened.scorer, "close"):
                opened.scorer.close()


def _open(
    model: str, reference: ModelReference, artifacts: ArtifactStore, device: str, trust_remote_code: bool
) -> OpenedPrm:
    if reference.format in (JUDGE.name, IMPLICIT.name) or "://" in reference.place:
        servers = load_policy_server_settings()
        settings = WorkerModelSettings(
            key_value_bytes=0, device=device, trust_remote_code=trust_remote_code, servers=servers
        )
        scorer = open_scorer(model, artifacts, settings)
        known = PRM_FORMATS.get(str(reference.format))
        return OpenedPrm(known, scorer, None, True, reference.aggregation or known.aggregation)
    prm = load_prm(
        reference, local_path(reference.place, artifacts), device=device, trust_remote_code=trust_remote_code
    )
    aggregation = reference.aggregation or prm.format.aggregation
    own = TransformersScorer(prm.loaded, reader=prm.reader, aggregation=aggregation)
    return OpenedPrm(prm.format, own, prm, reference.format is not None, aggregation)
