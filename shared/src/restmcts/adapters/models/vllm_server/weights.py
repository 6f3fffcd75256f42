"""Which weights a vLLM server of one's own has: swapped in place while it is paused, with a name
that the server itself keeps, so that no step is attributed to other weights.

Routes and their order (pause, name none, reload, name the new, forget kept prefixes, resume) are
those of vLLM 0.32; a server that dies or refuses in between is started anew.
"""

import json
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from restmcts.adapters.models.bounded_http import model_client
from restmcts.adapters.models.vllm_server.process import VllmProcess, VllmSettings
from restmcts.errors import ModelError, ServerUnavailableError

log = logging.getLogger(__name__)
OLDEST_VERSION = (0, 32)
NO_WEIGHTS = "none"
SECONDS_OF_A_SWAP = 600.0
_NOT_OF_THE_SHAPE = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache"}


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights as a server takes them.

    Attributes:
        name: that nothing else has: a checkpoint's URI.
        path: their folder, or the hub's id.
        dtype: of the weights in use, as vLLM names it.
    """

    name: str
    path: str
    dtype: str = "auto"


class VllmServer:
    """One server for one process, started when weights are first asked for.

    Threads take turns. `swap_seconds` are those of the last change of weights, `num_starts` only
    grows.
    """

    def __init__(self, settings: VllmSettings) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._process: VllmProcess | None = None
        self._http = model_client("http://127.0.0.1", "", SECONDS_OF_A_SWAP)
        self._current: Weights | None = None
        self._timer: threading.Timer | None = None
        self._sleeps = False
        self.num_starts = 0
        self.swap_seconds = 0.0

    @property
    def runs(self) -> bool:
        """Whether there is a server, and it has not ended."""
        return self._process is not None and self._process.runs

    def use(self, weights: Weights) -> "InUse":
        """Return a context in which the server has these weights and no others.

        Raises of it:
            ModelError: if the server cannot be started with them.
            ServerUnavailableError: if it died, or somebody else has changed its weights, meanwhile.
        """
        return InUse(self, weights)

    def close(self) -> None:
        """End the server."""
        with self._lock:
            self._stop_timer()
            self._end()
            self._http.close()

    def begin(self, weights: Weights) -> str:
        """Take the server, see that it has the weights, and return its URL."""
        self._lock.acquire()
        try:
            self._stop_timer()
            return self._bring(weights)
        except BaseException:
            self._lock.release()
            raise

    def end(self) -> None:
        """Give the server back."""
        if self._settings.idle_seconds and self._process is not None:
            self._timer = threading.Timer(self._settings.idle_seconds, self._sleep)
            self._timer.daemon = True
            self._timer.start()
        self._lock.release()

    def check(self, weights: Weights) -> None:
        """Raise ServerUnavailableError if the server has ended or has other weights."""
        try:
            found = self._version()
        except httpx2.HTTPError as error:
            raise ServerUnavailableError(f"vLLM does not answer: {error}") from error
        if found != weights.name:
            raise ServerUnavailableError(f"vLLM has the weights {found}; what asks {weights.name} waits")

    def _bring(self, weights: Weights) -> str:
        begin = time.monotonic()
        if self._process is not None and (not self._process.runs or not self._swapped(weights)):
            self._end()
        if self._process is None:
            self._start(weights)
        if self._current != weights:
            self._current, self.swap_seconds = weights, time.monotonic() - begin
            log.info("vLLM has %s after %.1f s", weights.name, self.swap_seconds)
        assert self._process is not None
        return self._process.url

    def _swapped(self, weights: Weights) -> bool:
        """Return whether the running server has the weights now."""
        try:
            if self._sleeps:
                self._post("/wake_up")
                self._sleeps = False
            if self._version() == weights.name:
                return True
            if self._current is None or not same_shape(self._current, weights):
                return False
            self._post("/pause?mode=wait")
            self._post("/update_weight_version", new_version=NO_WEIGHTS)
            self._post("/collective_rpc", method="reload_weights", kwargs={"weights_path": weights.path})
            self._post("/update_weight_version", new_version=weights.name)
            self._post("/reset_prefix_cache")
            self._post("/resume")
        except httpx2.HTTPError as error:
            log.warning("vLLM does not take other weights while it runs (%s): it is started anew", error)
            return False
        return True

    def _start(self, weights: Weights) -> None:
        process = VllmProcess(self._settings, weights.path, weights.dtype)
        self._process, self._current, self._sleeps = process, None, False
        self.num_starts += 1
        try:
            process.await_ready(self._answers)
            self._check_version()
            self._post("/update_weight_version", new_version=weights.name)
        except httpx2.HTTPError as error:
            self._end()
            raise ModelError(
                f"vLLM does not take the name of its weights: {error} (log: {process.log_file})"
            ) from error
        except BaseException:
            self._end()
            raise

    def _answers(self) -> bool:
        try:
            return self._call("GET", "/health").is_success
        except httpx2.HTTPError:
            return False

    def _check_version(self) -> None:
        version = str(self._call("GET", "/version").json().get("version", ""))
        parts = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
        if parts < OLDEST_VERSION:
            wanted = ".".join(map(str, OLDEST_VERSION))
            raise ModelError(f"vLLM {version} is too old: weights are swapped as from {wanted} on; pip install -U vllm")

    def _version(self) -> str:
        return str(self._call("GET", "/weight_info").json().get("weight_version"))

    def _sleep(self) -> None:
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._process is not None and self._process.runs and not self._sleeps:
                self._post("/sleep?level=1&mode=wait")
                self._sleeps = True
        except httpx2.HTTPError as error:
            log.warning("vLLM does not sleep: %s", error)
        finally:
            self._lock.release()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        if self._process is not None:
            self._process.close()
        self._process = self._current = None

    def _post(self, route: str, **body: Any) -> None:
        self._call("POST", route, json=body or None)

    def _call(self, method: str, route: str, **options: Any) -> httpx2.Response:
        assert self._process is not None
        return self._http.request(method, self._process.url + route, **options).raise_for_status()


class InUse:
    """The server with some weights, for as long as the context lasts; `url` is its address."""

    def __init__(self, server: VllmServer, weights: Weights) -> None:
        self._server, self._weights = server, weights
        self.url = ""

    def __enter__(self) -> "InUse":
        self.url = self._server.begin(self._weights)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.end()

    def check(self) -> None:
        """Raise ServerUnavailableError if the server has ended or has other weights."""
        self._server.check(self._weights)


def same_shape(one: Weights, other: Weights) -> bool:
    """Return whether two folders hold models that differ in their weights alone."""
    if one.dtype != other.dtype:
        return False
    try:
        return _shape(Path(one.path)) == _shape(Path(other.path))
    except (OSError, ValueError):
        return False


def _shape(folder: Path) -> tuple[Any, bytes]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kept = {name: value for name, value in config.items() if name not in _NOT_OF_THE_SHAPE}
    return kept, (folder / "tokenizer.json").read_bytes()
