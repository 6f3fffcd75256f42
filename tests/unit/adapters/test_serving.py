"""A model worker within one claim: answers are kept as they come, whatever ends it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
from restmcts.adapters.models import interruption
from restmcts.adapters.models.interruption import InterruptedCallError
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.requests import ClaimedBatch, ClaimedRequest
from restmcts.adapters.sql.tables import RequestKind, RunState
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.errors import ServerUnavailableError
from restmcts.messages import commands
from restmcts.messages.wire import dump_response, load_proposal
from restmcts.ports import MayBegin
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts.usecases import serve_claims
from restmcts.usecases.serve_claims import WorkerSettings
from restmcts.usecases.serve_models import serve_waiting

PHASE = SearchPhase(
    "collect", 1, "collect", "train", "base", "value-0", MctsStarSettings(mode="collect"), Budget(iterations=2)
)


@pytest.fixture
def one(handled_run: Callable[..., Any]) -> Any:
    """Three trees that wait for the policy."""
    models = RandomModels(0)
    problems = {"train": [Problem(f"question {number}", RIGHT_ANSWER) for number in range(3)]}
    run = handled_run({"base": models, "value-0": models}, problems)
    with run.database.transaction() as transaction:
        runs.add_phases(transaction, run.run_id, [PHASE])
    run.handlers[commands.AdvanceRun.name](commands.AdvanceRun(run_id=run.run_id))
    run.handlers[commands.AdvanceTrees.name](commands.AdvanceTrees(tree_ids=(1, 2, 3)))
    return run


def answered(request: ClaimedRequest) -> str:
    return dump_response(RandomModels(0).answer(load_proposal(request.payload)))


def states(run: Any) -> list[tuple[Any, ...]]:
    with run.database.transaction() as transaction:
        found = transaction.connection.exec_driver_sql(
            "SELECT state, attempt, count(*) FROM requests GROUP BY state, attempt ORDER BY state"
        )
        return [tuple(row) for row in found]


def test_answers_are_written_as_they_come(one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_claims, "SECONDS_BETWEEN_WRITES", 0.0)
    seen: list[list[tuple[Any, ...]]] = []

    def serve(
        claim: ClaimedBatch, requests: Sequence[ClaimedRequest], may_begin: MayBegin
    ) -> Iterator[tuple[int, str]]:
        for place in reversed(range(len(requests))):
            time.sleep(0.01)
            yield place, answered(requests[place])
            seen.append(states(one))

    assert serve_waiting(one.database, RequestKind.PROPOSE, serve, WorkerSettings()) == 3
    assert seen[0] == [("answered", 1, 1), ("leased", 1, 2)] and states(one) == [("answered", 1, 3)]


@pytest.mark.parametrize("end", [RunState.PAUSED, RunState.CANCELLED, None], ids=str)
def test_a_call_is_interrupted_once_nobody_waits_for_its_answers(one: Any, end: RunState | None) -> None:
    settings = WorkerSettings(lease_seconds=0.1)
    interruptions: list[InterruptedCallError] = []

    def serve(
        claim: ClaimedBatch, requests: Sequence[ClaimedRequest], may_begin: MayBegin
    ) -> Iterator[tuple[int, str]]:
        if end is None:
            settings.stopping.set()
        with one.database.transaction() as transaction:
            if end is not None:
                runs.finish_run(transaction, one.run_id, end)
        try:
            interruption.pause(60.0)
        except InterruptedCallError as error:
            interruptions.append(error)
            raise
        yield 0, answered(requests[0])

    started = time.monotonic()
    assert serve_waiting(one.database, RequestKind.PROPOSE, serve, settings) == 0
    assert time.monotonic() - started < 30.0 and len(interruptions) == 1
    assert states(one) == [("waiting", 0, 3)]


def test_what_a_model_has_begun_is_kept_when_its_time_is_over(one: Any) -> None:
    """Whoever answers all at once has spent the time already."""

    def serve(_: ClaimedBatch, requests: Sequence[ClaimedRequest], may_begin: MayBegin) -> list[tuple[int, str]]:
        time.sleep(0.3)
        assert not may_begin()
        return [(place, answered(request)) for place, request in enumerate(requests)]

    assert serve_waiting(one.database, RequestKind.PROPOSE, serve, WorkerSettings(max_seconds=0.2)) == 3
    assert states(one) == [("answered", 1, 3)]


def test_a_model_writes_no_further_answers_once_nobody_waits_for_them(one: Any) -> None:
    num_written: list[int] = []

    def serve(_: ClaimedBatch, requests: Sequence[ClaimedRequest], may_begin: MayBegin) -> Iterator[tuple[int, str]]:
        with one.database.transaction() as transaction:
            runs.finish_run(transaction, one.run_id, RunState.CANCELLED)
        for place in range(len(requests)):
            time.sleep(0.5)
            num_written.append(place)
            yield place, answered(requests[place])

    served = serve_waiting(one.database, RequestKind.PROPOSE, serve, WorkerSettings(lease_seconds=0.1))
    assert served == len(num_written) < 3


@pytest.mark.parametrize("stops", ["time", "stop", "interrupt", "server"])
def test_what_is_answered_when_a_claim_ends_early_is_kept_and_the_rest_waits(one: Any, stops: str) -> None:
    settings = WorkerSettings(max_seconds=0.2 if stops == "time" else 60.0)

    def serve(
        claim: ClaimedBatch, requests: Sequence[ClaimedRequest], may_begin: MayBegin
    ) -> Iterator[tuple[int, str]]:
        if stops == "stop":
            settings.stopping.set()
        assert may_begin() == (stops != "stop")
        time.sleep(0.3 if stops == "time" else 0.0)
        yield 1, answered(requests[1])
        if stops == "time" and not may_begin():
            return
        if stops == "interrupt":
            raise KeyboardInterrupt
        raise ServerUnavailableError("gone") if stops == "server" else AssertionError("it was over")

    expected = {"interrupt": KeyboardInterrupt, "server": ServerUnavailableError}.get(stops)
    with pytest.raises(expected) if expected else nullcontext():
        assert serve_waiting(one.database, RequestKind.PROPOSE, serve, settings) == 1
    kept, (state, _, count) = states(one)
    assert kept == ("answered", 1, 1) and (state, count) == ("waiting", 2)
