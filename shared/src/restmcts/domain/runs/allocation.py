"""Where an iteration's budget goes once a few samples of each problem are verified: into trees of
the problems that are neither settled nor hopeless.

What the others leave over makes those trees larger; the whole spends what a tree a problem would.
The decision alone: restmcts.usecases.derive counts, and stores what comes of it.
"""

from dataclasses import dataclass, replace

from restmcts.domain.search.protocol import Budget


@dataclass(frozen=True, slots=True)
class ProbedProblem:
    """What is known of a problem before an iteration searches it.

    Attributes:
        num_samples: solutions of the policy that is to search it.
        num_right: those of them that are right.
        searched_in_vain: whether an earlier iteration searched it, and none found it a right
            solution.
    """

    num_samples: int
    num_right: int
    searched_in_vain: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether every sample is right: a tree would teach nothing that they do not."""
        return 0 < self.num_samples == self.num_right

    @property
    def is_hopeless(self) -> bool:
        """Whether neither a sample nor an earlier tree is right. A few wrong samples alone say
        little: on hard problems trees find what most samples miss.
        """
        return not self.num_right and self.searched_in_vain

    @property
    def is_open(self) -> bool:
        """Whether the problem is worth a tree."""
        return not self.is_settled and not self.is_hopeless


def budget_of_open(budget: Budget, num_problems: int, num_open: int, tokens: int, iterations: int) -> Budget:
    """Return the budget of each open problem's tree: an equal part of what is left of the whole.

    Tokens and an algorithm's own rounds are divided; the other limits stay those of one tree. The
    part is at least 1, so that a probe that spent everything still leaves a tree its first unit.

    Args:
        budget: of a tree if every problem had one.
        num_open: at least 1.
        tokens: that the samples took, of all problems together.
        iterations: the samples themselves, of all problems together.
    """

    def part(limit: int | None, spent: int) -> int | None:
        return None if limit is None else max((limit * num_problems - spent) // num_open, 1)

    return replace(budget, tokens=part(budget.tokens, tokens), iterations=part(budget.iterations, iterations))
