"""What a run without true answers accepted as true, problem by problem and iteration by iteration:
how often it changed its mind, how often a labelled probe agrees, and whether it has to stop.

Majority votes can turn right answers into wrong ones that later votes confirm; flips are the early
sign (TTRL-Guard, arXiv:2605.19444).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from restmcts.domain.stats.estimates import Estimate, Figure
from restmcts.domain.truth.truth_settings import TruthSettings

MIN_PROBLEMS = 20
"""Below so many problems neither flips nor a fall of the probe stop a run."""

MIN_STANDARD_ERRORS = 2.0


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What one tree was found to say.

    Attributes:
        digest: of the problem's question.
        iteration: of the phase that searched it.
        answer: that was accepted as true, equal ones of a problem written alike; None: undecided.
        agreement: share of the tree's verdicts that are those of the true answer; None where that
            was not looked up: the problem is not of the probe, or the tree is undecided.
        is_probe: whether the problem is of the probe.
    """

    digest: str
    iteration: int
    answer: str | None
    agreement: float | None = None
    is_probe: bool = False


@dataclass(frozen=True, slots=True)
class Flip:
    """A problem whose accepted answer is another one than in an earlier iteration.

    Attributes:
        digest: of the problem's question.
        iteration_before: the last earlier iteration that accepted an answer.
        before: that answer.
        iteration: in which it flipped.
        now: the answer of this iteration.
    """

    digest: str
    iteration_before: int
    before: str
    iteration: int
    now: str


@dataclass(frozen=True, slots=True)
class IterationTruth:
    """What the verdicts of one iteration are worth.

    Attributes:
        num_trees: that were to be decided; `num_undecided` of them were not, and train nothing.
        num_compared: problems with a voted answer now and in an earlier iteration.
        num_flipped: those of them whose answer is another one now.
        num_quarantined: problems whose answer flipped in this iteration or before.
        coverage: share of the probe's trees that are decided; None without a probe.
        agreement: of the decided trees of the probe, the share of verdicts that are the true ones;
            None without any.
        by_problem: that share by problem of the probe.
    """

    iteration: int
    num_trees: int
    num_undecided: int
    num_compared: int
    num_flipped: int
    num_quarantined: int
    coverage: Estimate | None
    agreement: Estimate | None
    by_problem: Mapping[str, float]

    @property
    def is_checked(self) -> bool:
        """Whether a probe says how far the verdicts can be trusted."""
        return self.coverage is not None

    @property
    def flip_rate(self) -> Estimate | None:
        """The share of compared problems that flipped; None where none is compared."""
        return _share(self.num_flipped, self.num_compared)


@dataclass(frozen=True, slots=True)
class AcceptedAnswer:
    """An answer that was accepted as true, and in which tree.

    Attributes:
        iteration: of the tree's search.
        share: of the votes that it had; 1 where judges accepted it; None where nothing is known of
            the tree's solutions.
        tree_id: the first one with this answer.
    """

    iteration: int
    answer: str
    share: float | None
    tree_id: int


@dataclass(frozen=True, slots=True)
class FlippedProblem:
    """A problem whose accepted answer is another one than before; neither model trains on it from
    the iteration of `now` on.
    """

    question: str
    is_probe: bool
    before: AcceptedAnswer
    now: AcceptedAnswer


@dataclass(frozen=True, slots=True)
class RunTruth:
    """Where verdicts of a run come from that no true answer gives.

    Attributes:
        source: "votes" or "judge".
        is_checked: whether true answers to some problems say how far it can be trusted.
        iterations: what its verdicts were worth so far.
        flipped: problems whose accepted answer is another one than before, the latest first; one
            that flipped twice comes twice.
    """

    source: str
    is_checked: bool
    iterations: Sequence[IterationTruth]
    flipped: Sequence[FlippedProblem] = ()


def _share(count: int, total: int) -> Estimate | None:
    return Figure.of([1.0] * count + [0.0] * (total - count)).estimate if total else None


def summarise_truth(entries: Iterable[LedgerEntry]) -> list[IterationTruth]:
    """Return what the verdicts of each iteration are worth, in order; the order of the entries does
    not matter.
    """
    found = []
    quarantined: set[str] = set()
    for iteration, own, num_compared, flips in _iterations(entries):
        quarantined |= {flip.digest for flip in flips}
        found.append(_iteration(iteration, own, num_compared, len(flips), len(quarantined)))
    return found


