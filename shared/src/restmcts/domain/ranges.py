"""Ranges of settings, said in their types (`branch: AtLeastOne = 3`), so that whoever reads a
setting, lists it or takes it from a file has them from one place.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from math import isfinite
from operator import ge, gt, le, lt
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import Field
from pydantic.fields import FieldInfo

from restmcts.errors import InputError

AtLeastOne = Annotated[int, Field(ge=1)]
AtLeastZero = Annotated[int, Field(ge=0)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
UnitInterval = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]

_WORDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "ge": ("at least", ge),
    "gt": ("above", gt),
    "le": ("at most", le),
    "lt": ("below", lt),
}
Bound = tuple[str, float]


def check_ranges(settings: Any) -> None:
    """Check every field of a dataclass against the range that its type names; None is in any, and
    no infinite number is in one.

    Raises:
        InputError: naming the first field outside its range, its value and the range.
    """
    owner: Any = type(settings)
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, float) and not isfinite(value):
            raise InputError(f"{field.name} is {value}; give a finite number")
    for name, bounds in _ranges(owner):
        value = getattr(settings, name)
        if value is not None and not _is_within(value, bounds):
            raise InputError(f"{name} is {value!r}; give {in_words(bounds)}")


def _is_within(value: Any, bounds: tuple[Bound, ...]) -> bool:
    try:
        return all(_WORDS[kind][1](value, bound) for kind, bound in bounds)
    except TypeError:  # it is no number
        return False


@cache
def _ranges(owner: Any) -> tuple[tuple[str, tuple[Bound, ...]], ...]:
    found = ((name, bounds_of(hint)) for name, hint in get_type_hints(owner, include_extras=True).items())
    return tuple((name, bounds) for name, bounds in found if bounds)


def bounds_of(annotation: Any) -> tuple[Bound, ...]:
    """Return the bounds that an annotation names, as pairs such as ("ge", 1)."""
    if get_origin(annotation) is Annotated:
        annotation, *extras = get_args(annotation)
        own = [one for extra in extras if isinstance(extra, FieldInfo) for one in extra.metadata]
        return (*bounds_in(own), *bounds_of(annotation))
    return tuple(bound for member in get_args(annotation) for bound in bounds_of(member))


def bounds_in(metadata: list[Any]) -> tuple[Bound, ...]:
    """Return the bounds among what pydantic keeps of a field."""
    return tuple((kind, getattr(one, kind)) for one in metadata for kind in _WORDS if hasattr(one, kind))


def in_words(bounds: tuple[Bound, ...]) -> str:
    """Return bounds as a person reads them: "at least 0 and below 1"."""
    return " and ".join(f"{_WORDS[kind][0]} {bound:g}" for kind, bound in bounds)
