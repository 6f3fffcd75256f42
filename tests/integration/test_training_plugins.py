"""The process that trains knows the plugin files of the process that started it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from restmcts.adapters.files import plugins
from restmcts.adapters.files.dataset_shards import POLICY_SCHEMA, write_shards
from restmcts.adapters.files.plugins import load_plugins
from restmcts.domain.runs.methods import METHODS
from restmcts.domain.runs.phases import TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.errors import TrainingError
from restmcts_trainer.job import Job
from restmcts_trainer.process import TrainingProcess

PLUGIN = """
import os
from pathlib import Path
from restmcts.domain.runs.methods import METHODS, Method
METHODS.add("own", Method("does nothing", lambda run, iteration, models: []))
with (Path(__file__).parent / "imported").open("a") as file:
    print(os.getpid(), *METHODS, file=file)
"""


class Watcher:
    """Takes note of nothing: there is nothing to train on."""

    def on_wait(self) -> None: ...
    def on_step(self, step: int, num_steps: int, loss: float | None) -> None: ...
    def on_saved(self, step: int, folder: Path) -> None: ...
    def on_smaller(self, micro_batch: int) -> None: ...


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(plugins, "_LOADED", {})
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS._filled()))
    path = tmp_path / "own.py"
    path.write_text(PLUGIN)
    load_plugins([path])
    yield path
    for name in [name for name in sys.modules if name.startswith("restmcts_plugin_own")]:
        del sys.modules[name]


@pytest.fixture
def process() -> Iterator[TrainingProcess]:
    process = TrainingProcess(num_threads=1)
    yield process
    process.close()


def job(folder: Path) -> Job:
    (folder / "data").mkdir(exist_ok=True)
    write_shards(iter(()), POLICY_SCHEMA, {}, folder / "data")
    return Job(TrainPolicyPhase("policy-1", 1, "base", TrainingSettings()), "nowhere", folder / "data", folder)


def test_a_plugin_is_imported_where_models_are_trained(plugin: Path, process: TrainingProcess, tmp_path: Path) -> None:
    asked = job(tmp_path)
    assert process.run(asked, Watcher()) is None
    lines = (tmp_path / "imported").read_text().splitlines()
    here, there = ((int(pid), names) for pid, *names in map(str.split, lines))
    assert here[0] == os.getpid() != there[0]
    assert "own" in here[1] and here[1] == there[1], "its entries are those of the process that started it"
    assert process.run(asked, Watcher()) is None
    assert len((tmp_path / "imported").read_text().splitlines()) == 2, "and it is imported once"


def test_a_plugin_that_changed_since_is_refused(plugin: Path, process: TrainingProcess, tmp_path: Path) -> None:
    plugin.write_text(PLUGIN + "# changed\n")
    with pytest.raises(TrainingError, match=r"plugin .*own\.py was changed while it was in use"):
        process.run(job(tmp_path), Watcher())
