"""Projects: roles, tokens, an audit, and quotas that hold over all runs of a project.
tests/integration/test_projects.py has PostgreSQL.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.state import blocks, projects, runs, token_budget
from restmcts.adapters.sql.state.trees import PHASES, TREES, create_trees
from restmcts.adapters.sql.tables import Need, PhaseState, RunState, TreeState
from restmcts.domain.access import Caller, Role
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import Phase, SearchPhase, TrainPolicyPhase
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.best_of_n import CotSettings
from restmcts.errors import InputError, NotFoundError
from restmcts.messages.commands import AdvanceRun
from restmcts.usecases import steer
from restmcts.usecases.create import Extension, NewCheckpoint, NewRun, create_run, extend_run
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


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'run.db'}")
    database.create_tables()
    yield database
    database.close()


@pytest.fixture
def team(database: Database) -> Team:
    return Team(database)


def test_a_role_may_do_what_those_before_it_may() -> None:
    roles = [Role.READ, Role.RUN, Role.ADMIN]
    assert {role: [needed for needed in roles if role.allows(needed)] for role in roles} == {
        Role.READ: roles[:1],
        Role.RUN: roles[:2],
        Role.ADMIN: roles,
    }


def test_a_project_has_a_name_of_its_own(team: Team) -> None:
    with team.database.transaction() as transaction:
        for name, reason in (("team", "exists already"), ("", "is empty"), ("a\0b", "not printed")):
            with pytest.raises(InputError, match=reason):
                projects.create_project(transaction, name)
        with pytest.raises(NotFoundError, match="no project is named 'other'; there are team"):
            projects.project_named(transaction, "other")
        (listed,) = projects.list_projects(transaction)
        assert listed == projects.project_named(transaction, "team")
        assert (listed.max_tokens, listed.max_trees_in_flight, listed.max_bytes) == (None, None, None)


def test_of_a_secret_only_the_digest_is_stored(team: Team, tmp_path: Path) -> None:
    with team.database.transaction() as transaction:
        secret = projects.issue_token(transaction, "team", "ada", Role.RUN)
    team.database.close()
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("run.db*"))
    assert secret.startswith("rmp_") and len(secret) > 40
    assert secret.removeprefix("rmp_").encode() not in stored
    assert hashlib.sha256(secret.encode()).hexdigest().encode() in stored


def test_whoever_shows_a_valid_secret_is_known(team: Team) -> None:
    with team.database.transaction() as transaction:
        secrets = {role: projects.issue_token(transaction, "team", f"my {role}", role) for role in Role}
        for role, secret in secrets.items():
            assert projects.caller_of(transaction, secret) == Caller("team", team.id, f"my {role}", role)
        for unknown in ("", "rmp_", secrets[Role.RUN][:-1], secrets[Role.RUN] + "\ud800"):
            assert projects.caller_of(transaction, unknown) is None
        projects.revoke_token(transaction, "team", "my run")
        assert projects.caller_of(transaction, secrets[Role.RUN]) is None
        assert projects.caller_of(transaction, secrets[Role.READ]) is not None


def test_a_revoked_token_keeps_its_name(team: Team) -> None:
    with team.database.transaction() as transaction:
        projects.issue_token(transaction, "team", "ada", Role.READ)
        projects.revoke_token(transaction, "team", "ada")
        (token,) = projects.tokens_of(transaction, "team")
        assert (token.name, token.role) == ("ada", "read") and token.revoked_at is not None
        with pytest.raises(InputError, match="has or had a token named 'ada'"):
            projects.issue_token(transaction, "team", "ada", Role.READ)
        with pytest.raises(NotFoundError, match="no valid token named 'ada'; it has none"):
            projects.revoke_token(transaction, "team", "ada")


def test_the_audit_has_the_newest_first_and_a_project_its_own(team: Team) -> None:
    with team.database.transaction() as transaction:
        other = projects.create_project(transaction, "other")
        projects.record(transaction, "first", "it", actor="ada", project_id=team.id, detail={"number": 1})
        projects.record(transaction, "second", "it", actor="bob", project_id=other)
        projects.record(transaction, "third", "it", actor="operator", project_id=None)
    with team.database.transaction() as transaction:
        everything, limited = projects.audit(transaction), projects.audit(transaction, limit=1)
        (own,) = projects.audit(transaction, "team")
    assert [(row.action, row.project, row.actor) for row in everything] == [
        ("third", None, "operator"),
        ("second", "other", "bob"),
        ("first", "team", "ada"),
    ]
    assert limited == everything[:1] and own == everything[2]
    assert own.detail == {"number": 1} and everything[0].detail == {}


def test_what_is_rolled_back_is_not_in_the_audit(team: Team) -> None:
    with pytest.raises(InputError), team.database.transaction() as transaction:
        projects.record(transaction, "cancel run", "none", actor="ada", project_id=team.id)
        steer.cancel(transaction, "none")
    with team.database.transaction() as transaction:
        assert projects.audit(transaction) == []


def test_tokens_are_handed_out_once(team: Team) -> None:
    team.limit(max_tokens=1000)
    team.create("first", 600)
    asked = "team has 400 of 1,000 tokens left for run second, which asks for 500: give it at most 400 by --max-tokens"
    with pytest.raises(InputError, match=asked):
        team.create("second", 500)
    with team.database.transaction() as transaction:
        assert projects.runs_of(transaction, team.id) == {"first"}, "a run that is refused is not there"
    team.create("second", 300)
    team.create("rest")
    assert team.budget("rest") == 100, "a run without a budget gets all that is left"
    for max_tokens, asked in ((1, "1"), (None, "no limit")):
        with pytest.raises(
            InputError, match=f"has 0 of 1,000 .* asks for {asked}: end another run, or raise .*quota team"
        ):
            team.create("late", max_tokens)
    assert team.usage() == (1000, 0, 0, 3)


def test_a_run_that_has_ended_gives_back_what_it_did_not_generate(team: Team) -> None:
    team.limit(max_tokens=1000)
    first = team.create("first", 900)
    team.spend(first, 150)
    assert team.usage()[0] == 900
    team.steer(steer.cancel, "first")
    assert team.usage()[0] == 150
    team.create("second")
    assert team.budget("second") == 850


def test_the_answer_beyond_a_budget_counts(team: Team) -> None:
    team.limit(max_tokens=1000)
    team.spend(team.create("first", 600), 650)
    team.create("second")
    assert team.budget("second") == 350


def test_a_larger_budget_comes_out_of_what_is_left(team: Team) -> None:
    team.limit(max_tokens=1000)
    team.create("first", 600)
    team.create("second", 300)
    for change in (steer.resume, steer.set_max_tokens):
        with pytest.raises(InputError, match="has 700 of 1,000 tokens left for run first, which asks for 701"):
            team.steer(change, "first", 701)
    assert team.budget("first") == 600
    team.steer(steer.resume, "first", 700)
    with pytest.raises(InputError, match="has 300 of 1,000 tokens left for run second"):
        team.steer(steer.set_max_tokens, "second", 301)
    team.steer(steer.resume, "second")


def test_a_run_that_is_extended_needs_its_budget_again(team: Team) -> None:
    team.limit(max_tokens=1000)
    first = team.create("first", 900)
    team.spend(first, 200)
    team.finish(first)
    team.create("second", 500)

    def extend(max_tokens: int | None) -> None:
        with team.database.transaction() as transaction:
            extend_run(transaction, "first", Extension({}, (), {}, max_tokens))

    with pytest.raises(InputError, match="has 500 of 1,000 tokens left for run first, which asks for 900"):
        extend(None)
    extend(500)
    assert team.usage()[0] == 1000


def test_a_smaller_quota_takes_nothing_away_and_gives_nothing_out(team: Team) -> None:
    team.limit(max_tokens=1000)
    team.create("first", 800)
    team.limit(max_tokens=500)
    assert team.usage()[0] == 800
    with pytest.raises(InputError, match="has 0 of 500 tokens left for run second"):
        team.create("second", 1)
    with pytest.raises(InputError, match="has 500 of 500 tokens left for run first"):
        team.steer(steer.resume, "first")
    team.limit(max_tokens=0)
    team.create("second")
    assert team.budget("second") is None


def test_tokens_get_a_quota_once_all_open_runs_have_budgets(team: Team) -> None:
    team.create("unlimited")
    ended = team.create("ended")
    with team.database.transaction() as transaction:
        runs.add_phases(transaction, ended, [COLLECT])
        transaction.emit(AdvanceRun(run_id=ended))
        steer.resume(transaction, "ended")
    team.advance(ended)
    with team.database.transaction() as transaction:
        transaction.execute(update(TREES).where(TREES.c.run_id == ended).values(tokens=25))
    team.finish(ended)
    with pytest.raises(InputError, match=r"run unlimited of project team has no token budget: .*--max-tokens N"):
        team.limit(max_tokens=1000)
    team.steer(steer.resume, "unlimited", 300)
    team.limit(max_tokens=1000)
    assert team.usage()[0] == 300 + 25 * NUM_PROBLEMS, "trees of a run without a budget are counted"


@pytest.mark.parametrize("quotas", [{"max_tokens": -1}, {"max_trees_in_flight": 2**31}, {"max_bytes": 2**63}])
def test_what_no_quota_can_be_is_refused(team: Team, quotas: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(quotas))} is .*; 0 lifts the quota"):
        team.limit(**quotas)


def test_a_run_of_no_project_is_under_no_quota(team: Team) -> None:
    team.limit(max_tokens=1, max_trees_in_flight=1, max_bytes=1)
    run_id = team.create("own", None, COLLECT, project=None)
    assert team.budget("own") is None and team.advance(run_id) == NUM_PROBLEMS
    with team.database.transaction() as transaction:
        assert projects.project_of_run(transaction, "own") is None
        assert projects.project_of_run(transaction, "nowhere") is None
    assert team.usage() == (0, 0, 0, 0)


def test_a_run_of_an_unknown_project_is_not_stored(team: Team) -> None:
    with pytest.raises(NotFoundError, match="no project is named 'other'"):
        team.create("first", project="other")
    with team.database.transaction() as transaction:
        assert runs.find_run(transaction, "first") is None


def test_trees_in_flight_are_those_of_all_runs_of_a_project(team: Team) -> None:
    team.limit(max_trees_in_flight=5)
    first, second = (team.create(name, None, COLLECT) for name in ("first", "second"))
    assert (team.advance(first), team.advance(second), team.advance(first)) == (4, 1, 4)
    team.end_tree(first)
    assert team.advance(second) == 2
    team.steer(steer.pause, "first")
    assert team.advance(second) == 2, "a paused run keeps its places"
    assert team.usage()[1] == 5
    team.steer(steer.cancel, "first")
    assert team.advance(second) == 4


def test_a_run_that_has_all_trees_of_its_project_leaves_a_share_to_another(team: Team) -> None:
    team.limit(max_trees_in_flight=3)
    first, second = (team.create(name, None, COLLECT) for name in ("first", "second"))
    assert (team.advance(first), team.advance(second)) == (3, 0)
    team.end_tree(first)
    assert (team.advance(first), team.searching(second)) == (2, 1)


@pytest.mark.parametrize("limit", [1, 2, 4, 5])
def test_no_run_waits_for_the_end_of_others_however_few_places_there_are(team: Team, limit: int) -> None:
    team.limit(max_trees_in_flight=limit)
    run_ids = [team.create(name, None, COLLECT) for name in ("first", "second", "third")]
    in_flight = [run_id for run_id in run_ids for _ in range(team.advance(run_id))]
    order = []
    while in_flight:
        order.append(in_flight.pop(0))
        team.end_tree(order[-1])
        team.advance(order[-1])
        for run_id in run_ids:
            in_flight += [run_id] * (team.searching(run_id) - in_flight.count(run_id))
        assert len(in_flight) == team.usage()[1] <= limit
    assert len(order) == len(run_ids) * NUM_PROBLEMS
    # the first had places before the others were there
    assert set(run_ids[1:]) <= set(order[limit : limit + 3])


def test_a_limit_below_what_is_in_flight_lets_no_tree_begin_until_so_many_have_ended(team: Team) -> None:
    first, second = (team.create(name, None, COLLECT) for name in ("first", "second"))
    assert team.advance(first) == NUM_PROBLEMS
    team.limit(max_trees_in_flight=2)
    counts = []
    for _ in range(NUM_PROBLEMS):
        team.end_tree(first)
        counts.append((team.advance(first), team.advance(second)))
    assert counts == [(3, 0), (2, 0), (1, 1), (0, 2)]


def test_a_run_that_takes_no_places_keeps_none_from_others(team: Team) -> None:
    team.limit(max_trees_in_flight=3)
    blocked, paused, working = (team.create(name, None, COLLECT) for name in ("blocked", "paused", "working"))
    with team.database.transaction() as transaction:
        for run_id in (blocked, paused):
            transaction.execute(update(PHASES).where(PHASES.c.run_id == run_id).values(state="searching"))
            problems = runs.problems_of_round(transaction, run_id, "set", None)
            phase_id = runs.phases_of(transaction, run_id)[0].id
            rows = [{"run_id": run_id, "phase_id": phase_id, "problem_id": one.id, "seed": 0} for one in problems]
            create_trees(transaction, rows)
        blocks.block(transaction, blocked, Need.RUN, blocked, "no plugin")
    team.steer(steer.pause, "paused")
    assert team.advance(working) == 3
    assert (team.searching(blocked), team.searching(paused)) == (0, 0)


def test_places_go_to_runs_with_the_fewest_trees_in_turn() -> None:
    assert projects.equal_shares(5, {1: 0, 2: 0, 3: 4}, 256) == {1: 3, 2: 2}
    assert projects.equal_shares(2, {1: 1, 2: 1, 3: 1}, 256) == {1: 1, 2: 1}
    assert projects.equal_shares(2**31 - 1, {1: 0, 2: 2}, 3) == {1: 3, 2: 1}
    assert projects.equal_shares(0, {1: 0}, 3) == projects.equal_shares(3, {}, 3) == {}


def test_a_project_that_has_stored_what_it_may_stores_no_more(team: Team) -> None:
    run_id = team.create("first", None, TRAIN)
    team.advance(run_id)
    with team.database.transaction() as transaction:
        (phase,) = runs.phases_of(transaction, run_id)
        assert phase.state == PhaseState.WRITING
        runs.add_dataset(transaction, phase.id, "train-policy", "artifact:datasets/1", "1", {"num_rows": 1}, 60)
        runs.add_checkpoint(transaction, run_id, "other", "policy", "artifact:checkpoints/1", "1", num_bytes=40)
    team.limit(max_bytes=100)
    assert team.usage()[2] == 100
    team.advance(run_id)
    reason = "project team has stored 100 of 100 bytes: delete runs that have ended, or raise the quota: "
    with team.database.transaction() as transaction:
        run = runs.find_run(transaction, "first")
        assert run is not None and run.state == RunState.PAUSED and str(run.error).startswith(reason)
        assert runs.phases_of(transaction, run_id)[0].state == PhaseState.WRITING
    for refused in (lambda: team.steer(steer.resume, "first"), lambda: team.create("second")):
        with pytest.raises(InputError, match=reason):
            refused()
    team.limit(max_bytes=101)
    team.steer(steer.resume, "first")
    team.advance(run_id)
    with team.database.transaction() as transaction:
        assert runs.phases_of(transaction, run_id)[0].state == PhaseState.TRAINING


def test_a_run_is_not_extended_where_its_project_is_over_its_bytes(team: Team) -> None:
    run_id = team.create("first")
    with team.database.transaction() as transaction:
        runs.add_checkpoint(transaction, run_id, "other", "policy", "artifact:checkpoints/1", "1", num_bytes=40)
    team.finish(run_id)
    team.limit(max_bytes=30)
    with pytest.raises(InputError, match="has stored 40 of 30 bytes"), team.database.transaction() as transaction:
        extend_run(transaction, "first", Extension({}, (), {}))
