"""Answers by vote over the finished solutions of a tree."""

from collections import defaultdict
from collections.abc import Callable

from restmcts.domain.answers.extraction import extract_answer
from restmcts.domain.tree import Node, Tree


def best_by_vote(tree: Tree, weight: Callable[[Node], float]) -> Node | None:
    """Return a finished solution with the answer of greatest summed weight; None if no solution
    states an answer.

    Among the solutions with that answer it is the one of greatest weight; among equal answers the
    one met first in depth-first order. Answers are compared as extracted text.
    """
    nodes_by_answer: dict[str, list[Node]] = defaultdict(list)
    for node in tree.final_nodes():
        answer = extract_answer(node.step)
        if answer is not None:
            nodes_by_answer[answer].append(node)
    winners = max(nodes_by_answer.values(), key=lambda nodes: sum(map(weight, nodes)), default=None)
    return max(winners, key=weight) if winners else None
