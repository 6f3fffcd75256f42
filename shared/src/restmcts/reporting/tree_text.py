"""A search tree as lines of text for a terminal or a pipe, and as Graphviz. Knows nothing of
databases.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from restmcts.domain.learning.estimates import VerifiedStep, decisive_steps
from restmcts.domain.text import counted
from restmcts.reporting.plain_text import plain

Node = Mapping[str, Any]
ROOT = 0
DECISIVE = "DECISIVE"
VERDICT_STYLES = {"right": "bold green", "wrong": "bold red", "undecided": "bold yellow"}
VALUE_STYLES = ((0.33, "dark_orange"), (0.66, "yellow"), (float("inf"), "bright_blue"))
DOT_SHAPES = {"right": "doubleoctagon", "wrong": "box", "undecided": "hexagon"}
MAX_STEP_CHARACTERS_IN_DOT = 60


@dataclass(frozen=True, slots=True)
class TreeView:
    """Which part of a tree is shown.

    Attributes:
        max_depth: steps below the root that are shown; what lies deeper is folded into one line;
            None: all.
        best: the trace to the chosen answer (or, where none was chosen, to the end with the highest
            value).
        wrong: the traces to wrong ends. With `best`: both. With neither: all.
    """

    max_depth: int | None = None
    best: bool = False
    wrong: bool = False


@dataclass(slots=True)
class _Links:
    by_id: dict[int, Node]
    children: dict[int, list[int]] = field(default_factory=dict)

    def folded(self, node_id: int) -> str:
        """Return what lies below a node, in words: how many nodes, and how many of its ends are
        right and wrong.
        """
        below, stack = [], list(self.children.get(node_id, ()))
        while stack:
            below.append(self.by_id[stack.pop()])
            stack += self.children.get(below[-1]["node_id"], ())
        counts = {verdict: sum(node["verdict"] == verdict for node in below) for verdict in ("right", "wrong")}
        ends = "".join(f", {number} {verdict}" for verdict, number in counts.items() if number)
        return f"{counted(len(below), 'node')} below{ends}"

    def with_ancestors(self, node_ids: Iterable[int]) -> set[int]:
        kept: set[int] = set()
        for node_id in node_ids:
            current: int | None = node_id
            while current is not None and current not in kept:
                kept.add(current)
                current = self.by_id[current]["parent_id"]
        return kept


def tree_lines(nodes: Sequence[Node], chosen: int | None, view: TreeView) -> Iterator[Text]:
    """Yield the tree line by line, a node before its children, children in order of creation;
    verdicts are there in words, and so is which steps were decisive: they lost a solvable problem.
    """
    links = _links(nodes)
    if not links.by_id:
        return
    shown = _kept(links, chosen, view)
    if len(shown) < 2 and (view.best or view.wrong):
        yield Text(f"no {'wrong end' if view.wrong else 'end'} in this tree: nothing to show of it")
        return
    decisive = _decisive(nodes)
    trace = links.with_ancestors([chosen] if chosen is not None else [])
    stack: list[tuple[int, str, str]] = [(ROOT, "", "")]
    while stack:
        node_id, branch, indent = stack.pop()
        node = links.by_id[node_id]
        line = Text().append(branch, style="dim")
        line.append_text(_node_text(node, is_chosen=node_id == chosen, on_trace=node_id in trace))
        if node_id in decisive:
            line.append(f"  {DECISIVE}", style="bold magenta")
        yield line
        children = [child for child in links.children.get(node_id, ()) if child in shown]
        if children and view.max_depth is not None and node["depth"] >= view.max_depth:
            yield Text(f"{indent}└── … {links.folded(node_id)}", style="dim")
            continue
        for place, child in reversed(list(enumerate(children))):
            last = place == len(children) - 1
            stack.append((child, indent + ("└── " if last else "├── "), indent + ("    " if last else "│   ")))


def _decisive(nodes: Sequence[Node]) -> set[int]:
    fields = ("node_id", "parent_id", "final", "verdict")
    return decisive_steps([VerifiedStep(*(node[name] for name in fields)) for node in nodes])


def _links(nodes: Sequence[Node]) -> _Links:
    links = _Links({node["node_id"]: node for node in nodes})
    for node in nodes:
        if node["parent_id"] is not None:
            links.children.setdefault(node["parent_id"], []).append(node["node_id"])
    return links


def _kept(links: _Links, chosen: int | None, view: TreeView) -> set[int]:
    if not view.best and not view.wrong:
        return set(links.by_id)
    ends: list[int] = []
    if view.best:
        finals = [node for node in links.by_id.values() if node["final"]]
        best = max(finals, key=lambda node: node["search_value"] or 0.0)["node_id"] if finals else None
        ends += [end for end in (chosen if chosen is not None else best,) if end is not None]
    if view.wrong:
        ends += [node_id for node_id, node in links.by_id.items() if node["verdict"] == "wrong"]
    return links.with_ancestors(ends)


def _node_text(node: Node, *, is_chosen: bool, on_trace: bool) -> Text:
    step = _line(node["step"]) if node["parent_id"] is not None else "(question)"
    line = Text().append(step or "(empty step)", style="bold" if on_trace else "")
    line.append("  ")
    for place, fact in enumerate(node_facts(node)):
        line.append(" · " if place else "", style="dim")
        line.append(fact, style=_value_style(node["search_value"]) if fact.startswith("V ") else "dim")
    if node["verdict"] is not None:
        line.append(f"  {str(node['verdict']).upper()}", style=VERDICT_STYLES.get(node["verdict"], ""))
    if is_chosen:
        line.append("  CHOSEN", style="bold cyan")
    return line


def _line(step: str) -> str:
    """Return a step as one line, with the indentation that it has as code."""
    written = step.strip("\n")
    return " " * (len(written) - len(written.lstrip(" "))) + plain(written)


def _value_style(value: float) -> str:
    """Return the colour of a value: the same scale as the dashboard's, orange to blue."""
    return next(style for limit, style in VALUE_STYLES if value <= limit)


