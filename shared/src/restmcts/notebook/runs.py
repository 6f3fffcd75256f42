"""A run as an object, with its settings, curves, checkpoints, training data and trees."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.reads.queries import PhaseNumbers
from restmcts.adapters.sql.reads.truth import unchecked_runs
from restmcts.adapters.sql.rows import JsonObject, ListedCheckpoint, ListedDataset, ListedRun
from restmcts.adapters.sql.tables import TreeState
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.storage.uris import local_path
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_settings import stored_spec_of
from restmcts.errors import InputError
from restmcts.notebook.arguments import check_choice, checks_arguments
from restmcts.notebook.trees import FACTS, SearchTree

if TYPE_CHECKING:
    import pandas

DATABASE_FILE = "run.db"
ARTIFACTS_FOLDER = "artifacts"
TREES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The accuracy that one evaluation phase found.

    Attributes:
        series: "policy" for the policy that the run continues with, "control" for the one that is
            only trained longer, else the name of the phase.
        accuracy: the share of problems whose chosen answer is right.
        standard_error: of the accuracy, over problems; too small where few are right, or few wrong.
        interval: the accuracy's 95 % interval, Wilson's, which holds there too.
        tokens: generated for training data up to the end of this iteration, as in the page's chart.
        unchecked: whether no probe checks the verdicts that the run trained on.
    """

    series: str
    iteration: int
    accuracy: float
    standard_error: float
    interval: tuple[float, float]
    num_problems: int
    tokens: int
    unchecked: bool


class LoadedRun:
    """A run of a database; use as a context manager, or call `close` when done."""

    def __init__(self, database: Database, name: str, workdir: Path | None = None) -> None:
        self._database, self._workdir = database, workdir
        try:
            with database.transaction() as transaction:
                row = queries.run_named(transaction, name)
        except BaseException:
            database.close()
            raise
        self._id = int(row.id)
        self.name, self.method, self.seed = str(row.name), str(row.method), int(row.seed)

    def __enter__(self) -> "LoadedRun":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LoadedRun({self.name!r}, {self.state})"

    @property
    def state(self) -> str:
        """The state it is in now."""
        with self._database.transaction() as transaction:
            return str(queries.run_named(transaction, self.name).state)

    @property
    def phases(self) -> list[PhaseNumbers]:
        """Its phases in order, with their numbers as they are now."""
        with self._database.transaction() as transaction:
            return queries.phase_numbers(transaction, self._id)

    @property
    def spec(self) -> RunSpec | None:
        """All its settings; None for an evaluation, which has no run file.

        Raises:
            InputError: if another version wrote a setting that this one does not know.
        """
        with self._database.transaction() as transaction:
            config = queries.run_named(transaction, self.name).config
        return stored_spec_of(config["spec"]) if "spec" in config else None

    @property
    def curves(self) -> list[CurvePoint]:
        """The accuracies of its evaluation phases that are done, in order."""
        with self._database.transaction() as transaction:
            unchecked = self._id in unchecked_runs(transaction, [self._id])
        points, phases = [], self.phases
        tokens = queries.tokens_after(phases)
        for phase in phases:
            if phase.accuracy is not None and phase.state == "done":
                found = phase.accuracy
                errors = found.standard_error, found.interval
                point = (_series(phase.name), phase.iteration, found.value, *errors, found.n, tokens[phase.name])
                points.append(CurvePoint(*point, unchecked))
        return points

    @property
    def checkpoints(self) -> list[ListedCheckpoint]:
        """Its policies and value models, in order of making."""
        with self._database.transaction() as transaction:
            return queries.list_checkpoints(transaction, self._id)

    @property
    def datasets(self) -> list[ListedDataset]:
        """Its training data, each by the phase that it trains."""
        with self._database.transaction() as transaction:
            return queries.list_datasets(transaction, self._id)

    @checks_arguments
    def checkpoint_folder(self, name: str) -> Path:
        """Return the folder with the weights of a checkpoint ("policy-1").

        Raises:
            InputError: if the run has no such checkpoint, or its weights are not on this disk.
            CorruptArtifactError: if the files are not those that were stored.
        """
        found = next((one.uri for one in self.checkpoints if one.name == name), None)
        if found is None:
            known = ", ".join(one.name for one in self.checkpoints) or "none"
            raise InputError(f"run {self.name} has no checkpoint {name!r}; it has {known}")
        path = Path(local_path(found, self._artifacts()))
        if not path.exists():
            raise InputError(f"checkpoint {name} of run {self.name} is {found}, which is no folder of this disk")
        return path

    @checks_arguments
    def training_rows(self, phase: str) -> list[JsonObject]:
        """Return the rows on which a phase trained ("value-1"), as dictionaries.

        Raises:
            InputError: if the run has no such data set, or it is not on this disk.
            CorruptArtifactError: if the files are not those that were stored.
        """
        from restmcts.adapters.files.dataset_shards import read_rows

        found = next((one.uri for one in self.datasets if one.phase == phase), None)
        if found is None:
            known = ", ".join(one.phase for one in self.datasets) or "none"
            raise InputError(f"run {self.name} has no training data of {phase!r}; it has {known}")
        return read_rows(self._artifacts().fetch(found))

    def _artifacts(self) -> FolderArtifactStore:
        if self._workdir is None:
            raise InputError(
                f"the files of run {self.name} are in the bucket of its stack: `restmcts checkpoints pull` and "
                "`restmcts datasets pull` fetch them"
            )
        return FolderArtifactStore(self._workdir / ARTIFACTS_FOLDER)

    @checks_arguments
    def trees(
        self, phase: str | None = None, *, state: str | None = None, solved: bool | None = None
    ) -> Iterator[SearchTree]:
        """Yield its trees, in order of creation, however many.

        Args:
            phase: only those of a phase ("collect-1").
            state: only those that are waiting, searching, ended, labelled or failed.
            solved: only those with, or without, a right end.

        Raises:
            InputError: if the run has no such phase, or a tree no such state.
        """
        check_choice("phase", phase, [one.name for one in self.phases])
        check_choice("state", state, TreeState)
        return self._trees(phase, state, solved)

    def _trees(self, phase: str | None, state: str | None, solved: bool | None) -> Iterator[SearchTree]:
        after = 0
        while True:
            with self._database.transaction() as transaction:
                rows = queries.list_trees(
                    transaction, self._id, phase=phase, state=state, solved=solved, after=after, limit=TREES_AT_ONCE
                )
            for row in rows:
                yield SearchTree(self._database, row)
            if len(rows) < TREES_AT_ONCE:
                return
            after = rows[-1].id

    @checks_arguments
    def tree(self, tree_id: int) -> SearchTree:
        """Return one tree by its number.

        Raises:
            InputError: if the run has no such tree.
        """
        with self._database.transaction() as transaction:
            rows = queries.list_trees(transaction, self._id, after=tree_id - 1, limit=1)
        if not rows or rows[0].id != tree_id:
            raise InputError(f"run {self.name} has no tree {tree_id}")
        return SearchTree(self._database, rows[0])

    @checks_arguments
    def to_pandas(self, phase: str | None = None) -> "pandas.DataFrame":
        """Return a row for each tree, indexed by its number.

        Raises:
            InputError: if the run has no such phase.
        """
        import pandas

        return pandas.DataFrame([tree.facts for tree in self.trees(phase)], columns=FACTS).set_index("id")

    def close(self) -> None:
        self._database.close()


