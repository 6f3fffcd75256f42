"""What every search says of itself: its settings as data, the machine that they make, and what
labeling and evaluation must know of it.

A search of one's own is a class of settings below `SearchSettings`, registered in `SEARCHES`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field
from functools import cache
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, GetCoreSchemaHandler, SerializationInfo, TypeAdapter
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from restmcts.domain.ranges import check_ranges
from restmcts.domain.search.protocol import Budget, Search
from restmcts.errors import InputError
from restmcts.registry import Registry

ALGORITHM = "algorithm"
Ends = Callable[[str], bool]
Steps = Sequence[str]


class SearchSettings(ABC):
    """Base of all settings; every class below it is a frozen dataclass.

    As JSON, settings are an object of their fields, beside the field `algorithm` with the name
    under which their class is registered.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        check_ranges(self)

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

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """Return the names of the settings, without the search's own name."""
        return tuple(cls.__dataclass_fields__)

    @property
    def needs_values(self) -> bool:
        """Whether the search asks a value model."""
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

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let a field of this type hold the settings of any registered search."""
        if cls is not SearchSettings:
            return handler(source)
        writing = core_schema.plain_serializer_function_ser_schema(_write, info_arg=True)
        return core_schema.no_info_plain_validator_function(_read, serialization=writing)


SEARCHES: Registry[type[SearchSettings]] = Registry("searches", "search")


@cache
def adapter(settings: type[SearchSettings]) -> TypeAdapter[Any]:
    """Return what checks the fields of a class of settings."""
    return TypeAdapter(settings)


def _read(given: object) -> SearchSettings:
    if isinstance(given, SearchSettings):
        return given
    if not isinstance(given, Mapping):
        raise PydanticKnownError("dict_type")
    if not isinstance(given.get(ALGORITHM), str):
        raise InputError(f"settings of a search are an object with the field {ALGORITHM!r}")
    fields = {name: value for name, value in given.items() if name != ALGORITHM}
    settings: SearchSettings = adapter(SEARCHES.get(given[ALGORITHM])).validate_python(fields)
    return settings


def _write(settings: SearchSettings, info: SerializationInfo) -> dict[str, Any]:
    fields = adapter(type(settings)).dump_python(settings, mode="json" if info.mode == "json" else "python")
    return {ALGORITHM: settings.algorithm, **fields}


# Reads and writes settings as JSON; the field `algorithm` says which.
SEARCH_SETTINGS: TypeAdapter[SearchSettings] = TypeAdapter(SearchSettings)
