"""Settings of an entry of an open table: as JSON an object of their fields, beside the field that
holds the name under which their class is registered.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import Field, dataclass
from functools import cache
from typing import Any, ClassVar

from pydantic import ConfigDict, GetCoreSchemaHandler, SerializationInfo, TypeAdapter
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from restmcts.domain.ranges import check_ranges
from restmcts.errors import InputError
from restmcts.registry import Registry


@dataclass(frozen=True, slots=True)
class SettingsTable:
    """How the settings of one kind are distinguished.

    Attributes:
        registry: of their classes.
        key: the field that holds the name.
        base: the class below which all of them are.
        whole: one of them, for messages: "settings of a search".
    """

    registry: Registry[Any]
    key: str
    base: type
    whole: str


class OpenSettings(ABC):
    """Base of such settings; every class that is registered is a frozen dataclass."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    former_names: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        check_ranges(self)

    @classmethod
    @abstractmethod
    def table(cls) -> SettingsTable:
        """Return the table of this kind."""

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """Return the names of the settings, without the entry's own name."""
        return tuple(cls.__dataclass_fields__)

    @classmethod
    def present_name(cls, name: str) -> str:
        """Return what a setting is called now that run files and stored runs of earlier versions
        call by a name of `former_names`; a class that has a setting of that name keeps it.
        """
        known, new = cls.option_names(), cls.former_names.get(name, name)
        return new if name not in known and new in known else name

    @classmethod
    def with_present_names(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings by the names that they have now; a former name beside the present one
        stays, to be refused.
        """
        present = {name: cls.present_name(name) for name in given}
        return {name if present[name] in given else present[name]: value for name, value in given.items()}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let a field of the kind's base hold the settings of any registered entry."""
        table = cls.table()
        if cls is not table.base:
            return handler(source)
        writing = core_schema.plain_serializer_function_ser_schema(_write, info_arg=True)
        return core_schema.no_info_plain_validator_function(lambda given: _read(table, given), serialization=writing)


@cache
def adapter(settings: type[OpenSettings]) -> TypeAdapter[Any]:
    """Return what checks the fields of a class of settings."""
    return TypeAdapter(settings)


def _read(table: SettingsTable, given: object) -> Any:
    if isinstance(given, table.base):
        return given
    if not isinstance(given, Mapping):
        raise PydanticKnownError("dict_type")
    if not isinstance(given.get(table.key), str):
        raise InputError(f"{table.whole} are an object with the field {table.key!r}")
    kind: type[OpenSettings] = table.registry.get(given[table.key])
    fields = {name: value for name, value in given.items() if name != table.key}
    return adapter(kind).validate_python(kind.with_present_names(fields))


def _write(settings: OpenSettings, info: SerializationInfo) -> dict[str, Any]:
    table = settings.table()
    fields = adapter(type(settings)).dump_python(settings, mode="json" if info.mode == "json" else "python")
    return {table.key: table.registry.name_of(type(settings)), **fields}
