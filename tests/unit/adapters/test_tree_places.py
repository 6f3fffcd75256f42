"""Trees in flight of a project: runs of which trees wait have equal shares of a limit, and none of
them waits for another's end. tests/integration/test_projects.py has PostgreSQL.
"""

import pytest
from restmcts.adapters.sql.state import blocks, projects, runs
from restmcts.adapters.sql.state.trees import PHASES, create_trees
from restmcts.adapters.sql.tables import Need
from restmcts.usecases import steer
from sqlalchemy import update

from tests.unit.adapters.project_team import COLLECT, NUM_PROBLEMS, Team


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
