"""The time that a run still takes, as its display guesses it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from restmcts.reporting.time_left import RecordedPhase, TimedPhase, TimeLeft, recorded_time_left

RECORDED = Path(__file__).parent / "recorded_runs"


@dataclass(frozen=True)
class Course:
    """When a phase was done, and how much of it at equal times in between."""

    name: str
    begin: float
    end: float
    work: float = 100.0
    kind: str = "search"
    after: Sequence[str] = ()
    shares: Sequence[float] = (0.0, 1.0)

    def at(self, now: float) -> TimedPhase:
        place = min(max((now - self.begin) / (self.end - self.begin or 1.0), 0.0), 1.0) * (len(self.shares) - 1)
        before = int(min(place, len(self.shares) - 2))
        share = self.shares[before] + (place - before) * (self.shares[before + 1] - self.shares[before])
        started, ended = now >= self.begin, now >= self.end
        return TimedPhase(self.name, self.kind, self.after, self.work, float(ended) or share, started, ended)


# A run of two iterations, one thing after the other.
IN_TURN = [
    Course("policy-0", 0, 40, 800, "train-policy"),
    Course("collect-1", 40, 140, after=("policy-0",)),
    Course("policy-1", 140, 160, 400, "train-policy", ("collect-1",)),
    Course("grade-policy-1", 160, 170, 10, after=("policy-1",)),
    Course("collect-2", 170, 270, after=("policy-1",)),
    Course("policy-2", 270, 290, 400, "train-policy", ("collect-2",)),
    Course("grade-policy-2", 290, 300, 10, after=("policy-2",)),
]


def guesses(courses: Sequence[Course], at: Sequence[float], step: float = 0.5, **known: Any) -> list[float | None]:
    """Return what is guessed at those times, where somebody looks each `step` seconds."""
    left, found, now = TimeLeft(**known), {}, 0.0
    while now <= max(at):
        left.look([course.at(now) for course in courses], 1000.0 + now)
        found[now] = left.seconds()
        now += step
    return [found[when] for when in at]


def test_work_to_come_takes_as_long_as_work_like_it() -> None:
    assert guesses(IN_TURN, (150, 175, 220, 280, 300)) == pytest.approx([150, 125, 80, 20, 0], abs=3)


def test_a_longer_training_before_says_what_an_example_takes() -> None:
    (guess,) = guesses([IN_TURN[0], Course("policy-1", 40, 50, 200, "train-policy", ("policy-0",))], (20,))
    assert guess == pytest.approx(30, abs=1)


def test_trainings_are_done_side_by_side_or_one_after_the_other() -> None:
    courses = [
        Course("policy-0", 0, 20, 100, "train-policy"),
        Course("value-1", 20, 40, 100, "train-value", ("policy-0",)),
        Course("policy-1", 20, 40, 100, "train-policy", ("policy-0",)),
    ]
    assert guesses(courses, (10,)) == pytest.approx([30], abs=1)
    assert guesses(courses, (10,), trainings_at_once=1) == pytest.approx([50], abs=1)


def test_searches_that_wait_for_one_another_share_the_time() -> None:
    """Both begin at once; the second goes on once the first is done."""
    waits = Course("collect-1", 0, 100, shares=(0.0, 0.0, 1.0))
    (before, after) = guesses([Course("grade-policy-1", 0, 50), waits], (25, 75))
    assert before == pytest.approx(75, abs=2)
    assert after == pytest.approx(25, abs=2)


def test_the_start_of_a_training_and_of_the_first_search_is_no_measure() -> None:
    """They load libraries and models for 30 seconds."""
    loads = (0.0, 0.0, 0.0, 0.0, 1.0)
    courses = [
        Course("policy-0", 0, 40, 100, "train-policy", shares=loads),
        Course("policy-1", 40, 50, 100, "train-policy", ("policy-0",)),
        Course("collect-1", 50, 90, 100, after=("policy-1",), shares=loads),
        Course("collect-2", 90, 100, 100, after=("collect-1",)),
    ]
    assert guesses(courses[:2], (35,)) == pytest.approx([15], abs=1)
    assert guesses(courses, (85,)) == pytest.approx([15], abs=1)


def test_what_is_skipped_takes_no_time_and_measures_nothing() -> None:
    left = TimeLeft()
    for now in range(11):
        skipped = TimedPhase("collect-2", "search", (), 0.0, float(now > 5), now > 5, now > 5)
        left.look([Course("collect-1", 0, 20).at(now), skipped], now)
    assert left.seconds() == pytest.approx(10, abs=1)


def test_nothing_is_guessed_from_nothing() -> None:
    assert guesses(IN_TURN, (0, 1, 30)) == [None, None, None]
    assert guesses(IN_TURN, (30,), token_examples=8.0)[0] is not None
    assert guesses(IN_TURN, (100,))[0] is not None


def test_the_time_left_falls() -> None:
    seconds = [guess for guess in guesses(IN_TURN, range(171, 301)) if guess is not None]
    assert len(seconds) == 130
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(seconds))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("run", sorted(RECORDED.glob("*.json")), ids=lambda run: run.stem)
def test_the_guess_is_near_the_truth_in_recorded_runs(run: Path, share: float) -> None:
    """Recorded on a machine that was shared with other work."""
    recorded = json.loads(run.read_text())
    courses = [Course(**phase) for phase in recorded["phases"]]
    end = max(course.end for course in courses)
    now = 2 * round(end * share / 2)
    (guess,) = guesses(courses, (now,), 2.0, **recorded["known"])
    assert guess is not None
    assert (end - now) / 1.5 <= guess <= (end - now) * 1.5


def recorded(course: Course, now: float) -> RecordedPhase:
    """Return what a database knows of a phase: of a training under way not how far it is."""
    begin, end = (when if when <= now else None for when in (course.begin, course.end))
    if course.kind == "search":
        moments = [course.begin + (course.end - course.begin) * place / 50 for place in range(51)]
        shares = [(when, course.at(when).share) for when in moments if when <= now]
    else:
        first = sum(share == 0.0 for share in course.shares) / len(course.shares)
        shares = [(course.begin + first * (course.end - course.begin), 1e-9)] if end is not None else []
    timed = course.at(now)
    if course.kind != "search" and end is None:
        timed = replace(timed, share=0.0)
    return RecordedPhase(timed, begin, end, shares)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("run", sorted(RECORDED.glob("*.json")), ids=lambda run: run.stem)
def test_what_is_recorded_gives_the_guess_of_whoever_has_watched(run: Path, share: float) -> None:
    found = json.loads(run.read_text())
    courses = [Course(**phase) for phase in found["phases"]]
    end = max(course.end for course in courses)
    now = 2 * round(end * share / 2)
    (watched,) = guesses(courses, (now,), 2.0, **found["known"])
    guess = recorded_time_left([recorded(course, now) for course in courses], 0.0, now)
    if not any(course.end <= now for course in courses):
        assert guess is None, "of the first training nothing is recorded before its end"
        return
    assert watched is not None and guess is not None
    assert watched / 1.25 <= guess <= watched * 1.25
