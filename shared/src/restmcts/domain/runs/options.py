"""What can be set, said by the settings classes themselves: each setting's type, default, range,
and what it does.

A class says what a setting does in its docstring (`Attributes:`) or in its field's description.
"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass
from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from restmcts.domain.ranges import bounds_in, bounds_of, in_words

_TYPES = {int: "whole number", float: "number", bool: "true or false", str: "text", NoneType: "null"}
_ATTRIBUTE = re.compile(r"^    (\w+): (.*?)(?=^    \w+: |^\S|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Option:
    """A setting.

    Attributes:
        name: as a run file has it, within its section.
        annotation: its type, without what is said of it.
        default: as it would be written in a run file; "" if it must be given.
        range: "at least 1"; "" where its type alone says what it may be.
        help: what it does, with a capital letter and a full stop.
    """

    name: str
    annotation: Any
    default: str
    range: str
    help: str

    @property
    def type(self) -> str:
        """The type in words: "whole number or null", or the words that it may be."""
        return type_in_words(self.annotation)


def options_of(owner: Any) -> list[Option]:
    """Return the settings of a class, in their order."""
    hints = get_type_hints(owner, include_extras=True)
    said = {name: text for one in reversed(owner.__mro__[:-1]) for name, text in attributes_of(one).items()}
    fields: Mapping[str, Any] = getattr(owner, "model_fields", None) or getattr(owner, "__dataclass_fields__", {})
    return [_option(name, field, hints[name], said.get(name, "")) for name, field in fields.items()]


def _option(name: str, field: "FieldInfo | Field[Any]", hint: Any, said: str) -> Option:
    bounds = bounds_of(hint)
    if isinstance(field, FieldInfo):
        bounds, said = (*bounds_in(field.metadata), *bounds), field.description or said
    return Option(name, plain_type(hint), _default(field), in_words(bounds), _sentence(said))


def plain_type(hint: Any) -> Any:
    """Return a type without what is said of it, in its members too."""
    if get_origin(hint) is Annotated:
        return plain_type(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return reduce(or_, (plain_type(one) for one in get_args(hint)))
    return hint


def attributes_of(owner: Any) -> dict[str, str]:
    """Return what the docstring of a class says of each of its attributes."""
    _, found, section = (inspect.getdoc(owner) or "").partition("Attributes:\n")
    return {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(section)} if found else {}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def _default(field: "FieldInfo | Field[Any]") -> str:
    default = field.default
    if default is PydanticUndefined or default is MISSING:
        return ""
    return as_written(default)


def as_written(value: Any) -> str:
    """Return a value as a run file has it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\n", "\\n") + '"'
    return str(value) if isinstance(value, (int, float)) else ""


def type_in_words(annotation: Any) -> str:
    """Return a type as a person reads it."""
    if get_origin(annotation) is Literal:
        return ", ".join(str(word) for word in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(type_in_words(one) for one in get_args(annotation))
    if get_origin(annotation) is tuple:
        return "list"
    return _TYPES.get(annotation, "table")
