"""Every setting of a run, in the groups of a run file; and the page that lists them."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from restmcts.domain.labels.filtering import TraceFilter
from restmcts.domain.learning.learner import LEARNERS
from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.methods import METHODS
from restmcts.domain.runs.options import Option, as_written, options_of
from restmcts.domain.runs.promotion import PromotionSettings
from restmcts.domain.runs.spec import EvaluationSpec, PuzzleSets, RunModelSettings, RunSpec, with_derived
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.search.settings import SEARCHES
from restmcts.domain.search.tool_calls import ToolSettings
from restmcts.domain.truth.truth_settings import TruthSettings

TABLE_OF = {
    "run": "top of the file",
    "method": "`method`",
    "puzzles": "`[puzzles]`",
    "search": "`[search]`",
    "learner": "`[learner]`",
    "budget": "`[budget]`",
    "generation": "`[generation]`",
    "traces": "`[traces]`",
    "training": "`[policy_training]`, `[value_training]`, `[seed_training]`, `[preference_training]`",
    "promotion": "`[promotion]`",
    "truth": "`[truth]`",
    "tools": "`[tools]`",
    "evaluation": "`[[evaluations]]`",
    "models": "`[models]`",
}
"""Where the settings of each kind are in a run file."""

_ABOUT = {
    "training": "Learning rates are 1e-05 for policies, 2e-05 for value models and 1e-06 for preferences, where they "
    "are not given; the seed and the template are the run's.",
}
_CLASSES = {
    "puzzles": PuzzleSets,
    "budget": Budget,
    "generation": GenerationSettings,
    "traces": TraceFilter,
    "training": TrainingSettings,
    "promotion": PromotionSettings,
    "truth": TruthSettings,
    "tools": ToolSettings,
    "evaluation": EvaluationSpec,
    "models": RunModelSettings,
}
_SECTION = {"training": "policy_training"}


@dataclass(frozen=True, slots=True)
class OptionGroup:
    """Settings that are listed together.

    Attributes:
        kind: a key of `TABLE_OF`.
        name: of a search, a learner or a method; "" for kinds that have one group.
        summary: what it is, as sentences.
        options: its settings; none for a method.
    """

    kind: str
    name: str
    summary: str
    options: tuple[Option, ...]


def option_groups() -> Iterator[OptionGroup]:
    """Yield all groups, in the order of a run file."""
    derived = with_derived({})
    plain = [one for one in options_of(RunSpec) if not one.type.startswith("table") and one.name != "evaluations"]
    yield OptionGroup("run", "", "A self-training run.", tuple(plain))
    for name in METHODS:
        summary = METHODS.get(name).summary
        yield OptionGroup("method", name, f"{summary[:1].upper()}{summary[1:]}.", ())
    for name in SEARCHES:
        owner = SEARCHES.get(name)
        options = _with(options_of(owner), with_derived({"search": {"algorithm": name}})["search"])
        yield OptionGroup(
            "search", name, _summary(owner), tuple(option for option in options if option.name != "algorithm")
        )
    for name in LEARNERS:
        learner = LEARNERS.get(name)
        yield OptionGroup("learner", name, _summary(learner), tuple(options_of(learner)))
    for kind, settings in _CLASSES.items():
        options = _with(options_of(settings), derived.get(_SECTION.get(kind, kind), {}))
        summary = " ".join(part for part in (_summary(settings), _ABOUT.get(kind, "")) if part)
        yield OptionGroup(kind, "", summary, tuple(options))


def _with(options: list[Option], derived: Any) -> list[Option]:
    """Return options with the defaults that a run gives them in place of their class's own."""
    given: Mapping[str, Any] = derived if isinstance(derived, Mapping) else {}
    return [replace(one, default=as_written(given[one.name])) if one.name in given else one for one in options]


def _summary(owner: Any) -> str:
    """Return the first paragraph of a class's docstring."""
    return " ".join((inspect.getdoc(owner) or "").partition("\n\n")[0].split())


def options_page() -> str:
    """Return the reference page of all settings, as Markdown."""
    lines = [
        "# Every setting of a run",
        "",
        "A run file (TOML) may set all of these; what it leaves out has its default. `--set budget.nodes=40` sets any",
        "of them on the command line. `null` means that there is no value. This page is made by `restmcts options --markdown`.",
    ]
    kind = ""
    for group in option_groups():
        if group.kind != kind:
            kind = group.kind
            lines += ["", f"## {kind}: {TABLE_OF[kind]}"]
        if group.kind == "method":
            lines += ["", f"- `{group.name}`: {group.summary}"]
            continue
        lines += ["", f"### {group.name}", ""] if group.name else [""]
        lines += [group.summary, ""]
        lines += [f"- `{option.name}` ({described(option)}): {option.help}" for option in group.options]
    return "\n".join(lines) + "\n"


def described(option: Option) -> str:
    """Return a setting's type, range and default in words."""
    default = f"default `{option.default}`" if option.default else ""
    return "; ".join(part for part in (option.type, option.range, default) if part)
