"""A model worker over requests of several models: each has its turn, and one that is slow, broken
or away keeps no other waiting.
"""

import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from restmcts.adapters.models import interruption
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.requests import Batch, ClaimedBatch, ClaimedRequest
from restmcts.adapters.sql.tables import RequestKind
from restmcts.adapters.workers.model_cache import ModelCache
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.errors import CheckpointError, ServerUnavailableError
from restmcts.messages import commands
from restmcts.messages.wire import dump_response, load_proposal
from restmcts.ports import MayBegin
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts.usecases.serve_claims import WorkerSettings
from restmcts.usecases.serve_models import LONGEST_PAUSE_SECONDS, Serving, Turns, serve_waiting

POLICIES = ("first", "second", "third")
NUM_TREES = 4
WAIT_SECONDS = 30.0
Do = Callable[[str], None]


@pytest.fixture
def one(handled_run: Callable[..., Any]) -> Any:
    """A run whose trees wait for three policies, those of the first longest."""
    models = RandomModels(0)
    problems = {"train": [Problem(f"question {number}", RIGHT_ANSWER) for number in range(NUM_TREES)]}
    run = handled_run(dict.fromkeys((*POLICIES, "value-0"), models), problems)
    phases = [
        SearchPhase(
            f"by-{name}", 1, "collect", "train", name, "value-0", MctsStarSettings(mode="collect"), Budget(iterations=2)
        )
        for name in POLICIES
    ]
    with run.database.transaction() as transaction:
        runs.add_phases(transaction, run.run_id, phases)
    run.handlers[commands.AdvanceRun.name](commands.AdvanceRun(run_id=run.run_id))
    run.handlers[commands.AdvanceTrees.name](
        commands.AdvanceTrees(tree_ids=tuple(range(1, len(POLICIES) * NUM_TREES + 1)))
    )
    return run


def states(run: Any) -> dict[str, Counter[tuple[str, int]]]:
    """Return the states and attempts of each policy's requests."""
    query = "SELECT c.name, r.state, r.attempt FROM requests r JOIN checkpoints c ON c.id = r.checkpoint_id"
    found: dict[str, Counter[tuple[str, int]]] = {name: Counter() for name in POLICIES}
    with run.database.transaction() as transaction:
        for name, state, attempt in transaction.connection.exec_driver_sql(query):
            found[name][state, attempt] += 1
    return found


def names(run: Any) -> dict[int, str]:
    with run.database.transaction() as transaction:
        return {row.id: name for name, row in runs.checkpoints_of(transaction, run.run_id).items()}


