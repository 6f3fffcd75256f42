"""Engines by the scheme of a policy's URI: ours, and one of a plugin's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from restmcts.adapters.models.engines import ENGINES, Engine, engine_named
from restmcts.adapters.models.http_policy.address import is_server
from restmcts.adapters.models.http_policy.proposer import HttpProposer
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.errors import InputError
from restmcts.ports import ArtifactStore, StepProposer
from restmcts.settings import PolicyServerSettings
from restmcts.testing.trees import RandomModels
from restmcts_cli.arguments.model_sources import checkpoint_argument
from restmcts_policy_generator.opening import open_proposer

OWN = "own+http://host:1?model=m"


class OwnEngine(Engine):
    """An engine as a plugin brings it."""

    def checked(self, uri: str) -> str:
        if "?model=" not in uri:
            raise InputError(f"{uri}: name the model")
        return uri

    def open(self, uri: str, artifacts: ArtifactStore, settings: WorkerModelSettings) -> StepProposer:
        return RandomModels()


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ENGINES, "_entries", dict(ENGINES._filled()))
    ENGINES.add("own", OwnEngine())
    yield


def test_engines_are_known_by_the_scheme_of_a_uri() -> None:
    assert set(ENGINES) == {"openai", "chat", "tgi", "transformers", "vllm"}
    assert engine_named("openai+http://host/v1?model=m") == "openai"
    for uri in ("folder", "someone/model", "artifact://checkpoints/1234", "http://host", "pooling+http://host"):
        assert engine_named(uri) is None


def test_the_engine_of_a_plugin_opens_its_policies(own: None, tmp_path: Path) -> None:
    assert is_server(OWN)
    assert checkpoint_argument(OWN, "policy", False) == OWN
    with pytest.raises(InputError, match="name the model"):
        checkpoint_argument("own+http://host:1", "policy", False)
    assert isinstance(open_proposer(OWN, FolderArtifactStore(tmp_path), WorkerModelSettings()), RandomModels)


def test_without_the_plugin_its_policies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no policy server; write openai"):
        checkpoint_argument(OWN, "policy", False)


def test_checkpoints_of_a_run_are_asked_of_the_server_of_policies(tmp_path: Path) -> None:
    servers = PolicyServerSettings(policy_server="openai+http://host:8000/v1")
    settings = WorkerModelSettings(servers=servers)
    opened = open_proposer("artifact://checkpoints/0123456789abcdef99", FolderArtifactStore(tmp_path), settings)
    assert isinstance(opened, HttpProposer)
    opened.close()
