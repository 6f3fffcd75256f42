"""Where a run's verdicts come from, and when verdicts that no true answer confirms stop it."""

from dataclasses import dataclass
from typing import Literal

from restmcts.domain.ranges import AtLeastOne, PositiveShare, UnitInterval, check_ranges
from restmcts.errors import InputError

TruthSource = Literal["answers", "tests", "votes", "judge"]

CRITERIA = (
    "The solution answers what the problem asks for.",
    "Every calculation and every conclusion of the solution is right.",
    "The final answer follows from the steps and is right.",
)


@dataclass(frozen=True, slots=True)
class TruthSettings:
    """How finished solutions are found right or wrong when trees are labelled for training.

    Evaluations, and held-out trees that value models are evaluated on, always use the true answers.

    Attributes:
        source: answers: the verification of each problem's task (its true answer; for code its
            tests); tests: the same, for problems whose truth is tests, and refused for others;
            votes: the answer that most of a tree's finished solutions agree on; judge: what
            language models say of each finished solution.
        judges: addresses of the language models that judge, as of a policy behind HTTP; a solution
            is right or wrong only where all agree.
        criteria: statements of which each must be true of a right solution, asked one at a time.
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
    judges: tuple[str, ...] = ()
    criteria: tuple[str, ...] = CRITERIA
    min_share: PositiveShare = 0.5
    min_branches: AtLeastOne = 2
    branch_depth: AtLeastOne = 1
    probability_weight: UnitInterval | None = None
    max_flip_rate: UnitInterval = 0.2
    max_probe_fall: UnitInterval = 0.05

    def __post_init__(self) -> None:
        check_ranges(self)
        if (self.source == "judge") != bool(self.judges):
            raise InputError(
                "truth.judges: name at least one model that judges, such as chat+http://host:8000/v1?model=NAME"
                if self.source == "judge"
                else f"truth.judges: {self.source} asks no judge; leave it out, or give --truth judge"
            )
        if not self.criteria:
            raise InputError("truth.criteria: a judge needs at least one statement to check")

    @property
    def knows_answers(self) -> bool:
        """Whether verdicts rest on true answers, so that no probe has to confirm them."""
        return self.source in ("answers", "tests")
