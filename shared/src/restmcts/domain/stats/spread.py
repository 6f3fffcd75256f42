"""How often samples of a policy solve the problems at hand, and how often a search does in as many
tokens: what shows beforehand whether trees will pay.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from restmcts.domain.stats.estimates import Estimate, Figure, share


@dataclass(frozen=True, slots=True)
class ProbedOutcome:
    """What a problem's samples, and its tree, came to.

    Attributes:
        num_right: samples that are right.
        search_solved: whether any solution of the tree is right.
    """

    num_right: int
    search_solved: bool


@dataclass(frozen=True, slots=True)
class Band:
    """The problems of which the same number of samples is right.

    Attributes:
        share: of all problems.
        search_solved: share of the band's problems that the search solves; None if it has none.
    """

    num_right: int
    num_problems: int
    share: Estimate
    search_solved: Estimate | None


@dataclass(frozen=True, slots=True)
class Spread:
    """The problems by how often samples solve them.

    Attributes:
        num_samples: of each problem.
        bands: from no right sample to all right.
        solve_rate: share of right samples.
        samples_solved: whether any sample is right, problem by problem.
        search_solved: whether any solution of the search is right, problem by problem.
    """

    num_samples: int
    bands: tuple[Band, ...]
    solve_rate: Estimate
    samples_solved: Figure
    search_solved: Figure

    @property
    def settled(self) -> Estimate:
        """The share of problems of which every sample is right."""
        return self.bands[-1].share

    @property
    def solved_by_none(self) -> Estimate:
        """The share of problems that neither a sample nor the search solves."""
        samples, search = self.samples_solved.groups[0][0], self.search_solved.groups[0][0]
        return Figure.of([not a and not b for a, b in zip(samples, search, strict=True)]).estimate

    @property
    def search_is_ahead(self) -> Estimate:
        """How many more of the problems the search solves than the samples, paired by problem."""
        return self.search_solved.minus(self.samples_solved)


def spread_of(outcomes: Sequence[ProbedOutcome], num_samples: int) -> Spread:
    """Return the spread of problems with that many samples each.

    Raises:
        ValueError: if there are no problems.
    """
    counts = [min(one.num_right, num_samples) for one in outcomes]
    return Spread(
        num_samples=num_samples,
        bands=tuple(_band(outcomes, counts, number) for number in range(num_samples + 1)),
        solve_rate=Figure.of([count / num_samples for count in counts]).estimate,
        samples_solved=Figure.of([count > 0 for count in counts]),
        search_solved=Figure.of([one.search_solved for one in outcomes]),
    )


def _band(outcomes: Sequence[ProbedOutcome], counts: Sequence[int], number: int) -> Band:
    members = [one for one, count in zip(outcomes, counts, strict=True) if count == number]
    solved = share(sum(one.search_solved for one in members), len(members)) if members else None
    return Band(number, len(members), share(len(members), len(outcomes)), solved)
