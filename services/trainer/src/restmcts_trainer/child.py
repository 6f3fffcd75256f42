"""The process that trains: reads jobs as lines of JSON, writes progress and outcomes as lines of
JSON, ends when its parent does.

A process of its own gives back all memory when it ends, and leaves the parent free to renew leases.
Started by torchrun with the file of a single job, several such processes do it together, and the
first of them speaks; the others say what made them fail. One that no longer reaches the others ends
without a word.
"""

import gc
import json
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any, TextIO

from restmcts.adapters.files.plugins import load_same_plugins
from restmcts.errors import ModelError, RestMctsError, is_unavailable

from restmcts_trainer.job import Job
from restmcts_trainer.memory import give_back_memory

if TYPE_CHECKING:
    from restmcts.modeling.training.training_loop import Attempt

# names of further trackers, as the library knows them: "mlflow", "wandb"; each is set up through
# its own variables
TRACKERS = "RESTMCTS_TRACKERS"
_OF_GLOO = re.compile(r"\bgloo/\S+\.cc:\d")


def main() -> None:
    """Serve jobs until standard input ends, or the one in a file; a job under way is dropped
    when standard input ends.
    """
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    is_first = os.environ.get("RANK", "0") == "0"
    out = channel if is_first else os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    # Whatever a library prints must not mix with the protocol.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lines = _lines()
    _import_what_trains()
    if len(sys.argv) > 1:
        lines = iter([Path(sys.argv[1]).read_text(encoding="utf-8")])
    for line in lines:
        answer = _serve(json.loads(line), out)
        print(json.dumps(answer), file=channel if "error" in answer else out, flush=True)
        give_back_memory()


def _import_what_trains() -> None:
    """Import seconds of libraries, of which nothing is garbage: to look for it meanwhile takes a
    fifth longer, and every training ends by looking again.
    """
    gc.disable()
    import_module("restmcts_trainer.jobs")
    gc.freeze()
    gc.enable()


def _lines() -> Iterator[str]:
    """Return the lines of standard input as they come; the process ends at once when the input
    does.
    """
    lines: Queue[str] = Queue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return iter(lines.get, None)


def _serve(request: dict[str, Any], out: TextIO) -> dict[str, Any]:
    def send(**message: object) -> None:
        print(json.dumps(message), file=out, flush=True)

    from restmcts_trainer.jobs import run_job

    try:
        load_same_plugins(request["plugins"])
        job = Job.from_json(request)
        report = run_job(job, _attempt(job, request["shards"], send))
    except Exception as error:
        if "RANK" in os.environ:
            traceback.print_exc()
            if _is_cut_off(error):
                os._exit(1)
        return _said_of(error)
    return {"report": None if report is None else asdict(report)}


def _said_of(error: Exception) -> dict[str, Any]:
    if isinstance(error, RestMctsError):
        return {"error": str(error), "is_unavailable": isinstance(error, ModelError) or is_unavailable(error)}
    reason = "out of memory" if isinstance(error, MemoryError) else f"{type(error).__name__}: {error}"
    return {"error": reason, "is_unavailable": False}


def _is_cut_off(error: BaseException | None) -> bool:
    """Return whether an error comes of a process that is gone: torch raises a class of its own,
    gloo anything, with the place in its source.
    """
    from torch.distributed import DistError

    while error is not None:
        if isinstance(error, DistError) or _OF_GLOO.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _attempt(job: Job, shards: bool, send: Callable[..., None]) -> "Attempt":
    from restmcts.modeling.training.training_loop import Attempt

    return Attempt(
        on_progress=lambda step, num_steps, loss: send(step=step, num_steps=num_steps, loss=loss),
        folder=job.folder,
        on_saved=lambda step, folder: send(saved=str(folder), at_step=step),
        resume_from=job.resume_from,
        on_smaller=lambda micro_batch: send(micro_batch=micro_batch),
        log_folder=job.log_folder if job.keeps_log else None,
        trackers=tuple(name for name in os.environ.get(TRACKERS, "").split(",") if name),
        shards=shards,
    )


if __name__ == "__main__":
    main()
