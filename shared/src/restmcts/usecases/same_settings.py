"""Whether a stored run is the one that is asked for again: its settings, one by one."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from restmcts.domain.runs.evaluation import Evaluation
from restmcts.domain.runs.self_training import SelfTraining
from restmcts.domain.runs.spec import RunSpec, differences, written
from restmcts.domain.runs.spec_settings import stored_spec_of
from restmcts.errors import InputError
from restmcts.usecases.need_plugins import PLUGINS

MAX_NAMED = 12
MAX_CHARACTERS = 60
MISSING = "nothing"
FIRST_ITERATIONS = "first_iterations"
"""What is stored of an extended run: how many iterations it began with."""

_KINDS: tuple[tuple[Any, str], ...] = ((SelfTraining, "num_iterations"), (Evaluation, "solution_tokens"))
"""What runs are, each with a setting that every version stored of it."""

_OF_PUZZLES = ("puzzles", "seed", "iterations")
"""Settings from which puzzles are drawn: with one of them all sets are others."""

Config = Mapping[str, Any]
"""What is stored of a run to know it by, as JSON: its document under "spec", and the digests of its
"problems" by set. Runs of versions that stored no document have their settings at the top."""


def changed_settings(stored: Config, asked: Config) -> list[str]:
    """Return the differences between a stored run and the one asked for, each as
    "name (old -> new)"; empty if it is the same run.

    Raises:
        InputError: if another version of restmcts wrote a setting that this one does not know.
    """
    if "spec" in stored and "spec" in asked:
        specs = stored_spec_of(stored["spec"]), RunSpec.model_validate(asked["spec"])
        changes = list(differences(*specs))
    else:
        changes = list(_changes_without_document(stored, asked))
    old, new = stored.get("problems", {}), asked.get("problems", {})
    others = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    settings = [f"{name} ({_shown(before)} -> {_shown(after)})" for name, before, after in changes]
    if asked.get("spec", {}).get("puzzles") and any(name.partition(".")[0] in _OF_PUZZLES for name, *_ in changes):
        return settings
    # Problems are known by their digest, which says nothing to a person.
    return settings + [f"the problems of the set {name}" for name in others]


def with_stored_search(asked: RunSpec, stored: Config, named: Collection[str]) -> RunSpec:
    """Return the run that is asked for again with the search that it was started with, unless
    another is named: how a method searches by itself may change from version to version.

    Args:
        named: the dotted names of the settings that are given.
    """
    document = stored.get("spec", stored)
    search = document.get("search")
    is_named = any(name.partition(".")[0] == "search" for name in named)
    if search is None or is_named or document.get("method", asked.method) != asked.method:
        return asked
    return stored_spec_of({**written(asked), "search": search})


def with_stored_iterations(asked: RunSpec, stored: Config) -> RunSpec:
    """Return the run that is asked for again with as many iterations as it was extended to: what it
    began with, or had in between, is no other setting.
    """
    first, now = stored.get(FIRST_ITERATIONS), stored.get("spec", {}).get("iterations")
    if first is None or not first <= asked.iterations < now:
        return asked
    return asked.model_copy(update={"iterations": now})


def check_same_settings(stored: Config, asked: Config, holder: str, way_out: str) -> None:
    """Let the run that is asked for again be the stored one.

    Args:
        holder: of the stored run, as a person names it.
        way_out: what else could be done.

    Raises:
        InputError: naming every setting that differs, with its old and its new value.
    """
    changes = changed_settings(stored, asked)
    if not changes:
        return
    more = f" and {len(changes) - MAX_NAMED} more" if len(changes) > MAX_NAMED else ""
    raise InputError(
        f"{holder} contains a run with other settings: {', '.join(changes[:MAX_NAMED])}{more}; "
        f"give the old ones again or {way_out}"
    )


def _changes_without_document(stored: Config, asked: Config) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, old and new value of what a run stored and what is another now.

    What it did not store was no setting then: it has its default, as in the run's stored phases.
    """
    stored = _with_defaults(stored)
    # A training of the first policy was stored even where there was none.
    of_no_use = {"problems", PLUGINS} | ({"seed_training"} if asked.get("seed_set", "") is None else set())
    compared = [name for name in stored if name not in of_no_use]
    old = dict(_flat({name: stored[name] for name in compared}))
    new = dict(_flat({name: asked[name] for name in compared if name in asked}))
    for name in [*old, *(name for name in new if name not in old)]:
        before, after = old.get(name, MISSING), new.get(name, MISSING)
        if before != after:
            yield name, before, after


def _with_defaults(stored: Config) -> dict[str, Any]:
    """Return what a run stored, with the settings that later versions added below a name of its."""
    for kind, first in _KINDS:
        if first in stored:
            adapter: TypeAdapter[Any] = TypeAdapter(kind)
            read = adapter.dump_python(adapter.validate_python(stored), mode="json")
            # Evaluations store no document, so that what they lack is asked about here.
            names = {**read, **stored} if kind is Evaluation else stored
            return {name: read.get(name, value) for name, value in names.items()}
    return dict(stored)


def _flat(settings: Config, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"
