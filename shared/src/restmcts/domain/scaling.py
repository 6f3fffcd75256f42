"""How many workers of a kind should run: the work that there is, in workers, within bounds.

More are started at once; fewer run only when fewer sufficed for a while, because the next batch of
a tree is usually one answer away.
"""

import math
import re
from collections import deque
from dataclasses import dataclass, field

from restmcts.errors import InputError

_BOUNDS = re.compile(r"(\d{1,9})-(\d{1,9}):(\d{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between `least` and `most` workers run, one for each `target` of work.

    Work is counted in model requests, trees or jobs, as `restmcts.adapters.sql.reads.demand` says
    of each kind of worker.
    """

    least: int
    most: int
    target: int

    def workers(self, work: int) -> int:
        """Return the number of workers for so much work."""
        return min(max(math.ceil(work / self.target), self.least), self.most)


def parse_bounds(text: str) -> Bounds:
    """Return the bounds that a person writes: `0-4:64` is from 0 to 4 workers, one for each 64.

    Raises:
        InputError: if the text is not of that form, or nothing lies between the bounds.
    """
    found = _BOUNDS.fullmatch(text)
    if found is None:
        raise InputError(f"{text!r}: write LEAST-MOST:TARGET, e.g. 0-4:64 for one worker for each 64, at most 4")
    bounds = Bounds(*map(int, found.groups()))
    if bounds.most < max(bounds.least, 1) or bounds.target < 1:
        raise InputError(f"{text!r}: MOST must be at least LEAST and 1, and TARGET at least 1")
    return bounds


@dataclass
class Autoscaler:
    """Decides for one kind of worker; `cooldown_seconds` is how long fewer must have sufficed."""

    bounds: Bounds
    cooldown_seconds: float
    _needed: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, work: int, now: float) -> int:
        """Return how many should run from now on.

        Args:
            work: that waits or is being done.
            now: seconds of a clock that never goes back.
        """
        self._needed.append((now, self.bounds.workers(work)))
        while self._needed[0][0] < now - self.cooldown_seconds:
            self._needed.popleft()
        return max(number for _, number in self._needed)
