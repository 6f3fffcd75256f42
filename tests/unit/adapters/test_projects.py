"""Projects: roles, tokens, an audit, and quotas that hold over all runs of a project.
tests/integration/test_projects.py has PostgreSQL.
"""

import hashlib
from pathlib import Path

import pytest
from restmcts.adapters.sql.state import projects, runs
from restmcts.adapters.sql.state.trees import TREES
from restmcts.adapters.sql.tables import PhaseState, RunState
from restmcts.domain.access import Caller, Role
from restmcts.errors import InputError, NotFoundError
from restmcts.messages.commands import AdvanceRun
from restmcts.usecases import steer
from restmcts.usecases.create import Extension, extend_run
from sqlalchemy import update

from tests.unit.adapters.project_team import COLLECT, NUM_PROBLEMS, TRAIN, Team


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
