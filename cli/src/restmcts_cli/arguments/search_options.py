"""Algorithms and their settings as a person types them."""

import json
from collections.abc import Sequence

from pydantic import ValidationError
from restmcts.domain.search.settings import ALGORITHM, SEARCH_SETTINGS, SEARCHES, SearchSettings
from restmcts.errors import InputError


def parse_search(algorithm: str, options: Sequence[str], **defaults: object) -> SearchSettings:
    """Return the settings of an algorithm by name, with `name=value` options; `defaults` apply
    where the algorithm has them.

    Raises:
        InputError: if there is no such algorithm or option, or a value does not fit.
    """
    settings = SEARCHES.get(algorithm)
    known = settings.option_names()
    given = settings.with_present_names(named_values(options))
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        raise InputError(f"{algorithm} has no option {unknown!r}; it has {', '.join(sorted(known))}")
    applying = {name: value for name, value in defaults.items() if name in known}
    try:
        return SEARCH_SETTINGS.validate_python({ALGORITHM: algorithm, **applying, **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"{algorithm}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def named_values(options: Sequence[str]) -> dict[str, object]:
    """Return what `name=value` options say, values read as JSON where they are, else as text.

    Raises:
        InputError: if one is not written so.
    """
    given: dict[str, object] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not equals or not name.strip():
            raise InputError(f"option {option!r}: write it as name=value")
        given[name.strip().replace("-", "_")] = _value(text.strip())
    return given


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
