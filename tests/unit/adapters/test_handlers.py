"""The real handlers over SQLite with models from a seed: whatever is doubled, late, lost or
killed, each visit counts once.
"""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.files.dataset_shards import read_rows
from restmcts.adapters.sql.state import requests as queue
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.state.requests import ClaimedBatch, ClaimedRequest
from restmcts.adapters.sql.tables import PhaseState, RequestKind, RunState
from restmcts.adapters.workers.service import ServiceSettings
from restmcts.domain.labels.filtering import PairFilter
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ProposeSteps
from restmcts.domain.runs.phases import Phase, SearchPhase, TrainPolicyPhase, TrainValuePhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.errors import ModelError
from restmcts.messages import commands
from restmcts.messages.base import Message
from restmcts.messages.wire import dump_response, load_proposal
from restmcts.ports import MayBegin
from restmcts.testing.services import Around, HandledServices, untrained
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts.usecases.serve_claims import WorkerSettings
from restmcts.usecases.serve_models import serve_waiting
from restmcts_local.services import start

NUM_ITERATIONS = 5
POISON = "a question that no model can take"
SEARCH = MctsStarSettings(
    mode="collect", stop_threshold=2.0, roll_forward_steps=2, keep_rollouts=True, max_depth=5, leaves_in_flight=2
)
COLLECT = SearchPhase("collect-1", 1, "collect", "train", "base", "value-0", SEARCH, Budget(iterations=NUM_ITERATIONS))


class Killed(SystemExit):
    """Stands for SIGKILL: no handler may catch it and go on."""


class Models(RandomModels):
    """Models that refuse one question, wherever it stands in a batch."""

    def propose(self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: Any) -> Any:
        if POISON in questions:
            raise ModelError("the prompt does not fit")
        return RandomModels.propose(self, questions, requests, settings)


