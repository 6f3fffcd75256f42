"""Plugin files: imported once, known by their digest, and refused with the line that is wrong."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from restmcts.adapters.files import plugins
from restmcts.adapters.files.plugins import load_plugins, loaded_plugins, plugin_digests
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.domain.runs.methods import METHODS
from restmcts.errors import InputError
from restmcts.registry import registries
from restmcts.usecases.need_plugins import check_plugins, with_plugins

METHOD = """
from restmcts.domain.runs.methods import METHODS, Method
METHODS.add({name!r}, Method("does nothing", lambda run, iteration, models: []))
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test loads is forgotten after it."""
    monkeypatch.setattr(plugins, "_LOADED", {})
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS._filled()))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("restmcts_plugin_"):
            del sys.modules[name]


def written(folder: Path, source: str, name: str = "own.py") -> Path:
    path = folder / name
    path.write_text(source, encoding="utf-8")
    return path


def test_a_plugin_is_imported_once_and_known_by_its_digest(tmp_path: Path) -> None:
    path = written(tmp_path, METHOD.format(name="own"))
    load_plugins([path, path])
    load_plugins([tmp_path / "." / "own.py"])
    assert METHODS.get("own").summary == "does nothing"
    assert [plugin.path for plugin in loaded_plugins()] == [path]
    assert plugin_digests() == {"own.py": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_its_entries_are_said_to_come_from_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, METHOD.format(name="own"))
    load_plugins([path])
    origins = {
        entry.name: entry.origin for table in registries() for entry in table.entries() if table.table == "methods"
    }
    assert (origins["own"], origins["rest-mcts"]) == (str(path), "restmcts")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("x = 1\nx = (", r"own.py, line 2: SyntaxError"),
        ("x = 1\n\nx.y", r"own.py, line 3: AttributeError"),
        ("import nothing_of_that_name", r"own.py, line 1: ModuleNotFoundError"),
        (METHOD.format(name="star"), r"own.py: a self-training method called 'star' exists already, from restmcts"),
    ],
)
def test_a_plugin_that_breaks_is_one_line_and_leaves_nothing(source: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        load_plugins([written(tmp_path, source)])
    assert not loaded_plugins()
    assert not [name for name in sys.modules if name.startswith("restmcts_plugin_own")]


def test_a_plugin_that_is_not_there_or_shares_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"own.py cannot be read: No such file"):
        load_plugins([tmp_path / "own.py"])
    (tmp_path / "other").mkdir()
    load_plugins([written(tmp_path, "")])
    with pytest.raises(InputError, match="the same file name"):
        load_plugins([written(tmp_path / "other", "")])


def test_a_work_folder_asks_for_the_plugins_of_its_runs(tmp_path: Path) -> None:
    check_plugins(tmp_path, {})
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    database.create_tables()
    with database.transaction() as transaction:
        runs.create_run(transaction, "plain", "star", 0, with_plugins({"a": 1}, {}))
        runs.create_run(transaction, "mine", "own", 0, with_plugins({"a": 1}, {"own.py": "1" * 64}))
        assert runs.configs(transaction) == {"plain": {"a": 1}, "mine": {"a": 1, "plugins": {"own.py": "1" * 64}}}
    database.close()
    with pytest.raises(InputError, match=r"run mine in .* was made with the plugin own.py: name it again, --plugin"):
        check_plugins(tmp_path, {})
    with pytest.raises(InputError, match=r"made with another own.py \(sha256 111111111111…, now 222222222222…\)"):
        check_plugins(tmp_path, {"own.py": "2" * 64})
    check_plugins(tmp_path, {"own.py": "1" * 64, "further.py": "3" * 64})
