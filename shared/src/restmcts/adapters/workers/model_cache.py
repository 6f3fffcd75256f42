"""Models that are open, by checkpoint: those in this process one at a time, those behind HTTP side
by side.
"""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Generic, Protocol, TypeVar, runtime_checkable

from restmcts.adapters.observability import metrics
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import runs
from restmcts.errors import LEAVING, CheckpointError, InputError, ModelError, RestMctsError, reason_of

Model = TypeVar("Model")
MAX_SERVERS = 64
"""Models behind HTTP that stay open: each is a few connections."""


class ModelCache(Generic[Model]):
    """The models most lately used; several threads may use them.

    Args:
        load: opens a model from its checkpoint's URI.
        max_models: loaded in this process.
        is_remote: whether a URI's model is behind HTTP.
    """

    def __init__(
        self,
        database: Database,
        load: Callable[[str], Model],
        max_models: int,
        is_remote: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._database = database
        self._is_remote = is_remote
        self._uris: dict[int, tuple[str, str]] = {}
        self._loaded = _Shelf(load, max_models)
        self._servers = _Shelf(load, MAX_SERVERS)
        self._turn = _InTurn()

    def is_remote(self, checkpoint_id: int) -> bool:
        """Return whether the checkpoint's model is behind HTTP; one that is not known, or whose
        URI cannot be read, is not.
        """
        try:
            return self._is_remote(self._uri(checkpoint_id)[1])
        except (CheckpointError, InputError):
            return False

    @contextmanager
    def use(self, checkpoint_id: int) -> Iterator[Model]:
        """Yield the checkpoint's model, loading it if need be; one that is loaded in this process
        is the only one used meanwhile, and threads that want one have it in the order of asking.

        Raises:
            CheckpointError: if there is no such checkpoint or it cannot be loaded.
        """
        name, uri = self._uri(checkpoint_id)
        is_remote = self.is_remote(checkpoint_id)
        shelf = self._servers if is_remote else self._loaded
        with nullcontext() if is_remote else self._turn, shelf.use(name, uri) as model:
            yield model

    def spare_memory(self) -> None:
        """Let go of models that take memory here and that nobody uses; safe in any thread."""
        self._loaded.let_go_of_idle()

    def close(self) -> None:
        """Give up all models."""
        for shelf in (self._loaded, self._servers):
            shelf.close()

    def _uri(self, checkpoint_id: int) -> tuple[str, str]:
        if checkpoint_id not in self._uris:
            with self._database.transaction() as transaction:
                row = runs.checkpoint_by_id(transaction, checkpoint_id)
            if row is None:
                raise CheckpointError(f"checkpoint {checkpoint_id} does not exist")
            self._uris[checkpoint_id] = (row.name, row.uri)
        return self._uris[checkpoint_id]


class _InTurn:
    """A lock that threads hold in the order in which they asked for it: one that gives it back and
    asks again at once lets the others in between. Whoever holds it may take it again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: deque[threading.Event] = deque()
        self._holder = threading.local()

    def __enter__(self) -> None:
        depth = getattr(self._holder, "depth", 0)
        if not depth:
            self._wait()
        self._holder.depth = depth + 1

    def __exit__(self, *_: object) -> None:
        self._holder.depth -= 1
        if not self._holder.depth:
            self._leave(self._asked[0])

    def _wait(self) -> None:
        mine = threading.Event()
        with self._lock:
            self._asked.append(mine)
            self._asked[0].set()
        try:
            mine.wait()
        except BaseException:
            self._leave(mine)
            raise

    def _leave(self, whose: threading.Event) -> None:
        with self._lock:
            self._asked.remove(whose)
            if self._asked:
                self._asked[0].set()


class _Shelf(Generic[Model]):
    """Open models by their URIs; what is in use is not given up."""

    def __init__(self, load: Callable[[str], Model], max_models: int) -> None:
        self._load = load
        self._max_models = max_models
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._users: Counter[str] = Counter()
        self._opening: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    @contextmanager
    def use(self, name: str, uri: str) -> Iterator[Model]:
        with self._lock:
            self._users[uri] += 1
            opening = self._opening.setdefault(uri, threading.Lock())
        try:
            # Whoever opens a model keeps only those waiting who want the same.
            with opening:
                model = self._opened(name, uri)
            yield model
        finally:
            with self._lock:
                self._users[uri] -= 1

    def let_go_of_idle(self) -> None:
        with self._lock:
            for uri, _ in self._idle():
                _release(self._models.pop(uri))

    def _idle(self) -> list[tuple[str, "_Sparing"]]:
        found = [(uri, model) for uri, model in self._models.items() if not self._users[uri]]
        return [(uri, model) for uri, model in found if isinstance(model, _Sparing)]

    def close(self) -> None:
        while self._models:
            _release(self._models.popitem()[1])

    def _opened(self, name: str, uri: str) -> Model:
        with self._lock:
            if uri in self._models:
                self._models.move_to_end(uri)
                return self._models[uri]
            self._make_room()
            for _, idle in self._idle():
                idle.spare_memory()
        try:
            with metrics.CHECKPOINT_LOAD_SECONDS.time():
                model = self._load(uri)
        except LEAVING:
            raise
        except BaseException as error:
            if isinstance(error, RestMctsError) and not isinstance(error, ModelError):
                raise
            raise CheckpointError(f"checkpoint {name}: {reason_of(error)}") from error
        metrics.CHECKPOINT_LOADS.inc()
        with self._lock:
            self._models[uri] = model
        return model

    def _make_room(self) -> None:
        unused = [known for known in self._models if not self._users[known]]
        for known in unused[: max(len(self._models) - self._max_models + 1, 0)]:
            _release(self._models.pop(known))


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> None: ...


@runtime_checkable
class _Sparing(Protocol):
    def spare_memory(self) -> None: ...


def _release(model: object) -> None:
    """Let go of a model: one behind HTTP holds connections."""
    if isinstance(model, _Closable):
        model.close()