@checks_arguments
def load_run(name: str, workdir: str | Path | None = None, *, url: str | None = None) -> LoadedRun:
    """Return a run for reading.

    Args:
        name: of the run.
        workdir: the work folder that holds it.
        url: of the stack's database instead
            (`postgresql+psycopg://user:password@host:5432/restmcts`).

    Raises:
        InputError: if not exactly one of the two is given, the folder is no work folder, its tables
            are of another version, or there is no such run.
    """
    return LoadedRun(_opened(workdir, url), name, Path(workdir) if workdir is not None else None)


@checks_arguments
def runs(workdir: str | Path | None = None, *, url: str | None = None) -> list[ListedRun]:
    """Return the runs of a work folder, or of a stack's database, the newest first.

    Raises:
        InputError: as `load_run`, but for the name.
    """
    database = _opened(workdir, url)
    try:
        with database.transaction() as transaction:
            return queries.list_runs(transaction)
    finally:
        database.close()


def _opened(workdir: str | Path | None, url: str | None) -> Database:
    if (workdir is None) == (url is None):
        raise InputError("give either workdir, a work folder, or url, the URL of a database")
    if workdir is not None:
        path = Path(workdir) / DATABASE_FILE
        if not path.is_file():
            raise InputError(f"{path.parent} contains no {DATABASE_FILE}: it is not a work folder")
        url = f"sqlite:///{path}"
    database = Database(str(url), read_only=True)
    try:
        database.check_version()
    except BaseException:
        database.close()
        raise
    return database


def _series(phase: str) -> str:
    if queries.evaluates_policy(phase):
        return "policy"
    return "control" if phase.startswith("grade-control-") else phase
