"""The labelled trees of a run with the values of a reward model."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import runs, trees
from restmcts.domain.labels.filtering import ValuePath, value_paths
from restmcts.domain.labels.inferred import StepLabel
from restmcts.domain.problems import Verdict
from restmcts.domain.requests import ScoreSteps
from restmcts.domain.runs.plans import HELD_OUT_TREES
from restmcts.domain.stats.tree_values import ValuedStep
from restmcts.domain.tree import Node, Tree
from restmcts.errors import InputError, ModelError
from restmcts.ports import StepScorer

BATCH = 8


@dataclass(frozen=True, slots=True)
class LabelledRunTree:
    """A labelled tree; `problem` is the id of its problem, the same for all trees of it."""

    tree_id: int
    problem: int
    question: str
    tree: Tree
    verdicts: Mapping[int, Verdict]
    labels: Mapping[int, StepLabel]


def trees_of_run(transaction: Transaction, run: str, phase: str | None, limit: int | None) -> list[LabelledRunTree]:
    """Return the labelled trees of a run, those of one phase; None: of held-out problems where
    there are any, else of all its searches.

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
    usable = [one for one in found if len(one.labels) > 1][:limit]
    if not usable:
        raise InputError(f"run {run} has no labelled tree yet in {', '.join(chosen) or 'any search'}")
    return usable


@dataclass(frozen=True, slots=True)
class ScoredTrees:
    """The labelled steps of trees by problem, and what scoring them took."""

    problems: tuple[tuple[ValuedStep, ...], ...]
    refused: int
    tokens: int


def scored_trees(
    scorer: StepScorer, found: Sequence[LabelledRunTree], on_progress: Callable[[int], None]
) -> ScoredTrees:
    """Return the values of trees' labelled steps; a tree that the model refuses is left out.

    Raises:
        ModelError: if it refuses all.
    """
    by_problem: dict[int, list[ValuedStep]] = defaultdict(list)
    refused = tokens = 0
    last: ModelError | None = None
    for first in range(0, len(found), BATCH):
        for one, paths, values, num_tokens, error in _scored(scorer, found[first : first + BATCH]):
            last, refused, tokens = error or last, refused + (error is not None), tokens + num_tokens
            by_problem[one.problem] += _steps(one, paths, values)
        on_progress(min(first + BATCH, len(found)))
    if last is not None and refused == len(found):
        raise last
    return ScoredTrees(tuple(tuple(steps) for steps in by_problem.values() if steps), refused, tokens)


_Scored = tuple[LabelledRunTree, list[ValuePath], tuple[tuple[float, ...], ...], int, ModelError | None]


def _scored(scorer: StepScorer, batch: Sequence[LabelledRunTree]) -> list[_Scored]:
    paths = [value_paths(one.tree, one.labels) for one in batch]
    requests = [ScoreSteps(number, (), tuple(path.steps for path in each)) for number, each in enumerate(paths)]
    try:
        answers = scorer.score([one.question for one in batch], requests)
    except ModelError as error:
        if len(batch) > 1:
            return [scored for one in batch for scored in _scored(scorer, [one])]
        return [(batch[0], [], (), 0, error)]
    return [
        (one, each, answer.values, answer.num_scored_tokens, None)
        for one, each, answer in zip(batch, paths, answers, strict=True)
    ]


def _steps(one: LabelledRunTree, paths: Sequence[ValuePath], values: Sequence[Sequence[float]]) -> list[ValuedStep]:
    value_of = {
        node.node_id: value
        for path, listed in zip(paths, values, strict=True)
        for node, value in zip(one.tree.lineage(one.tree[path.node_id])[1:], listed, strict=True)
    }
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
