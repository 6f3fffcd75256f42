"""Estimates of what the steps of a tree are worth, from the verdicts on its finished leaves.

They know no paper's arithmetic of values: v_k is in restmcts.domain.labels.inferred. A leaf whose
verdict is undecided counts nowhere, and neither does a branch that was never finished.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from restmcts.domain.problems import Verdict
from restmcts.domain.tree import ROOT, Node, Tree

_GRID = 400
_DECIDED = (Verdict.RIGHT, Verdict.WRONG)


@dataclass(frozen=True, slots=True)
class StepEstimate:
    """What the decided leaves at or below a node say of it.

    Attributes:
        mean: weighted share of right leaves, in [0, 1]; V(n).
        value: the mean shrunk towards the parent's value, in [0, 1]; V~(n).
        num_leaves: decided finished leaves at or below the node, each as often as it was sampled.
        num_right: those of them that are right.
        effective_leaves: (sum of weights)² / sum of squared weights: that many leaves of equal
            weight say as much. At most `num_leaves`.
        has_undecided: whether a finished leaf at or below has no verdict, so that it might be
            right.
    """

    mean: float
    value: float
    num_leaves: int
    num_right: int
    effective_leaves: float
    has_undecided: bool

    @property
    def is_lost(self) -> bool:
        """Whether every finished leaf at or below is wrong."""
        return not self.num_right and not self.has_undecided


@dataclass(frozen=True, slots=True)
class VerifiedStep:
    """What is needed of a node to find the decisive ones; `verdict` is that of a finished leaf."""

    node_id: int
    parent_id: int | None
    final: bool
    verdict: str | None


@dataclass(frozen=True, slots=True)
class _Leaves:
    """The decided leaves at or below a node, their weights as shares of the whole."""

    log_weight: float
    mean: float
    num_leaves: int
    num_right: int
    effective_leaves: float


def estimate_steps(
    tree: Tree,
    verdicts: Mapping[int, Verdict],
    *,
    probability_weight: float = 0.0,
    shrinkage: float = 1.0,
    scores: Mapping[int, float] | None = None,
) -> dict[int, StepEstimate]:
    """Return the estimates of all nodes with a decided leaf at or below, by node id; the root's
    included.

    Where branches were sampled, each leaf counts as often as it was sampled (TreeRL, VinePPO). A
    search that *chose* its branches (best-first) draws no samples, and the plain mean over its
    leaves is biased; there a leaf l below n weighs π(l|n)^τ, from the stored log-probabilities of
    its steps (self-normalised importance weights). Between the two a leaf that was sampled m times
    weighs m^(1-τ)·π(l|n)^τ.

        V(n) = Σ w_l c_l / Σ w_l,    e(n) = (Σ w_l)² / Σ w_l²
        V~(n) = (e·V(n) + κ·V~(parent)) / (e + κ),    V~(root) = V(root)

    A finished node is what its verdict says, and is not shrunk.

    Args:
        verdicts: of finished leaves, by node id; those of unfinished leaves are not used.
        probability_weight: τ, in [0, 1].
        shrinkage: κ, leaves' worth of trust in the parent; at least 0.
        scores: c_l in [0, 1], of leaves by node id; of those left out right ones have 1, wrong
            ones 0.
    """
    found = _leaves(tree, verdicts, probability_weight, scores or {})
    undecided = _with_undecided(tree, verdicts)
    estimates: dict[int, StepEstimate] = {}
    for node in tree.depth_first():
        if node.node_id not in found:
            continue
        leaves = found[node.node_id]
        parent = estimates[node.parent_id].value if node.parent_id is not None else leaves.mean
        trust = 0.0 if node.final else shrinkage
        value = (leaves.effective_leaves * leaves.mean + trust * parent) / (leaves.effective_leaves + trust)
        estimates[node.node_id] = StepEstimate(
            mean=leaves.mean,
            value=value,
            num_leaves=leaves.num_leaves,
            num_right=leaves.num_right,
            effective_leaves=leaves.effective_leaves,
            has_undecided=node.node_id in undecided,
        )
    return estimates


def decisive_steps(nodes: Sequence[VerifiedStep]) -> set[int]:
    """Return the ids of the steps that lost a solvable problem: every finished leaf at or below is
    wrong, and there is one, while a right leaf lies below the step before.

    Args:
        nodes: of one tree, parents before their children.
    """
    ends: dict[int, Counter[str]] = defaultdict(Counter)
    for node in reversed(nodes):
        if node.final:
            ends[node.node_id][node.verdict if node.verdict in _DECIDED else Verdict.UNDECIDED] += 1
        if node.parent_id is not None:
            ends[node.parent_id] += ends[node.node_id]
    return {
        node.node_id
        for node in nodes
        if node.parent_id is not None
        and ends[node.node_id].keys() == {Verdict.WRONG}
        and ends[node.parent_id][Verdict.RIGHT]
    }


def _leaves(
    tree: Tree, verdicts: Mapping[int, Verdict], probability_weight: float, scores: Mapping[int, float]
) -> dict[int, _Leaves]:
    """Return what lies below each node, from the leaves up; nodes without a decided leaf are left
    out. Weights are kept as logarithms: those of long texts are too small for numbers.
    """
    found: dict[int, _Leaves] = {}
    for node in reversed(tree.nodes):
        parts = [
            (probability_weight * tree[child].log_prob + found[child].log_weight, found[child])
            for child in node.children
            if child in found
        ]
        own = _own(node, verdicts.get(node.node_id), probability_weight, scores.get(node.node_id))
        if own is not None:
            parts.append((own.log_weight, own))
        if parts:
            found[node.node_id] = _together(parts)
    return found


def _own(node: Node, verdict: Verdict | None, probability_weight: float, score: float | None) -> _Leaves | None:
    if not node.final or verdict not in _DECIDED:
        return None
    num_samples = max(node.multiplicity, 1)
    weight = num_samples ** (1.0 - probability_weight)
    is_right = verdict == Verdict.RIGHT
    mean = score if score is not None else float(is_right)
    return _Leaves(math.log(weight), mean, num_samples, num_samples * is_right, weight)


def _together(parts: Sequence[tuple[float, _Leaves]]) -> _Leaves:
    """Return the leaves of all parts as one, each with the logarithm of its weight."""
    most = max(log_weight for log_weight, _ in parts)
    weighted = [(math.exp(log_weight - most), leaves) for log_weight, leaves in parts]
    total = math.fsum(weight for weight, _ in weighted)
    squares = math.fsum((weight / total) ** 2 / leaves.effective_leaves for weight, leaves in weighted)
    return _Leaves(
        log_weight=most + math.log(total),
        mean=math.fsum(weight * leaves.mean for weight, leaves in weighted) / total,
        num_leaves=sum(leaves.num_leaves for _, leaves in weighted),
        num_right=sum(leaves.num_right for _, leaves in weighted),
        effective_leaves=1.0 / squares,
    )


def _with_undecided(tree: Tree, verdicts: Mapping[int, Verdict]) -> set[int]:
    """Return the nodes that a finished leaf without a verdict is at or below."""
    open_leaves = [node for node in tree.final_nodes() if verdicts.get(node.node_id) not in _DECIDED]
    return {node.node_id for leaf in open_leaves for node in tree.lineage(leaf)}


def prover_value(value: float, num_tries: int) -> float:
    """Return the chance that one of so many tries from a step is right: Q_k = 1 - (1 - V)^k, the
    value of a best-of-k prover (PAV, arXiv:2410.08146).

    It separates the steps of hard problems, which V alone sees near 0.

    Args:
        value: V, in [0, 1].
        num_tries: k, at least 1.
    """
    return 1.0 - (1.0 - value) ** num_tries


def progress(estimates: Mapping[int, StepEstimate], node: Node, num_tries: int) -> float:
    """Return the gain in prover value that a step brings, A_k(n) = Q_k(n) - Q_k(parent), in
    [-1, 1] (PAV, arXiv:2410.08146); the root's is 0.
    """
    own = prover_value(estimates[node.node_id].value, num_tries)
    parent = estimates[node.parent_id if node.parent_id is not None else ROOT]
    return own - prover_value(parent.value, num_tries)


def probability_above(first: StepEstimate, second: StepEstimate) -> float:
    """Return how likely the first step is worth more than the second: P(V₁ > V₂) where each V is
    Beta(e·V + 1, e·(1 - V) + 1), the posterior of its leaves under an even prior.

    Computed on a grid of 400 places; the error is below 0.001 up to a thousand leaves.
    """
    mine, other = _posterior(first), _posterior(second)
    below = likely = 0.0
    for own, theirs in zip(mine, other, strict=True):
        likely += own * (below + 0.5 * theirs)
        below += theirs
    return likely


def _posterior(estimate: StepEstimate) -> list[float]:
    num_right = estimate.effective_leaves * estimate.mean
    num_wrong = estimate.effective_leaves - num_right
    places = [(place + 0.5) / _GRID for place in range(_GRID)]
    logs = [num_right * math.log(x) + num_wrong * math.log1p(-x) for x in places]
    most = max(logs)
    weights = [math.exp(one - most) for one in logs]
    total = math.fsum(weights)
    return [weight / total for weight in weights]
