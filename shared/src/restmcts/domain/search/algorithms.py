"""All searches by name: settings as data, and the machine that each of them makes."""

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Discriminator, TypeAdapter

from restmcts.domain.answers.extraction import states_answer as states_answer_by_default
from restmcts.domain.search.best_first import BestFirst, BestFirstSettings
from restmcts.domain.search.best_of_n import BestOfNSettings, CotSettings, SelfConsistencySettings, SolutionSampling
from restmcts.domain.search.mcts_star import MctsStar, MctsStarSettings
from restmcts.domain.search.protocol import Budget, Search
from restmcts.domain.search.step_rollouts import StepRollouts, StepRolloutsSettings
from restmcts.domain.search.tree_of_thoughts import (
    DepthFirstSearch,
    LayeredSearch,
    StepBeamSettings,
    TotBfsSettings,
    TotDfsSettings,
)

SearchSettings = Annotated[
    MctsStarSettings
    | BestFirstSettings
    | CotSettings
    | SelfConsistencySettings
    | BestOfNSettings
    | TotBfsSettings
    | TotDfsSettings
    | StepBeamSettings
    | StepRolloutsSettings,
    Discriminator("algorithm"),
]

SEARCH_SETTINGS: TypeAdapter[SearchSettings] = TypeAdapter(SearchSettings)
"""Reads and writes settings as JSON; the field `algorithm` says which."""


def build_search(
    settings: SearchSettings,
    budget: Budget,
    seed: int,
    states_answer: Callable[[str], bool] = states_answer_by_default,
    begins_with: Sequence[str] = (),
) -> Search:
    """Return a fresh search; `begins_with` are given steps that rollouts go on from, which no
    other search knows.
    """
    match settings:
        case MctsStarSettings():
            return MctsStar(settings, budget, seed, states_answer)
        case BestFirstSettings():
            return BestFirst(settings, budget, seed, states_answer)
        case CotSettings() | SelfConsistencySettings() | BestOfNSettings():
            return SolutionSampling(settings, budget, seed, states_answer)
        case StepBeamSettings() | TotBfsSettings():
            return LayeredSearch(settings, budget, seed, states_answer)
        case StepRolloutsSettings():
            return StepRollouts(settings, budget, seed, states_answer, tuple(begins_with))
        case TotDfsSettings():
            return DepthFirstSearch(settings, budget, seed, states_answer)


def needs_values(settings: SearchSettings) -> bool:
    """Return whether the search asks a value model."""
    match settings:
        case CotSettings() | SelfConsistencySettings():
            return settings.gate is not None
        case StepRolloutsSettings():
            return False
        case BestOfNSettings():
            return settings.score
    return True
