"""Problems across the iterations of a run: which were won, lost or never solved."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads.queries import PhaseNumbers, evaluates_policy
from restmcts.adapters.sql.rows import StoredPhase
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.runs import phases_of
from restmcts.adapters.sql.state.trees import TREES
from restmcts.adapters.sql.tables import PhaseState
from restmcts.domain.problems import Verdict
from restmcts.domain.stats.estimates import Estimate, Figure
from restmcts.domain.text import counted
from restmcts.errors import InputError, NotFoundError
from sqlalchemy import select

OUTCOMES = {
    "won": "wrong at first, right at last",
    "lost": "right at first, wrong at last",
    "never": "never right",
    "always": "always right",
    "between": "changed, and back",
    "some": "right by some methods",
}
"""What came of a problem; `some` where methods are compared, which have no first and last."""
SEARCHED = ", searched"
ROWS_ON_A_PAGE = 100


@dataclass(frozen=True, slots=True)
class Attempt:
    """A tree of a problem, and whether it counts as right: by its chosen answer where it
    evaluates, else by any end.
    """

    tree_id: int
    is_right: bool


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """A problem with its attempts, one for each phase of the table; None: it has none there. The
    outcome is of `OUTCOMES`; empty where no attempt counts yet.
    """

    problem_id: int
    question: str
    attempts: Sequence[Attempt | None]
    outcome: str


@dataclass(frozen=True, slots=True)
class ProblemTable:
    """A page of the table.

    Attributes:
        groups: names of what can be shown: a problem set, by its evaluations or by its searches.
        group: the one that is shown; empty if there is none.
        phases: the columns, those that outcomes are of first.
        of_policy: those that evaluate the policy, of which outcomes are; empty: of all columns.
        counts: problems by outcome, on all pages.
    """

    groups: Sequence[str]
    group: str
    phases: Sequence[str]
    of_policy: Sequence[str]
    rows: Sequence[ProblemRow]
    counts: Mapping[str, int]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the policy: of the first one that was evaluated and of the last, on the same
    problems; `gain` is paired.
    """

    first: Estimate
    last: Estimate
    gain: Estimate


def read_problems(
    transaction: Transaction, run_id: int, group: str = "", outcome: str = "", question: str = "", page: int = 0
) -> ProblemTable:
    """Return a page of a run's problems across its iterations.

    Args:
        group: of the table's; empty: the first.
        outcome: of `OUTCOMES`; empty: all.
        question: a part of it, in any case.

    Raises:
        InputError: if there is no such group.
        NotFoundError: if the page is beyond the last.
    """
    groups = _groups(phases_of(transaction, run_id))
    if group and group not in groups:
        raise InputError(f"this run has no problems {group!r}; it has {', '.join(groups) or 'none'}")
    group = group or next(iter(groups), "")
    phases = groups.get(group, [])
    names = [phase.name for phase in phases]
    of_policy = [name for name in names if evaluates_policy(name)]
    by_end = group.endswith(SEARCHED)
    attempts = _attempts(transaction, phases, by_end=by_end)
    in_order = bool(of_policy) or by_end
    outcomes = {
        problem_id: _outcome([one for one in row[: len(of_policy) or None] if one is not None], in_order=in_order)
        for problem_id, row in attempts.items()
    }
    asked = [one for one, found in outcomes.items() if outcome in ("", found)]
    if question:
        asked = _asking(transaction, run_id, question, asked)
    begin, end = page * ROWS_ON_A_PAGE, (page + 1) * ROWS_ON_A_PAGE
    if page and begin >= len(asked):
        raise NotFoundError(f"the table has no page {page}: it has {counted(len(asked), 'problem')}")
    texts = _questions(transaction, asked[begin:end])
    rows = [ProblemRow(one, texts.get(one, ""), attempts[one], outcomes[one]) for one in asked[begin:end]]
    counts = Counter(outcomes.values())
    return ProblemTable(list(groups), group, names, of_policy, rows, counts, len(asked) > end)


def _groups(phases: Sequence[StoredPhase]) -> dict[str, list[StoredPhase]]:
    """Return searches that have started by the problems that they share, evaluations of the run's
    policies first.
    """
    found: dict[str, list[StoredPhase]] = {}
    searches = [row for row in phases if row.kind == "search" and row.state != PhaseState.PENDING]
    for row in sorted(searches, key=lambda row: not evaluates_policy(row.name)):
        if not row.spec.get("follows"):
            evaluates = row.spec.get("purpose") == "evaluate"
            name = f"{row.spec['problem_set']}{'' if evaluates else SEARCHED}"
            found.setdefault(name, []).append(row)
    return found


def _attempts(
    transaction: Transaction, phases: Sequence[StoredPhase], *, by_end: bool
) -> dict[int, list[Attempt | None]]:
    places = {phase.id: place for place, phase in enumerate(phases)}
    statement = select(TREES.c.id, TREES.c.phase_id, TREES.c.problem_id, TREES.c.verdict, TREES.c.solved)
    statement = statement.where(TREES.c.phase_id.in_(list(places)), TREES.c.ended_at.is_not(None))
    found: dict[int, list[Attempt | None]] = {}
    for tree_id, phase_id, problem_id, verdict, solved in transaction.execute(statement.order_by(TREES.c.problem_id)):
        is_right = bool(solved) if by_end else verdict == Verdict.RIGHT.value
        found.setdefault(problem_id, [None] * len(places))[places[phase_id]] = Attempt(tree_id, is_right)
    return found


def _outcome(attempts: Sequence[Attempt], *, in_order: bool) -> str:
    right = [one.is_right for one in attempts]
    if not right:
        return ""
    if not any(right):
        return "never"
    if all(right):
        return "always"
    if not in_order:
        return "some"
    return "between" if right[0] == right[-1] else "won" if right[-1] else "lost"


def _asking(transaction: Transaction, run_id: int, question: str, problem_ids: Sequence[int]) -> list[int]:
    named = select(PROBLEMS.c.id).where(
        PROBLEMS.c.run_id == run_id, PROBLEMS.c.question.icontains(question, autoescape=True)
    )
    matching = set(transaction.execute(named).scalars())
    return [one for one in problem_ids if one in matching]


def _questions(transaction: Transaction, problem_ids: Sequence[int]) -> dict[int, str]:
    statement = select(PROBLEMS.c.id, PROBLEMS.c.question).where(PROBLEMS.c.id.in_(problem_ids))
    return {row.id: row.question for row in transaction.execute(statement)}


def read_outcome(transaction: Transaction, run_id: int, phases: Sequence[PhaseNumbers]) -> Outcome | None:
    """Return what came of a run's policy; None before two policies were evaluated, or if they were
    not evaluated on the same problems.
    """
    of_policy = [one.name for one in phases if evaluates_policy(one.name) and one.state == "done"]
    if len(of_policy) < 2:
        return None
    ends = [row for row in phases_of(transaction, run_id) if row.name in (of_policy[0], of_policy[-1])]
    attempts = _attempts(transaction, ends, by_end=False).values()
    pairs = [(one.is_right, other.is_right) for one, other in attempts if one is not None and other is not None]
    if not pairs or len(pairs) < len(attempts):
        return None
    first, last = (Figure.of([pair[place] for pair in pairs]) for place in (0, 1))
    return Outcome(first.estimate, last.estimate, last.minus(first))
