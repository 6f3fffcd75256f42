"""A search tree as inline SVG, an indented outline with the most visited steps first; a tree
too large to read is folded.
"""

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from restmcts.domain.text import counted
from restmcts.reporting.figures import decimal

MAX_NODES = 40
MAX_TEXT = 56
_MARGIN, _ROW, _INDENT = 10, 27, 24
_CHARACTER_WIDTH = 7.5
_BAR_WIDTH, _FACTS_WIDTH, _INFERRED_WIDTH = 70, 210, 48
_SIGNS = {"right": "✓", "wrong": "✗", "undecided": "?"}


@dataclass(frozen=True, slots=True)
class DrawnNode:
    """A node of the drawn tree; parents come before their children, the root is first and has no
    step text.

    Attributes:
        text: its step.
        value: its value in the search, or None before it was scored.
        visits: counted in the search.
        parent: index of its parent; None for the root.
        verdict: `right`, `wrong` or `undecided` at a verified leaf, else None.
        is_decisive: whether the step lost a solvable problem.
        is_observation: whether a tool answered it.
        is_given: whether it is of a given solution.
        quality_value: inferred from verified ends, or None where it was not.
    """

    text: str
    value: float | None
    visits: int
    parent: int | None
    verdict: str | None = None
    is_decisive: bool = False
    is_observation: bool = False
    is_given: bool = False
    quality_value: float | None = None


@dataclass(frozen=True, slots=True)
class DrawnTree:
    """One search tree and the question it belongs to."""

    question: str
    nodes: tuple[DrawnNode, ...]

    @property
    def num_nodes(self) -> int:
        """How many steps its search made: neither the question nor a given solution is counted."""
        return sum(node.parent is not None and not node.is_given for node in self.nodes)


@dataclass(frozen=True, slots=True)
class _Line:
    """A drawn node: its index in the tree, its place, and the number of nodes folded below it."""

    node: int
    depth: int
    row: int
    num_folded: int


def draw_tree(tree: DrawnTree, max_nodes: int = MAX_NODES) -> Markup:
    """Return the tree as an `<svg>` in a scrolling frame.

    At most `max_nodes` nodes are drawn below the question: the ways to one right and one wrong
    leaf, then the most visited. A node with more below it says how many.
    """
    if not tree.nodes:
        return Markup("")
    children = _children(tree.nodes)
    lines = _place(tree.nodes, children, _chosen(tree.nodes, children, max_nodes))
    drawn = [tree.nodes[index] for index in lines]
    has_both = _has_values(drawn) and _has_quality_values(drawn)
    texts = {index: _text(tree.nodes[index], line.num_folded) for index, line in lines.items()}
    facts_x = max(_text_x(line) + len(texts[index]) * _CHARACTER_WIDTH for index, line in lines.items()) + 24
    edges = [
        _edge(lines[parent], line) for line in lines.values() if (parent := tree.nodes[line.node].parent) is not None
    ]
    visits_x = facts_x + 165 + (_INFERRED_WIDTH if has_both else 0)
    nodes = [
        _node(tree.nodes[index], line, texts[index], facts_x, visits_x, has_both=has_both)
        for index, line in lines.items()
    ]
    width, height = round(visits_x - 165 + _FACTS_WIDTH), len(lines) * _ROW + 2 * _MARGIN
    svg = Markup(
        '<svg class="tree" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" aria-label="A search tree">{2}{3}</svg>'
    ).format(width, height, Markup("").join(edges), Markup("").join(nodes))
    return Markup('<div class="scroll">{}</div>').format(svg)


def tree_legend(tree: DrawnTree, max_nodes: int = MAX_NODES) -> str:
    """Return what the signs in the picture of a tree mean, those that are in it alone; "" if none
    is.
    """
    if not tree.nodes:
        return ""
    drawn = [tree.nodes[index] for index in _chosen(tree.nodes, _children(tree.nodes), max_nodes)]
    inferred = "the value that was inferred once the answers were verified"
    parts = []
    if _has_values(drawn):
        parts.append("the bar is V, the value in the search, from 0 to 1")
        parts += [f"v is {inferred}"] if _has_quality_values(drawn) else []
    elif _has_quality_values(drawn):
        parts.append(f"the bar is v, {inferred}, from 0 to 1")
    meanings = {"right": "a right answer", "wrong": "a wrong answer", "undecided": "an answer without a verdict"}
    found = {node.verdict for node in drawn}
    parts += [f"{_SIGNS[verdict]} is {meaning}" for verdict, meaning in meanings.items() if verdict in found]
    if any(node.is_decisive for node in drawn):
        parts.append(
            "a dashed circle marks a decisive step: the problem could be solved before it, and after it every end is wrong"
        )
    legend = "; ".join(parts)
    return f"{legend[0].upper()}{legend[1:]}." if legend else ""


def _has_values(nodes: Sequence[DrawnNode]) -> bool:
    return any(node.value is not None for node in nodes)


def _has_quality_values(nodes: Sequence[DrawnNode]) -> bool:
    return any(node.quality_value is not None for node in nodes)


