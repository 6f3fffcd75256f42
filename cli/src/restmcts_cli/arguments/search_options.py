"""Algorithms and their settings as a person types them."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from restmcts.domain.search.algorithms import SEARCH_SETTINGS, SearchSettings
from restmcts.errors import InputError


def parse_search(algorithm: str, options: Sequence[str], **defaults: Any) -> SearchSettings:
    """Return the settings of an algorithm by name, with `name=value` options; `defaults` apply
    where the algorithm has them.

    Raises:
        InputError: if there is no such algorithm or option, or a value does not fit.
    """
    given = {"algorithm": algorithm, **named_values(options)}
    try:
        fields = SEARCH_SETTINGS.validate_python({"algorithm": algorithm}).__dataclass_fields__
        unknown = sorted(set(given) - set(fields))
        if unknown:
            raise InputError(
                f"{algorithm} has no option {unknown[0]!r}; it has {', '.join(sorted(set(fields) - {'algorithm'}))}"
            )
        applying = {name: value for name, value in defaults.items() if name in fields}
        return SEARCH_SETTINGS.validate_python({**applying, **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "algorithm"
        raise InputError(f"{algorithm}: {where}: {first['msg']}") from error


def named_values(options: Sequence[str]) -> dict[str, Any]:
    """Return what `name=value` options say, values read as JSON where they are, else as text.

    Raises:
        InputError: if one is not written so.
    """
    given: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not equals:
            raise InputError(f"option {option!r}: write it as name=value")
        given[name.strip().replace("-", "_")] = _value(text.strip())
    return given


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
