"""How a person names a process reward model: `PLACE[?format=NAME&separator=TEXT&…]`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args
from urllib.parse import parse_qsl

from restmcts.domain.scoring import Aggregation
from restmcts.errors import InputError
from restmcts.modeling.prm.format import PRM_FORMATS
from restmcts.modeling.prm.known.own import ENSEMBLE, IMPLICIT, JUDGE, implicit_options

_FORMAT, _SEPARATOR, _AGGREGATION = "format", "separator", "aggregation"


@dataclass(frozen=True, slots=True)
class ModelReference:
    """How a person names a PRM: `PLACE[?format=NAME&separator=TEXT&aggregation=NAME&…]`.

    Attributes:
        place: a folder, an artifact, a hub id, or a server's URL without its options.
        format: None: found out by looking.
        separator: of steps, where the format leaves it open (TRL's); None: the format's own.
        aggregation: of a whole solution's score; None: the format's own.
        options: all others, a judge's, a server's and an implicit reward's.
    """

    place: str
    format: str | None = None
    separator: str | None = None
    aggregation: Aggregation | None = None
    options: Mapping[str, str] = field(default_factory=dict)


def parse_reference(text: str) -> ModelReference:
    """Return what a reference says.

    Raises:
        InputError: if it names no known format or aggregation, a server and no format that it
            scores by, an implicit reward and nothing to compare with, or one model as an ensemble.
    """
    place, mark, query = text.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=False)) if mark else {}
    name, separator, how = (options.pop(each, None) for each in (_FORMAT, _SEPARATOR, _AGGREGATION))
    if name is not None:
        _check_format(text, name)
    if how is not None and how not in get_args(Aggregation):
        raise InputError(f"{text}: no aggregation is called {how!r}; choose one of {', '.join(get_args(Aggregation))}")
    _check_server(place, name)
    if name == IMPLICIT.name:
        implicit_options(options)
    if name == ENSEMBLE.name:
        raise InputError(f"{text}: name the members of an ensemble, ensemble+MODEL1,MODEL2")
    return ModelReference(place, name, separator, how, options)  # type: ignore[arg-type]


def _check_format(text: str, name: str) -> None:
    try:
        PRM_FORMATS.get(name)
    except InputError as error:
        raise InputError(f"{text}: {error}") from None


def _check_server(place: str, name: str | None) -> None:
    scheme, is_server, _ = place.partition("://")
    if not is_server:
        return
    route = scheme.partition("+")[0]
    known = [each.name for each in PRM_FORMATS.values() if route in each.routes] or [JUDGE.name]
    if name not in known:
        raise InputError(f"{place}: say by which format this server scores, &format=NAME; it may be {', '.join(known)}")
