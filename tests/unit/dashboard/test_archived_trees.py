"""Pages of a run whose trees are archived: its numbers, and how its trees come back."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.domain.labels.annotations import annotation
from restmcts.usecases.tree_archive.to_store import move_to_store
from restmcts.usecases.truth.annotate import annotate
from restmcts_dashboard.serving import folder_source

NAME = "first & <b>bold</b>"
SENTENCE = "nodes and requests of these trees are in the store"


@pytest.fixture
def archived(folder: Path, tmp_path: Path, served: Callable[..., Any]) -> Any:
    shutil.copy(folder / "run.db", tmp_path / "run.db")
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    with database.transaction() as transaction:
        annotate(transaction, 1, 1, annotation("step", "right", "Emmy", "so it is", "viewer"))
    move_to_store(database, FolderArtifactStore(tmp_path / "artifacts"), NAME, lambda _: None)
    database.close()
    return served(folder_source(tmp_path / "run.db"))


def test_numbers_are_those_of_the_run_with_its_trees(archived: Any, client: Any) -> None:
    assert archived.text("/runs/1/quality") == client.text("/runs/1/quality")
    for path in ("/runs/1", "/runs/1/trees"):
        before, after = client.text(path), archived.text(path)
        assert SENTENCE not in before
        assert SENTENCE in after and "restmcts runs restore &#39;first &amp; &lt;b&gt;bold" in after
        assert before.count("<td") <= after.count("<td"), "every tree and phase is listed"
    assert "1: (archived)" in archived.text("/runs/1") and "so it is" in archived.text("/runs/1")


def test_a_tree_that_is_archived_says_how_it_comes_back(archived: Any) -> None:
    for path in ("/trees/1", "/compare?first=1&second=5"):
        page = archived.text(path)
        assert SENTENCE in page and "--workdir" in page
        assert "Loading the tree" not in page and "<canvas" not in page
    for part in ("data", "frames"):
        status, said, _ = archived.get(f"/trees/1/{part}")
        assert status == 400 and "are archived in the store" in said


def test_a_tree_beside_an_archived_one_is_drawn_alone(archived: Any, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    with database.transaction() as transaction:
        transaction.connection.exec_driver_sql(
            "INSERT INTO runs (name, method, seed, state, config, created_at, tags)"
            " SELECT 'here', method, seed, state, config, created_at, tags FROM runs"
        )
        transaction.connection.exec_driver_sql("UPDATE trees SET run_id = 2 WHERE id = 5")
    database.close()
    page = archived.text("/compare?first=1&second=5")
    assert SENTENCE in page and page.count("Loading the tree") == 1
    assert "data-aligned" not in page and "data-other" not in page
