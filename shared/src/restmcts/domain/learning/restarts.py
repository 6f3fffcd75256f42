"""Where sampling goes on from: steps of a labelled tree after which outcomes vary (restart states,
ReST-RL, arXiv:2508.19576).
"""

import random

from restmcts.domain.learning.learner import LearnableTree

DEPTH_WEIGHT = 0.95
"""Of each step more before a restart: early ones leave more to be found (there too .95)."""


def restart_steps(found: LearnableTree, seed: int) -> tuple[str, ...]:
    """Return the texts of the steps to go on from, the last of them drawn; none where no step has
    both right and wrong solutions below it.

    A step n at depth d is drawn with a weight of V~(n)·(1-V~(n))·.95^d, the variance of what comes
    after it (departure: there steps of good solutions alone are candidates, by depth only).
    """
    nodes = [node for node in found.estimated_nodes() if 0.0 < found.estimates[node.node_id].mean < 1.0]
    if not nodes:
        return ()
    values = [found.estimates[node.node_id].value for node in nodes]
    weights = [value * (1.0 - value) * DEPTH_WEIGHT**node.depth for node, value in zip(nodes, values, strict=True)]
    drawn = random.Random(seed).choices(nodes, weights)[0]
    return found.tree.steps_to(drawn)
