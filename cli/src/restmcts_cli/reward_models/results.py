"""What a bench of a reward model comes to: numbers from values and labels. No models, no files."""

from collections.abc import Sequence
from dataclasses import dataclass

from restmcts.domain.labels.labelled_solutions import LabelledSolution
from restmcts.domain.runs.promotion import HeldOutStep, auc
from restmcts.domain.stats.estimates import Estimate
from restmcts.domain.stats.first_errors import (
    NO_ERROR,
    FirstErrorScore,
    Rule,
    StepScore,
    best_threshold,
    first_error,
    first_error_score,
    mean_f1,
    step_score,
    sureness,
    suspicions,
)
from restmcts.domain.text import counted
from restmcts.errors import InputError

from restmcts_cli.reward_models.scoring import ScoredSolution
from restmcts_cli.reward_models.sources import PRM_BENCH, PROCESS_BENCH

NUM_MISSES = 10
CORRECT = "correct"
_AUTHORS_THRESHOLDS: dict[Rule, float] = {"below": 0.5, "drop": 0.0}


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where the line lies, and where it comes from, for people."""

    value: float
    source: str


@dataclass(frozen=True, slots=True)
class SplitResult:
    """A model on one split.

    Attributes:
        name: of the split, or of the class of errors.
        num: solutions.
        refused: those that the model could not score.
        first_errors: over those whose first wrong step is known.
        steps: over all steps with a label.
        auc: chance that a right step looks less wrong than a wrong one; None where one kind is
            missing.
    """

    name: str
    num: int
    refused: int
    first_errors: FirstErrorScore
    steps: StepScore
    auc: Estimate | None


@dataclass(frozen=True, slots=True)
class Miss:
    """A solution on which the model is wrong, and by how far beyond its threshold."""

    solution: LabelledSolution
    values: tuple[float, ...]
    said: int
    sureness: float


@dataclass(frozen=True, slots=True)
class BenchResult:
    """A model on a bench.

    Attributes:
        model: as the person called it.
        format: of its scores.
        on: the benchmark's name, or the file.
        rule: by which a value calls a step wrong.
        splits: in the order of the source.
        whole: all splits together, without PRMBench's unchanged solutions.
        mean_f1: plain mean over the splits, ProcessBench's headline; None where one has none.
        tokens: that were scored.
        seconds: that it took.
        misses: the worst ones first.
    """

    model: str
    format: str
    on: str
    rule: Rule
    threshold: Threshold
    splits: tuple[SplitResult, ...]
    whole: SplitResult
    mean_f1: float | None
    tokens: int
    seconds: float
    misses: tuple[Miss, ...]

    @property
    def headline(self) -> tuple[str, float | None]:
        """The number that this bench is known by, and its name."""
        if self.on == PRM_BENCH:
            return "PRMScore", self.whole.steps.prm_score
        return ("mean F1", self.mean_f1) if len(self.splits) > 1 else ("F1", self.mean_f1)


@dataclass(frozen=True, slots=True)
class Benched:
    """A solution with its values."""

    solution: LabelledSolution
    values: tuple[float, ...] | None


def bench_result(
    model: str,
    format_name: str,
    on: str,
    rule: Rule,
    solutions: Sequence[LabelledSolution],
    scored: Sequence[ScoredSolution],
    *,
    threshold: float | None = None,
    choose_on: str | None = None,
) -> BenchResult:
    """Return what values of solutions come to.

    Args:
        threshold: of the rule; None: the one with the highest F1 on one split, kept for all; on
            PRMBench its authors' (0.5, and any drop).
        choose_on: that split (`check_threshold_split`); None: gsm8k, or the first one.

    Raises:
        InputError: if the model scored none of its solutions.
    """
    benched = [Benched(solution, each.values) for solution, each in zip(solutions, scored, strict=True)]
    by_split: dict[str, list[Benched]] = {}
    for one in benched:
        by_split.setdefault(one.solution.split, []).append(one)
    chosen = _threshold(on, rule, by_split, threshold, choose_on)
    splits = tuple(_split(name, members, rule, chosen.value) for name, members in by_split.items())
    changed = [one for one in benched if on != PRM_BENCH or one.solution.split != CORRECT]
    return BenchResult(
        model,
        format_name,
        on,
        rule,
        chosen,
        splits,
        _split("all", changed, rule, chosen.value),
        mean_f1([split.first_errors for split in splits]),
        sum(each.tokens for each in scored),
        sum(each.seconds for each in scored),
        tuple(_misses(benched, rule, chosen.value)),
    )


def check_threshold_split(on: str, solutions: Sequence[LabelledSolution], choose_on: str | None) -> None:
    """Check, before anything is scored, that a threshold can be chosen on a split.

    Raises:
        InputError: if there is no such split, or none of its solutions says its first wrong step.
    """
    if on == PRM_BENCH and choose_on is None:
        return
    splits = list(dict.fromkeys(solution.split for solution in solutions))
    name = _chosen_split(splits, choose_on)
    if name not in splits:
        raise InputError(f"{on} has no split {name!r}; it has {', '.join(splits)}")
    if all(solution.first_error is None for solution in solutions if solution.split == name):
        raise InputError(
            f"no solution of {name} says its first wrong step; give --threshold, or --choose-on another split"
        )


def _chosen_split(splits: Sequence[str], choose_on: str | None) -> str:
    return choose_on or ("gsm8k" if "gsm8k" in splits else splits[0])


def _threshold(
    on: str, rule: Rule, by_split: dict[str, list[Benched]], given: float | None, choose_on: str | None
) -> Threshold:
    if given is not None:
        return Threshold(given, "as given")
    if on == PRM_BENCH and choose_on is None:
        return Threshold(_AUTHORS_THRESHOLDS[rule], "PRMBench's own")
    name = _chosen_split(list(by_split), choose_on)
    known = [
        (one.values, one.solution.first_error)
        for one in by_split[name]
        if one.values is not None and one.solution.first_error is not None
    ]
    if not known:
        raise InputError(f"no solution of {name} can be scored; give --threshold, or --choose-on another split")
    found = best_threshold([values for values, _ in known], [label for _, label in known], rule)
    alone = "; the figures are of the same solutions, and too good by that" if len(by_split) == 1 else ""
    return Threshold(found, f"highest F1 on {name}{alone}")


def _split(name: str, members: Sequence[Benched], rule: Rule, threshold: float) -> SplitResult:
    located = [one for one in members if one.solution.first_error is not None]
    said = [None if one.values is None else first_error(one.values, rule, threshold) for one in located]
    labels = [one.solution.first_error for one in located if one.solution.first_error is not None]
    steps = [_labelled_steps(one, rule) for one in members]
    limit = -threshold if rule == "below" else threshold
    flat = [step for tree in steps for step in tree]
    area = auc([tree for tree in steps if tree])
    return SplitResult(
        name,
        len(members),
        sum(one.values is None for one in members),
        first_error_score(said, labels),
        step_score([-step.value <= limit for step in flat], [step.is_right for step in flat]),
        area.estimate if area is not None else None,
    )


def _labelled_steps(one: Benched, rule: Rule) -> list[HeldOutStep]:
    """Return the labelled steps of a solution; the value is how little wrong a step looks."""
    if one.values is None:
        return []
    return [
        HeldOutStep(place, -suspicion, is_right)
        for place, (suspicion, is_right) in enumerate(
            zip(suspicions(one.values, rule), one.solution.is_right, strict=True)
        )
        if is_right is not None
    ]


def _misses(benched: Sequence[Benched], rule: Rule, threshold: float) -> list[Miss]:
    found = []
    for one in benched:
        label = one.solution.first_error
        if one.values is None or label is None:
            continue
        said = first_error(one.values, rule, threshold)
        if said != label:
            found.append(Miss(one.solution, one.values, said, sureness(one.values, label, said, rule, threshold)))
    return sorted(found, key=lambda miss: -miss.sureness)[:NUM_MISSES]


def sentences(result: BenchResult) -> list[str]:
    """Return what the numbers come to, as sentences."""
    name, value = result.headline
    wrong_if = "lies below" if result.rule == "below" else "drops, from that of the step before, by more than"
    said = [
        f"{name} {100 * value:.1f}." if value is not None else f"{name} is not defined: a split lacks one kind.",
        f"A step is called wrong where its value {wrong_if} {result.threshold.value:.4g} ({result.threshold.source}).",
        f"{counted(result.tokens, 'token')} in {result.seconds:.1f} s of scoring: "
        f"{result.tokens / result.seconds if result.seconds else 0.0:,.0f} a second.",
    ]
    if result.whole.refused:
        said.append(f"{counted(result.whole.refused, 'solution')} refused by the model, counted as missed.")
    area = result.whole.auc
    if area is not None and area.interval[0] <= 0.5:
        said.append("Over all steps it is no better than chance (AUC 0.50 is a guess).")
    if result.rule == "drop" and result.on in (PROCESS_BENCH, PRM_BENCH):
        said.append(
            "Values of progress are learnt from what solutions came to; people's labels of steps are another thing: "
            "a low score here and a good search go together."
        )
    return said


def label_in_words(place: int) -> str:
    """Return a place of a first wrong step for people, who count from 1."""
    return "no wrong step" if place == NO_ERROR else f"step {place + 1} is wrong"
