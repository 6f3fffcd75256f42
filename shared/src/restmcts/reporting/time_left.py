"""How long a run still takes, guessed from how long its phases took."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

# Less of a phase says nothing of the rest of it.
_LEAST_SHARE = 0.05
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class TimedPhase:
    """A phase of a run: under way once it has started, until it has ended."""

    name: str
    kind: str
    has_started: bool
    has_ended: bool


@dataclass(slots=True)
class _Seen:
    """When a phase was first seen under way, and how long it took; None: it is not done."""

    begin: float
    took: float | None = None


class TimeLeft:
    """Is to look at the phases of a run as often as they may change.

    A phase that is to come takes as long as the last that is named alike did ("collect-1",
    "collect-2"), else as those of its kind, else as all. Those under way end side by side, with the
    last of them; of those behind them as many are done at once as until now.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._first_seconds: float | None = None

    def look(self, phases: Sequence[TimedPhase], now: float) -> None:
        """Take note of which phases have started, and which have ended."""
        self._first_seconds = now if self._first_seconds is None else self._first_seconds
        for phase in phases:
            seen = self._seen.get(phase.name)
            if seen is None and phase.has_started and not phase.has_ended:
                self._seen[phase.name] = _Seen(now)
            elif seen is not None and seen.took is None and phase.has_ended:
                seen.took = now - seen.begin

    def seconds(self, phases: Sequence[TimedPhase], shares: Mapping[str, float], now: float) -> float | None:
        """Return the seconds left; None as long as too little is known.

        Args:
            shares: how much of each phase under way is done, as far as that is known.
            now: in seconds, from any fixed moment on.
        """
        if self._first_seconds is None or now <= self._first_seconds:
            return None
        known = [phase for phase in phases if self._took(phase) is not None]
        under_way, behind = 0.0, 0.0
        for phase in phases:
            left = 0.0 if phase.has_ended else self._left(phase, known, shares, now)
            if left is None:
                return None
            if not phase.has_started:
                behind += left
            else:
                under_way = max(under_way, left)
        worked = sum((now - seen.begin if seen.took is None else seen.took for seen in self._seen.values()), 0.0)
        return under_way + behind / max(worked / (now - self._first_seconds), 1.0)

    def _took(self, phase: TimedPhase) -> float | None:
        seen = self._seen.get(phase.name)
        return None if seen is None else seen.took

    def _left(
        self, phase: TimedPhase, known: Sequence[TimedPhase], shares: Mapping[str, float], now: float
    ) -> float | None:
        seen, share = self._seen.get(phase.name), shares.get(phase.name, 0.0)
        spent = 0.0 if seen is None else now - seen.begin
        if share >= _LEAST_SHARE and spent > 0.0:
            return spent / share * (1.0 - share)
        expected = self._expected(phase, known)
        return None if expected is None else max(expected - spent, 0.0)

    def _expected(self, phase: TimedPhase, known: Sequence[TimedPhase]) -> float | None:
        """Return how long a phase takes that says nothing itself yet."""
        likeness: dict[int, list[float]] = defaultdict(list)
        for other in known:
            took = self._took(other)
            assert took is not None
            alike = _NUMBER.sub("", other.name) == _NUMBER.sub("", phase.name)
            likeness[2 if alike else int(other.kind == phase.kind)].append(took)
        best = max(likeness, default=0)
        return likeness[best][-1] if best == 2 else mean(likeness[best]) if likeness else None
