"""The demo of votes: its problems and its plan."""

from restmcts.domain.runs.phases import SearchPhase
from restmcts.domain.runs.spec import PuzzleSets
from restmcts.domain.runs.spec_plan import spec_plan
from restmcts.usecases.requested.runs import puzzle_sets
from restmcts_cli.experiments.demo_plan import QUICK, demo_spec
from restmcts_cli.experiments.votes_demo_plan import voted, with_true_answers

SIZES = {"demonstrations": 2, "bootstrap": 1, "searched": 3, "test": 1, "compared": 1, "held_out": 1}


def test_each_iteration_searches_puzzles_of_its_own_or_all_the_same() -> None:
    fresh = puzzle_sets(PuzzleSets.model_validate(SIZES), 0, 3)
    same = puzzle_sets(PuzzleSets.model_validate({**SIZES, "fresh": False}), 0, 3)
    names = ("search-1", "search-2", "search-3")
    assert len({problem.question for name in names for problem in fresh[name]}) == 9
    assert {tuple(same[name]) for name in names} == {tuple(same["search-1"])}
    assert len(same["search-1"]) == 3


def test_what_is_trained_on_is_voted_for_and_what_is_measured_is_verified() -> None:
    spec = voted(demo_spec(0, QUICK))
    searches = [phase for phase in spec_plan(spec) if isinstance(phase, SearchPhase)]
    by_votes = {phase.name for phase in searches if phase.truth.source == "votes"}
    assert by_votes == {"collect-1", "truth-1", "collect-2", "truth-2"}
    assert {"held-out-policy-1", "grade-policy-2"} <= {phase.name for phase in searches} - by_votes
    verified = [phase for phase in spec_plan(with_true_answers(spec)) if isinstance(phase, SearchPhase)]
    assert all(phase.truth.knows_answers for phase in verified)
    assert {phase.name for phase in verified} == {phase.name for phase in searches} - {"truth-1", "truth-2"}
