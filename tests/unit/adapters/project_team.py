"""A project whose runs a test moves itself."""

from collections.abc import Callable

from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import projects, runs, token_budget
from restmcts.adapters.sql.state.trees import TREES
from restmcts.adapters.sql.tables import RunState, TreeState
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import Phase, SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.messages.commands import AdvanceRun
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts_coordinator.handlers import CoordinatorHandlers
from sqlalchemy import func, select, update

COLLECT = SearchPhase("collect", 1, "collect", "set", "policy", None, CotSettings())
TRAIN = TrainPolicyPhase("policy-1", 1, "policy", TrainingSettings(), (), solutions_of="set")
NUM_PROBLEMS = 4


class Team:
    """A project named "team" in a database, with runs of four problems."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.coordinator = CoordinatorHandlers(database)
        with database.transaction() as transaction:
            self.id = projects.create_project(transaction, "team")

    def limit(self, **quotas: int) -> None:
        with self.database.transaction() as transaction:
            projects.set_quotas(transaction, "team", **quotas)

    def create(self, name: str, max_tokens: int | None = None, *phases: Phase, project: str | None = "team") -> int:
        problems = [Problem(f"question {number}", "1") for number in range(NUM_PROBLEMS)]
        models = {"policy": NewCheckpoint("policy", "policy")}
        new = NewRun(
            name, "test", 0, phases, {}, {"set": problems}, models, max_tokens, paused=not phases, project=project
        )
        with self.database.transaction() as transaction:
            return create_run(transaction, new).run_id

    def budget(self, name: str) -> int | None:
        with self.database.transaction() as transaction:
            run = runs.find_run(transaction, name)
        assert run is not None
        return run.max_tokens

    def usage(self) -> tuple[int, int, int, int]:
        with self.database.transaction() as transaction:
            used = projects.usage(transaction, self.id)
        return used.tokens, used.trees_in_flight, used.num_bytes, used.num_runs

    def spend(self, run_id: int, tokens: int) -> None:
        with self.database.transaction() as transaction:
            token_budget.record(transaction, {run_id: tokens})

    def finish(self, run_id: int) -> None:
        with self.database.transaction() as transaction:
            runs.finish_run(transaction, run_id, RunState.DONE)

    def advance(self, run_id: int) -> int:
        """Let the coordinator look at a run; return how many of its trees search then."""
        self.coordinator.advance_run(AdvanceRun(run_id=run_id))
        return self.searching(run_id)

    def searching(self, run_id: int) -> int:
        with self.database.transaction() as transaction:
            return runs.num_searching(transaction, run_id)

    def end_tree(self, run_id: int) -> None:
        """Let the search of the first tree of a run that searches come to its end."""
        searching = (TREES.c.run_id == run_id) & (TREES.c.state == TreeState.SEARCHING.value)
        first = select(func.min(TREES.c.id)).where(searching).scalar_subquery()
        with self.database.transaction() as transaction:
            transaction.execute(update(TREES).where(TREES.c.id == first).values(state=TreeState.ENDED.value))

    def steer(self, change: Callable[..., None], name: str, *arguments: int) -> None:
        with self.database.transaction() as transaction:
            change(transaction, name, *arguments)