class Process(HandledServices):
    """All handlers of one process over a database and a folder that outlive it; `kill_after`
    transactions it dies.
    """

    def __init__(
        self,
        folder: Path,
        models: RandomModels | None = None,
        kill_after: int | None = None,
        around: Around = untrained,
    ) -> None:
        model = models or RandomModels()
        settings = ServiceSettings(folder / "work", max_requests=7, request_lease_seconds=100.0, max_trees_in_flight=3)
        super().__init__(folder, start, lambda uri: model, settings, around)
        self.database.publish = self.publish
        self.emitted: list[Message] = []
        self.num_left = kill_after

    def publish(self, messages: Sequence[Message], _: Sequence[int]) -> None:
        """Stand between a commit and what it sends: here a process may die."""
        if self.num_left is not None:
            self.num_left -= 1
            if self.num_left < 0:
                raise Killed
        self.emitted.extend(messages)
        self.bus.publish(messages)

    def begin(self, phases: Sequence[Phase] = (COLLECT,), num_problems: int = 6, poison: bool = False) -> int:
        problems = [Problem(f"question {number}", RIGHT_ANSWER) for number in range(num_problems)]
        problems += [Problem(POISON, RIGHT_ANSWER)] * poison
        with self.database.transaction() as transaction:
            checkpoints = {"base": NewCheckpoint("policy", "base"), "value-0": NewCheckpoint("value", "value-0")}
            new = NewRun("run", "test", 1, phases, problems={"train": problems}, checkpoints=checkpoints)
            return create_run(transaction, new).run_id

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.database.transaction() as transaction:
            return [tuple(row) for row in transaction.connection.exec_driver_sql(query)]

    def state(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return everything that a message could have changed, without times."""
        return {
            "trees": self.rows(
                "SELECT id, state, version, model_calls, iterations, tokens, nodes, solved, error FROM trees ORDER BY id"
            ),
            "nodes": self.rows("SELECT * FROM nodes ORDER BY tree_id, node_id"),
            "requests": self.rows(
                "SELECT id, tree_id, number, payload, state, answer, applied_order FROM requests ORDER BY id"
            ),
            "phases": self.rows("SELECT id, state FROM phases ORDER BY id"),
        }


@pytest.fixture
def process(tmp_path: Path) -> Any:
    made: list[Process] = []

    def make(**options: Any) -> Process:
        made.append(Process(tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def assert_whole(process: Process, num_trees: int = 6) -> None:
    trees = process.rows("SELECT problem_id, state, iterations, nodes, id FROM trees")
    assert len({row[0] for row in trees}) == len(trees) == num_trees
    assert {row[1] for row in trees} == {"labelled"}
    for *_, iterations, num_nodes, tree_id in trees:
        (visits,) = process.rows(f"SELECT visits FROM nodes WHERE tree_id = {tree_id} AND node_id = 0")
        (count,) = process.rows(f"SELECT count(*) - 1 FROM nodes WHERE tree_id = {tree_id}")
        assert visits == (iterations,) and count == (num_nodes,)
        assert iterations == NUM_ITERATIONS
    assert process.rows("SELECT DISTINCT state FROM requests") == [("applied",)]
    assert process.rows("SELECT state FROM runs") == [(RunState.DONE.value,)]


def test_a_run_ends_with_every_tree_labelled(process: Any) -> None:
    one = process()
    one.begin()
    one.resume()
    assert_whole(one)


def test_messages_that_come_again_in_any_order_change_nothing(process: Any) -> None:
    one = process()
    one.begin()
    one.resume()
    before = one.state()
    again = list(one.emitted)
    random.Random(0).shuffle(again)
    for message in again:
        one.handlers[message.name](message)
    assert one.state() == before


def test_every_message_delivered_twice_gives_the_same_run(process: Any, tmp_path: Path) -> None:
    once = process()
    once.begin()
    once.resume()
    (tmp_path / "twice").mkdir()
    twice = Process(tmp_path / "twice", around=lambda _, handler: lambda message: (handler(message), handler(message)))
    twice.begin()
    twice.resume()
    assert_whole(twice)
    assert twice.rows("SELECT tree_id, node_id, step, visits FROM nodes ORDER BY 1, 2") == once.rows(
        "SELECT tree_id, node_id, step, visits FROM nodes ORDER BY 1, 2"
    )
    twice.close()


def test_a_run_killed_after_any_transaction_ends_whole(process: Any) -> None:
    first = process()
    first.begin()
    first.resume()
    num_transactions, generator = len(first.emitted), random.Random(4)
    first.database.engine.dispose()
    for path in Path(first.database.engine.url.database).parent.glob("run.db*"):
        path.unlink()
    process().begin()
    num_kills = 0
    while True:
        one = process(kill_after=generator.randrange(1, 4))
        try:
            one.resume()
            break
        except Killed:
            num_kills += 1
            assert num_kills < 4 * num_transactions, "the run does not get on"
        finally:
            one.close()
    assert num_kills > 10
    assert_whole(one)


def test_an_answer_after_the_lease_was_taken_by_another_changes_nothing(process: Any) -> None:
    one = process()
    run_id = one.begin()
    one.handle(commands.AdvanceRun(run_id=run_id))
    one.handle(commands.AdvanceTrees(tree_ids=(1, 2, 3)))
    with one.database.transaction() as transaction:
        late = queue.claim(transaction, RequestKind.PROPOSE, 10, lease_seconds=-1.0)
    assert late is not None
    with one.database.transaction() as transaction:
        assert queue.claim(transaction, RequestKind.PROPOSE, 10, 100.0) is None
        assert queue.release_overdue(transaction) == len(late.requests)
        mine = queue.claim(transaction, RequestKind.PROPOSE, 10, 100.0)
    assert mine is not None and {r.attempt for r in mine.requests} == {2}
    for claim, seed in ((late, 99), (mine, 0), (late, 98), (mine, 97)):
        answers = [(r, dump_response(RandomModels(seed).answer(load_proposal(r.payload)))) for r in claim.requests]
        with one.database.transaction() as transaction:
            queue.answer(transaction, answers)
            queue.give_back(transaction, late.requests)
    stored = one.rows("SELECT answer, payload, state FROM requests ORDER BY id")
    assert all(state == "answered" for *_, state in stored)
    assert [row[0] for row in stored] == [
        dump_response(RandomModels(0).answer(load_proposal(row[1]))) for row in stored
    ]


def test_a_call_that_takes_longer_than_its_lease_keeps_its_requests(process: Any) -> None:
    one = process()
    run_id = one.begin()
    one.handle(commands.AdvanceRun(run_id=run_id))
    one.handle(commands.AdvanceTrees(tree_ids=(1, 2, 3)))
    released: list[int] = []

    def serve(claim: ClaimedBatch, requests: Sequence[ClaimedRequest], _: MayBegin) -> list[tuple[int, str]]:
        time.sleep(0.7)
        with one.database.transaction() as transaction:
            released.append(queue.release_overdue(transaction))
        answers = [RandomModels(0).answer(load_proposal(request.payload)) for request in requests]
        return list(enumerate(map(dump_response, answers)))

    num_served = serve_waiting(one.database, RequestKind.PROPOSE, serve, WorkerSettings(lease_seconds=0.3))
    assert released == [0]
    assert one.rows("SELECT count(*) FROM requests WHERE state = 'answered' AND attempt = 1") == [(num_served,)]


def test_answers_for_a_cancelled_run_change_no_tree(process: Any) -> None:
    one = process()
    run_id = one.begin()
    one.handle(commands.AdvanceRun(run_id=run_id))
    one.handle(commands.AdvanceTrees(tree_ids=(1, 2, 3)))
    with one.database.transaction() as transaction:
        runs.finish_run(transaction, run_id, RunState.CANCELLED)
    before = one.state()
    one.bus.run()
    after = one.state()
    assert (after["trees"], after["nodes"], after["phases"]) == (before["trees"], before["nodes"], before["phases"])


def test_a_request_that_no_model_can_serve_fails_its_tree_alone(process: Any) -> None:
    one = process(models=Models())
    one.begin(poison=True)
    one.resume()
    states = one.rows("SELECT p.question, t.state, t.error FROM trees t JOIN problems p ON p.id = t.problem_id")
    assert [row for row in states if row[1] != "labelled"] == [(POISON, "failed", "the prompt does not fit")]
    assert one.rows("SELECT state FROM runs") == [(RunState.DONE.value,)]


TRAINING = TrainingSettings(num_steps=1)
DATA = (
    COLLECT,
    TrainPolicyPhase("policy-1", 1, "base", TRAINING, ("collect-1",)),
    TrainValuePhase("value-1", 1, "value-0", "base", TRAINING, ("collect-1",)),
)
PAIRS = TrainPolicyPhase(
    "policy-1", 1, "base", TRAINING, ("collect-1",), objective="dpo", pairs=PairFilter(min_gap=0.1)
)


def datasets(one: Process) -> list[list[dict[str, Any]]]:
    return [read_rows(one.artifacts.fetch(uri)) for (uri,) in one.rows("SELECT uri FROM datasets ORDER BY kind")]


def test_a_dataset_that_is_ordered_twice_is_written_once_and_no_row_is_doubled(process: Any) -> None:
    one = process()
    one.begin(DATA)
    one.resume()
    before = datasets(one)
    for phase_id in (2, 3, 2, 3):
        runs_state = PhaseState.WRITING
        with one.database.transaction() as transaction:
            runs.set_phase(transaction, phase_id, runs_state)
        one.handle(commands.WriteDataset(phase_id=phase_id))
    assert datasets(one) == before and len(before) == 2 and all(before)
    policy_rows, value_rows = before
    keys = [(row["tree_id"], row["node_id"]) for row in policy_rows]
    assert len(set(keys)) == len(keys)
    labelled_nodes = [
        (row["tree_id"], *row["steps"][: k + 1])
        for row in value_rows
        for k, t in enumerate(row["targets"])
        if t is not None
    ]
    assert len(set(labelled_nodes)) == len(labelled_nodes)
    labelled = one.rows("SELECT count(*) FROM nodes WHERE quality_value IS NOT NULL AND node_id > 0")
    assert labelled == [(len(labelled_nodes),)]


def test_a_run_that_solves_nothing_trains_nothing_and_ends(process: Any) -> None:
    one = process(models=RandomModels(answer_rate=0.0))
    one.begin(DATA)
    one.resume()
    assert one.rows("SELECT name, state FROM phases ORDER BY id") == [
        ("collect-1", "done"),
        ("policy-1", "skipped"),
        ("value-1", "skipped"),
    ]
    assert one.rows("SELECT state FROM runs") == [(RunState.DONE.value,)]
    assert datasets(one) == []


def test_pairs_of_siblings_are_written_with_where_they_come_from(process: Any) -> None:
    one = process()
    one.begin((COLLECT, PAIRS))
    one.resume()
    (rows,) = datasets(one)
    assert rows
    nodes = {row[:2]: row[2:] for row in one.rows("SELECT tree_id, node_id, parent_id, step, quality_value FROM nodes")}
    for row in rows:
        chosen, rejected = nodes[row["tree_id"], row["node_id"]], nodes[row["tree_id"], row["rejected_node_id"]]
        assert chosen[0] == rejected[0]
        assert (row["chosen"], row["rejected"]) == ([chosen[1]], [rejected[1]])
        assert (row["chosen_value"], row["rejected_value"]) == (chosen[2], rejected[2])
        assert chosen[2] - rejected[2] >= 0.1
