"""Settings of a run one by one, from a run file and from flags, put together into its document.

Each setting knows where it was given, so that what is wrong with it is said of that place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from restmcts.domain.learning.learner import LEARNERS
from restmcts.domain.runs.spec import RunSpec, flattened, search_class, search_of_method, written
from restmcts.domain.search.settings import ALGORITHM as ALGORITHM_FIELD
from restmcts.errors import InputError

SEARCH = "search."
ALGORITHM, LEARNER = f"{SEARCH}algorithm", "learner.name"
CHOICES = (ALGORITHM, LEARNER)
"""Settings that say which other settings their section has."""
_CHOSEN = ("method", *CHOICES, "value", "puzzles.kind")
_OPTIONAL_PARTS = ("puzzles", "seed_training", "preference_training")
# What pydantic calls an error, in the words of whoever wrote a run file.
_EXPECTED = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a text",
    "dataclass_type": "a table of settings",
    "dict_type": "a table of settings",
    "model_type": "a table of settings",
    "model_attributes_type": "a table of settings",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


@dataclass(frozen=True, slots=True)
class Setting:
    """A value for one setting of a run.

    Attributes:
        name: dotted: "search.branch".
        value: as TOML or JSON has it.
        where: the place it was given at, for messages: "run.toml, line 4" or "--seed".
    """

    name: str
    value: Any
    where: str


def spec_of(settings: Iterable[Setting]) -> RunSpec:
    """Return the run that settings ask for; of two for one name, the later one decides.

    Options of a search or a learner do not stay where a later setting names another one: they are
    that one's no more.

    Raises:
        InputError: if a name is not known, or a value does not fit; it says where it was given, and
            the nearest name or what is expected.
    """
    decided = _decided(_with_present_names(list(settings)))
    document = _document(decided)
    try:
        return RunSpec.model_validate(document)
    except ValidationError as error:
        raise InputError(_reason(_first(error, document, decided), document, decided)) from error


def stored_spec_of(document: Mapping[str, Any]) -> RunSpec:
    """Return the run that a stored document describes.

    Raises:
        InputError: if this version does not know a setting of it, or its value: another version
            wrote it.
    """
    try:
        return RunSpec.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"the run was stored by another version of restmcts: its setting {name} is not understood here "
            f"({first['msg']}); use the version that started it, or start another run"
        ) from error


def settings_of(document: Mapping[str, Any], where: str) -> list[Setting]:
    """Return what a document sets, one by one, all of it given at one place."""
    found = []
    for name, value in document.items():
        if isinstance(value, Mapping) and value:
            inner = settings_of(value, where)
            found += [Setting(f"{name}.{setting.name}", setting.value, where) for setting in inner]
        else:
            found.append(Setting(str(name), value, where))
    return found


def spec_settings(spec: RunSpec, where: str) -> list[Setting]:
    """Return all settings of a run, for others to override."""
    return settings_of(written(spec), where)


def _with_present_names(settings: Sequence[Setting]) -> list[Setting]:
    last = {one.name: one.value for one in settings}
    method = {"method": last["method"]} if "method" in last else {}
    search = last.get(ALGORITHM, search_of_method(method)[ALGORITHM_FIELD])
    return [
        replace(one, name=SEARCH + _present_search_name(search, one.name.removeprefix(SEARCH)))
        if one.name.startswith(SEARCH)
        else one
        for one in settings
    ]


def _decided(settings: Iterable[Setting]) -> dict[str, Setting]:
    decided: dict[str, Setting] = {}
    for setting in settings:
        known = decided.get(setting.name)
        if setting.name in CHOICES and known is not None and known.value != setting.value:
            section = setting.name.partition(".")[0]
            decided = {name: one for name, one in decided.items() if not name.startswith(f"{section}.")}
        for inner in [name for name in decided if name.startswith(f"{setting.name}.")]:
            del decided[inner]
        decided[setting.name] = setting
    return decided


def _document(decided: Mapping[str, Setting]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for setting in decided.values():
        *tables, last = setting.name.split(".")
        table = document
        for name in tables:
            inner = table.setdefault(name, {})
            if not isinstance(inner, dict):
                raise InputError(f"{setting.where}: {name} is not a table of settings, so it has no {last!r}")
            table = inner
        table[last] = setting.value
    return document


def _first(error: ValidationError, document: Mapping[str, Any], decided: Mapping[str, Setting]) -> ErrorDetails:
    """Return the error to speak of: an unknown name before others, what was given before what
    follows from it.
    """

    def order(found: ErrorDetails) -> tuple[bool, bool]:
        name = ".".join(map(str, _path(found["loc"], document)))
        return found["type"] not in _UNKNOWN, name not in decided

    return min(error.errors(include_url=False), key=order)


def _reason(error: ErrorDetails, document: Mapping[str, Any], decided: Mapping[str, Setting]) -> str:
    """Return one line that says where, which setting, and what is wrong with it."""
    path = _path(error["loc"], document)
    place = ": ".join(part for part in (_where(path, decided), ".".join(map(str, path))) if part)
    kind, message = error["type"], error["msg"]
    if kind in _UNKNOWN:
        return f"{place}: there is no such setting{_instead(path, document)}"
    if kind in _EXPECTED:
        return f"{place} is {error['input']!r}; give {_EXPECTED[kind]}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"{place} is {error['input']!r}; give {words} {error['ctx'][bound]}"
    if kind == "missing":
        return f"{place} is missing"
    if kind == "unusable":
        return f"{place}: {message}" if place else message
    return f"{place} is {error['input']!r}; {message.replace('Input should be', 'it should be')}"


def _path(location: Sequence[int | str], document: Any) -> list[int | str]:
    """Return where an error is in the document, without the names of alternatives between."""
    path: list[int | str] = []
    place: Any = document
    for index, part in enumerate(location):
        is_inside = part in place if isinstance(place, Mapping) else isinstance(part, int) and isinstance(place, list)
        if is_inside or index == len(location) - 1:
            path.append(part)
            place = place[part] if is_inside else None
    return path


def _where(path: Sequence[int | str], decided: Mapping[str, Setting]) -> str:
    """Return where the setting, or the nearest above or below it, was given."""
    for length in range(len(path), 0, -1):
        name = ".".join(map(str, path[:length]))
        inside = (one.where for key, one in decided.items() if key == name or key.startswith(f"{name}."))
        found = next(inside, None)
        if found is not None:
            return found
    return ""


def _instead(path: Sequence[int | str], document: Mapping[str, Any]) -> str:
    """Return which name was meant, or which there are."""
    names = known_names(path[:-1], document)
    nearest = get_close_matches(str(path[-1]), names, n=1, cutoff=0.6)
    if nearest:
        return f"; did you mean {nearest[0]!r}?"
    return f"; there are {', '.join(sorted(names))}" if names else ""


def known_names(section: Sequence[int | str], document: Any) -> tuple[str, ...]:
    """Return the names of the settings of a section of a run's document."""
    owner, whole = RunSpec, document
    for part in section:
        document = document[part]
        if part == "search":
            return (
                ALGORITHM_FIELD,
                *_search_fields(document.get(ALGORITHM_FIELD, search_of_method(whole)[ALGORITHM_FIELD])),
            )
        if part == "learner":
            return ("name", *_learner_fields(document.get("name", "sft")))
        if isinstance(part, str):
            owner = section_class(get_type_hints(owner).get(part))
    return setting_names(owner)


