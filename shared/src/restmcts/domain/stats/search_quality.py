"""How well a search spent its tokens, whatever it answered: what was wasted, what was said twice,
when a right solution was there.

Computed from an ended search and verdicts that it never saw; does not know where either is stored.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from restmcts.domain.requests import Response
from restmcts.domain.runs.promotion import HeldOutStep, auc
from restmcts.domain.search.protocol import Search
from restmcts.domain.stats.estimates import Estimate, pooled_share, share
from restmcts.domain.stats.outcomes import Key, Outcome
from restmcts.domain.tree import Tree

NUM_BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers whose value is in one tenth of [0, 1]: their mean value, and the share of them
    that is right.
    """

    mean_value: float
    share_right: Estimate


@dataclass(frozen=True, slots=True)
class SearchQuality:
    """One method under one budget.

    Attributes:
        auc: chance that a right answer's value lies above a wrong one's; None where values or one
            of the two are missing. All errors are over problems.
        bins: of the answers' values, rising; empty bins are left out.
        wasted, repeated: means of `Outcome`'s; None where they were not looked at.
        mean_depth: steps of an answer; None without answers.
        solved_within: share of problems with a right solution after so many generated tokens, by
            tokens; empty where not looked at.
    """

    method: str
    budget: int | None
    models: str
    auc: Estimate | None
    bins: tuple[Bin, ...]
    wasted: Estimate | None
    repeated: Estimate | None
    mean_depth: Estimate | None
    solved_within: Mapping[int, Estimate]


def tokens_at_nodes(search: Search, responses: Sequence[tuple[Response, float]]) -> list[int]:
    """Play a search's responses again; return how many tokens had been generated when each of
    its nodes was there.
    """
    search.begin()
    tokens = [0] * len(search.tree)
    for response, seconds in responses:
        search.receive(response, seconds)
        tokens += [search.spent.tokens] * (len(search.tree) - len(tokens))
    return tokens


def wasted_share(tree: Tree) -> float:
    """Return the share of the expanded nodes, all that were gone on from, below which no
    solution was finished.
    """
    useful = {ancestor.node_id for leaf in tree.final_nodes() for ancestor in tree.lineage(leaf)[:-1]}
    expanded = [node.node_id for node in tree.nodes if node.children or node.expanded]
    return sum(node_id not in useful for node_id in expanded) / len(expanded) if expanded else 0.0


def repeated_share(tree: Tree, num_generated: int) -> float:
    """Return the share of the generated tokens that are in no node."""
    kept = sum(node.num_tokens for node in tree.nodes)
    return max(1.0 - kept / num_generated, 0.0) if num_generated else 0.0


def first_right(tokens: Sequence[int], right: Collection[int]) -> int | None:
    """Return the tokens generated when the first of the right nodes was there, or None if there
    is none.
    """
    return min((tokens[node_id] for node_id in right), default=None)


def search_quality(key: Key, outcomes: Sequence[Outcome], limits: Sequence[int]) -> SearchQuality:
    """Return what the outcomes of one cell say of its search; `limits` are the tokens at which
    solved problems are counted.
    """
    problems: dict[tuple[str, int], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        problems[outcome.group, outcome.problem].append(outcome)

    def mean(read: Callable[[Outcome], float | None]) -> Estimate | None:
        known = [[value for one in members if (value := read(one)) is not None] for members in problems.values()]
        return pooled_share([(math.fsum(values), len(values)) for values in known]) if any(known) else None

    def within(limit: int) -> Callable[[Outcome], float | None]:
        def read(one: Outcome) -> float | None:
            found = one.tokens_to_right is not None and one.tokens_to_right <= limit
            return float(found) if one.wasted is not None else None

        return read

    valued = [
        [HeldOutStep(0, one.value, one.is_right) for one in members if one.value is not None]
        for members in problems.values()
    ]
    area, solved = auc(valued), {limit: mean(within(limit)) for limit in limits}
    return SearchQuality(
        *key,
        auc=area.estimate if area is not None else None,
        bins=calibration([(one.value, one.is_right) for members in valued for one in members]),
        wasted=mean(lambda outcome: outcome.wasted),
        repeated=mean(lambda outcome: outcome.repeated),
        mean_depth=mean(lambda outcome: outcome.depth),
        solved_within={limit: found for limit, found in solved.items() if found is not None},
    )


def calibration(valued: Sequence[tuple[float, bool]]) -> tuple[Bin, ...]:
    """Return how often answers are right, by tenths of their value."""
    members: list[list[tuple[float, bool]]] = [[] for _ in range(NUM_BINS)]
    for value, right in valued:
        members[min(int(value * NUM_BINS), NUM_BINS - 1)].append((value, right))
    return tuple(_bin(one) for one in members if one)


def _bin(members: Sequence[tuple[float, bool]]) -> Bin:
    return Bin(fmean(value for value, _ in members), share(sum(right for _, right in members), len(members)))
