"""A tree as an object, whose nodes are read when they are first asked for."""

import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING

from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.rows import ListedTree
from restmcts.notebook.arguments import checks_arguments

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

MARKERS = {"right": "s", "wrong": "D", "undecided": "^"}
MAX_LABEL = 24
_VALUES = ("search_value", "model_value", "weighted_reward", "quality_value")
FACTS = tuple("num_nodes" if one.name == "nodes" else one.name for one in fields(ListedTree))
"""What is known of a tree in a list, by name."""


@dataclass(slots=True, eq=False)
class TreeNode:
    """A step of a tree, with what the search and the labels say of it
    (restmcts.adapters.sql.tables.NodeRow).

    Attributes:
        search_value: V of the search; None where nothing is known of the step: no value model was
            asked and no value was backed up. NaN in frames.
        quality_value: v of the paper (§3.1); None where the tree has no labels.
        children: in order of creation.
    """

    id: int
    step: str
    depth: int
    parent: "TreeNode | None"
    search_value: float | None
    model_value: float | None
    visits: int
    final: bool
    origin: str
    verdict: str | None
    reasoning_distance: int | None
    step_is_right: bool | None
    weighted_reward: float | None
    quality_value: float | None
    children: list["TreeNode"] = field(default_factory=list)

    @property
    def steps(self) -> list[str]:
        """The partial solution that ends here."""
        return [*self.parent.steps, self.step] if self.parent is not None else []

    def __repr__(self) -> str:
        value = f"V={self.search_value:.3f}" if self.search_value is not None else "not scored"
        figures = f"{value}, n={self.visits}, {self.verdict or 'no verdict'}"
        return f"TreeNode({self.id}, {self.step.strip()!r}, {figures})"


class SearchTree:
    """A tree of a run; its numbers are attributes, its nodes are read when they are first asked
    for.
    """

    id: int
    phase: str
    problem: int
    question: str
    state: str
    verdict: str | None
    solved: bool | None
    answer: str | None
    iterations: int
    tokens: int

    def __init__(self, database: Database, tree: ListedTree) -> None:
        self._database = database
        self.facts = dict(zip(FACTS, astuple(tree), strict=True))
        for name in SearchTree.__annotations__:
            setattr(self, name, self.facts[name])

    def __repr__(self) -> str:
        return f"SearchTree({self.id}, {self.phase}, {self.facts['num_nodes']} nodes, {self.verdict or self.state})"

    @cached_property
    def nodes(self) -> list[TreeNode]:
        """All nodes, the root first, parents before their children; empty before the search has
        started.
        """
        with self._database.transaction() as transaction:
            rows = queries.tree_with_nodes(transaction, self.id).nodes
        names = [name for name in TreeNode.__dataclass_fields__ if name not in ("id", "parent", "children")]
        by_id: dict[int, TreeNode] = {}
        for row in rows:
            parent = by_id[row.parent_id] if row.parent_id is not None else None
            node = by_id[row.node_id] = TreeNode(
                id=row.node_id, parent=parent, **{name: getattr(row, name) for name in names}
            )
            if parent is not None:
                parent.children.append(node)
        return list(by_id.values())

    @property
    def chosen(self) -> TreeNode | None:
        """The node that the search answered with."""
        number = self.facts["chosen_node"]
        return next((node for node in self.nodes if node.id == number), None) if number is not None else None

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a row for each node, indexed by its number; `parent` is a number too. A value that
        is not known is NaN.
        """
        import pandas

        names = [name for name in TreeNode.__dataclass_fields__ if name not in ("parent", "children")]
        rows = [{**{name: getattr(node, name) for name in names}, "parent": _id_of(node.parent)} for node in self.nodes]
        frame = pandas.DataFrame(rows, columns=[*names, "parent"]).set_index("id")
        return frame.astype(dict.fromkeys(_VALUES, float))

    @checks_arguments
    def plot(self, axes: "Axes | None" = None, *, max_labels: int = 60) -> "Axes":
        """Draw the tree with matplotlib: colour is V (white: not scored), size is visits, squares
        are right ends, diamonds wrong ones.

        Args:
            axes: to draw on; None: a new figure.
            max_labels: steps are written beside the nodes of trees of at most so many nodes.
        """
        from matplotlib import colormaps, pyplot

        colours = colormaps["coolwarm_r"].with_extremes(bad="white")
        places = _places(self.nodes)
        if axes is None:
            height = min(max(0.3 * len({y for _, y in places.values()}), 3.0), 40.0)
            axes = pyplot.subplots(figsize=(11.0, height), layout="constrained")[1]
        trace = set(_lineage(self.chosen))
        for node in self.nodes:
            if node.parent is not None:
                colour, width = ("tab:blue", 2.5) if node.id in trace else ("0.75", 0.8)
                x, y = zip(places[node.parent.id], places[node.id], strict=True)
                axes.plot(x, y, color=colour, linewidth=width, zorder=1)
            if len(self.nodes) <= max_labels:
                axes.annotate(
                    _label(node), places[node.id], (6, 6), textcoords="offset points", fontsize=7, parse_math=False
                )
        most = max((node.visits for node in self.nodes), default=1) or 1
        for verdict in (None, *MARKERS):
            chosen = [node for node in self.nodes if node.verdict == verdict]
            if chosen:
                x, y = zip(*(places[node.id] for node in chosen), strict=True)
                sizes, values = (
                    [20 + 120 * node.visits / most for node in chosen],
                    [math.nan if node.search_value is None else node.search_value for node in chosen],
                )
                marker = MARKERS.get(verdict or "", "o")
                drawn = axes.scatter(x, y, s=sizes, c=values, marker=marker, vmin=0, vmax=1, plotnonfinite=True)
                drawn.set(cmap=colours, edgecolor="black", label=verdict, zorder=2)
        axes.set_title(self.question if len(self.question) <= 80 else self.question[:79] + "…", parse_math=False)
        axes.set_axis_off()
        if any(node.verdict for node in self.nodes):
            axes.legend(loc="lower left", frameon=False)
        return axes


def _places(nodes: list[TreeNode]) -> dict[int, tuple[float, float]]:
    """Return x (depth) and y of each node: ends get a row each, parents are between their
    children.
    """
    rows: dict[int, float] = {}
    stack = [(nodes[0], False)] if nodes else []
    num_rows = 0
    while stack:
        node, placed = stack.pop()
        if placed:
            rows[node.id] = (rows[node.children[0].id] + rows[node.children[-1].id]) / 2
        elif not node.children:
            rows[node.id] = -num_rows
            num_rows += 1
        else:
            stack += [(node, True), *((child, False) for child in reversed(node.children))]
    return {node.id: (float(node.depth), rows[node.id]) for node in nodes}


def _lineage(node: TreeNode | None) -> Iterator[int]:
    while node is not None:
        yield node.id
        node = node.parent


def _id_of(node: TreeNode | None) -> int | None:
    return node.id if node is not None else None


def _label(node: TreeNode) -> str:
    step = " ".join(node.step.split()) if node.parent is not None else "the question"
    value = f" {node.search_value:.2f}" if node.search_value is not None else ""
    return (step if len(step) <= MAX_LABEL else step[: MAX_LABEL - 1] + "…") + value
