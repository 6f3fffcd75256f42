"""The outcomes of an evaluation, read from a run's database: trees that answered, and pools
that sampling methods read.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import evaluating
from restmcts.adapters.sql.reads.evaluating import EvaluatedTree
from restmcts.adapters.sql.state import trees
from restmcts.adapters.sql.tables import TreeState
from restmcts.domain.answers.extraction import extract_answer
from restmcts.domain.problems import Verdict
from restmcts.domain.runs.evaluation import Cell, Evaluation, evaluation_cells
from restmcts.domain.runs.phase_search import search_of, tool_use
from restmcts.domain.runs.phases import SEARCH_PHASE
from restmcts.domain.search.protocol import Budget, Search
from restmcts.domain.search.sample_pool import PoolSettings, SamplePool, Values, find_path, search_pool, solution_values
from restmcts.domain.stats.outcomes import COSTS, FAILED, Outcome
from restmcts.domain.stats.search_quality import first_right, repeated_share, tokens_at_nodes, wasted_share
from restmcts.domain.tasks.task import TASKS
from restmcts.domain.tree import Tree

TREES_PER_READ = 256


class EvaluationResults:
    """Reads the cells of an ended evaluation; pools are read once.

    How searches spent their tokens is looked at under the largest budget alone: their trees are
    played again for it.
    """

    def __init__(
        self, database: Database, run_id: int, evaluation: Evaluation, seen: frozenset[int] = frozenset()
    ) -> None:
        """Take the places of the problems that a model was trained on."""
        self.database = database
        self.run_id = run_id
        self.evaluation = evaluation
        self._seen = seen
        self._pools: dict[str, list[PooledProblem]] = {}
        self._values: dict[str, dict[int, Values]] = {}

    def outcomes(self) -> Iterator[Outcome]:
        """Yield every outcome, cell by cell in the order to be listed, problems in their order."""
        for cell in evaluation_cells(self.evaluation):
            yield from self._pooled(cell) if cell.method.search.reads_pool else self._searched(cell)

    def first_failure(self) -> str:
        """Return why the first of the trees that failed did, or "" if none did."""
        with self.database.transaction() as transaction:
            return evaluating.first_failure(transaction, self.run_id)

    def pool(self, phase: str) -> "list[PooledProblem]":
        """Return the pools of a phase, in order of problem."""
        if phase not in self._pools:
            self._pools[phase] = list(self._read_pools(phase))
        return self._pools[phase]

    def counts(self) -> list[tuple[int, int]]:
        """Return how many samples each pool has, and how many of them are right."""
        phases = dict.fromkeys(
            cell.phase for cell in evaluation_cells(self.evaluation) if cell.method.search.reads_pool
        )
        return [problem.count() for phase in phases for problem in self.pool(phase) if not problem.failed]

    def _searched(self, cell: Cell) -> Iterator[Outcome]:
        with self.database.transaction() as transaction:
            rows = evaluating.tree_rows(transaction, self.run_id, cell.phase)
        quality = self._quality_of_trees(rows) if self._looks_at(cell) else {}
        for row in rows:
            spent = {name: getattr(row, name) for name in (*COSTS, "nodes")}
            yield Outcome(
                **self._names(cell, row.position),
                **spent,
                **quality.get(row.id, {}),
                verdict=(row.verdict if row.state == TreeState.LABELLED else None) or FAILED,
                any_right=bool(row.solved),
                depth=row.depth,
                value=row.model_value,
                answer=row.answer,
            )

    def _pooled(self, cell: Cell) -> Iterator[Outcome]:
        scores = self._scores(cell.scores) if cell.scores is not None else {}
        settings = cell.method.search
        assert isinstance(settings, PoolSettings)
        for problem in self.pool(cell.phase):
            if problem.failed or (cell.scores is not None and problem.problem_id not in scores):
                nothing: dict[str, Any] = dict.fromkeys((*COSTS, "nodes"), 0)
                yield Outcome(**self._names(cell, problem.position), **nothing, verdict=FAILED, any_right=False)
                continue
            values = scores.get(problem.problem_id, {})
            tools = tool_use(problem.kind, self.evaluation.tools)
            search = search_pool(settings, Budget(tokens=cell.budget), problem.pool, values, problem.ends, tools)
            finals = [problem.verdict(search.tree.steps_to(node)) for node in search.tree.final_nodes()]
            chosen = search.chosen
            steps = search.tree.steps_to(chosen) if chosen is not None else ()
            yield Outcome(
                **self._names(cell, problem.position),
                **(problem.quality(search) if self._looks_at(cell) else {}),
                verdict=problem.verdict(steps),
                any_right=Verdict.RIGHT in finals,
                **{name: getattr(search.spent, name) for name in (*COSTS, "nodes")},
                depth=len(steps) or None,
                value=chosen.model_value if chosen is not None else None,
                answer=extract_answer("".join(steps)),
            )

    def _names(self, cell: Cell, position: int) -> dict[str, Any]:
        return {
            "method": cell.method.name,
            "budget": cell.budget,
            "models": cell.models,
            "group": "",
            "seed": cell.seed,
            "problem": position,
            "seen": position in self._seen,
        }

    def _looks_at(self, cell: Cell) -> bool:
        return cell.budget in (None, max(self.evaluation.budgets))

    def _quality_of_trees(self, rows: Sequence[EvaluatedTree]) -> dict[int, dict[str, Any]]:
        """Return the fields that say how labelled trees spent their tokens, by tree."""
        found: dict[int, dict[str, Any]] = {}
        with self.database.transaction() as transaction:
            for row in (row for row in rows if row.state == TreeState.LABELLED):
                tree = trees.load_trees(transaction, [row.id]).get(row.id, Tree())
                verdicts, _ = trees.load_labels(transaction, [row.id]).get(row.id, ({}, {}))
                phase = SEARCH_PHASE.validate_python(row.spec)
                search = search_of(phase, row.problem_kind, row.seed)
                tokens = tokens_at_nodes(search, evaluating.responses(transaction, row.id))
                right = [node_id for node_id, verdict in verdicts.items() if verdict == Verdict.RIGHT]
                found[row.id] = _quality(tree, row.tokens, first_right(tokens, right))
        return found

    def _scores(self, phase: str) -> dict[int, Values]:
        """Return V of the pool's solutions by problem; problems whose scoring failed are left
        out.
        """
        if phase not in self._values:
            with self.database.transaction() as transaction:
                rows = evaluating.tree_rows(transaction, self.run_id, phase)
                problem_of = {row.id: row.problem_id for row in rows if row.state == TreeState.LABELLED}
                loaded = trees.load_trees(transaction, problem_of)
            self._values[phase] = {problem_of[tree_id]: solution_values(tree) for tree_id, tree in loaded.items()}
        return self._values[phase]

    def _read_pools(self, phase: str) -> "Iterator[PooledProblem]":
        with self.database.transaction() as transaction:
            pools = evaluating.sample_pools(transaction, self.run_id, phase)
            rows = evaluating.tree_rows(transaction, self.run_id, phase)
            for start in range(0, len(rows), TREES_PER_READ):
                part = rows[start : start + TREES_PER_READ]
                ids = [row.id for row in part]
                loaded, labels = trees.load_trees(transaction, ids), trees.load_labels(transaction, ids)
                for row in part:
                    failed = row.state != TreeState.LABELLED
                    verdicts = labels[row.id][0] if row.id in labels else {}
                    yield PooledProblem(row, pools[row.problem_id], loaded.get(row.id, Tree()), verdicts, failed)


class PooledProblem:
    """One problem's pool with the verdicts on its solutions."""

    def __init__(
        self, row: EvaluatedTree, pool: SamplePool, tree: Tree, verdicts: dict[int, Verdict], failed: bool
    ) -> None:
        self.problem_id: int = row.problem_id
        self.position: int = row.position
        self.kind = row.problem_kind
        self.ends = TASKS.get(row.problem_kind).ends
        self.pool = pool
        self.failed = failed
        self._tree = tree
        self._verdicts = verdicts

    def verdict(self, steps: tuple[str, ...]) -> Verdict:
        """Return the verdict on a solution; one that is not finished is wrong."""
        path = find_path(self._tree, steps)
        return self._verdicts.get(path[-1].node_id, Verdict.WRONG) if path else Verdict.WRONG

    def count(self) -> tuple[int, int]:
        """Return how many samples there are, and how many of them are right."""
        right = [node.multiplicity for node in self._tree.nodes if self._verdicts.get(node.node_id) == Verdict.RIGHT]
        return len(self.pool.samples), sum(right)

    def quality(self, search: Search) -> dict[str, Any]:
        """Return the fields that say how a search of the pool spent its tokens."""
        num_tokens = 0
        for sample in self.pool.samples:
            num_tokens += sample.num_tokens
            if num_tokens > search.spent.tokens:
                break
            if self.verdict(tuple(step.text for step, _ in search.continuation(sample))) == Verdict.RIGHT:
                return _quality(search.tree, search.spent.tokens, num_tokens)
        return _quality(search.tree, search.spent.tokens, None)


def _quality(tree: Tree, num_tokens: int, tokens_to_right: int | None) -> dict[str, Any]:
    shares = {"wasted": wasted_share(tree), "repeated": repeated_share(tree, num_tokens)}
    return {**shares, "tokens_to_right": tokens_to_right}
