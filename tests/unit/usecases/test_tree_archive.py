"""The trees of a run, archived to the store of a work folder and restored: nothing is lost,
whatever ends it and wherever.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.reads import evaluating, measured
from restmcts.adapters.sql.reads.end_quality import value_quality
from restmcts.adapters.sql.reads.sample_counts import sample_counts
from restmcts.adapters.sql.reads.truth import read_truth
from restmcts.adapters.sql.state import annotations, archived_trees, trees
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.domain.labels.annotations import annotation
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.errors import CorruptArtifactError, InputError
from restmcts.testing.runs import faults
from restmcts.testing.services import HandledServices, untrained
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts.usecases import create, steer
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts.usecases.tree_archive.from_store import restore_from_store
from restmcts.usecases.tree_archive.to_store import move_to_store
from restmcts.usecases.truth.annotate import annotate
from restmcts_cli.main import app
from restmcts_cli.reports.run_results import answers_beside, example_tree, warnings_of
from restmcts_local.services import start
from sqlalchemy import text
from typer.testing import CliRunner

SEARCH = MctsStarSettings(mode="collect")
PHASES = [
    SearchPhase("collect", 1, "collect", "train", "base", "value-0", SEARCH, Budget(iterations=4)),
    SearchPhase("grade", 1, "evaluate", "train", "base", "value-0", SEARCH, Budget(iterations=4)),
    TrainPolicyPhase("policy-1", 1, "base", TrainingSettings(), ("collect",)),
]
TABLES = ("runs", "phases", "problems", "trees", "nodes", "requests", "checkpoints", "datasets", "annotations",
          "truth_ledger")  # fmt: skip


def sentence(folder: "Folder") -> str:
    """Return what is said in place of the trees of the folder's first run."""
    restore = f"restmcts runs restore first --workdir {folder.path}"
    return f"the trees of run first are archived in the store; `{restore}` brings them back"


class Stopped(Exception):
    """A process ends here."""


