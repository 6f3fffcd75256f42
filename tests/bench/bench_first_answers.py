"""How long policy generators need from the moment at which a new policy is stored until they answer
with it: `python tests/bench/bench_first_answers.py [MODEL] [--generators 1 2 4]`.

Queue, database and bucket are real, and so are the generators: processes with a thread and a cache
of their own, which wait without work, find requests that name the new policy, fetch its weights
from the bucket, and load them. MODEL is a folder, or `smollm2`. Each number of generators is
measured twice with other weights, after a first time that loads the libraries: the seconds until a
generator has found a request and asks for the weights, until it has them and could write a token,
and until it has stored the first answer, a whole step. Of several generators the first and the last
are shown.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from bench_scale import LEASE_SECONDS, REQUESTS, Bench, stack_of
from restmcts.adapters.buses.celery_bus import CeleryBus, celery_app
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state.requests import ClaimedBatch, ClaimedRequest
from restmcts.adapters.storage.s3_store import open_bucket
from restmcts.adapters.workers.service import WorkerModelSettings
from restmcts.messages.commands import ProposeWaitingSteps
from restmcts.ports import MayBegin, StepProposer
from restmcts.settings import load_settings
from restmcts.usecases.serve_claims import WorkerSettings
from restmcts_cli.arguments.model_sources import checkpoint_argument
from restmcts_policy_generator.handlers import PolicyGeneratorHandlers
from restmcts_policy_generator.opening import open_proposer
from safetensors.torch import load_file, save_file

READY, ASKED, LOADED = 0, -1, -2
NUM_ROUNDS = 3
POLICY = "SELECT id FROM checkpoints WHERE run_id = :run AND kind = 'policy'"


class Announcing(PolicyGeneratorHandlers):
    """Prints the number of each answer's checkpoint."""

    def _serve(
        self, claim: ClaimedBatch, requests: Sequence[ClaimedRequest], may_begin: MayBegin
    ) -> Iterator[tuple[int, str]]:
        for answer in super()._serve(claim, requests, may_begin):
            print(claim.batch.checkpoint_id, flush=True)
            yield answer


def generate() -> None:
    """Be a policy generator until the process is ended."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    torch.set_num_threads(1)
    database = publishing(Database(os.environ["RESTMCTS_DATABASE_URL"]))
    opened = partial(open_proposer, artifacts=open_bucket(load_settings()), settings=WorkerModelSettings())

    def load(uri: str) -> StepProposer:
        print(ASKED, flush=True)
        proposer = opened(uri)
        print(LOADED, flush=True)
        return proposer

    limits = WorkerSettings(max_requests=REQUESTS, lease_seconds=LEASE_SECONDS, stopping=stopping)
    handlers = Announcing(database, load, limits)
    print(READY, flush=True)
    while not stopping.wait(0.1):
        handlers.propose_steps(ProposeWaitingSteps())
    handlers.close()


def publishing(database: Database) -> Database:
    """Let what is decided in the database wake workers at once."""
    redis_url = os.environ["RESTMCTS_REDIS_URL"]
    database.publish = CeleryBus(celery_app(redis_url), redis_url, database).publish
    return database


@dataclass(frozen=True, slots=True)
class Moments:
    """When a generator asked for weights, had loaded them, and stored its first answer."""

    asked: float
    loaded: float
    answered: float


class Generator:
    """A policy generator as a process."""

    def __init__(self, settings: Mapping[str, str], cache: Path) -> None:
        environment = {**os.environ, **settings, "RESTMCTS_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--generate"]
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        self._first: dict[int, Moments] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()
        self.answered(READY)

    def answered(self, number: int, seconds: float = 300.0) -> Moments:
        """Return when it loaded a checkpoint and first answered with it.

        Raises:
            TimeoutError: if it does not.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: number in self._first, seconds):
                raise TimeoutError(f"no answer with checkpoint {number} within {seconds:.0f} s")
            return self._first[number]

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        last = dict.fromkeys((ASKED, LOADED), 0.0)
        for line in self._process.stdout:
            number, now = int(line), time.monotonic()
            if number in last:
                last[number] = now
                continue
            with self._changed:
                self._first.setdefault(number, Moments(last[ASKED], last[LOADED], now))
                self._changed.notify_all()


def measure(bench: Bench, model: Path, counts: Sequence[int], folder: Path) -> None:
    """Print the seconds for each number of generators."""
    os.environ.update(bench.stack.settings)
    artifacts = open_bucket(load_settings())
    publishing(bench.database)
    print(f"{'generators':>10}{'asked after':>20}{'loaded after':>20}{'answered after':>20}")
    for place, count in enumerate(counts):
        generators = [Generator(bench.stack.settings, folder / f"cache-{place}-{number}") for number in range(count)]
        rounds = []
        try:
            for number in range(NUM_ROUNDS):
                changed = other_weights(model, folder / f"model-{place}-{number}", seed=NUM_ROUNDS * place + number)
                uri = artifacts.put(changed, "checkpoints", {}).uri
                run_id = bench.begin(REQUESTS * count, uri)
                begin = time.monotonic()
                checkpoint = bench.count(POLICY, run=run_id)
                rounds.append([since(begin, generator.answered(checkpoint)) for generator in generators])
                bench.cancel(run_id)
        finally:
            for generator in generators:
                generator.end()
        for each in rounds[1:]:
            columns = (f"{min(column):.1f} to {max(column):.1f} s" for column in zip(*each, strict=True))
            print(f"{count:10}{''.join(f'{column:>20}' for column in columns)}", flush=True)


def since(begin: float, moments: Moments) -> tuple[float, float, float]:
    """Return the seconds until each moment."""
    return moments.asked - begin, moments.loaded - begin, moments.answered - begin


def other_weights(model: Path, folder: Path, seed: int) -> Path:
    """Return a copy of a model of which one matrix is a little different."""
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    torch.manual_seed(seed)
    name = min(weights)
    weights[name] += 1e-3 * torch.randn(weights[name].shape).to(weights[name].dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--generators", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--generate", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.generate:
        generate()
        return
    model = Path(checkpoint_argument(given.model, "policy", False))
    with tempfile.TemporaryDirectory() as folder, stack_of(Path(folder)) as bench:
        measure(bench, model, given.generators, Path(folder))


if __name__ == "__main__":
    main()
