"""Requests and answers as JSON: read back exactly, and those of older runs too."""

from restmcts.domain.requests import ScoreSteps, StepsScored
from restmcts.messages.wire import dump_request, dump_response, load_response, load_scoring


def test_scorings_of_whole_solutions_survive_the_wire() -> None:
    request = ScoreSteps(1, ("a\n",), (("b\n", "c\n"), ("d\n",)), whole=True)
    answer = StepsScored(1, ((0.25, 0.5), (1.0,)), 9, 2, (0.25, 1.0))
    assert load_scoring(dump_request(request)) == request
    assert load_response("score", dump_response(answer)) == answer


def test_scorings_stored_before_whole_solutions_were_known_are_read() -> None:
    request = load_scoring('{"number":1,"steps":["a\\n"],"branches":[["b\\n"]]}')
    assert request == ScoreSteps(1, ("a\n",), (("b\n",),)) and not request.whole
    answer = load_response("score", '{"number":1,"values":[[0.5]],"num_scored_tokens":3}')
    assert answer == StepsScored(1, ((0.5,),), 3) and answer.solution_scores == ()
