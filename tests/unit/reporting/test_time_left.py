"""The time that a run still takes, as its display guesses it."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from restmcts.reporting.time_left import TimedPhase, TimeLeft

# Of a run of two iterations: begin, end.
IN_TURN = {
    "policy-0": (0, 40),
    "collect-1": (40, 140),
    "policy-1": (140, 160),
    "grade-policy-1": (160, 170),
    "collect-2": (170, 270),
    "policy-2": (270, 290),
    "grade-policy-2": (290, 300),
}
SIDE_BY_SIDE = {
    "collect-1": (0, 100),
    "value-1": (100, 120),
    "policy-1": (100, 120),
    "collect-2": (120, 220),
    "value-2": (220, 240),
    "policy-2": (220, 240),
}


def phase(name: str, begin: int, end: int, now: float) -> TimedPhase:
    kind = "search" if name.startswith(("collect", "grade")) else "train"
    return TimedPhase(name, kind, now >= begin, now >= end)


def guesses(timeline: Mapping[str, tuple[int, int]], at: Sequence[int]) -> list[float | None]:
    """Return what is guessed at those times, where somebody looks each second."""
    left, found = TimeLeft(), []
    for now in range(max(end for _, end in timeline.values()) + 1):
        shares = {name: (now - begin) / (end - begin) for name, (begin, end) in timeline.items() if begin <= now < end}
        phases = [phase(name, *when, now) for name, when in timeline.items()]
        left.look(phases, 1000.0 + now)
        found.append(left.seconds(phases, shares, 1000.0 + now))
    return [found[now] for now in at]


def test_phases_to_come_take_as_long_as_those_before() -> None:
    assert guesses(IN_TURN, (175, 220, 280, 300)) == pytest.approx([125, 80, 20, 0], abs=2)


def test_what_is_done_side_by_side_is_not_counted_twice() -> None:
    assert guesses(SIDE_BY_SIDE, (130, 230)) == pytest.approx([110, 10], rel=0.3)


def test_nothing_is_guessed_from_nothing() -> None:
    assert guesses(IN_TURN, (0, 1, 30)) == [None, None, None]
    assert guesses(IN_TURN, (100,))[0] is not None


def test_the_time_left_falls() -> None:
    seconds = [guess for guess in guesses(IN_TURN, range(171, 301)) if guess is not None]
    assert len(seconds) == 130
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(seconds))
