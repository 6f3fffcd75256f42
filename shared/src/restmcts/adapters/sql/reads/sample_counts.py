"""What the samples of a phase came to, problem by problem. No true answers."""

from dataclasses import dataclass

from sqlalchemy import case, func, select

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.state import archived_trees
from restmcts.adapters.sql.state.requests import PROBLEMS
from restmcts.adapters.sql.state.trees import NODES, PHASES, TREES
from restmcts.domain.problems import Verdict


@dataclass(frozen=True, slots=True)
class SampleCount:
    """One problem's solutions in one phase.

    Attributes:
        position: of the problem in its set.
        num_samples: the rounds of its search: of a phase that samples, its samples.
        num_right: right solutions, each as often as it was sampled.
        solved: whether any is right.
        tokens: generated for them.
    """

    problem_id: int
    position: int
    num_samples: int
    num_right: int
    solved: bool
    tokens: int


def sample_counts(transaction: Transaction, run_id: int, phase_name: str) -> list[SampleCount]:
    """Return the counts of a phase's trees in the order of their problems; of a tree that failed,
    that nothing is right.

    Raises:
        InputError: if the trees of the run are archived.
    """
    archived_trees.check_run_is_here(transaction, run_id)
    is_right = case((NODES.c.verdict == Verdict.RIGHT.value, NODES.c.multiplicity), else_=0)
    own = (TREES.c.problem_id, PROBLEMS.c.position, TREES.c.iterations, TREES.c.solved, TREES.c.tokens)
    statement = (
        select(*own, func.coalesce(func.sum(is_right), 0).label("num_right"))
        .join(PHASES, PHASES.c.id == TREES.c.phase_id)
        .join(PROBLEMS, PROBLEMS.c.id == TREES.c.problem_id)
        .outerjoin(NODES, NODES.c.tree_id == TREES.c.id)
        .where(PHASES.c.run_id == run_id, PHASES.c.name == phase_name)
        .group_by(TREES.c.id, *own)
        .order_by(PROBLEMS.c.position)
    )
    return [
        SampleCount(row.problem_id, row.position, row.iterations, int(row.num_right), bool(row.solved), row.tokens)
        for row in transaction.execute(statement)
    ]
