"""Which answer the finished solutions of a tree agree on, where no true answer may be used.

TTRL (arXiv:2504.16084) takes the most frequent of independent samples. Departures: solutions of a
tree are not independent, so that votes are weighted by path probability and value, and an answer
that one early step alone leads to is not believed.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from restmcts.domain.problems import Verdict
from restmcts.domain.tasks.task import Judgement, judged
from restmcts.domain.tree import Node, Tree

SHARE_DIGITS = 12
"""To which shares are rounded: what is equal but for the error of floats is a draw."""

LEAST_VALUE = 1e-6
"""A solution that the value model gives 0 still has a vote: the logarithm needs one."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """The vote of a finished solution.

    Attributes:
        answer: that it states, equal ones written alike; None where it states none.
        log_weight: logarithm of its weight.
        branch: the early step that it goes through, by node.
    """

    answer: str | None
    log_weight: float
    branch: int


@dataclass(frozen=True, slots=True)
class Vote:
    """What came of a vote.

    Attributes:
        answer: the one that is accepted as true; None: the tree is undecided.
        shares: of the weight of all ballots, by answer; what states none is missing from 1.
        reason: one line for people.
    """

    answer: str | None
    shares: Mapping[str, float]
    reason: str


def ballots_of(
    tree: Tree, answers: Mapping[int, str | None], probability_weight: float, branch_depth: int
) -> dict[int, Ballot]:
    """Return the ballots of finished solutions, by node id.

    A solution that was sampled m times has the weight m^(1-τ)·π^τ·V, with π its probability under
    the policy and V its value; where no value model was asked, V is 1.

    Args:
        answers: that solutions state, by node id.
        probability_weight: τ, in [0, 1].
        branch_depth: how many first steps are an early step; at least 1.
    """
    return {
        node_id: Ballot(
            answer,
            _log_weight(tree, tree[node_id], probability_weight),
            tree.lineage(tree[node_id])[: branch_depth + 1][-1].node_id,
        )
        for node_id, answer in answers.items()
    }


def _log_weight(tree: Tree, leaf: Node, probability_weight: float) -> float:
    num_samples = max(leaf.multiplicity, 1)
    value = 1.0 if leaf.model_value is None else max(leaf.model_value, LEAST_VALUE)
    of_samples = (1.0 - probability_weight) * math.log(num_samples)
    return of_samples + probability_weight * tree.log_prob_of(leaf) + math.log(value)


def count_votes(ballots: Sequence[Ballot], min_share: float, min_branches: int) -> Vote:
    """Return the answer with most weight, if its share is large enough, no other has as much, and
    enough branches lead to it.

    Args:
        min_share: in (0, 1].
        min_branches: different early steps, at least 1.
    """
    shares = _shares(ballots)
    if not shares:
        return Vote(None, {}, "no finished solution states an answer")
    answer, most = max(shares.items(), key=lambda pair: pair[1])
    found = f"{answer!r} has {most:.2f} of the votes of {len(ballots)} solutions"
    branches = len({ballot.branch for ballot in ballots if ballot.answer == answer})
    if any(share >= most for other, share in shares.items() if other != answer):
        return Vote(None, shares, f"{found}, and another answer as many")
    if most < min_share:
        return Vote(None, shares, f"{found}, less than {min_share:g}")
    if branches < min_branches:
        return Vote(None, shares, f"{found}, all from {branches} of at least {min_branches} early steps")
    return Vote(answer, shares, f"{found}, from {branches} early steps")


def _shares(ballots: Sequence[Ballot]) -> dict[str, float]:
    most = max((ballot.log_weight for ballot in ballots), default=0.0)
    weights: dict[str | None, list[float]] = defaultdict(list)
    for ballot in ballots:
        weights[ballot.answer].append(math.exp(ballot.log_weight - most))
    total = math.fsum(weight for listed in weights.values() for weight in listed)
    return {
        answer: round(math.fsum(listed) / total, SHARE_DIGITS)
        for answer, listed in weights.items()
        if answer is not None
    }


def judgements_of(ballots: Mapping[int, Ballot], vote: Vote) -> dict[int, Judgement]:
    """Return what a vote says of each solution, by node id: right with the answer voted for, else
    wrong; its score is the share of its answer. Of an undecided tree nothing is known.
    """
    if vote.answer is None:
        return {node_id: judged(Verdict.UNDECIDED, "votes", vote.reason) for node_id in ballots}
    return {node_id: _judgement(ballot, vote) for node_id, ballot in ballots.items()}


def _judgement(ballot: Ballot, vote: Vote) -> Judgement:
    verdict = Verdict.RIGHT if ballot.answer == vote.answer else Verdict.WRONG
    share = vote.shares[ballot.answer] if ballot.answer is not None else 0.0
    return Judgement(verdict, share, "votes", vote.reason)