def section_class(annotation: Any) -> Any:
    """Return the settings class that an annotation holds, or None if it holds none."""
    if isinstance(annotation, type) and setting_names(annotation):
        return annotation
    return next((found for one in get_args(annotation) if (found := section_class(one)) is not None), None)


def setting_names(owner: Any) -> tuple[str, ...]:
    """Return the names of the settings of a class."""
    fields: Mapping[str, object] = getattr(owner, "model_fields", None) or getattr(owner, "__dataclass_fields__", {})
    return tuple(fields)


def changed_settings(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the settings of a stored run's document that are not the default, by dotted name; None
    if this version does not understand it.

    What a method, a search, a learner or a training brings with it is a default; which of them it
    is may be a change.
    """
    try:
        spec = stored_spec_of(document)
    except InputError:
        return None
    chosen: dict[str, Any] = {"method": spec.method, "search": {ALGORITHM_FIELD: spec.search.algorithm}}
    chosen |= {"learner": {"name": spec.learner.name}, "value": spec.value}
    chosen |= {name: {} for name in _OPTIONAL_PARTS if getattr(spec, name) is not None}
    usual = flattened(written(RunSpec.model_validate(chosen)))
    plain = flattened(written(RunSpec.model_validate({})))
    plain[ALGORITHM] = search_of_method({"method": spec.method})[ALGORITHM_FIELD]
    found = flattened(written(spec))
    return {name: value for name, value in found.items() if value != (plain if name in _CHOSEN else usual).get(name)}


def search_defaults(algorithm: object) -> dict[str, Any]:
    """Return the default settings of a search by dotted name; none if there is no such search."""
    kind = search_class(algorithm)
    return {f"{SEARCH}{one.name}": one.default for one in fields(kind)} if kind is not None else {}


def _search_fields(algorithm: object) -> tuple[str, ...]:
    """Return the names of a search's settings; none if there is no such search."""
    kind = search_class(algorithm)
    return kind.option_names() if kind is not None else ()


def _present_search_name(algorithm: object, name: str) -> str:
    """Return what a setting of a search is called now."""
    kind = search_class(algorithm)
    return kind.present_name(name) if kind is not None else name


def _learner_fields(name: object) -> tuple[str, ...]:
    """Return the names of a learner's settings; none if there is no such learner."""
    return LEARNERS.get(name).option_names() if isinstance(name, str) and name in LEARNERS else ()
