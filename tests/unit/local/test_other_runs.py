"""A process works on one run of a work folder; what others wait for stays as it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from restmcts.adapters.sql.state.requests import REQUESTS
from restmcts.adapters.sql.state.runs import find_run
from restmcts.adapters.sql.state.trees import PHASES, RUNS, TREES
from restmcts.adapters.sql.tables import RequestState, RunState
from restmcts.adapters.storage.folder_lock import folder_use
from restmcts.adapters.workers.service import OpenModels
from restmcts.domain.problems import Problem
from restmcts.domain.requests import ProposeSteps, StepsProposed
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.testing.trees import RIGHT_ANSWER, RandomModels
from restmcts_local.local_run import LocalRun, ModelOptions
from sqlalchemy import select

COLLECT = SearchPhase(
    "collect-1", 1, "collect", "train", "base", "value-0", MctsStarSettings(mode="collect"), Budget(iterations=4)
)
Stop = Callable[[LocalRun], None]


@dataclass(frozen=True)
class Policy(RandomModels):
    """Knows the questions of each call; does something at its second one."""

    at_second_call: Callable[[], None] = lambda: None
    asked: list[Sequence[str]] = field(default_factory=list)

    def propose(self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: Any) -> list[StepsProposed]:
        self.asked.append(questions)
        if len(self.asked) == 2:
            self.at_second_call()
        return RandomModels.propose(self, questions, requests, settings)


def opened(folder: Path, policy: Policy) -> LocalRun:
    return LocalRun(folder, ModelOptions(), opened=OpenModels(lambda _: policy, lambda _: RandomModels()))


def created(local: LocalRun, name: str) -> int:
    problems = [Problem(f"{name} {number}", RIGHT_ANSWER) for number in range(6)]
    models = {"base": ("policy", "base"), "value-0": ("value", "value-0")}
    return local.create(name, "test", 1, {}, {"train": problems}, models, [COLLECT])


def rows_of(local: LocalRun, run_id: int) -> list[Any]:
    """Return all that is stored of the work on a run."""
    trees = select(TREES.c.id).where(TREES.c.run_id == run_id)
    with local.database.transaction() as transaction:
        statements = (
            select(RUNS).where(RUNS.c.id == run_id),
            select(PHASES).where(PHASES.c.run_id == run_id),
            select(TREES).where(TREES.c.run_id == run_id).order_by(TREES.c.id),
            select(REQUESTS).where(REQUESTS.c.tree_id.in_(trees)).order_by(REQUESTS.c.id),
        )
        return [list(map(tuple, transaction.execute(one))) for one in statements]


def interrupt(_: LocalRun) -> None:
    raise KeyboardInterrupt


def end_before_the_next_message(local: LocalRun) -> None:
    local._context.stopping.set()


@pytest.mark.parametrize(
    ("stop", "left"),
    [(interrupt, RequestState.WAITING), (end_before_the_next_message, RequestState.ANSWERED), (None, None)],
    ids=["requests wait", "answers wait", "it never started"],
)
def test_a_process_works_on_its_own_run_alone(stop: Stop | None, left: RequestState | None, tmp_path: Path) -> None:
    policy = Policy(at_second_call=lambda: stop(local) if stop is not None else None)
    with opened(tmp_path, policy) as local:
        mine, other = created(local, "mine"), created(local, "other")
        if stop is not None:
            with pytest.raises(KeyboardInterrupt):
                local.run(other)
            assert folder_use(tmp_path).is_idle(mine) and not folder_use(tmp_path).is_idle(other)
            with local.database.transaction() as transaction:
                assert left in transaction.execute(select(REQUESTS.c.state)).scalars().all()
    again = Policy()
    with opened(tmp_path, again) as local:
        before = rows_of(local, other)
        assert folder_use(tmp_path).is_idle(mine)
        for _ in range(2):
            assert local.run(mine).state == RunState.DONE
            assert rows_of(local, other) == before
        assert {question.split()[0] for questions in again.asked for question in questions} == {"mine"}
        assert folder_use(tmp_path).is_idle(other)
        assert local.run(other).state == RunState.DONE
        with local.database.transaction() as transaction:
            assert find_run(transaction, "mine").state == RunState.DONE  # type: ignore[union-attr]
    assert folder_use(tmp_path).is_idle(mine)
