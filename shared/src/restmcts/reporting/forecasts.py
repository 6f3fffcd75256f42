"""A forecast of a run as tables, as sentences, and as JSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.text import Text

from restmcts.domain.forecasts.memory import MemoryForecast, size_in_words
from restmcts.domain.forecasts.work import CHANGE, TIME_FACTORS, Amount, PhaseForecast, WorkForecast
from restmcts.reporting.figures import NONE
from restmcts.reporting.tables import Table

MEMORY_MARGIN = 0.2
"""Share by which the memory may be missed in both directions."""


@dataclass(frozen=True, slots=True)
class RunForecast:
    """What a run will take.

    Attributes:
        basis: what the work was measured on, as the end of a sentence.
        memory: None where no model is loaded on this machine.
        max_tokens: of the whole run; None: no limit.
        remarks: what else is to be known, as sentences.
        progress: of a stored run, what is done of it and therefore not in the forecast, as a
            sentence.
        spent: tokens of `max_tokens` that were generated before.
    """

    work: WorkForecast
    basis: str
    memory: MemoryForecast | None
    max_tokens: int | None = None
    remarks: Sequence[str] = ()
    progress: str = ""
    spent: int = 0


def render(forecast: RunForecast) -> Group:
    """Return tables and sentences for a rich console."""
    phases = forecast.work.phases
    tables = [_sums(forecast).terminal(), _phases(phases).terminal()] if phases else []
    return Group(*tables, *(Text(f"• {sentence}") for sentence in sentences(forecast)))


def document(forecast: RunForecast) -> dict[str, Any]:
    """Return all numbers, with their source and range, as JSON takes them."""
    work, memory = forecast.work, forecast.memory
    amounts = {"tokens": work.tokens, "calls": work.calls, "seconds": work.seconds, "disk_bytes": work.disk_bytes}
    found: dict[str, Any] = {
        "source": work.source,
        "basis": forecast.basis,
        **{name: _finite(amount) for name, amount in amounts.items()},
        "memory_bytes": asdict(_memory_amount(memory)) if memory is not None else None,
        "free_memory_bytes": memory.available_bytes if memory is not None else None,
        "memory": [asdict(part) for part in memory.parts] if memory is not None else [],
        "advice": list(memory.advice) if memory is not None else [],
        "max_tokens": forecast.max_tokens,
        "tokens_spent": forecast.spent,
        "phases": [asdict(phase) for phase in work.phases],
        "not_measured": work.unknown,
        "sentences": sentences(forecast),
    }
    return found


def _finite(amount: Amount | None) -> dict[str, float | None] | None:
    if amount is None:
        return None
    return {name: None if math.isinf(value) else value for name, value in asdict(amount).items()}


def _memory_amount(memory: MemoryForecast) -> Amount:
    low, high = 1.0 - MEMORY_MARGIN, 1.0 + MEMORY_MARGIN
    return Amount(low * memory.num_bytes, memory.num_bytes, high * memory.num_bytes)


def _sums(forecast: RunForecast) -> Table:
    work, memory = forecast.work, forecast.memory
    rows = [
        _row("tokens generated", work.tokens, _count),
        _row("model requests", work.calls, _count),
        _row("time", work.seconds, duration),
        _row("disk", work.disk_bytes, size_in_words),
    ]
    if memory is not None:
        rows.append(_row("memory at most", _memory_amount(memory), size_in_words))
    return Table("", ("forecast", "expected", "from", "to"), tuple(rows))


def _row(name: str, amount: Amount | None, shown: Any) -> tuple[str, str, str, str]:
    if amount is None:
        return name, "not known", NONE, NONE
    return name, shown(amount.expected), shown(amount.low), shown(amount.high)


def _count(number: float) -> str:
    """Return a count to three digits: a forecast has no more."""
    if number < 1000:
        return f"{number:.0f}"
    unit = 10 ** (len(str(int(number))) - 3)
    return f"{round(number / unit) * unit:,}"


def duration(seconds: float) -> str:
    """Return a length of time for people: "40 s", "6 min", "2.5 h", "3.0 days"."""
    if math.isinf(seconds):
        return NONE
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def _phases(phases: Sequence[PhaseForecast]) -> Table:
    rows = [
        (
            phase.name,
            phase.num_trees or None,
            phase.num_steps or None,
            _count(phase.tokens) if phase.tokens else NONE,
            duration(phase.seconds) if phase.seconds is not None else "not known",
        )
        for phase in phases
        if phase.kind != "gate"
    ]
    return Table("", ("phase", "trees", "training steps", "tokens", "time of its own"), tuple(rows))


def sentences(forecast: RunForecast) -> list[str]:
    """Return what is to be read with the numbers: where they are from, how far they may be off,
    and what does not fit.
    """
    progress = [forecast.progress] if forecast.progress else []
    if not forecast.work.phases:
        return progress
    return [*progress, *_source(forecast), *_limits(forecast), *_memory(forecast.memory), *forecast.remarks]


def _source(forecast: RunForecast) -> list[str]:
    work = forecast.work
    if work.source == "limits":
        return [
            "No run of this policy is done here: tokens are at most what the budgets allow, where they do, and calls, "
            "time and disk are not known. They are once a first run is done; a small one will do (--limit)."
        ]
    found = [
        f"Tokens, requests, time and disk are from {forecast.basis}. The range of tokens is two standard errors "
        f"and {100 * CHANGE['tokens']:.0f} %, that of requests {100 * CHANGE['calls']:.0f} %, as models change while "
        f"they learn; that of time is a factor of {TIME_FACTORS[work.source]}, if the machine stays as busy as it was."
    ]
    if work.unknown:
        found.append(
            f"Not measured, as nothing like it was done: {', '.join(work.unknown)}. What they would take is missing "
            "from the phases, and the sums that need them are not known."
        )
    return found


def _limits(forecast: RunForecast) -> list[str]:
    tokens, limit = forecast.work.tokens, forecast.max_tokens
    wanted = sum(phase.tokens or 0.0 for phase in forecast.work.phases)
    if tokens is None or limit is None or wanted <= limit - forecast.spent:
        return []
    spent = f", of which {forecast.spent:,} are spent" if forecast.spent else ""
    more = " more" if forecast.spent else ""
    return [f"The run will pause at its {limit:,} tokens{spent}: it wants about {_count(wanted)}{more}."]


def _memory(memory: MemoryForecast | None) -> list[str]:
    if memory is None:
        return []
    largest = sorted(memory.parts, key=lambda part: -part.num_bytes)[:3]
    parts = [f"{part.name} ({size_in_words(part.num_bytes)})" for part in largest]
    found = [
        f"Memory is calculated from the sizes of the models, all of them in use and a training beside them, to within "
        f"{100 * MEMORY_MARGIN:.0f} %. The largest parts are: {'; '.join(parts)}."
    ]
    if memory.fits is False and memory.available_bytes is not None:
        found.append(f"It does not fit: {size_in_words(memory.available_bytes)} are free here.")
        found += [f"To make room, {advice}." for advice in memory.advice]
    return found
