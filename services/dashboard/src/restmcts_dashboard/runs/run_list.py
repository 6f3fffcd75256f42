"""The list of runs as it is asked for: filtered, sorted and cut; and settings side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from restmcts.adapters.sql.reads.run_lines import RunLine, Score
from restmcts.adapters.storage.folder_lock import FolderUse
from restmcts.domain.runs.spec_plan import TEST
from restmcts.domain.text import counted
from restmcts.errors import NotFoundError
from restmcts.reporting.run_origins import settings_of
from restmcts.reporting.run_states import NEEDS_A_PROCESS, shown_state

ROWS_ON_A_PAGE = 100
NOT_KNOWN = "not recorded"


def short_policy(uri: str) -> str:
    """Return the part of a model's URI that people know it by."""
    return uri.partition("?")[0].rstrip("/").rpartition("/")[2] or uri


def _value(score: Score | None) -> float:
    return score.num_right / score.num_answers if score is not None else -1.0


SORTS: dict[str, Callable[[RunLine], Any]] = {
    "name": lambda line: line.run.name.lower(),
    "state": lambda line: line.run.state,
    "method": lambda line: line.run.method,
    "policy": lambda line: short_policy(line.policy).lower(),
    "first": lambda line: _value(line.first),
    "last": lambda line: _value(line.last),
    "iteration": lambda line: line.counts.iteration,
    "trees": lambda line: line.counts.num_trees,
    "tokens": lambda line: line.counts.tokens,
    "started": lambda line: line.times.started or line.run.created_at,
}
"""What the list can be sorted by."""


@dataclass(frozen=True, slots=True)
class RunQuery:
    """What somebody wants to see of the list.

    Attributes:
        text: words that name, method, policy and tags contain between them, in any case.
        state: as people are shown it; empty: all.
        archived: whether archived runs are listed, too.
        sort: of `SORTS`, with a minus sign for descending order.
        page: from 0.
    """

    text: str = ""
    state: str = ""
    archived: bool = False
    sort: str = "-started"
    page: int = 0

    def address(self, **changes: object) -> str:
        """Return this query with some changes as that of an address; "?" if it asks for nothing."""
        asked = asdict(replace(self, **{"page": 0, **changes}))  # type: ignore[arg-type]
        return "?" + urlencode({name: value for name, value in asked.items() if value != getattr(RunQuery(), name)})

    def sorted_by(self, name: str) -> str:
        """Return the address of the list sorted by a column; by the same column, the other way
        round.
        """
        return self.address(sort=name if self.sort == f"-{name}" else f"-{name}")

    def order_of(self, name: str) -> str:
        """Return how a column is sorted, in the words of aria-sort; empty if it is not."""
        return {name: "ascending", f"-{name}": "descending"}.get(self.sort, "")


@dataclass(frozen=True, slots=True)
class FoundRuns:
    """Lines of the list.

    Attributes:
        lines: of one page.
        num_found: on all pages.
        num_hidden: archived ones that would have been found.
    """

    lines: Sequence[RunLine]
    num_found: int
    num_hidden: int
    has_more: bool


def found_runs(lines: Sequence[RunLine], query: RunQuery) -> FoundRuns:
    """Return what a query finds among all runs; runs that are equal in what they are sorted by
    stay the newest first.

    Raises:
        NotFoundError: if the page is beyond the last.
    """
    words = query.text.lower().split()
    matching = [
        line for line in lines if query.state in ("", line.run.state) and all(word in _text(line) for word in words)
    ]
    shown = [line for line in matching if query.archived or line.run.archived_at is None]
    key = SORTS[query.sort.removeprefix("-")]
    ordered = sorted(shown, key=key, reverse=query.sort.startswith("-"))
    begin = query.page * ROWS_ON_A_PAGE
    end = begin + ROWS_ON_A_PAGE
    if query.page and begin >= len(ordered):
        raise NotFoundError(f"the list has no page {query.page}: it has {counted(len(ordered), 'run')}")
    return FoundRuns(ordered[begin:end], len(ordered), len(matching) - len(shown), len(ordered) > end)


def _text(line: RunLine) -> str:
    return " ".join((line.run.name, line.run.method, line.policy, *line.run.tags)).lower()


def seconds_of(line: RunLine, now: datetime) -> float | None:
    """Return how long a run took or, while it runs, has taken; None: it has not started."""
    return line.times.seconds(now if line.run.state in NEEDS_A_PROCESS else None)


def shown_lines(lines: Sequence[RunLine], use: FolderUse | None) -> list[RunLine]:
    """Return the runs in the state in which people are shown them; `use`: of their work folder."""
    return [replace(one, run=replace(one.run, state=state_shown(one.run.state, one.run.id, use))) for one in lines]


def state_shown(state: str, run_id: int, use: FolderUse | None) -> str:
    """Return a run's state as people are shown it; `use`: of its work folder."""
    return shown_state(state, is_idle=use is not None and use.is_idle(run_id))


def side_by_side(configs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the settings in which runs differ, with the value of each run, and those in which
    they are equal; without problem sets of which it is not known, as not all runs record theirs.
    """
    settings = [settings_of(config) for config in configs]
    unknown = {place for place, config in enumerate(configs) if not config.get("problems")}
    of_sets = {f"problem set {name}" for config in configs for name in config.get("problems") or {}}
    differing: dict[str, list[str]] = {}
    equal: dict[str, str] = {}
    for name in dict.fromkeys(name for one in settings for name in one):
        found = [one.get(name, "–") for one in settings]
        lacking = unknown if name in of_sets else set()
        if len({value for place, value in enumerate(found) if place not in lacking}) > 1:
            differing[name] = [NOT_KNOWN if place in lacking else value for place, value in enumerate(found)]
        elif not lacking:
            equal[name] = found[0]
    return differing, equal


def have_other_test_problems(configs: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether runs were evaluated on different problems, as far as that is known of them."""
    known = {(config.get("problems") or {}).get(TEST) for config in configs}
    return len(known - {None}) > 1
