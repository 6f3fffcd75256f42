"""How long a run still takes, guessed from the rates at which its phases went on until now."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from restmcts.domain.forecasts.work import makespan

# Less of a phase says nothing of the rest of it.
_LEAST_SHARE = 0.05
_TRAININGS_AT_ONCE = 2
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class TimedPhase:
    """A phase of a run, and how far it is.

    Attributes:
        kind: "search", "train-policy", "train-value" or "gate", which takes no time.
        after: names of the phases that must be done before.
        work: of all of it, in a unit of its kind: tokens of a search, examples of a training.
        share: of the work that is done, in [0, 1].
    """

    name: str
    kind: str
    after: Sequence[str]
    work: float
    share: float
    has_started: bool
    has_ended: bool

    def needs(self) -> Sequence[str]:
        """Return the names of the phases that must be done before."""
        return self.after

    @property
    def trains(self) -> bool:
        return self.kind.startswith("train")

    @property
    def is_under_way(self) -> bool:
        return self.has_started and not self.has_ended

    @property
    def stem(self) -> str:
        """The name without its numbers: phases of several iterations have it in common."""
        return _NUMBER.sub("", self.name)


class ProgressOfPhase(Protocol):
    """What is known of a phase (restmcts.adapters.sql.reads.progress.PhaseProgress)."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def after(self) -> Sequence[str]: ...

    @property
    def work(self) -> float: ...

    @property
    def share_searched(self) -> float: ...

    @property
    def has_started(self) -> bool: ...

    @property
    def has_ended(self) -> bool: ...


def timed_phase(phase: ProgressOfPhase, share_trained: float = 0.0) -> TimedPhase:
    """Return a phase with how far it is; `share_trained` is the share of a training's steps."""
    share = 1.0 if phase.has_ended else phase.share_searched or share_trained
    return TimedPhase(phase.name, phase.kind, phase.after, phase.work, share, phase.has_started, phase.has_ended)


@dataclass(frozen=True, slots=True)
class RecordedPhase:
    """A phase and its course.

    Attributes:
        phase: as it is now.
        begin: when it started, in seconds from any fixed moment on; None: it has not.
        end: None: it has not ended.
        shares: moments in order, with the share of the work that was done then.
    """

    phase: TimedPhase
    begin: float | None
    end: float | None
    shares: Sequence[tuple[float, float]] = ()

    def at(self, moment: float) -> TimedPhase:
        """Return the phase as it was."""
        has_ended = self.end is not None and self.end <= moment
        share = 1.0 if has_ended else next((share for when, share in reversed(self.shares) if when <= moment), 0.0)
        has_started = self.begin is not None and self.begin <= moment
        return replace(self.phase, share=share, has_started=has_started, has_ended=has_ended)


def recorded_time_left(phases: Sequence[RecordedPhase], begin: float, now: float) -> float | None:
    """Return the seconds left, as somebody knows them who has looked at the phases since `begin`;
    None as long as too little is known.
    """
    left = TimeLeft()
    left.look([one.at(begin) for one in phases], begin)
    moments = {when for one in phases for when in (one.begin, one.end, *(when for when, _ in one.shares)) if when}
    open_ = sorted((one for one in phases if one.begin is not None), key=lambda one: one.begin or 0.0)
    for moment in sorted(when for when in moments if begin < when < now):
        left.look([one.at(moment) for one in open_ if (one.begin or 0.0) <= moment], moment)
        open_ = [one for one in open_ if one.end is None or one.end > moment]
    left.look([one.phase for one in phases], now)
    return left.seconds()


@dataclass(slots=True)
class _Seen:
    """A phase as it was seen last, and the work that was done while it was looked at, with the
    seconds that this took.
    """

    phase: TimedPhase
    work: float = 0.0
    seconds: float = 0.0

    @property
    def is_known(self) -> bool:
        return self.seconds > 0.0 and self.work >= _LEAST_SHARE * self.phase.work

    @property
    def rate(self) -> float:
        """Seconds for a unit of work."""
        return self.seconds / self.work