def await_true(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


ANSWERED = Counter({("answered", 1): NUM_TREES})


class Serves:
    """Answers requests, after `do` with the policy's name; notes what was served when."""

    def __init__(self, run: Any, do: Do = lambda _: None) -> None:
        self._names, self._do = names(run), do
        self.order: list[str] = []

    def __call__(
        self, claim: ClaimedBatch, requests: Sequence[ClaimedRequest], _: MayBegin
    ) -> Iterator[tuple[int, str]]:
        name = self._names[claim.batch.checkpoint_id]
        self.order.append(name)
        self._do(name)
        for place, request in enumerate(requests):
            yield place, dump_response(RandomModels(0).answer(load_proposal(request.payload)))


@pytest.fixture
def serving(one: Any) -> Iterator[Callable[..., Serving]]:
    """A server of requests beside the thread that wakes it; some policies are behind HTTP."""
    opened: list[tuple[Serving, WorkerSettings]] = []

    def open_serving(serve: Serves, remote: Sequence[str] = POLICIES, **options: Any) -> Serving:
        settings = WorkerSettings(max_at_once=8, lease_seconds=5.0, **options)
        remote_ids = {number for number, name in names(one).items() if name in remote}
        opened.append((Serving(one.database, RequestKind.PROPOSE, serve, settings, remote_ids.__contains__), settings))
        return opened[-1][0]

    yield open_serving
    for each, settings in opened:
        settings.stopping.set()
        each.close()


def test_batches_are_claimed_in_turn(one: Any) -> None:
    serves = Serves(one)
    assert serve_waiting(one.database, RequestKind.PROPOSE, serves, WorkerSettings(max_requests=1)) == 12
    assert serves.order == [*POLICIES] * NUM_TREES


def test_a_policy_that_is_slow_keeps_no_other_waiting(one: Any, serving: Callable[..., Serving]) -> None:
    over = threading.Event()

    def do(name: str) -> None:
        if name == "first":
            assert over.wait(WAIT_SECONDS)

    serving(Serves(one, do)).wake()
    await_true(lambda: states(one)["second"] == states(one)["third"] == ANSWERED)
    assert states(one)["first"] == Counter({("leased", 1): NUM_TREES})
    over.set()
    await_true(lambda: states(one)["first"] == ANSWERED)


def test_a_thread_goes_on_with_what_waits_when_its_claim_is_served(one: Any, serving: Callable[..., Serving]) -> None:
    serving(Serves(one), max_requests=1).wake()
    await_true(lambda: all(found == ANSWERED for found in states(one).values()))


def test_models_in_this_process_are_served_one_at_a_time_beside_those_behind_http(
    one: Any, serving: Callable[..., Serving]
) -> None:
    lock, together = threading.Lock(), threading.Barrier(2)
    overlaps: list[str] = []

    def do(name: str) -> None:
        if name == "second":
            together.wait(WAIT_SECONDS)
            return
        if not lock.acquire(blocking=False):
            overlaps.append(name)
            return
        if name == "first":
            together.wait(WAIT_SECONDS)
        time.sleep(0.2)
        lock.release()

    serving(Serves(one, do), remote=["second"]).wake()
    await_true(lambda: all(found == ANSWERED for found in states(one).values()))
    assert overlaps == []


@pytest.mark.parametrize("error", [ServerUnavailableError("away"), CheckpointError("no such folder")], ids=str)
def test_a_model_that_cannot_be_had_costs_no_attempt_is_told_once_and_passed_over(
    one: Any, serving: Callable[..., Serving], error: Exception
) -> None:
    def do(name: str) -> None:
        if name == "first":
            raise error

    serves = Serves(one, do)
    server = serving(serves)
    server.wake()
    await_true(lambda: states(one)["third"] == ANSWERED and states(one)["first"] == Counter({("waiting", 0): 4}))
    told: list[Exception] = []

    def wake() -> int:
        try:
            server.wake()
        except type(error) as raised:
            told.append(raised)
        return len(told)

    await_true(wake)
    assert serves.order.count("first") == 1, "it is not asked at every wake-up"
    await_true(lambda: wake() and serves.order.count("first") > 1)


def test_a_model_that_fails_every_request_is_asked_again_after_a_pause(
    one: Any, serving: Callable[..., Serving]
) -> None:
    def do(name: str) -> None:
        if name == "first":
            raise ZeroDivisionError

    serves = Serves(one, do)
    server = serving(serves)
    server.wake()
    await_true(lambda: states(one)["first"] == Counter({("waiting", 1): NUM_TREES}))
    num_calls = serves.order.count("first")
    for _ in range(5):
        server.wake()
    assert serves.order.count("first") == num_calls
    await_true(lambda: states(one)["second"] == ANSWERED)


def test_a_worker_that_ends_interrupts_its_calls_and_leaves_the_requests_to_others(
    one: Any, serving: Callable[..., Serving]
) -> None:
    begun, settings = threading.Event(), threading.Event()

    def do(name: str) -> None:
        if name == "first":
            begun.set()
            interruption.pause(600.0)

    server = serving(Serves(one, do), stopping=settings)
    server.wake()
    assert begun.wait(WAIT_SECONDS)
    settings.set()
    server.close()
    assert states(one)["first"] == Counter({("waiting", 0): NUM_TREES})


def test_models_of_this_process_are_used_in_the_order_of_asking_and_again_by_who_uses_one(one: Any) -> None:
    first, second, *_ = names(one)
    cache = ModelCache(one.database, lambda uri: uri, max_models=2)
    order: list[str] = []

    def use(checkpoint_id: int, name: str) -> None:
        with cache.use(checkpoint_id):
            order.append(name)

    with cache.use(first), cache.use(first):
        others = [threading.Thread(target=use, args=(second, name)) for name in ("second", "third")]
        for waiting, other in enumerate(others, start=2):
            other.start()
            await_true(partial(lambda waiting: len(cache._turn._asked) == waiting, waiting))
    use(first, "again")
    for other in others:
        other.join()
    assert order == ["second", "third", "again"]


class Sparing:
    """A model that counts how often it gave up what it keeps."""

    def __init__(self, uri: str) -> None:
        self.num_spared = 0

    def spare_memory(self) -> None:
        self.num_spared += 1


def test_models_that_are_in_use_stay_and_the_others_are_let_go_before_a_training(one: Any) -> None:
    first, second, *_ = names(one)
    opened: list[str] = []

    def load(uri: str) -> Sparing:
        opened.append(uri)
        return Sparing(uri)

    cache = ModelCache(one.database, load, max_models=2)
    with cache.use(first) as used:
        with cache.use(second) as idle:
            cache.spare_memory()
        with cache.use(second) as still:
            assert still is idle, "it was in use"
        cache.spare_memory()
        with cache.use(first) as same, cache.use(second) as anew:
            assert same is used
            assert anew is not idle
    assert len(opened) == 3
    cache.spare_memory()
    references = [weakref.ref(model) for model in (used, anew)]
    del used, same, idle, still, anew
    assert [reference() for reference in references] == [None, None]


def test_a_model_that_says_nothing_of_memory_stays(one: Any) -> None:
    first, *_ = names(one)
    cache = ModelCache(one.database, lambda _: object(), max_models=2)
    with cache.use(first) as before:
        pass
    cache.spare_memory()
    with cache.use(first) as after:
        assert after is before


def test_a_model_that_nobody_uses_gives_up_its_memory_as_another_is_loaded(one: Any) -> None:
    first, second, third, *_ = names(one)
    cache = ModelCache(one.database, Sparing, max_models=3)
    with cache.use(first) as idle:
        pass
    with cache.use(second) as used:
        assert idle.num_spared == 1
        with cache.use(third):
            assert (idle.num_spared, used.num_spared) == (2, 0)
    with cache.use(first):
        assert (idle.num_spared, used.num_spared) == (2, 0)


def test_pauses_grow_to_a_bound_and_end_with_the_first_answer() -> None:
    now = [0.0]
    turns, batch, other = Turns(lambda: now[0]), Batch(1, ""), Batch(2, "")
    lengths = []
    for _ in range(9):
        turns.pause(batch)
        begun = now[0]
        while batch in turns.passed_over():
            now[0] += 0.5
        lengths.append(now[0] - begun)
    assert lengths[:4] == [1.0, 2.0, 4.0, 8.0] and lengths[-2:] == [LONGEST_PAUSE_SECONDS] * 2
    assert other not in turns.passed_over()
    turns.served(batch)
    turns.pause(batch)
    now[0] += 1.0
    assert batch not in turns.passed_over()


def test_what_failed_alone_waits_for_the_next_wake_up() -> None:
    turns, batch = Turns(), Batch(1, "")
    turns.served(batch, failed_some=True)
    assert turns.passed_over() == {batch}
    turns.wake()
    assert turns.passed_over() == set()
