"""What methods answered, problem by problem, and what that comes to: accuracies with errors, at
equal limits and compute-matched.

Pure arithmetic over outcomes; knows nothing of trees, runs or reports.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from restmcts.domain.problems import Verdict
from restmcts.domain.stats.estimates import Estimate, Figure, Rows

FAILED = "failed"
COSTS = ("tokens", "prompt_tokens", "reused_tokens", "scored_tokens", "model_calls", "seconds")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One method's answer to one problem.

    Attributes:
        budget: limit of generated tokens; None for a method without one.
        models: name of the pair of models; empty where there is only one.
        group: what the problem was drawn with (one evaluation of several that are pooled).
        problem: place in the problem set.
        verdict: on the answer: "right", "wrong" or "undecided", or "failed" where the search
            failed.
        any_right: whether any finished solution of the search is right (pass@k; not an answer).
        reused_tokens: of prompts, not prefilled again; 0 for samples from a pool, whatever a server
            would keep.
        seen: whether a model was trained on the problem.
        depth: steps of the answered solution.
        value: V at its end; None where it was not asked.
        wasted: share of the expanded nodes below which no solution was finished; None where it was
            not looked at.
        repeated: share of the generated tokens that are in no node: said before, or thrown away;
            None likewise.
        tokens_to_right: generated until the first right solution was there; None if there is none,
            or likewise.
        seconds: from the first request to the last answer, in whatever company the search ran.
    """

    method: str
    budget: int | None
    models: str
    group: str
    seed: int
    problem: int
    verdict: str
    any_right: bool
    tokens: int
    prompt_tokens: int
    reused_tokens: int
    scored_tokens: int
    model_calls: int
    nodes: int
    seconds: float
    seen: bool = False
    depth: int | None = None
    value: float | None = None
    wasted: float | None = None
    repeated: float | None = None
    tokens_to_right: int | None = None
    answer: str | None = None

    @property
    def is_right(self) -> bool:
        return self.verdict == Verdict.RIGHT


@dataclass(frozen=True, slots=True)
class CellSummary:
    """One method under one budget over all problems and seeds.

    Attributes:
        accuracy: share of right answers; what is undecided or failed is not right.
        interval: the accuracy's 95 % interval, Wilson's.
        undecided: share of answers that the verifier could not decide.
        failed: searches that failed.
        any_right: share of problems with any right finished solution.
        costs: mean a problem, by name (`COSTS`).
        accuracy_unseen: without problems that a model was trained on; None where there are none, or
            nothing else.
    """

    method: str
    budget: int | None
    models: str
    accuracy: Estimate
    interval: tuple[float, float]
    undecided: Estimate
    failed: int
    any_right: Estimate
    costs: Mapping[str, float]
    accuracy_unseen: float | None


@dataclass(frozen=True, slots=True)
class ComputeMatched:
    """A method's accuracy at a mean number of tokens that were really spent; None where it has
    not been run so cheaply.
    """

    method: str
    models: str
    tokens: int
    accuracy: Estimate | None


Key = tuple[str, int | None, str]


