"""This project's own searches: importing this module registers all of them."""

from restmcts.domain.search import best_first, best_of_n, forked, mcts_star, step_rollouts, tree_of_thoughts

__all__ = ["best_first", "best_of_n", "forked", "mcts_star", "step_rollouts", "tree_of_thoughts"]
