"""The oracle is not in the room: no search, policy or value model can come to a true answer or
a given solution.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.workers.service import Handler
from restmcts.domain.problems import Problem
from restmcts.domain.runs.evaluation import ANSWERING, PROBLEM_SET, Evaluation, ModelPair, evaluation_plan
from restmcts.messages import commands
from restmcts.messages.base import Message, Queue
from restmcts.messages.routes import queue_of
from restmcts.testing.services import HandledServices
from restmcts.testing.trees import RandomModels
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts_local.services import start
from sqlalchemy import event

SECRET_ANSWER, SECRET_STEP = "31415926535", "a secret step\n"
PROBLEMS = [
    Problem(f"question {number}", SECRET_ANSWER, (SECRET_STEP, f"The answer is {SECRET_ANSWER}\n"))
    for number in range(3)
]
MODELS = ModelPair("", "policy", {"value": "value", "orm": "orm", "ms": "ms"})
EVALUATION = Evaluation(ANSWERING.values(), (30,), (0,), (MODELS,), solution_tokens=10)


SIDES = {Queue.POLICY: "search", Queue.PRM: "search", Queue.SEARCH: "search", Queue.LABELS: "labels"}


class Room(HandledServices):
    """The handlers of a process; `statements` collects the SQL that each side's handlers caused,
    `states` all texts that the search worker remembers after each of them.
    """

    def __init__(self, folder: Path) -> None:
        self.asked: list[Any] = []
        self.statements: dict[str, list[str]] = {"search": [], "labels": []}
        self.states: list[str] = []
        self._searching: Any = None
        super().__init__(folder, start, lambda _: self._models(), around=self._watched)

    def _models(self) -> RandomModels:
        asked = self.asked

        class Listening(RandomModels):
            def propose(self, questions: Any, requests: Any, settings: Any) -> Any:
                asked.extend((questions, requests))
                return RandomModels.propose(self, questions, requests, settings)

            def score(self, questions: Any, requests: Any) -> Any:
                asked.extend((questions, requests))
                return RandomModels.score(self, questions, requests)

        return Listening()

    def _watched(self, name: str, handler: Handler) -> Handler:
        side = SIDES.get(queue_of(name))
        if side is None:
            return handler
        if name == commands.AdvanceTrees.name:
            self._searching = handler.__self__  # type: ignore[attr-defined]

        def run(message: Message) -> None:
            with self._listening(side):
                handler(message)
            self.states.append(_everything(self._searching))

        return run

    @contextmanager
    def _listening(self, side: str) -> Iterator[None]:
        def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
            self.statements[side].append(statement)

        event.listen(self.database.engine, "before_cursor_execute", note)
        yield
        event.remove(self.database.engine, "before_cursor_execute", note)


def _everything(thing: Any, depth: int = 40) -> str:
    """Return all texts that can be reached from an object through its attributes, items and
    closures.
    """
    seen: dict[int, Any] = {}  # kept, so that no id is given twice
    texts: list[str] = []

    def walk(one: Any, left: int) -> None:
        if id(one) in seen or left == 0 or isinstance(one, type):
            return
        seen[id(one)] = one
        if isinstance(one, str):
            texts.append(one)
        elif isinstance(one, dict):
            for key, value in one.items():
                walk(key, left - 1)
                walk(value, left - 1)
        elif isinstance(one, (list, tuple, set, frozenset)):
            for value in one:
                walk(value, left - 1)
        elif hasattr(one, "gi_frame") and one.gi_frame is not None:
            walk(dict(one.gi_frame.f_locals), left - 1)
        elif type(one).__module__.startswith("restmcts") and not isinstance(one, Database):
            slots = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
            names = [*getattr(one, "__dict__", {}), *slots]
            walk([getattr(one, name, None) for name in names], left - 1)

    walk(thing, depth)
    return "\n".join(texts)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    room = Room(tmp_path_factory.mktemp("room"))
    with room.database.transaction() as transaction:
        checkpoints = {"policy": NewCheckpoint("policy", "policy")}
        checkpoints |= {name: NewCheckpoint("value", name) for name in ("value", "orm", "ms")}
        plan = evaluation_plan(EVALUATION)
        problems = {PROBLEM_SET: PROBLEMS}
        create_run(transaction, NewRun("run", "evaluation", 0, plan, problems=problems, checkpoints=checkpoints))
    room.bus.run()
    yield room
    room.close()


def test_no_request_row_or_state_of_any_search_holds_an_answer(room: Room) -> None:
    with room.database.transaction() as transaction:
        stored = [
            str(tuple(row))
            for table in ("requests", "nodes", "trees", "phases", "outbox")
            for row in transaction.connection.exec_driver_sql(f"SELECT * FROM {table}")
        ]
        states = {row[0] for row in transaction.connection.exec_driver_sql("SELECT state FROM trees")}
    assert states == {"labelled"}
    assert any("question 0" in text for text in map(str, room.asked)), "the models were asked"
    assert any("move" in text for text in room.states), "the walk reaches the searches' trees"
    for place, texts in {"stored": stored, "asked": map(str, room.asked), "in memory": room.states}.items():
        for text in texts:
            assert SECRET_ANSWER not in text and SECRET_STEP.strip() not in text, place


def test_no_statement_of_a_search_or_model_worker_reads_an_answer(room: Room) -> None:
    """The labeler's do: so the test would see it."""
    reading = {
        side: [text for text in statements if "problems.answer" in text or "problems.solution" in text]
        for side, statements in room.statements.items()
    }
    assert room.statements["search"] and not reading["search"]
    assert reading["labels"]
