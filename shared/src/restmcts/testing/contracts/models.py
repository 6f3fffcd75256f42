"""The contracts of `restmcts.ports.StepProposer` and `StepScorer`."""

from collections.abc import Callable

from restmcts.domain.requests import STEP_SEPARATOR, GenerationSettings, ProposeSteps, ScoreSteps, StepsProposed
from restmcts.domain.scoring import Aggregation, aggregate
from restmcts.errors import ModelError
from restmcts.ports import StepProposer, StepScorer


def check_step_proposer(make: Callable[[], StepProposer], question: str, steps: tuple[str, ...]) -> None:
    """Try a proposer, made anew each time, on a question and a partial solution that fit it.

    Raises:
        AssertionError: at the first thing that it does not do.
    """
    settings = GenerationSettings(temperature=1.0, max_step_tokens=8, max_solution_tokens=24)
    one = ProposeSteps(4, (), 3, 1, seed=11)
    whole = ProposeSteps(9, steps, 2, None, seed=12)
    answers = make().propose([question, question], [one, whole], settings)
    assert [answer.number for answer in answers] == [4, 9], "answers come in the order of the requests"
    for request, answer in zip((one, whole), answers, strict=True):
        assert len(answer.samples) <= request.num_samples
        for sample in answer.samples:
            assert request.max_steps is None or len(sample.steps) <= request.max_steps
            assert sample.num_tokens >= sum(step.num_tokens for step in sample.steps)
            for step in sample.steps:
                assert step.text.strip() and STEP_SEPARATOR not in step.text.strip()
                assert step.log_prob <= 0.0
    alone = make().propose([question], [one], settings)
    assert _texts(alone[0]) == _texts(answers[0]), "a batch changes no sample"
    assert make().propose([], [], settings) == []
    _check_alternatives(make(), question, settings)


def _check_alternatives(proposer: StepProposer, question: str, settings: GenerationSettings) -> None:
    """Try whether a proposer returns alternatives and goes on from inside a step, or says that it
    cannot.
    """
    wanting = ProposeSteps(5, (), 1, 1, seed=13, greedy=True, num_alternatives=2)
    try:
        (answer,) = proposer.propose([question], [wanting], settings)
    except ModelError:
        return
    steps = answer.samples[0].steps
    untried = [alternative for step in steps for alternative in step.alternatives]
    assert untried, "who cannot return alternatives raises ModelError"
    assert all(alternative.log_prob <= 0.0 and alternative.log_prob_before <= 0.0 for alternative in untried)
    assert all(0 <= alternative.position < step.num_tokens for step in steps for alternative in step.alternatives)
    branch = ProposeSteps(6, (), 1, 1, seed=14, greedy=True, begun=steps[0].alternatives[0].begun)
    (branched,) = proposer.propose([question], [branch], settings)
    assert branched.samples[0].steps[0].text.strip().startswith(branch.begun.strip())


def _texts(answer: StepsProposed) -> list[list[str]]:
    return [[step.text for step in sample.steps] for sample in answer.samples]


def check_step_scorer(
    make: Callable[[], StepScorer],
    question: str,
    branches: tuple[tuple[str, ...], ...],
    aggregation: Aggregation = "last",
) -> None:
    """Try a scorer, made anew each time, on a question and at least two branches that fit it.

    Args:
        aggregation: how it makes a whole solution's score.

    Raises:
        AssertionError: at the first thing that it does not do.
    """
    requests = [ScoreSteps(3, (), branches), ScoreSteps(1, branches[0], branches[1:])]
    answers = make().score([question, question], requests)
    assert [answer.number for answer in answers] == [3, 1], "answers come in the order of the requests"
    for request, answer in zip(requests, answers, strict=True):
        assert [len(values) for values in answer.values] == [len(branch) for branch in request.branches], (
            "one value a step"
        )
        assert all(0.0 <= value <= 1.0 for values in answer.values for value in values)
        assert answer.solution_scores == (), "no score of a whole solution unless one is asked for"
    alone = make().score([question], requests[:1])
    pairs = zip(alone[0].values, answers[0].values, strict=True)
    assert all(abs(a - b) < 1e-4 for one, other in pairs for a, b in zip(one, other, strict=True)), (
        "a batch changes no value"
    )
    assert make().score([], []) == []
    _check_solution_scores(make(), question, branches, aggregation)


def _check_solution_scores(
    scorer: StepScorer, question: str, branches: tuple[tuple[str, ...], ...], aggregation: Aggregation
) -> None:
    """Try whole solutions, given at once and as branches below their first steps: a score is
    made of all steps' values.
    """
    beginning, ends = branches[0], branches[1:]
    below = ScoreSteps(1, beginning, ends, whole=True)
    at_once = ScoreSteps(2, (), tuple(beginning + branch for branch in ends), whole=True)
    first, second = scorer.score([question, question], [below, at_once])
    assert [len(values) for values in first.values] == [len(branch) for branch in ends], "values of the branch alone"
    expected = [aggregate(values, aggregation) for values in second.values]
    for answer in (first, second):
        pairs = zip(answer.solution_scores, expected, strict=True)
        assert all(abs(score - wanted) < 1e-4 for score, wanted in pairs), (
            "a score is made of all steps, by the model's own rule"
        )