class OutcomeTable:
    """All outcomes of an evaluation (or of several, pooled), cell by cell on the same problems, so
    that differences are paired.

    Invariants: every cell has the same problems; a method that was run with one seed only
    represents all seeds.
    """

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        self.cells: dict[Key, list[Outcome]] = defaultdict(list)
        for outcome in outcomes:
            self.cells[(outcome.method, outcome.budget, outcome.models)].append(outcome)
        if not self.cells:
            raise ValueError("a table needs at least one outcome")
        self._seeds = {group: sorted(seeds) for group, seeds in self._seeds_by_group().items()}
        self._sizes = self._num_problems_by_group()
        self._figures: dict[Key, Figure] = {key: self._share(key, lambda one: one.is_right) for key in self.cells}
        self._summaries = {key: self._summary(key) for key in self.cells}

    def _seeds_by_group(self) -> dict[str, set[int]]:
        seeds: dict[str, set[int]] = defaultdict(set)
        for members in self.cells.values():
            for outcome in members:
                seeds[outcome.group].add(outcome.seed)
        return seeds

    def _num_problems_by_group(self) -> dict[str, int]:
        sizes: dict[str, int] = defaultdict(int)
        for members in self.cells.values():
            for outcome in members:
                sizes[outcome.group] = max(sizes[outcome.group], outcome.problem + 1)
        return sizes

    def _share(self, key: Key, counts: Callable[[Outcome], bool]) -> Figure:
        """Return the share of a cell's outcomes that count, by group, seed and problem."""
        right = {(o.group, o.seed, o.problem): float(counts(o)) for o in self.cells[key]}
        groups: list[Rows] = []
        for group, seeds in sorted(self._seeds.items()):
            known = sorted({seed for g, seed, _ in right if g == group})
            if not known:
                raise ValueError(f"{key[0]} was not run on the problems of {group}")
            rows = [seed if seed in known else known[0] for seed in seeds]
            problems = range(self._sizes[group])
            groups.append(tuple(tuple(right.get((group, seed, p), 0.0) for p in problems) for seed in rows))
        return Figure(tuple(groups))

    @property
    def num_seen(self) -> int:
        """Problems that a model was trained on."""
        return len({(o.group, o.problem) for members in self.cells.values() for o in members if o.seen})

    @property
    def budgets(self) -> list[int]:
        return sorted({budget for _, budget, _ in self.cells if budget is not None})

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(method for method, _, _ in self.cells))

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(models for _, _, models in self.cells))

    @property
    def num_problems(self) -> int:
        return sum(self._sizes.values())

    @property
    def num_seeds(self) -> int:
        return max(map(len, self._seeds.values()))

    def summary(self, key: Key) -> CellSummary:
        """Return what a cell comes to."""
        return self._summaries[key]

    def summaries(self) -> list[CellSummary]:
        """Return what every cell comes to, in their order."""
        return list(self._summaries.values())

    def _summary(self, key: Key) -> CellSummary:
        members = self.cells[key]
        unseen = [o.is_right for o in members if not o.seen]
        accuracy = self._figures[key].estimate
        return CellSummary(
            *key,
            accuracy=accuracy,
            interval=accuracy.interval,
            undecided=self._share(key, lambda one: one.verdict == Verdict.UNDECIDED).estimate,
            failed=sum(o.verdict == FAILED for o in members),
            any_right=self._share(key, lambda one: one.any_right).estimate,
            costs={name: math.fsum(getattr(o, name) for o in members) / len(members) for name in COSTS},
            accuracy_unseen=sum(unseen) / len(unseen) if 0 < len(unseen) < len(members) else None,
        )

    def difference(self, first: Key, second: Key) -> Estimate:
        """Return how far one cell is ahead of another on the same problems and seeds."""
        return self._figures[first].minus(self._figures[second])

    def at_cost(self, method: str, models: str, tokens: int) -> Figure | None:
        """Return a method's accuracy at a mean of so many spent tokens: a mixture of the two
        budgets on either side of it.

        A method that never spends so much counts with the most that it spends; None where it never
        spends so little.
        """
        points = sorted(
            (self.summary(key).costs["tokens"], key)
            for key in self.cells
            if (key[0], key[2]) == (method, models) and key[1]
        )
        below = [point for point in points if point[0] <= tokens]
        above = [point for point in points if point[0] > tokens]
        if not below:
            return None
        if not above:
            return self._figures[below[-1][1]]
        (low, low_key), (high, high_key) = below[-1], above[0]
        return self._figures[low_key].mixed(self._figures[high_key], (tokens - low) / (high - low))

    def compute_matched(self) -> list[ComputeMatched]:
        """Return all methods with a budget at each budget's number of tokens, really spent."""
        names = dict.fromkeys((method, models) for method, budget, models in self.cells if budget is not None)
        rows = []
        for method, models in names:
            for tokens in self.budgets:
                figure = self.at_cost(method, models, tokens)
                rows.append(ComputeMatched(method, models, tokens, figure.estimate if figure is not None else None))
        return rows


def pass_at_k(num_samples: Sequence[int], num_right: Sequence[int], k: int) -> Estimate:
    """Return the chance that at least one of k samples is right, mean over problems with its error:
    1 - C(n - c, k) / C(n, k), unbiased (Chen et al., arXiv:2107.03374, Eq. 1).

    Args:
        num_samples: n of each problem, at least k.
        num_right: c of each problem.

    Raises:
        ValueError: if some problem has fewer samples than k.
    """
    if not num_samples or min(num_samples) < k:
        raise ValueError(f"pass@{k} needs at least {k} samples of every problem")
    missed = [math.comb(n - c, k) / math.comb(n, k) for n, c in zip(num_samples, num_right, strict=True)]
    return Figure.of([1.0 - one for one in missed]).estimate
