"""What is wrong with a request, in words."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, get_origin

from fastapi.dependencies.models import Dependant
from pydantic import AfterValidator
from restmcts.domain.text import escaped_text
from restmcts.errors import InputError
from restmcts.reporting.plain_text import shortened

MAX_CHARACTERS = 60
_WANTED = {
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "bool_parsing": "true or false",
    "literal_error": "{expected}",
    "greater_than_equal": "at least {ge:,}",
    "less_than_equal": "at most {le:,}",
}
"""What to give instead, by pydantic's name of the error."""


def one_of(name: str, allowed: Collection[str]) -> AfterValidator:
    """Return the check of a parameter that is empty or one of some words."""

    def check(value: str) -> str:
        check_one_of(name, value, allowed)
        return value

    return AfterValidator(check)


def check_one_of(name: str, value: str, allowed: Collection[str]) -> None:
    """Raise InputError unless a parameter is empty or one of some words."""
    if value and value not in allowed:
        raise InputError(f"{name} is {_shown(value)}; give one of {', '.join(allowed) or 'none'}")


def check_names(given: Sequence[tuple[str, str]], route: Dependant) -> None:
    """Raise InputError unless all parameters are a route's, and those that are no list are given
    once.
    """
    known = _query_types(route)
    for name, count in Counter(name for name, _ in given).items():
        if name not in known:
            what = f"give one of {', '.join(known)}" if known else "this page takes none"
            raise InputError(f"there is no parameter {_shown(name)} here; {what}")
        if count > 1 and get_origin(known[name]) is not list:
            raise InputError(f"{name} is given {count} times; give it once")


def _query_types(route: Dependant) -> dict[str, Any]:
    """Return the types of a route's query parameters by name, those of what it depends on too."""
    types = {field.alias: field.field_info.annotation for field in route.query_params}
    for inner in route.dependencies:
        types |= _query_types(inner)
    return types


def in_words(error: Mapping[str, Any]) -> str:
    """Return one of pydantic's errors as a sentence. What was given is named where it is short: a
    token that is too long is not shown.
    """
    name, kind, about = error["loc"][1], error["type"], error.get("ctx", {})
    sentences: dict[str, Callable[[], str]] = {
        "missing": lambda: f"{name} is missing",
        "string_too_long": lambda: (
            f"{name} has {len(error['input']):,} characters; give at most {about['max_length']:,}"
        ),
        "too_long": lambda: f"{name} is given {about['actual_length']} times; give at most {about['max_length']}",
    }
    if kind in sentences:
        return sentences[kind]()
    if kind in _WANTED:
        return f"{name} is {_shown(error['input'])}; give {_WANTED[kind].format(**about)}"
    return f"{name} cannot be read; give text"


def _shown(value: object) -> str:
    return repr(shortened(escaped_text(str(value)), MAX_CHARACTERS))
