"""What is given from Python, checked against the annotations of what it is given to."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from inspect import Parameter, signature
from numbers import Integral
from pathlib import Path
from types import NoneType
from typing import Any, ParamSpec, TypeVar, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from restmcts.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
_VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_WORDS: Mapping[object, str] = {
    str: "a text",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    NoneType: "None",
}
MAX_CHARACTERS = 60


def checks_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that refuses arguments that it does not have, that are missing, or of other
    types than are annotated: InputError with the argument's name, its value, and what would be
    taken. Whole numbers of numpy and pandas are taken as such.
    """
    expected = signature(function)
    hints = {
        name: one.annotation
        for name, one in expected.parameters.items()
        if one.kind not in _VARIABLE and one.annotation is not Parameter.empty and not isinstance(one.annotation, str)
    }

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = expected.bind(*args, **kwargs)
        except TypeError as error:
            names = ", ".join(name for name in expected.parameters if name != "self")
            raise InputError(f"{function.__name__}: {error}; it has {names}") from None
        for name, value in given.arguments.items():
            if name in hints:
                given.arguments[name] = checked_argument(f"{function.__name__}: {name}", value, hints[name])
        return function(*given.args, **given.kwargs)

    return call


def checked_argument(place: str, value: Any, hint: Any) -> Any:
    """Return a value, with Python's own whole numbers in it.

    Args:
        place: of the value, for the message.
        hint: what it is annotated with.

    Raises:
        InputError: if it is of another type.
    """
    value = _plain(value)
    try:
        TypeAdapter(hint | None, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value, strict=True)
        fits = value is not None or NoneType in get_args(hint)
    except ValidationError:
        fits = False
    if not fits:
        shown = repr(value)
        shown = shown if len(shown) <= MAX_CHARACTERS else f"{shown[: MAX_CHARACTERS - 1]}…"
        raise InputError(f"{place} is {' '.join(shown.split())}; give {_in_words(hint)}")
    return value


def check_choice(place: str, value: str | None, known: Iterable[str]) -> None:
    """Raise InputError, with the names that there are, if a name that is given is none of them."""
    names = list(known)
    if value is not None and value not in names:
        raise InputError(f"{place} is {value!r}; there are {', '.join(names) or 'none yet'}")


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    return [_plain(one) for one in value] if isinstance(value, list | tuple | range) else value


def _in_words(hint: Any) -> str:
    """Return what a type takes, in words."""
    if hint in _WORDS:
        return _WORDS[hint]
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (list, Sequence):
        return f"a list of {_in_words(inner[0]).removeprefix('a ')}s"
    if origin is Mapping:
        return "a dictionary"
    return " or ".join(map(_in_words, inner)) if inner else f"a {hint.__name__}"
