"""Projects on real PostgreSQL: quotas hold where several processes take of them at once, with the
rights of each service alone.
"""

import time
from collections.abc import Iterator

import pytest
from restmcts.adapters.sql import roles
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.project_rows import Usage
from restmcts.adapters.sql.state import projects, runs
from restmcts.adapters.sql.state.trees import TREES
from restmcts.adapters.sql.tables import RunState, TreeState
from restmcts.domain.access import Caller, Role
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.errors import InputError
from restmcts.messages.commands import AdvanceRun
from restmcts.testing.threads import all_at_once
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts_cli.processes.stack_processes import Stack
from restmcts_coordinator.handlers import CoordinatorHandlers
from sqlalchemy import update
from sqlalchemy.exc import ProgrammingError

NUM_RUNS = 6
NUM_PROBLEMS = 8
COLLECT = SearchPhase("collect", 1, "collect", "set", "policy", None, CotSettings())


class Team:
    """A project on the database, whose runs search only when the test says so."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.name = f"team-{time.monotonic_ns()}"
        self.run_ids: list[int] = []
        with database.transaction() as transaction:
            self.id = projects.create_project(transaction, self.name)

    def create(self, number: int, max_tokens: int | None) -> int:
        problems = {"set": [Problem(f"question {place}", "1") for place in range(NUM_PROBLEMS)]}
        models = {"policy": NewCheckpoint("policy", "nowhere")}
        name = f"{self.name}-{number}"
        new = NewRun(name, "test", 0, [COLLECT], {}, problems, models, max_tokens, project=self.name)
        with self.database.transaction() as transaction:
            run_id = create_run(transaction, new).run_id
        self.run_ids.append(run_id)
        return run_id

    def limit(self, **quotas: int) -> None:
        with self.database.transaction() as transaction:
            projects.set_quotas(transaction, self.name, **quotas)

    def usage(self) -> Usage:
        with self.database.transaction() as transaction:
            return projects.usage(transaction, self.id)

    def end_trees(self) -> set[int]:
        """End the search of all trees that search; return the runs that these are of."""
        searching = TREES.c.run_id.in_(self.run_ids) & (TREES.c.state == TreeState.SEARCHING.value)
        ended = update(TREES).where(searching).values(state=TreeState.ENDED.value).returning(TREES.c.run_id)
        with self.database.transaction() as transaction:
            return set(transaction.execute(ended).scalars())


@pytest.fixture
def team(idle_servers: Stack, database: Database) -> Iterator[Team]:
    team = Team(database)
    yield team
    with database.transaction() as transaction:
        for run_id in team.run_ids:
            runs.finish_run(transaction, run_id, RunState.CANCELLED)


def test_tokens_are_handed_out_once_where_runs_are_created_at_once(team: Team) -> None:
    team.limit(max_tokens=1000)
    errors = all_at_once([lambda number=number: team.create(number, 400) for number in range(NUM_RUNS)])
    assert len(errors) == NUM_RUNS - 2
    assert all(isinstance(error, InputError) and "has 200 of 1,000 tokens left" in str(error) for error in errors)
    team.create(NUM_RUNS, None)
    assert team.usage() == Usage(1000, 0, 0, 3)


def test_trees_in_flight_are_admitted_once_by_coordinators_of_several_runs(team: Team, idle_servers: Stack) -> None:
    team.limit(max_trees_in_flight=11)
    run_ids = [team.create(number, None) for number in range(NUM_RUNS)]
    urls = roles.set_up(idle_servers.settings["RESTMCTS_DATABASE_URL"], idle_servers.folder / "roles")
    own = Database(urls["coordinator"])
    coordinators = [CoordinatorHandlers(own) for _ in run_ids]
    calls = zip(coordinators, run_ids, strict=True)
    errors = all_at_once(
        [lambda one=one, run_id=run_id: one.advance_run(AdvanceRun(run_id=run_id)) for one, run_id in calls]
    )
    assert errors == []
    assert team.usage().trees_in_flight == 11
    with pytest.raises(ProgrammingError, match="permission denied"), own.engine.begin() as connection:
        connection.execute(projects.AUDIT.delete())
    own.close()


def test_of_runs_that_are_created_at_once_with_one_name_one_is_stored(team: Team) -> None:
    errors = all_at_once([lambda: team.create(0, None)] * NUM_RUNS)
    assert len(errors) == NUM_RUNS - 1 and team.usage().num_runs == 1
    assert all(isinstance(error, InputError) and "exists already" in str(error) for error in errors)


def test_places_go_round_where_coordinators_move_all_runs_at_once(team: Team) -> None:
    team.limit(max_trees_in_flight=2)
    run_ids = [team.create(number, None) for number in range(NUM_RUNS)]
    coordinators = [CoordinatorHandlers(team.database) for _ in run_ids]
    searched: set[int] = set()
    # one coordinator has then given out places to every run
    for _ in range(3 * NUM_RUNS):
        calls = zip(coordinators, run_ids, strict=True)
        moves = [lambda one=one, run_id=run_id: one.advance_run(AdvanceRun(run_id=run_id)) for one, run_id in calls]
        assert all_at_once(moves) == []
        assert team.usage().trees_in_flight == 2
        searched |= team.end_trees()
    assert searched == set(run_ids)


def test_tokens_and_the_audit_are_kept_as_on_sqlite(team: Team) -> None:
    with team.database.transaction() as transaction:
        secret = projects.issue_token(transaction, team.name, "ada", Role.ADMIN)
        projects.record(transaction, "token.add", "ada", actor="operator", project_id=team.id, detail={"role": "admin"})
    with team.database.transaction() as transaction:
        assert projects.caller_of(transaction, secret) == Caller(team.name, team.id, "ada", Role.ADMIN)
        (row,) = projects.audit(transaction, team.name)
        assert (row.action, row.detail) == ("token.add", {"role": "admin"})
        projects.revoke_token(transaction, team.name, "ada")
        assert projects.caller_of(transaction, secret) is None