def node_facts(node: Node) -> list[str]:
    """Return what the search and the labels say of a node, in the paper's symbols: V, n, m, r
    (0 right, 1 wrong), w, v. V is left out where no value model was asked.
    """
    is_scored = node["parent_id"] is not None and node["search_value"] is not None
    facts = [f"V {node['search_value']:.2f}"] if is_scored else []
    facts.append(f"n {node['visits']}")
    if node["quality_value"] is not None:
        facts.append(f"m {node['reasoning_distance']}")
        facts.append(f"r {0 if node['step_is_right'] else 1}")
        facts += [f"w {node['weighted_reward']:.2f}", f"v {node['quality_value']:.2f}"]
    if node["origin"] != "search":
        facts.append("observation" if node["origin"] == "observation" else f"from {node['origin']}")
    return facts


def to_dot(nodes: Sequence[Node], chosen: int | None, title: str) -> str:
    """Return the tree in Graphviz's language: the shape of a node says its verdict, a bold
    frame that it was chosen.
    """
    lines = ["digraph tree {", f"  label={_quoted(title)};", "  node [shape=ellipse, fontname=Helvetica];"]
    decisive = _decisive(nodes)
    for node in nodes:
        step = plain(node["step"]) if node["parent_id"] is not None else "(question)"
        text = step if len(step) <= MAX_STEP_CHARACTERS_IN_DOT else step[: MAX_STEP_CHARACTERS_IN_DOT - 1] + "…"
        verdict = [node["verdict"]] if node["verdict"] is not None else []
        marks = [DECISIVE] if node["node_id"] in decisive else []
        label = "\n".join([text, " · ".join([*node_facts(node), *verdict, *marks])])
        shape = DOT_SHAPES.get(node["verdict"], "ellipse")
        width = ", penwidth=3" if node["node_id"] == chosen else ""
        style = "" if node["origin"] == "search" else ", style=dashed"
        lines.append(f"  n{node['node_id']} [label={_quoted(label)}, shape={shape}{width}{style}];")
        if node["parent_id"] is not None:
            lines.append(f"  n{node['parent_id']} -> n{node['node_id']};")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
