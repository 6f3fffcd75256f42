"""The whole system in one process: SQLite, a folder of artifacts, the handlers of all services on
the bus in memory.

What is in the work folder is all there is: killed at any moment and opened again, the run goes on
from its last transaction.
"""

import logging
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, Self

from restmcts.adapters.buses.local_bus import LocalBus
from restmcts.adapters.files.plugins import plugin_digests
from restmcts.adapters.models.engines import ENGINES
from restmcts.adapters.observability.notifying import notify
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.rows import StoredRun
from restmcts.adapters.sql.state import blocks, runs, token_budget
from restmcts.adapters.sql.tables import RunState
from restmcts.adapters.storage.folder_lock import lock_folder, name_run
from restmcts.adapters.storage.folder_store import FolderArtifactStore
from restmcts.adapters.workers.service import (
    Handler,
    OpenModels,
    ServiceContext,
    ServiceSettings,
    TrainProgress,
    WorkerModelSettings,
)
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import Phase
from restmcts.domain.runs.training_settings import Dtype
from restmcts.errors import LEAVING, RestMctsError, ServerUnavailableError, reason_of
from restmcts.messages.base import Message
from restmcts.messages.routes import body_of
from restmcts.settings import load_notification_settings, load_policy_server_settings
from restmcts.usecases import reconcile, steer
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts.usecases.need_plugins import check_plugins, with_plugins
from restmcts.usecases.storage import sweep_training_states
from restmcts.usecases.stored_sets import divided_as_stored

from restmcts_local.services import start

log = logging.getLogger(__name__)
ProblemSets = Mapping[str, Sequence[Problem]]

LOCAL_RETRIES = reconcile.RetryPolicy(overdue_seconds=0.0, max_attempts=5)
"""In one process no message is lost: what does not go on after a few tries never will."""

