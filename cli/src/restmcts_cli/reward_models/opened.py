"""A reward model opened from what a person calls it: weights on this machine, a judge, a server, or
several of these.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from restmcts.adapters.models.ensemble import each_member
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.errors import InputError, ModelError
from restmcts.modeling.value.value_model import DEFAULT_BATCH_TOKENS
from restmcts.ports import ArtifactStore
from restmcts.settings import load_policy_server_settings
from restmcts_prm_scorer.opening import OpenedPrm, open_prm

from restmcts_cli.arguments.model_sources import fetched


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
    settings = WorkerModelSettings(
        max_batch_tokens=DEFAULT_BATCH_TOKENS,
        device=device,
        trust_remote_code=trust_remote_code,
        servers=load_policy_server_settings(),
    )
    with TemporaryDirectory() as folder:
        store = artifacts or FolderArtifactStore(Path(folder))
        try:
            opened = open_prm(each_member(model, fetched), store, settings)
        except ModelError as error:
            raise InputError(str(error)) from error
        try:
            yield opened
        finally:
            if hasattr(opened.scorer, "close"):
                opened.scorer.close()
