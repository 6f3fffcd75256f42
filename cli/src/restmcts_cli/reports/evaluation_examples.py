"""Trees of the same problem on which two searches differ: what a table of accuracies does not
show.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads import evaluating
from restmcts.adapters.sql.reads.evaluating import EvaluatedTree
from restmcts.adapters.sql.tables import TreeState
from restmcts.domain.problems import Verdict
from restmcts.domain.runs.evaluation import Cell, Evaluation, evaluation_cells
from restmcts.domain.stats.outcomes import FAILED, OutcomeTable
from restmcts.reporting.tree_pictures import DrawnTree

from restmcts_cli.reports.evaluation_results import EvaluationResults
from restmcts_cli.reports.run_results import drawn_tree

NUM_EXAMPLES = 3
MAX_NODES = 40


@dataclass(frozen=True, slots=True)
class ExampleAnswer:
    """One method's tree, and the verdict on what it answered."""

    method: str
    verdict: str
    tree: DrawnTree


@dataclass(frozen=True, slots=True)
class Example:
    """One problem that methods answered differently."""

    question: str
    answers: tuple[ExampleAnswer, ...]


def differing_examples(
    results: EvaluationResults, table: OutcomeTable, questions: Sequence[str]
) -> tuple[Example, ...]:
    """Return problems that the best and the second best of the methods with trees answered
    differently under the largest budget.
    """
    cells = _best_two(results.evaluation, table)
    if len(cells) < 2:
        return ()
    with results.database.transaction() as transaction:
        first, second = ({row.position: row for row in _labelled(transaction, results, cell)} for cell in cells)
        differing = [
            place
            for place in sorted(set(first) & set(second))
            if (first[place].verdict == Verdict.RIGHT) != (second[place].verdict == Verdict.RIGHT)
        ]
        differing.sort(key=lambda place: max(first[place].nodes, second[place].nodes) > MAX_NODES)
        return tuple(
            Example(
                questions[place],
                tuple(
                    ExampleAnswer(
                        cell.method.name,
                        rows[place].verdict or FAILED,
                        drawn_tree(transaction, rows[place].id, questions[place]),
                    )
                    for cell, rows in zip(cells, (first, second), strict=True)
                ),
            )
            for place in differing[:NUM_EXAMPLES]
        )


def _labelled(transaction: Transaction, results: EvaluationResults, cell: Cell) -> list[EvaluatedTree]:
    rows = evaluating.tree_rows(transaction, results.run_id, cell.phase)
    return [row for row in rows if row.state == TreeState.LABELLED]


def _best_two(evaluation: Evaluation, table: OutcomeTable) -> list[Cell]:
    last = (max(evaluation.budgets), evaluation.seeds[0], evaluation.models[-1].name)
    cells = [
        cell
        for cell in evaluation_cells(evaluation)
        if not cell.method.search.reads_pool and (cell.budget, cell.seed, cell.models) == last
    ]
    cells.sort(key=lambda cell: -table.summary((cell.method.name, cell.budget, cell.models)).accuracy.value)
    return cells[:2]