MAX_ROUNDS = 100


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How models are loaded and called in this process.

    Attributes:
        template: prompt template of checkpoints that do not name their own.
        device: of torch; auto: a GPU if there is one.
        trust_remote_code: run code that comes with a model.
        max_batch_tokens: of one forward pass.
        key_value_bytes: memory for the keys and values that each loaded model keeps of what it has
            read; 0: none.
        max_trees_in_flight: trees searched side by side.
        num_training_threads: of each training process; None: torch's own choice, all of the
            device. Then a policy and a value model are trained one after the other.
        keep_training_logs: write TensorBoard's event files.
        dtype: of the weights.
        engine: that runs the policy's weights.
    """

    template: str = "auto"
    device: str = "cpu"
    trust_remote_code: bool = False
    max_batch_tokens: int = 16_384
    key_value_bytes: int = 2**30
    max_trees_in_flight: int = 256
    num_training_threads: int | None = None
    keep_training_logs: bool = True
    dtype: Dtype = "auto"
    engine: str = "transformers"


def _service_settings(workdir: Path, options: ModelOptions) -> ServiceSettings:
    """Return how services work in this process, which no other shares its leases with."""
    models = WorkerModelSettings(
        options.max_batch_tokens,
        options.key_value_bytes,
        options.device,
        options.template,
        options.trust_remote_code,
        options.dtype,
        load_policy_server_settings(),
        options.engine,
        workdir / "logs",
    )
    return ServiceSettings(
        workspace=workdir,
        models=models,
        max_requests=4096,
        request_lease_seconds=3600.0,
        max_trees_in_flight=options.max_trees_in_flight,
        max_cached_trees=2 * options.max_trees_in_flight,
        training_threads=options.num_training_threads,
        keep_training_logs=options.keep_training_logs,
    )


def _check_device(device: str) -> None:
    """Raise InputError if there is no such device, before anything is done."""
    if device != "cpu":
        from restmcts.modeling.devices import chosen_device

        chosen_device(device)


class LocalRun:
    """A work folder opened by this process alone; use as a context manager."""

    def __init__(
        self,
        workdir: Path,
        options: ModelOptions,
        on_train_progress: TrainProgress = lambda *_: None,
        opened: OpenModels | None = None,
    ) -> None:
        _check_device(options.device)
        ENGINES.get(options.engine).check()
        check_plugins(workdir, plugin_digests())
        settings = _service_settings(workdir, options)
        self._workdir = workdir
        self._lock = lock_folder(workdir)
        for left_by_a_kill in workdir.glob("training-*"):
            shutil.rmtree(left_by_a_kill, ignore_errors=True)
        self.artifacts = FolderArtifactStore(workdir / "artifacts", alone=True)
        self.database = Database(f"sqlite:///{workdir / 'run.db'}")
        self.database.create_tables()
        sweep_training_states(self.database, self.artifacts, 0.0)
        self._context = ServiceContext(
            self.database, self.artifacts, settings, opened or OpenModels(), on_training_step=on_train_progress
        )
        handlers = {name: self._guarded(handler) for name, handler in start(self._context).items()}
        self.trainings_at_once = 1 if options.num_training_threads is None else 2
        self.bus = LocalBus(handlers, self._dead_letter, self._context.stopping, self.trainings_at_once)
        self.database.publish = lambda messages, _: self.bus.publish(messages)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.stop()
        self.bus.close()
        self._context.close()
        self.database.close()
        self._lock.close()

    def _guarded(self, handler: Handler) -> Handler:
        """Return a handler whose message is left where a model's server is down (the run is then
        blocked, and tried again), and kept as a dead letter if the handler fails in a way that
        nobody foresaw: the run goes on with the others.
        """

        def handle(message: Message) -> None:
            try:
                handler(message)
            except ServerUnavailableError as error:
                log.warning("%s", error)
            except (RestMctsError, *LEAVING):
                raise
            except BaseException as error:
                log.exception("%s failed", message.name)
                self._dead_letter(message.name, body_of(message), reason_of(error))

        return handle

    def _dead_letter(self, name: str, body: str, reason: str) -> None:
        with self.database.transaction() as transaction:
            runs.add_dead_letter(transaction, name.partition(".")[0], name, body, reason)

    def find(self, name: str) -> StoredRun | None:
        """Return the stored run of that name, or None."""
        with self.database.transaction() as transaction:
            return runs.find_run(transaction, name)

    def create(
        self,
        name: str,
        method: str,
        seed: int,
        config: dict[str, Any],
        problems: ProblemSets,
        checkpoints: dict[str, tuple[str, str]],
        phases: Sequence[Phase],
        max_tokens: int | None = None,
    ) -> int:
        """Store a new run in one transaction; `checkpoints` maps names to kind and URI. Return
        its id.
        """
        with self.database.transaction() as transaction:
            models = {given: NewCheckpoint(kind, uri) for given, (kind, uri) in checkpoints.items()}
            new = NewRun(
                name, method, seed, phases, with_plugins(config, plugin_digests()), problems, models, max_tokens
            )
            return create_run(transaction, new).run_id

    def divided_as_stored(self, row: StoredRun, sets: ProblemSets) -> ProblemSets:
        """Return sets of problems, divided as a stored run has them (`usecases.stored_sets`)."""
        with self.database.transaction() as transaction:
            return divided_as_stored(transaction, row.id, sets)

    def known(self, row: StoredRun, max_tokens: int | None) -> int:
        """Return the id of a stored run, once it has the token budget, if one is given.

        Raises:
            InputError: if the run was paused because its budget was spent, and this one is spent
                too.
        """
        if max_tokens is not None:
            with self.database.transaction() as transaction:
                steer.set_max_tokens(transaction, row.name, max_tokens)
        return int(row.id)

    def run(self, run_id: int, *, takes_max_tokens: bool = False, notifies: bool = False) -> StoredRun:
        """Work on this run alone until it has ended; return its row. Others of the folder stay as
        they are.

        Args:
            takes_max_tokens: the command that a person gave has that option, which is then the way
                to go on.
            notifies: notify people of its end, and of what keeps it from going on, as the settings
                say.

        Raises:
            RestMctsError: if the run fails, is paused or cannot go on; what is done stays done.
        """
        self.database.only_run = run_id
        name_run(self._lock, run_id)
        with self.database.transaction() as transaction:
            if runs.running(transaction, [run_id]):
                runs.record_start(transaction, run_id)
            reconcile.wake_all(transaction)
        with self._notifying(run_id, notifies) as look, _interruptible(self._context.stopping):
            self.bus.run()
            row = self._row(run_id)
            num_rounds = 0
            while row is not None and row.state == RunState.RUNNING and num_rounds < MAX_ROUNDS:
                num_rounds = 0 if self._waited_for_what_blocks(run_id) else num_rounds + 1
                look()
                self._reconcile()
                self.bus.run()
                row = self._row(run_id)
        if row is None or row.state == RunState.RUNNING:
            raise RestMctsError(f"run {run_id} stopped before its end: nothing is left to do, but phases are open")
        if row.state == RunState.PAUSED:
            raise RestMctsError(
                f"run {row.name} is paused{': ' + row.error if row.error else ''}; {self._way_on(row, takes_max_tokens)}"
            )
        if row.state == RunState.FAILED:
            raise RestMctsError(f"run {row.name} failed: {row.error}")
        return row

    @contextmanager
    def _notifying(self, run_id: int, notifies: bool) -> Iterator[Callable[[], object]]:
        """Yield a function that notifies people of a run's state; it is called at the end too."""
        if not notifies:
            yield lambda: None
            return
        settings, place = load_notification_settings(), self.database.place
        look = partial(notify, self.database, settings, self._context.stopping, run_id, place)
        try:
            yield look
        finally:
            look()

    def _waited_for_what_blocks(self, run_id: int) -> bool:
        """Wait until what the run cannot have is to be asked for again; return whether there is
        such a thing.
        """
        with self.database.transaction() as transaction:
            seconds = blocks.seconds_to_next_retry(transaction, run_id)
        if seconds is None:
            return False
        self._context.stopping.wait(seconds)
        with self.database.transaction() as transaction:
            blocks.retry_now(transaction, run_id)
        return True

    def _row(self, run_id: int) -> StoredRun | None:
        with self.database.transaction() as transaction:
            return runs.lock_run(transaction, run_id)

    def _reconcile(self) -> None:
        """Wake what did not go on, and give up what was woken too often: nothing else would."""
        with self.database.transaction() as transaction:
            reconcile.wake_overdue(transaction, LOCAL_RETRIES, lambda _: True)

    def _way_on(self, row: StoredRun, takes_max_tokens: bool) -> str:
        is_spent = token_budget.is_spent(row.error)
        if is_spent and takes_max_tokens:
            return "to go on: this command with a larger --max-tokens"
        larger = " --max-tokens LARGER" if is_spent else ""
        resume = f"restmcts runs resume {quote(row.name)}{self.database.place}{larger}"
        return f"to go on: {resume}, then this command again"


@contextmanager
def _interruptible(interrupted: threading.Event) -> Iterator[None]:
    """Let an interrupt or a request to terminate set the event, and not break into a transaction,
    which would stay open; a second one ends all at once. A request to terminate ends as SystemExit
    with the status that a shell gives it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    came: list[int] = []

    def interrupt(number: int, _: object) -> None:
        signal.signal(number, before[signal.Signals(number)])
        came.append(number)
        interrupted.set()

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        if signal.SIGTERM in came:
            raise SystemExit(128 + signal.SIGTERM) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