def _children(nodes: Sequence[DrawnNode]) -> dict[int, list[int]]:
    children: dict[int, list[int]] = defaultdict(list)
    for index, node in enumerate(nodes):
        if node.parent is not None:
            if not 0 <= node.parent < index:
                raise ValueError(f"node {index} of the drawn tree comes before its parent {node.parent}")
            children[node.parent].append(index)
    return children


def _chosen(nodes: Sequence[DrawnNode], children: dict[int, list[int]], max_nodes: int) -> set[int]:
    """Return the nodes to draw: parents always with their children, the ways to a right and a
    wrong leaf first, then by visits.
    """
    wanted: set[int] = set()
    for verdict in ("right", "wrong"):
        leaf = next((index for index, node in enumerate(nodes) if node.verdict == verdict), None)
        while leaf is not None:
            wanted.add(leaf)
            leaf = nodes[leaf].parent
    chosen: set[int] = set()
    frontier = [(False, 0, 0.0, 0)]
    while frontier and len(chosen) <= max_nodes:
        index = heapq.heappop(frontier)[-1]
        chosen.add(index)
        for child in children[index]:
            node = nodes[child]
            heapq.heappush(frontier, (child not in wanted, -node.visits, -(node.value or 0.0), child))
    return chosen


def _place(nodes: Sequence[DrawnNode], children: dict[int, list[int]], chosen: set[int]) -> dict[int, _Line]:
    """Return a line for each chosen node, in the order of the page: depth first, the most
    visited child first.
    """
    sizes = [1] * len(nodes)
    for index in range(len(nodes) - 1, 0, -1):
        parent = nodes[index].parent
        if parent is not None:
            sizes[parent] += sizes[index]
    lines: dict[int, _Line] = {}
    waiting = [(0, 0)]
    while waiting:
        index, depth = waiting.pop()
        num_folded = sum(sizes[child] for child in children[index] if child not in chosen)
        lines[index] = _Line(index, depth, len(lines), num_folded)
        shown = [child for child in children[index] if child in chosen]
        shown.sort(key=lambda child: (nodes[child].visits, nodes[child].value or 0.0))
        waiting.extend((child, depth + 1) for child in shown)
    return lines


def _text(node: DrawnNode, num_folded: int) -> str:
    text = node.text.strip("\n").rstrip() or ("the question" if node.parent is None else "(empty step)")
    text = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    text = f"{text}  (observation)" if node.is_observation else text
    return f"{text}  (+ {num_folded:,} more below)" if num_folded else text


def _dot(line: _Line) -> tuple[int, int]:
    return _MARGIN + line.depth * _INDENT, _MARGIN + line.row * _ROW + _ROW // 2


def _text_x(line: _Line) -> int:
    return _dot(line)[0] + 12


def _edge(parent: _Line, child: _Line) -> Markup:
    (x, y), (end_x, end_y) = _dot(parent), _dot(child)
    return Markup('<path class="edge" d="M{} {}V{}H{}"/>').format(x, y, end_y, end_x)


def _node(node: DrawnNode, line: _Line, text: str, facts_x: float, visits_x: float, *, has_both: bool) -> Markup:
    """Return a node; in a tree that `has_both` values the bar is that of the search and the other
    one is written beside it, in all others the bar is the one that is known.
    """
    x, y = _dot(line)
    visits = counted(node.visits, "visit")
    parts = [
        Markup("<title>{}</title>").format(node.text.strip()),
        Markup('<circle cx="{}" cy="{}" r="5"/>').format(x, y),
        Markup('<text class="step" x="{}" y="{}">{}</text>').format(_text_x(line), y + 4, text),
        Markup('<text class="facts end" x="{}" y="{}">{}</text>').format(visits_x, y + 4, visits),
    ]
    value = node.value if has_both or node.value is not None else node.quality_value
    if value is not None:
        parts.append(_bar(value, facts_x, y))
    if has_both and node.quality_value is not None:
        inferred = Markup('<text class="facts" x="{}" y="{}">v {}</text>')
        parts.append(inferred.format(facts_x + _BAR_WIDTH + 40, y + 4, decimal(node.quality_value)))
    if node.verdict in _SIGNS:
        parts.append(
            Markup('<text class="sign" x="{}" y="{}">{}</text>').format(visits_x + 15, y + 5, _SIGNS[node.verdict])
        )
    kind = node.verdict if node.verdict in _SIGNS else "open"
    if node.is_decisive:
        kind += " decisive"
        parts.append(Markup('<circle class="lost" cx="{}" cy="{}" r="8.5"/>').format(x, y))
    return Markup('<g class="node {}">{}</g>').format(kind, Markup("").join(parts))


def _bar(value: float, x: float, y: int) -> Markup:
    length = round(_BAR_WIDTH * min(max(value, 0.0), 1.0), 1)
    return Markup(
        '<rect class="track" x="{0}" y="{1}" width="{2}" height="8"/>'
        '<rect class="bar" x="{0}" y="{1}" width="{3}" height="8"/>'
        '<text class="facts" x="{4}" y="{5}">{6}</text>'
    ).format(x, y - 4, _BAR_WIDTH, length, x + _BAR_WIDTH + 6, y + 4, decimal(value))
