"""Runs and trees as objects: the documented example, and what it must refuse."""

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import matplotlib
import pytest
import restmcts
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.best_first import BestFirstSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.errors import InputError, StorageError
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from sqlalchemy import text

PAGE = Path(__file__).parents[2] / "docs/notebook.md"
SEARCH = MctsStarSettings(
    mode="collect", branch=2, stop_threshold=2.0, roll_forward_steps=2, keep_rollouts=True, max_depth=5
)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory, search_folder: Callable[..., int]) -> Path:
    folder = tmp_path_factory.mktemp("notebook")
    phase = SearchPhase("collect-1", 1, "collect", "train", "base", "value-0", SEARCH, Budget(iterations=8))
    problems = [Problem(f"What is $x$ in question {number}?", RIGHT_ANSWER) for number in range(5)]
    search_folder(folder, "demo", problems, [phase], RandomModels(seed=3))
    return folder


def test_the_documented_example_runs(
    workdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, example = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    exec(compile(example, str(PAGE), "exec"), {"workdir": workdir})
    output = capsys.readouterr().out
    assert "done [('collect-1', 5," in output
    assert "The answer is 7" in output
    assert (tmp_path / "tree.png").stat().st_size > 5_000


def test_nodes_are_linked_and_carry_search_and_labels(workdir: Path) -> None:
    with restmcts.load_run("demo", workdir) as run:
        trees = list(run.trees())
        assert [tree.id for tree in trees] == [1, 2, 3, 4, 5]
        tree = run.tree(2)
        for node in tree.nodes[1:]:
            assert node.parent is not None
            assert node in node.parent.children
            assert node.steps == [*node.parent.steps, node.step]
        assert tree.nodes[0].visits == 8
        assert {"right", "wrong", None} == {node.verdict for one in trees for node in one.nodes}
        frame = tree.to_pandas()
        assert len(frame) == len(tree.nodes) == tree.facts["num_nodes"] + 1
        assert list(run.to_pandas("collect-1")["tokens"]) == [one.tokens for one in trees]
        with pytest.raises(InputError, match="no tree 99"):
            run.tree(99)
        with pytest.raises(InputError, match="phase is 'collect-2'; there are collect-1"):
            run.trees("collect-2")
        with pytest.raises(InputError, match="state is 'done'; there are waiting, searching, ended, labelled, failed"):
            run.trees(state="done")
        with pytest.raises(InputError, match="phase is 'collect-2'"):
            run.to_pandas("collect-2")
        with pytest.raises(InputError, match="max_labels is '3'; give a whole number"):
            tree.plot(max_labels="3")  # type: ignore[arg-type]
        assert list(run.trees(state="failed")) == []


def test_steps_of_a_search_without_a_value_model_are_not_scored(
    tmp_path: Path, search_folder: Callable[..., int]
) -> None:
    search = BestFirstSettings(score=False)
    phase = SearchPhase("collect-1", 1, "collect", "train", "base", None, search, Budget(iterations=4))
    search_folder(tmp_path, "unscored", [Problem("a question", RIGHT_ANSWER)], [phase], RandomModels(seed=3))
    matplotlib.use("agg")
    with restmcts.load_run("unscored", tmp_path) as run:
        (tree,) = run.trees()
        assert len(tree.nodes) > 2 and {node.visits > 0 for node in tree.nodes} == {True}
        assert all(node.search_value is None for node in tree.nodes)
        assert tree.to_pandas().search_value.isna().all()
        assert "not scored" in repr(tree.nodes[1])
        axes = tree.plot()
        assert not any("0.00" in text.get_text() for text in axes.texts)
        axes.figure.canvas.draw()
        drawn = [tuple(colour) for points in axes.collections for colour in points.get_facecolor()]  # type: ignore[union-attr]
        assert set(drawn) == {(1.0, 1.0, 1.0, 1.0)}


def test_what_cannot_be_opened_is_said_in_one_line(workdir: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are demo"):
        restmcts.load_run("other", workdir)
    with pytest.raises(InputError, match="not a work folder"):
        restmcts.load_run("demo", tmp_path)
    with pytest.raises(InputError, match="a work folder, or"):
        restmcts.load_run("demo")
    with pytest.raises(AttributeError):
        restmcts.nothing  # noqa: B018


def test_nothing_can_be_changed(workdir: Path) -> None:
    with (
        restmcts.load_run("demo", workdir) as run,
        pytest.raises(StorageError),
        run._database.transaction() as transaction,
    ):
        transaction.execute(text("UPDATE runs SET name = 'x'"))


def test_runs_of_a_work_folder_are_listed_and_a_run_file_is_none_of_a_search(workdir: Path, tmp_path: Path) -> None:
    (listed,) = restmcts.runs(workdir)
    assert (listed.name, listed.state, listed.num_trees) == ("demo", "done", 5)
    with restmcts.load_run("demo", workdir) as run:
        assert run.spec is None and run.curves == [] and run.datasets == []
        assert [one.name for one in run.checkpoints] == ["base", "value-0"]
        with pytest.raises(InputError, match="no folder of this disk"):
            run.checkpoint_folder("base")
    with pytest.raises(InputError, match="not a work folder"):
        restmcts.runs(tmp_path)


def test_the_version_is_that_of_the_distribution() -> None:
    assert restmcts.__version__ == version("restmcts")


def test_the_import_waits_for_nothing() -> None:
    script = "import sys, restmcts; print(sorted(sys.modules.keys() & {'torch', 'sqlalchemy', 'pandas', 'pydantic'}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_not_installed_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "restmcts_cli.python_api", None)
    with pytest.raises(ImportError, match=r"restmcts\.search needs more.*pip install 'restmcts-cli\[local\]'"):
        restmcts.search  # noqa: B018
    monkeypatch.setitem(sys.modules, "restmcts.notebook.runs", None)
    with pytest.raises(ImportError, match=r"pip install 'restmcts\[notebook\]'"):
        restmcts.load_run  # noqa: B018
