"""The search tree: nodes in order of creation, and which of them changed since they were last
stored.

A tree knows texts, numbers and links; it knows neither the question nor the true answer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from restmcts.domain.requests import Observation, ProposedStep

ROOT = 0


@dataclass(slots=True)
class Node:
    """A partial solution p_k, stored as its last step s_k.

    Attributes:
        node_id: order of creation in its tree; the root is 0.
        parent_id: None for the root.
        step: s_k with its separator; empty for the root.
        depth: k.
        log_prob: of the step under the policy at temperature 1.
        num_tokens: generated for the step.
        model_value: V_θ(Q, p_k) as the value model gave it; None where it was not asked.
        search_value: what selection uses, backed up by the search; 0 for a fresh root.
        visits: n, completed visits.
        pending_visits: visits under way (virtual loss); 0 in a finished tree.
        expanded: whether the policy was asked for its children.
        final: whether the solution ends here.
        from_rollout: met in a rollout only: kept for labels, not for selection.
        multiplicity: how many samples ended in this node.
        observed: the step is what a tool answered: nobody trains on it.
        children: ids in order of creation.
    """

    node_id: int
    parent_id: int | None
    step: str
    depth: int
    log_prob: float = 0.0
    num_tokens: int = 0
    model_value: float | None = None
    search_value: float = 0.0
    visits: int = 0
    pending_visits: int = 0
    expanded: bool = False
    final: bool = False
    from_rollout: bool = False
    multiplicity: int = 0
    observed: bool = False
    children: list[int] = field(default_factory=list)


def known_value(search_value: float, model_value: float | None) -> float | None:
    """Return V of a node; None where nothing is known of it: no value model was asked and no value
    was backed up, so that its `search_value` is a mere 0.
    """
    return search_value if model_value is not None or search_value != 0.0 else None


class Tree:
    """Nodes by id, the root first."""

    def __init__(self) -> None:
        self.nodes: list[Node] = [Node(ROOT, None, "", 0)]
        self._changed: set[int] = {ROOT}

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, node_id: int) -> Node:
        return self.nodes[node_id]

    @property
    def root(self) -> Node:
        return self.nodes[ROOT]

    def touch(self, node: Node) -> None:
        """Mark a node as changed since the tree was last stored."""
        self._changed.add(node.node_id)

    def take_changes(self) -> list[Node]:
        """Return the nodes that are new or changed since the last call, in order of creation,
        and forget them.
        """
        changed = [self.nodes[node_id] for node_id in sorted(self._changed)]
        self._changed.clear()
        return changed

    def find_child(self, parent: Node, step: str) -> Node | None:
        """Return the parent's child with that text, or None."""
        return next((self.nodes[child] for child in parent.children if self.nodes[child].step == step), None)

    def add_child(
        self, parent: Node, step: ProposedStep, *, final: bool, from_rollout: bool = False
    ) -> tuple[Node, bool]:
        """Return the child with the step's text and whether it is new to selection.

        A child that only a rollout had met becomes an ordinary child when an expansion proposes it
        again.
        """
        known = self.find_child(parent, step.text)
        if known is not None:
            promoted = known.from_rollout and not from_rollout
            if promoted:
                known.from_rollout = False
                self.touch(known)
            return known, promoted
        node = Node(
            node_id=len(self.nodes),
            parent_id=parent.node_id,
            step=step.text,
            depth=parent.depth + 1,
            log_prob=step.log_prob,
            num_tokens=step.num_tokens,
            final=final,
            from_rollout=from_rollout,
            observed=isinstance(step, Observation),
        )
        self.nodes.append(node)
        parent.children.append(node.node_id)
        self.touch(node)
        return node, True

    def add_path(
        self, parent: Node, steps: Sequence[ProposedStep], is_final: Callable[[ProposedStep], bool]
    ) -> list[Node]:
        """Add a chain of steps below a node, merging with what is there; return its nodes,
        stopping after a final one.
        """
        nodes = []
        for step in steps:
            parent, _ = self.add_child(parent, step, final=is_final(step))
            nodes.append(parent)
            if parent.final:
                break
        return nodes

    def children_of(self, node: Node) -> list[Node]:
        """Return the children that selection may see, in order of creation."""
        return [child for child in map(self.nodes.__getitem__, node.children) if not child.from_rollout]

    def lineage(self, node: Node) -> list[Node]:
        """Return the nodes from the root to `node`, both included."""
        nodes = [node]
        while node.parent_id is not None:
            node = self.nodes[node.parent_id]
            nodes.append(node)
        return nodes[::-1]

    def steps_to(self, node: Node) -> tuple[str, ...]:
        """Return the partial solution p_k of a node, k steps."""
        return tuple(ancestor.step for ancestor in self.lineage(node)[1:])

    def log_prob_of(self, node: Node) -> float:
        """Return the log-probability of the whole partial solution under the policy."""
        return sum(ancestor.log_prob for ancestor in self.lineage(node))

    def depth_first(self, node_id: int = ROOT) -> Iterator[Node]:
        """Yield the nodes below and with `node_id`, a node before its children, children in
        order of creation.
        """
        stack = [node_id]
        while stack:
            node = self.nodes[stack.pop()]
            yield node
            stack.extend(reversed(node.children))

    def final_nodes(self) -> list[Node]:
        """Return all final nodes in depth-first order."""
        return [node for node in self.depth_first() if node.final]