class Folder:
    """A work folder with the ended runs "first" and "second"; "first" is annotated, and an answer
    that its trees accepted has changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = Database(f"sqlite:///{path / 'run.db'}")
        self.artifacts = FolderArtifactStore(path / "artifacts")

    def rows(self) -> dict[str, list[Any]]:
        with self.database.transaction() as transaction:
            return {table: sorted(transaction.execute(text(f"SELECT * FROM {table}")), key=str) for table in TABLES}

    def read(self, reader: Callable[[Transaction], Any]) -> Any:
        with self.database.transaction() as transaction:
            return reader(transaction)

    def stored(self) -> set[str]:
        return {each.uri for each in self.artifacts.stored()}

    def call(self, *arguments: str, fails: bool = False) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--workdir", str(self.path), "--json"])
        if fails:
            assert result.exit_code, result.output
            return result.exception
        assert result.exit_code == 0, (result.output, result.exception)
        return json.loads(result.stdout)

    def archive(self, name: str = "first") -> Any:
        (found,) = self.call("runs", "archive", name, "--to-store", "--yes")
        return found


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    services = HandledServices(folder, start, lambda _: RandomModels(), around=untrained)
    for name in ("first", "second"):
        add_run(services, name)
    with services.database.transaction() as transaction:
        ends = "SELECT tree_id, node_id FROM nodes WHERE verdict = 'right' AND tree_id IN (1, 2) GROUP BY tree_id"
        for tree_id, node_id in transaction.execute(text(ends)).all():
            annotate(transaction, tree_id, node_id, annotation("answer", "wrong", "somebody", "", "viewer"))
            changed = f"UPDATE nodes SET score = 0.{tree_id} WHERE tree_id = {tree_id} AND verdict = 'right'"
            transaction.execute(text(changed))
            accepted = f"({tree_id}, 1, 'one digest', {tree_id}, 'answer {tree_id}', false)"
            columns = "tree_id, run_id, digest, iteration, answer, is_probe"
            transaction.execute(text(f"INSERT INTO truth_ledger ({columns}) VALUES {accepted}"))
    services.close()
    return folder


def add_run(services: HandledServices, name: str) -> None:
    checkpoints = {"base": NewCheckpoint("policy", "somewhere"), "value-0": NewCheckpoint("value", "somewhere")}
    problems = [Problem(f"question {number} of {name}", RIGHT_ANSWER) for number in range(4)]
    new = NewRun(name, "test", 1, PHASES, problems={"train": problems}, checkpoints=checkpoints)
    with services.database.transaction() as transaction:
        create_run(transaction, new)
    services.bus.run()
    with services.database.transaction() as transaction:
        steer.cancel(transaction, name)


@pytest.fixture
def folder(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.setattr(archived_trees, "NODES_AT_ONCE", 20)
    made = Folder(Path(shutil.copytree(searched, tmp_path / "work")))
    yield made
    made.database.close()


def numbers(transaction: Transaction) -> tuple[Any, ...]:
    return (
        value_quality(transaction, 1, {}),
        read_truth(transaction, 1, {"truth": {"source": "votes"}}),
        annotations.counts(transaction, 1),
    )


def test_a_restored_run_is_equal_row_by_row(folder: Folder) -> None:
    before, stored, size = folder.rows(), folder.stored(), (folder.path / "run.db").stat().st_size
    dry = folder.call("runs", "archive", "first", "--to-store")[0]
    assert (folder.rows(), folder.stored(), dry["done"], dry["uri"]) == (before, stored, False, None)

    done = folder.archive()
    assert {**dry, "done": True, "uri": done["uri"], "stored_bytes": done["stored_bytes"]} == done
    assert folder.stored() == stored | {done["uri"]}
    after = folder.rows()
    of_second = {row.id for row in before["trees"] if row.run_id == 2}
    for table in TABLES[1:]:
        is_moved = table in ("nodes", "requests")
        kept = [row for row in before[table] if not is_moved or row.tree_id in of_second]
        assert after[table] == kept
        assert len(before[table]) - len(kept) == (dry["rows"][table] if is_moved else 0)
    assert min(dry["rows"].values()) > 30, "there are several groups"
    assert (folder.path / "run.db").stat().st_size < size
    assert min(done["stored_bytes"], dry["row_bytes"]) > 10_000

    assert folder.call("runs", "restore", "first")["rows"] == dry["rows"]
    assert folder.rows() == before
    assert folder.stored() == stored
    assert folder.call("storage", "prune")["num_bytes"] == 0
    assert "not archived: there is nothing to restore" in str(folder.call("runs", "restore", "first", fails=True))


def test_numbers_stay_without_the_trees(folder: Folder) -> None:
    before, shown = folder.read(numbers), folder.call("runs", "show", "first")
    quality, truth, said = before
    assert quality and truth.flipped[0].now.share and said.num_compared, "there is something to keep"
    space = folder.read(measured.bytes_a_node)
    folder.archive()
    assert folder.read(numbers) == before
    archived = folder.call("runs", "show", "first")
    assert archived.pop("trees_in_store")["rows"]["nodes"]
    assert {**shown, "trees_in_store": None} == {**archived, "trees_in_store": None}
    assert 0.3 * space < folder.read(measured.bytes_a_node) < 3.0 * space, "of the nodes that are there"
    assert len(folder.call("trees", "list", "first")) == 8


READERS: dict[str, Callable[[Transaction], Any]] = {
    "trees": lambda transaction: trees.load_trees(transaction, [9, 1]),
    "labels": lambda transaction: trees.load_labels(transaction, [9, 1]),
    "samples": lambda transaction: evaluating.sample_pools(transaction, 1, "grade"),
    "evaluated trees": lambda transaction: evaluating.tree_rows(transaction, 1, "grade"),
    "counted samples": lambda transaction: sample_counts(transaction, 1, "grade"),
    "a person": lambda transaction: annotate(transaction, 1, 1, annotation("step", "right", "me", "", "viewer")),
    "an extension": lambda transaction: create.extend_run(transaction, "first", create.Extension({}, [], {})),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=list(READERS))
def test_who_reads_trees_is_refused_in_one_sentence(folder: Folder, reader: Callable[[Transaction], Any]) -> None:
    folder.archive()
    with pytest.raises(InputError, match=re.escape(sentence(folder))):
        folder.read(reader)


@pytest.mark.parametrize("command", ["trees show 1", "trees export 1", "regrade first", "annotations list first"])
def test_commands_that_show_trees_say_how_they_come_back(folder: Folder, command: str) -> None:
    folder.archive()
    assert sentence(folder) in str(run_plainly(folder, command).exception)


def run_plainly(folder: Folder, command: str) -> Any:
    return CliRunner().invoke(app, [*command.split(), "--workdir", str(folder.path)])


def test_the_data_of_a_run_are_traced_as_far_as_they_are_here(folder: Folder) -> None:
    folder.archive()
    found = run_plainly(folder, "datasets trace first policy-1 0")
    assert found.exit_code == 0, found.exception
    assert sentence(folder) in found.stderr.replace("\n", " ")
    assert "question 0 of first" in found.stdout


def killed_at(monkeypatch: pytest.MonkeyPatch, number: int) -> Callable[[], None]:
    """Let a process end before its `number`-th transaction; return what lets it live."""
    known, begun = Database.transaction, iter(range(10_000))

    @contextmanager
    def transaction(self: Database) -> Iterator[Transaction]:
        if next(begun) == number:
            raise Stopped
        with known(self) as opened:
            yield opened

    monkeypatch.setattr(Database, "transaction", transaction)
    return lambda: monkeypatch.setattr(Database, "transaction", known)


@pytest.mark.parametrize("command", [("archive", "first", "--to-store", "--yes"), ("restore", "first")])
def test_whatever_ends_it_the_same_command_continues(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    before = folder.rows()
    if command[0] == "restore":
        folder.archive()
    begin = folder.rows()
    for number in range(1000):
        lives = killed_at(monkeypatch, number)
        result = CliRunner().invoke(app, ["runs", *command, "--workdir", str(folder.path)], standalone_mode=False)
        lives()
        if result.exit_code == 0:
            break
        assert isinstance(result.exception, Stopped), result.exception
        left = folder.rows()
        if not left["runs"][0].trees_in_store:
            assert left == before, "nothing is deleted before the store has it, nor the archive before all is back"
    assert number > 9, "it was ended in many places"
    assert (begin["nodes"] == before["nodes"]) == (command[0] == "archive")
    if command[0] == "archive":
        assert {row.tree_id for row in folder.rows()["nodes"]}.isdisjoint(range(1, 9))
        folder.call("runs", "restore", "first")
    assert folder.rows() == before
    folder.call("storage", "prune", "--yes")
    assert not [uri for uri in folder.stored() if ":trees/" in uri]


def test_a_run_that_is_restored_half_and_archived_again_is_whole(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder.rows()
    first = folder.archive()
    lives = killed_at(monkeypatch, 4)
    folder.call("runs", "restore", "first", fails=True)
    lives()
    assert 0 < folder.call("runs", "archive", "first", "--to-store")[0]["rows"]["requests"] < first["rows"]["requests"]
    assert folder.archive()["uri"] == first["uri"]
    folder.call("runs", "restore", "first")
    assert folder.rows() == before


def test_rows_are_not_deleted_once_somebody_else_has_restored_them(folder: Folder) -> None:
    before, seen = folder.rows(), []

    def restores(number: int) -> None:
        seen.append(number)
        if folder.rows()["runs"][0].trees_in_store:
            restore_from_store(folder.database, folder.artifacts, "first", lambda _: None)

    with pytest.raises(InputError, match="another process has restored or deleted this run meanwhile"):
        move_to_store(folder.database, folder.artifacts, "first", restores)
    assert folder.rows() == before
    assert seen == sorted(seen), "progress goes one way"


def test_nothing_is_deleted_if_the_store_gives_other_rows_back(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before, known = folder.rows(), FolderArtifactStore.fetch

    def fetch(self: FolderArtifactStore, uri: str) -> Path:
        copy = Path(shutil.copytree(known(self, uri), tmp_path / "copy", dirs_exist_ok=True))
        if (copy / "nodes.parquet").exists():
            shutil.copy(copy / "nodes.parquet", copy / "requests.parquet")
        return copy

    monkeypatch.setattr(FolderArtifactStore, "fetch", fetch)
    error = folder.call("runs", "archive", "first", "--to-store", "--yes", fails=True)
    assert isinstance(error, CorruptArtifactError)
    assert folder.rows() == before


def test_a_damaged_archive_is_not_restored_and_stays(folder: Folder) -> None:
    uri = folder.archive()["uri"]
    before = folder.rows()
    file = folder.path / "artifacts" / uri.removeprefix("artifact:") / "nodes.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    for command in (("restore", "first"), ("archive", "first", "--to-store", "--yes")):
        assert isinstance(folder.call("runs", *command, fails=True), CorruptArtifactError)
    assert folder.rows() == before
    assert uri in folder.stored()


def test_requests_whose_places_others_have_come_back_with_new_ones(folder: Folder) -> None:
    before = folder.rows()
    folder.archive("second")
    services = HandledServices(folder.path, start, lambda _: RandomModels(), around=untrained)
    add_run(services, "third")
    between = folder.rows()
    archived = {row.id for row in before["requests"]} - {row.id for row in folder.rows()["requests"] if row.tree_id < 9}
    assert archived & {row.id for row in between["requests"] if row.tree_id > 16}, "SQLite gives numbers again"
    folder.call("runs", "restore", "second")
    after = folder.rows()
    assert sorted(row[1:] for row in after["requests"]) == sorted(
        {row[1:] for row in before["requests"]} | {row[1:] for row in between["requests"]}
    )
    assert [faults(folder.database, run_id) for run_id in (2, 3)] == [[], []]
    services.close()


def test_only_what_has_ended_is_archived(folder: Folder) -> None:
    folder.read(lambda transaction: transaction.execute(text("UPDATE runs SET state = 'paused' WHERE id = 1")))
    error = str(folder.call("runs", "archive", "first", "--to-store", "--yes", fails=True))
    assert "run first is paused: a run is archived once it has ended" in error
    refused = str(folder.call("runs", "archive", "first", "--to-store", "--undo", fails=True))
    assert "restmcts runs restore NAME" in refused


def test_an_archive_is_kept_by_prune_and_deleted_with_its_run(folder: Folder) -> None:
    uri = folder.archive()["uri"]
    folder.call("storage", "prune", "--yes")
    assert uri in folder.stored()
    assert uri in folder.call("runs", "delete", "first", "--yes")["artifacts"]
    assert uri not in folder.stored()
    assert folder.rows()["nodes"], "those of the other run"


def test_runs_without_rows_are_archived_and_restored(folder: Folder) -> None:
    folder.read(lambda transaction: transaction.execute(text("DELETE FROM nodes WHERE tree_id < 9")))
    folder.read(lambda transaction: transaction.execute(text("DELETE FROM requests WHERE tree_id < 9")))
    before = folder.rows()
    assert folder.archive()["rows"] == {"requests": 0, "nodes": 0}
    folder.call("runs", "restore", "first")
    assert folder.rows() == before


def test_a_run_says_that_its_trees_are_archived(folder: Folder) -> None:
    assert sentence(folder) not in run_plainly(folder, "runs show first").stdout
    folder.archive()
    assert sentence(folder) in run_plainly(folder, "runs show first").stdout.replace("\n", " ")


def test_reports_are_written_without_the_trees(folder: Folder) -> None:
    pairs = [("grade", "the policy")]
    assert example_tree(folder.database, 1, "collect") is not None
    assert answers_beside(folder.database, 1, pairs, 3)
    before = warnings_of(folder.database, 1)
    folder.archive()
    assert example_tree(folder.database, 1, "collect") is None
    assert answers_beside(folder.database, 1, pairs, 3) == ()
    assert warnings_of(folder.database, 1) == (*before, f"Archived: {sentence(folder)}.")
