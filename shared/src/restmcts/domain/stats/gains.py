"""Where a method pays: its gain over another at equal tokens, against how often the first policy
was right.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from restmcts.domain.stats.estimates import Estimate, Figure
from restmcts.errors import InputError

CONTROL = "control"
"""Whose iteration 0 is the first policy, in what a comparison measured."""


@dataclass(frozen=True, slots=True)
class MeasuredAccuracy:
    """One accuracy of a comparison.

    Attributes:
        setting: what was compared on: a puzzle with its difficulty, or a file of problems.
        iteration: 0 for the first policy.
        repeat: of a method that was trained several times with one seed.
    """

    setting: str
    method: str
    seed: int
    iteration: int
    accuracy: float
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class MethodGain:
    """One method in one setting, over seeds; errors are over seeds, 0 where there is one.

    Attributes:
        first: accuracy of the first policy.
        gain: last accuracy less that of the other method, paired by seed.
        num_ahead: seeds in which it is above.
    """

    setting: str
    method: str
    first: Estimate
    gain: Estimate
    num_ahead: int

    @property
    def num_seeds(self) -> int:
        """The number of seeds."""
        return self.gain.n


def method_gains(rows: Iterable[MeasuredAccuracy], over: str) -> list[MethodGain]:
    """Return the gains of every method but the other one, setting by setting from the hardest for
    the first policy to the easiest.

    Raises:
        InputError: if a setting does not have the other method or the first policy with a seed, or
            an accuracy is given twice.
    """
    by_setting: dict[str, list[MeasuredAccuracy]] = defaultdict(list)
    for row in rows:
        by_setting[row.setting].append(row)
    found = [gain for setting, members in by_setting.items() for gain in _of_setting(setting, members, over)]
    hardness = {gain.setting: gain.first.value for gain in found}
    return sorted(found, key=lambda gain: (hardness[gain.setting], gain.setting))


def _of_setting(setting: str, rows: Sequence[MeasuredAccuracy], over: str) -> list[MethodGain]:
    first = {row.seed: row.accuracy for row in rows if row.method == CONTROL and row.iteration == 0}
    last = _last_accuracies(setting, rows)
    if over not in last:
        raise InputError(f"{setting}: the comparison has no {over}; choose another --over: {', '.join(sorted(last))}")
    return [
        _gain(setting, method, own, last[over], first) for method, own in last.items() if method not in (over, CONTROL)
    ]


def _last_accuracies(setting: str, rows: Sequence[MeasuredAccuracy]) -> dict[str, dict[int, float]]:
    """Return the accuracy after the last iteration by method and seed, mean over repeats."""
    known: dict[tuple[str, int, int, int], float] = {}
    for row in rows:
        key = (row.method, row.seed, row.iteration, row.repeat)
        if key in known:
            raise InputError(f"{setting}: two files hold seed {row.seed} of {row.method}; give each seed once")
        known[key] = row.accuracy
    last = max(row.iteration for row in rows)
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (method, seed, iteration, _), accuracy in known.items():
        if iteration == last:
            found[method][seed].append(accuracy)
    return {method: {seed: fmean(repeats) for seed, repeats in seeds.items()} for method, seeds in found.items()}


def _gain(
    setting: str, method: str, own: dict[int, float], other: dict[int, float], first: dict[int, float]
) -> MethodGain:
    seeds = [seed for seed in own if seed in other and seed in first]
    if not seeds:
        raise InputError(f"{setting}: no seed has both {method} and what it is compared with")
    gains = [own[seed] - other[seed] for seed in seeds]
    return MethodGain(
        setting=setting,
        method=method,
        first=Figure.of([first[seed] for seed in seeds]).estimate,
        gain=Figure.of(gains).estimate,
        num_ahead=sum(gain > 0.0 for gain in gains),
    )