class TimeLeft:
    """Is to look at the phases of a run as often as they may change.

    The time in which searches go on is divided among them by the work that each did, in whatever
    order they are served. What comes before the first step of a training, or before the first
    search goes on, loads libraries and models, and says nothing of the rest. Work to come takes as
    long as that of its kind until now, in a search that of the last one that is named alike
    ("collect-1", "collect-2"); a kind of training that was not seen takes as long as the other.

    Args:
        trainings_at_once: how many trainings go on side by side at most.
        token_examples: what generating a token takes as long as no search was seen, in examples of
            a training; None: that is not known, nor then the time left.
    """

    def __init__(self, trainings_at_once: int = 2, token_examples: float | None = None) -> None:
        self._trainings_at_once = trainings_at_once
        self._token_examples = token_examples
        self._seen: dict[str, _Seen] = {}
        self._last: float | None = None
        self._has_searched = False
        self._searched_seconds = 0.0

    def look(self, phases: Sequence[TimedPhase], now: float) -> None:
        """Take note of how far the phases are; `now` is in seconds, from any fixed moment on."""
        passed = now - self._last if self._last is not None else 0.0
        self._last = now
        advanced: dict[str, float] = {}
        is_searching = False
        for phase in phases:
            seen = self._seen.setdefault(phase.name, _Seen(phase))
            work = max(phase.share - seen.phase.share, 0.0) * phase.work
            if phase.kind == "search":
                is_searching = is_searching or seen.phase.is_under_way or work > 0.0
                advanced |= {phase.name: work} if work else {}
            elif seen.phase.is_under_way and seen.phase.share:
                seen.seconds += passed
                seen.work += work
            seen.phase = phase
        self._searched_seconds = self._searched_seconds + passed if is_searching else 0.0
        if advanced:
            self._divide(advanced)

    def _divide(self, advanced: dict[str, float]) -> None:
        """Divide the time since a search last went on among those that did."""
        for name, work in advanced.items() if self._has_searched else ():
            self._seen[name].work += work
            self._seen[name].seconds += self._searched_seconds * work / sum(advanced.values())
        self._has_searched, self._searched_seconds = True, 0.0

    def seconds(self) -> float | None:
        """Return the seconds left after the last look; None as long as too little is known."""
        left: dict[str, float] = {}
        for phase in (seen.phase for seen in self._seen.values() if not seen.phase.has_ended):
            needed = self._left(phase)
            if needed is None:
                return None
            left[phase.name] = needed
        return makespan([self._seen[name].phase for name in left], left, self._trainings_at_once)

    def _left(self, phase: TimedPhase) -> float | None:
        seen, work = self._seen[phase.name], phase.work * (1.0 - phase.share)
        if not work:
            return 0.0
        known = [one for one in self._seen.values() if one.is_known and one is not seen]
        rate = _rate(phase, known)
        if not seen.is_known:
            rate = self._guessed_rate(phase, known) if rate is None else rate
            return None if rate is None else rate * work
        # The last trees of a search are slower: fewer share a batch.
        whole = rate * phase.work if rate is not None else 0.0
        return max(seen.rate * work, whole - seen.seconds)

    def _guessed_rate(self, phase: TimedPhase, known: Sequence[_Seen]) -> float | None:
        trained = [one for one in known if one.phase.trains]
        if phase.trains or not trained or self._token_examples is None:
            return None
        return self._token_examples * _mean_rate(trained)


def _rate(phase: TimedPhase, known: Sequence[_Seen]) -> float | None:
    """Return the seconds for a unit of work of a phase, from others; None: nothing is known."""
    alike = [] if phase.trains else [seen for seen in known if seen.phase.stem == phase.stem][-1:]
    of_kind = [seen for seen in known if seen.phase.kind == phase.kind]
    trained = [seen for seen in known if seen.phase.trains and phase.trains]
    best = alike or of_kind or trained
    return _mean_rate(best) if best else None


def _mean_rate(known: Sequence[_Seen]) -> float:
    return sum(seen.seconds for seen in known) / sum(seen.work for seen in known)
