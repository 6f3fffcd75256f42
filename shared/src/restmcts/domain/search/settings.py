"""What every search says of itself: its settings as data, the machine that they make, and what
labeling and evaluation must know of it.

A search of one's own is a class of settings below `SearchSettings`, registered in `SEARCHES`.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Self

from pydantic import TypeAdapter

from restmcts.domain.open_settings import OpenSettings, SettingsTable
from restmcts.domain.search.protocol import Budget, Search
from restmcts.registry import Registry

ALGORITHM = "algorithm"
Ends = Callable[[str], bool]
Steps = Sequence[str]


class SearchSettings(OpenSettings):
    """Base of all settings; every class below it is a frozen dataclass.

    As JSON, settings are an object of their fields, beside the field `algorithm` with the name
    under which their class is registered.
    """

    __slots__ = ()
    former_names = MappingProxyType({"gate": "stop_threshold", "end_gate": "stop_threshold"})

    @classmethod
    def table(cls) -> SettingsTable:
        """Return the table of searches."""
        return SettingsTable(SEARCHES, ALGORITHM, SearchSettings, "settings of a search")

    @abstractmethod
    def build(self, budget: Budget, seed: int, ends: Ends, begins_with: Steps = ()) -> Search:
        """Return a fresh search.

        Args:
            budget: what it may spend.
            seed: of all its requests.
            ends: whether a step ends a solution.
            begins_with: given steps that rollouts go on from, which no other search knows.
        """

    @property
    def algorithm(self) -> str:
        """The name under which this class is registered."""
        return SEARCHES.name_of(type(self))

    @property
    def needs_values(self) -> bool:
        """Whether the search asks a value model."""
        return True

    @property
    def samples_branches(self) -> bool:
        """Whether the tree's branches are samples of the policy, so that a mean over leaves is
        one over what the policy does; else they were chosen, and leaves must be weighted.
        """
        return True

    @property
    def reads_pool(self) -> bool:
        """Whether the search needs whole samples only, so that an evaluation may read them from
        a pool that other searches read too (restmcts.domain.search.sample_pool).
        """
        return False

    @property
    def is_budgeted(self) -> bool:
        """Whether a larger budget could change the answer."""
        return True

    @property
    def has_width(self) -> bool:
        """Whether the budget decides how wide the search is, so that the typical length of a
        solution must be known.
        """
        return False

    def at_budget(self, budget_tokens: int, solution_tokens: int) -> Self:
        """Return the settings under a budget of generated tokens.

        Args:
            budget_tokens: of one tree.
            solution_tokens: of a typical solution.
        """
        return self

    @property
    def verified_threshold(self) -> float | None:
        """The value from which a leaf that is not finished is verified too when its tree is
        labeled; None: only finished solutions are.
        """
        return None


SEARCHES: Registry[type[SearchSettings]] = Registry("searches", "search")


# Reads and writes settings as JSON; the field `algorithm` says which.
SEARCH_SETTINGS: TypeAdapter[SearchSettings] = TypeAdapter(SearchSettings)
