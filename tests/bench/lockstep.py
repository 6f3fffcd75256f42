"""Many searches side by side over models in this process: no queue, no database, each round one
call of either model.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from restmcts.domain.requests import GenerationSettings, ProposeSteps, Request, Response, ScoreSteps, derive_seed
from restmcts.domain.search.protocol import Budget, Search
from restmcts.domain.search.settings import SearchSettings
from restmcts.modeling.policy.proposer import TransformersProposer
from restmcts.modeling.value.value_model import TransformersScorer

Waiting = Sequence[tuple[int, Request]]


@dataclass(frozen=True, slots=True)
class Models:
    """A policy and its value model; None where no search asks for values."""

    proposer: TransformersProposer
    scorer: TransformersScorer | None


@dataclass(frozen=True, slots=True)
class Searched:
    """Searches that have ended, in the order of their questions, the rounds they took and the
    wall time in seconds.
    """

    searches: list[Search]
    rounds: int
    seconds: float

    def mean(self, name: str) -> float:
        """Return the mean a problem of what was spent of something."""
        return float(sum(getattr(search.spent, name) for search in self.searches)) / len(self.searches)


def search_all(
    questions: Sequence[str],
    settings: SearchSettings,
    budget: Budget,
    models: Models,
    generation: GenerationSettings,
    seed: int = 0,
) -> Searched:
    """Search all questions to their end."""
    searches = [settings.build(budget, derive_seed(seed, place)) for place in range(len(questions))]
    rounds = 0
    begin = time.perf_counter()
    waiting: Waiting = [(place, request) for place, search in enumerate(searches) for request in search.begin()]
    while waiting:
        rounds += 1
        waiting = _advance(waiting, searches, questions, models, generation)
    return Searched(searches, rounds, time.perf_counter() - begin)


def _advance(
    waiting: Waiting,
    searches: Sequence[Search],
    questions: Sequence[str],
    models: Models,
    generation: GenerationSettings,
) -> Waiting:
    proposals = [(place, request) for place, request in waiting if isinstance(request, ProposeSteps)]
    scorings = [(place, request) for place, request in waiting if isinstance(request, ScoreSteps)]
    places = [place for place, _ in (*proposals, *scorings)]
    asked = [questions[place] for place in places]
    answers: list[Response] = []
    answers += models.proposer.propose(asked[: len(proposals)], [request for _, request in proposals], generation)
    if models.scorer is not None:
        answers += models.scorer.score(asked[len(proposals) :], [request for _, request in scorings])
    return [
        (place, request)
        for place, answer in zip(places, answers, strict=True)
        for request in searches[place].receive(answer)
    ]
