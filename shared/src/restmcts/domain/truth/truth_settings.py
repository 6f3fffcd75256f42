"""Where a run's verdicts come from, and when verdicts that no true answer confirms stop it."""

from dataclasses import dataclass
from typing import Literal

from restmcts.domain.ranges import AtLeastOne, PositiveShare, UnitInterval, check_ranges

TruthSource = Literal["answers", "votes"]


@dataclass(frozen=True, slots=True)
class TruthSettings:
    """How finished solutions are found right or wrong when trees are labelled for training.

    Evaluations, and held-out trees that value models are evaluated on, always use the true answers.

    Attributes:
        source: answers: the verification of each problem's task (its true answer; for code its
            tests); votes: the answer that most of a tree's finished solutions agree on.
        min_share: weighted share of the votes that an answer needs; below it a tree is undecided.
        min_branches: different early steps that lead to the answer voted for; fewer leave a tree
            undecided.
        branch_depth: how many first steps are such an early step.
        probability_weight: how much the log-probability of a solution weights its vote, from 0
            (as often as it was sampled) to 1; null: 1 for trees whose search chose its branches
            (best-first), 0 for sampled ones.
        max_flip_rate: share of the problems with an earlier voted answer that may have another one
            in an iteration; the run is paused where the rate's 95 % interval lies above.
        max_probe_fall: how far the probe's accuracy may fall below that of an earlier iteration;
            the run is paused where it falls further, by more than two standard errors.
    """

    source: TruthSource = "answers"
    min_share: PositiveShare = 0.5
    min_branches: AtLeastOne = 2
    branch_depth: AtLeastOne = 1
    probability_weight: UnitInterval | None = None
    max_flip_rate: UnitInterval = 0.2
    max_probe_fall: UnitInterval = 0.05

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def knows_answers(self) -> bool:
        """Whether verdicts rest on true answers, so that no probe has to confirm them."""
        return self.source == "answers"