def flips_of(entries: Iterable[LedgerEntry]) -> list[Flip]:
    """Return all flips, in order of iteration and digest; a problem may flip more than once."""
    return [flip for _, _, _, flips in _iterations(entries) for flip in flips]


def quarantined_by(entries: Iterable[LedgerEntry], iteration: int) -> set[str]:
    """Return the digests of the problems whose answer flipped up to an iteration, it included."""
    return {flip.digest for flip in flips_of(entries) if flip.iteration <= iteration}


def _iterations(entries: Iterable[LedgerEntry]) -> Iterator[tuple[int, list[LedgerEntry], int, list[Flip]]]:
    """Yield each iteration in order, with its entries, how many problems are compared with an
    earlier iteration, and those of them that flipped.
    """
    by_iteration: dict[int, list[LedgerEntry]] = defaultdict(list)
    for entry in entries:
        by_iteration[entry.iteration].append(entry)
    known: dict[str, tuple[int, str]] = {}
    for iteration, own in sorted(by_iteration.items()):
        answers = _answers(own)
        compared = sorted(answers.keys() & known.keys())
        others = ((digest, *known[digest], answers[digest] - {known[digest][1]}) for digest in compared)
        flips = [Flip(digest, earlier, before, iteration, max(now)) for digest, earlier, before, now in others if now]
        yield iteration, own, len(compared), flips
        known |= {digest: (iteration, max(stated)) for digest, stated in answers.items()}


def _answers(entries: Sequence[LedgerEntry]) -> dict[str, set[str]]:
    """Return what was accepted as true by problem; several trees may say different things."""
    found: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.answer is not None:
            found[entry.digest].add(entry.answer)
    return found


def _iteration(
    iteration: int, entries: Sequence[LedgerEntry], num_compared: int, num_flipped: int, num_quarantined: int
) -> IterationTruth:
    probe = [entry for entry in entries if entry.is_probe]
    by_problem = {entry.digest: entry.agreement for entry in probe if entry.agreement is not None}
    return IterationTruth(
        iteration=iteration,
        num_trees=len(entries),
        num_undecided=sum(entry.answer is None for entry in entries),
        num_compared=num_compared,
        num_flipped=num_flipped,
        num_quarantined=num_quarantined,
        coverage=_share(sum(entry.answer is not None for entry in probe), len(probe)),
        agreement=Figure.of(list(by_problem.values())).estimate if by_problem else None,
        by_problem=by_problem,
    )


def why_stop(iterations: Sequence[IterationTruth], settings: TruthSettings) -> str | None:
    """Return why a run must not learn from its last iteration; None where it may."""
    if not iterations:
        return None
    last = iterations[-1]
    rate = last.flip_rate
    if rate is not None and rate.n >= MIN_PROBLEMS and rate.interval[0] > settings.max_flip_rate:
        return (
            f"{last.num_flipped} of {last.num_compared} voted answers ({rate.as_percent()}) are others in iteration "
            f"{last.iteration} than before, more than {settings.max_flip_rate:.0%} (truth.max_flip_rate)"
        )
    falls = ((one, _fall(one, last)) for one in iterations[:-1])
    known = [(fall.value, one, fall) for one, fall in falls if fall is not None]
    if not known:
        return None
    value, before, fall = max(known, key=lambda one: one[0])
    if value <= settings.max_probe_fall or fall.in_standard_errors <= MIN_STANDARD_ERRORS:
        return None
    return (
        f"on the probe {100 * value:.1f} ± {100 * fall.standard_error:.1f} points fewer verdicts are true in iteration "
        f"{last.iteration} than in iteration {before.iteration}, more than {100 * settings.max_probe_fall:g} "
        "(truth.max_probe_fall)"
    )


def _fall(before: IterationTruth, now: IterationTruth) -> Estimate | None:
    """Return how far the probe's agreement fell on the problems that are decided in both; None
    where they are too few.
    """
    common = sorted(before.by_problem.keys() & now.by_problem.keys())
    if len(common) < MIN_PROBLEMS:
        return None
    earlier, later = ([one.by_problem[digest] for digest in common] for one in (before, now))
    return Figure.of(earlier).minus(Figure.of(later))
