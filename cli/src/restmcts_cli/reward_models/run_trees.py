"""The labelled trees of a run with the values of a reward model."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import runs, trees
from restmcts.domain.labels.filtering import value_paths
from restmcts.domain.labels.inferred import StepLabel
from restmcts.domain.labels.labelled_solutions import LabelledSolution
from restmcts.domain.problems import Verdict
from restmcts.domain.runs.plans import HELD_OUT_TREES
from restmcts.domain.stats.tree_values import StepOrder, ValuedStep, step_order
from restmcts.domain.stats.value_choices import has_log_probs, log_likelihood, with_log_prob
from restmcts.domain.tree import Node, Tree
from restmcts.errors import InputError

from restmcts_cli.reports.run_results import mark_of_run
from restmcts_cli.reward_models.scoring import ScoredSolution


@dataclass(frozen=True, slots=True)
class LabelledRunTree:
    """A verified tree; `problem` is the id of its problem, the same for all trees of it."""

    tree_id: int
    problem: int
    question: str
    tree: Tree
    verdicts: Mapping[int, Verdict]
    labels: Mapping[int, StepLabel]

    @property
    def has_labels(self) -> bool:
        """Whether it says something of its steps."""
        return len(self.labels) > 1


def trees_of_run(transaction: Transaction, run: str, phase: str | None, limit: int | None) -> list[LabelledRunTree]:
    """Return the trees of a run in order, those of one phase; None: of held-out problems where
    there are any, else of all its searches. Those that say nothing of their steps, as no solution
    in them is right, are among them.

    Args:
        limit: of trees with labels of steps; None: all.

    Raises:
        InputError: if there is no such run or phase, or it has no labelled tree.
    """
    run_id = queries.run_named(transaction, run).id
    names = [row.name for row in runs.phases_of(transaction, run_id) if row.kind == "search"]
    if phase is not None and phase not in names:
        raise InputError(f"run {run} has no search {phase!r}; it has {', '.join(names) or 'none'}")
    chosen = [phase] if phase is not None else [HELD_OUT_TREES] if HELD_OUT_TREES in names else names
    found: list[LabelledRunTree] = []
    for batch in runs.labelled_trees(transaction, run_id, chosen):
        ids = [row.tree_id for row in batch]
        loaded, known = trees.load_trees(transaction, ids), trees.load_labels(transaction, ids)
        for row in batch:
            verdicts, labels = known[row.tree_id]
            found.append(LabelledRunTree(row.tree_id, row.id, row.question, loaded[row.tree_id], verdicts, labels))
    usable = [place for place, one in enumerate(found) if one.has_labels]
    if not usable:
        raise InputError(f"run {run} has no labelled tree yet in {', '.join(chosen) or 'any search'}")
    return found if limit is None or limit > len(usable) else found[: usable[limit - 1] + 1]


def mark_of_named(transaction: Transaction, run: str) -> str:
    """Return the mark beside figures that rest on a run's verdicts: "unchecked", or nothing."""
    return mark_of_run(transaction, queries.run_named(transaction, run).id)


def paths_of_trees(found: Sequence[LabelledRunTree]) -> list[LabelledSolution]:
    """Return the paths to the trees' labelled leaves as what is scored, tree by tree; their keys
    name tree and node.
    """
    return [
        LabelledSolution(
            f"{one.tree_id}/{path.node_id}", "trees", one.question, path.steps, path.leads_to_right, first_error=None
        )
        for one in found
        if one.has_labels
        for path in value_paths(one.tree, one.labels)
    ]


def finished_paths(found: Sequence[LabelledRunTree], besides: Collection[str]) -> list[LabelledSolution]:
    """Return the verified solutions of trees as what is scored, but those whose keys are given."""
    return [
        LabelledSolution(key, "trees", one.question, steps, (None,) * len(steps), first_error=None)
        for one in found
        for node in one.tree.final_nodes()
        if node.node_id in one.verdicts and (key := f"{one.tree_id}/{node.node_id}") not in besides
        for steps in (one.tree.steps_to(node),)
    ]


def values_of_nodes(
    found: Sequence[LabelledRunTree], paths: Sequence[LabelledSolution], scored: Sequence[ScoredSolution]
) -> dict[int, dict[int, float]]:
    """Return the values of nodes by tree and node; those on paths that the model refused are left
    out.

    Args:
        found: the trees.
        paths: in them.
        scored: of the paths, in order.
    """
    trees_by_id = {one.tree_id: one.tree for one in found}
    values: dict[int, dict[int, float]] = {one.tree_id: {} for one in found}
    for path, one in zip(paths, scored, strict=True):
        tree_id, node_id = map(int, path.key.split("/"))
        if one.values is not None:
            tree = trees_by_id[tree_id]
            lineage = tree.lineage(tree[node_id])[1:]
            values[tree_id].update((node.node_id, value) for node, value in zip(lineage, one.values, strict=True))
    return values


def steps_by_problem(
    found: Sequence[LabelledRunTree], values: Mapping[int, Mapping[int, float]]
) -> tuple[tuple[ValuedStep, ...], ...]:
    """Return the labelled steps of trees with their values, by problem; those without one are left
    out.

    Args:
        found: the trees.
        values: by tree and node.
    """
    by_problem: dict[int, list[ValuedStep]] = defaultdict(list)
    for one in found:
        if one.has_labels:
            by_problem[one.problem] += _steps(one, values[one.tree_id])
    return tuple(tuple(steps) for steps in by_problem.values() if steps)


def step_orders(found: Sequence[LabelledRunTree], values: Mapping[int, Mapping[int, float]]) -> tuple[StepOrder, ...]:
    """Return how the policy's own likelihood orders the labelled steps that have values, and how
    both together do; nothing where the policy gave no log-probabilities.

    Args:
        found: the trees.
        values: by tree and node.
    """
    if not any(has_log_probs(one.tree) for one in found if one.has_labels):
        return ()
    likelihoods, combined = (
        {
            one.tree_id: {
                node_id: score(one.tree, one.tree[node_id], value) for node_id, value in values[one.tree_id].items()
            }
            for one in found
        }
        for score in (lambda tree, node, _: log_likelihood(tree, node), with_log_prob)
    )
    return (
        step_order("likelihood", steps_by_problem(found, likelihoods)),
        step_order("combined", steps_by_problem(found, combined)),
    )


def _steps(one: LabelledRunTree, value_of: Mapping[int, float]) -> list[ValuedStep]:
    leaves = _right_leaves(one.tree, one.verdicts)
    return [
        ValuedStep(
            # Unique among the trees of a problem.
            (one.tree_id << 32) + (one.tree[node_id].parent_id or 0),
            len(one.tree.lineage(one.tree[node_id])) - 1,
            value,
            one.labels[node_id].step_is_right,
            leaves.get(node_id),
        )
        for node_id, value in value_of.items()
        if node_id in one.labels
    ]


def _right_leaves(tree: Tree, verdicts: Mapping[int, Verdict]) -> dict[int, float]:
    """Return the share of right ones among the checked nodes at or below each node."""
    counts: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for node_id, verdict in verdicts.items():
        if verdict != Verdict.UNDECIDED:
            above: list[Node] = list(tree.lineage(tree[node_id]))
            for node in above:
                counts[node.node_id][0] += verdict == Verdict.RIGHT
                counts[node.node_id][1] += 1
    return {node_id: right / num for node_id, (right, num) in counts.items()}
