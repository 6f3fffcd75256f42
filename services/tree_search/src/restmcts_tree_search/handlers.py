"""Advance trees: take what the models answered, let the searches go on, write what changed, ask for
more.

One transaction a message. A searching tree kept in memory is trusted only while its version is the
stored one; otherwise it is rebuilt by playing its applied responses again. True answers are not
read here.
"""

import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence

from restmcts.adapters.observability import logs, metrics, tracing
from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.reads import evaluating
from restmcts.adapters.sql.rows import Columns
from restmcts.adapters.sql.state import blocks, runs, token_budget, trees
from restmcts.adapters.sql.state.requests import WAKE_UPS, Batch, request_row
from restmcts.adapters.sql.state.trees import AnsweredRequest, TreeToAdvance
from restmcts.adapters.sql.tables import Need
from restmcts.domain.requests import CallTool, ProposeSteps, Request, max_new_tokens
from restmcts.domain.runs.phase_search import search_of
from restmcts.domain.runs.phases import SEARCH_PHASE, SearchPhase
from restmcts.domain.search.protocol import Search
from restmcts.domain.search.sample_pool import ScoreGivenSamples
from restmcts.domain.tasks.task import TASKS
from restmcts.errors import UnknownEntryError, reason_of
from restmcts.messages.base import Message
from restmcts.messages.commands import AdvanceRun, AdvanceTrees, LabelTrees, ProposeWaitingSteps
from restmcts.messages.events import RequestsAnswered, TreesLabelled
from restmcts.messages.wire import GENERATION, dump_request, load_response
from sqlalchemy.exc import OperationalError

log = logging.getLogger(__name__)

TREES_PER_TRANSACTION = 64
"""Few enough for several search workers to share the answers of one batch."""

MAX_SECONDS = 5.0
"""Of one message: then another is sent, so that trees which are to begin need not wait forever."""

Lock = Callable[[Transaction], list[TreeToAdvance]]
"""Locks and returns rows of searching trees."""


class TreeSearchHandlers:
    """Handlers of the queue `search`."""

    def __init__(self, database: Database, max_cached_trees: int = 4096) -> None:
        self._database = database
        self._max_cached_trees = max_cached_trees
        self._searches: OrderedDict[int, tuple[int, Search]] = OrderedDict()
        self._phases: dict[tuple[int, str], SearchPhase] = {}

    def advance_trees(self, message: AdvanceTrees) -> None:
        """Advance the message's trees that are searching; what they cannot use yet, or again,
        changes nothing.
        """

        def lock(transaction: Transaction) -> list[TreeToAdvance]:
            rows = trees.lock_searching(transaction, message.tree_ids)
            if any(row.version for row in rows):
                # Whoever takes answers passes these trees over while they are locked here.
                transaction.emit(RequestsAnswered())
            return rows

        self._take(lock)

    def take_answers(self, _: RequestsAnswered) -> None:
        """Advance every tree that has an answer, whichever message named it: who is behind makes
        fewer transactions.

        Trees that another worker holds are left to it: whoever has advanced a tree looks again for
        what came meanwhile.
        """
        deadline, leaving = time.monotonic() + MAX_SECONDS, False

        def lock(transaction: Transaction) -> list[TreeToAdvance]:
            rows = trees.lock_answered(transaction, TREES_PER_TRANSACTION)
            if len(rows) == TREES_PER_TRANSACTION or (rows and leaving):
                transaction.emit(RequestsAnswered())
            return rows

        while self._take(lock) and not leaving:
            leaving = time.monotonic() > deadline

    def _take(self, lock: Lock) -> int:
        """Advance the trees that `lock` returns, in one transaction if they allow it; return
        how many they were.
        """
        tree_ids: list[int] = []
        try:
            self._step(lock, tree_ids)
        except Exception as error:
            if not tree_ids or _is_away(error):
                raise
            log.warning("%d trees cannot be stored together (%s); one by one", len(tree_ids), error)
            for tree_id in tree_ids:
                self._take_alone(tree_id)
        return len(tree_ids)

    def _take_alone(self, tree_id: int) -> None:
        """Advance one tree; what keeps it alone from being stored ends it, and no other."""
        try:
            self._step(lambda transaction: trees.lock_searching(transaction, [tree_id]), [])
        except Exception as error:
            if _is_away(error):
                raise
            with self._database.transaction() as transaction:
                trees.fail(transaction, {tree_id: f"{type(error).__name__}: {error}"})
                transaction.emit(*(TreesLabelled(run_id=run_id) for run_id in trees.runs_of(transaction, [tree_id])))

    def _step(self, lock: Lock, tree_ids: list[int]) -> None:
        """Advance the trees that `lock` returns in one transaction; their ids are added to
        `tree_ids` as soon as they are known.
        """
        try:
            with tracing.step("search", tree_ids), self._database.transaction() as transaction:
                rows = lock(transaction)
                tree_ids += [row.id for row in rows]
                advances = self._advance(transaction, rows)
        except Exception:
            for tree_id in tree_ids:
                self._searches.pop(tree_id, None)
            raise
        for advance in advances:
            self._remember(advance.tree_id, advance.version, advance.search)
            if advance.search.stop_reason is not None:
                metrics.TREES_ENDED.labels(advance.search.stop_reason.value).inc()

    def _advance(self, transaction: Transaction, rows: Sequence[TreeToAdvance]) -> list[trees.Advance]:
        answered = trees.answered(transaction, [row.id for row in rows])
        advances, failures, failed_runs = [], {}, set()
        generated: dict[int, int] = defaultdict(int)
        blocked: dict[tuple[int, int, str], list[int]] = defaultdict(list)
        for row in rows:
            try:
                advance = self._advance_one(transaction, row, answered.get(row.id, []))
            except UnknownEntryError as error:
                blocked[row.run_id, row.phase_id, reason_of(error)].append(row.id)
                continue
            except Exception as error:
                with logs.about(runs=[row.run_id], trees=[row.id]):
                    log.exception("tree %d cannot go on", row.id)
                failures[row.id] = f"{type(error).__name__}: {error}"
                failed_runs.add(row.run_id)
                continue
            if advance is not None:
                advances.append(advance)
                if row.max_tokens is not None:
                    generated[row.run_id] += advance.tokens
        trees.save(transaction, advances)
        trees.fail(transaction, failures)
        for (run_id, phase_id, reason), tree_ids in blocked.items():
            trees.block(transaction, tree_ids, run_id, phase_id, f"tree-search: {reason}")
        transaction.emit(*self._wake_ups(advances), *(TreesLabelled(run_id=run_id) for run_id in failed_runs))
        self._count(transaction, generated, {row.run_id: row.max_tokens for row in rows if row.max_tokens is not None})
        return advances

    def _count(self, transaction: Transaction, generated: Mapping[int, int], budgets: Mapping[int, int]) -> None:
        """Count what runs with a token budget generated, and wake the coordinator for those that
        have spent it: no tree of theirs need end. What was reserved for more than it took is free
        for others.
        """
        token_budget.record(transaction, generated)
        if generated:
            transaction.emit(ProposeWaitingSteps())
        over = (run_id for run_id in generated if token_budget.spent(transaction, run_id) >= budgets[run_id])
        transaction.emit(*(AdvanceRun(run_id=run_id) for run_id in over))

    def _advance_one(
        self, transaction: Transaction, row: TreeToAdvance, answered: Sequence[AnsweredRequest]
    ) -> trees.Advance | None:
        phase = self._phase(transaction, row)
        elapsed = max((row.now - row.started_at).total_seconds(), 0.0)
        requests: list[Request] = []
        applied: list[Columns] = []
        if row.version == 0:
            search = self._build(transaction, row, phase)
            requests += search.begin()
        elif answered:
            search = self._recall(transaction, row, phase)
        else:
            return None
        num_nodes, num_tokens = len(search.tree), search.spent.tokens
        for answer in answered:
            requests += search.receive(load_response(answer.kind, answer.answer), elapsed)
            applied.append(trees.applied_row(answer.id, search.spent.model_calls, elapsed))
        metrics.EXPANSIONS.inc(sum(answer.kind == "propose" for answer in answered))
        metrics.NODES.inc(len(search.tree) - num_nodes)
        request_rows = [self._request_row(row, phase, request) for request in requests]
        return trees.Advance(
            row.id, row.version + 1, row.now, search, applied, request_rows, search.spent.tokens - num_tokens
        )

    def _phase(self, transaction: Transaction, row: TreeToAdvance) -> SearchPhase:
        """Return the tree's phase.

        Raises:
            UnknownEntryError: if this process lacks the plugin of its search or its task.
        """
        key = (row.phase_id, row.problem_kind)
        if key not in self._phases:
            stored = runs.phase_by_id(transaction, row.phase_id)
            assert stored is not None, "a tree keeps its phase"
            TASKS.get(row.problem_kind)
            self._phases[key] = SEARCH_PHASE.validate_python(stored.spec)
            blocks.unblock(transaction, Need.PHASE, row.phase_id)
        return self._phases[key]

    def _recall(self, transaction: Transaction, row: TreeToAdvance, phase: SearchPhase) -> Search:
        """Return the tree's search as stored: from memory if its version is the stored one,
        else played again.
        """
        version, search = self._searches.get(row.id, (None, None))
        if search is not None and version == row.version:
            return search
        search = self._build(transaction, row, phase)
        search.begin()
        for request in trees.applied(transaction, row.id):
            search.receive(load_response(request.kind, request.answer), request.elapsed_seconds)
        search.tree.take_changes()
        return search

    def _build(self, transaction: Transaction, row: TreeToAdvance, phase: SearchPhase) -> Search:
        if phase.samples_of is None:
            return search_of(phase, row.problem_kind, row.seed, row.begins_with)
        pools = evaluating.sample_pools(transaction, row.run_id, phase.samples_of, row.problem_id)
        return ScoreGivenSamples(
            pools[row.problem_id].samples, phase.budget, row.seed, TASKS.get(row.problem_kind).ends
        )

    def _remember(self, tree_id: int, version: int, search: Search) -> None:
        self._searches.pop(tree_id, None)
        if not search.finished:
            self._searches[tree_id] = (version, search)
        while len(self._searches) > self._max_cached_trees:
            self._searches.popitem(last=False)

    def _request_row(self, row: TreeToAdvance, phase: SearchPhase, request: Request) -> Columns:
        if isinstance(request, ProposeSteps):
            batch = Batch(row.policy_id, GENERATION.dump_json(phase.generation).decode())
            max_tokens = max_new_tokens(request, phase.generation)
        elif isinstance(request, CallTool):
            # No model is asked, but every request belongs to one: that of its tree.
            batch, max_tokens = Batch(row.policy_id, ""), None
        else:
            assert row.value_id is not None, "a phase without a value model asks for no values"
            batch, max_tokens = Batch(row.value_id, ""), None
        return request_row(row.id, row.problem_id, request, dump_request(request), batch, max_tokens)

    def _wake_ups(self, advances: Sequence[trees.Advance]) -> list[Message]:
        kinds = {request["kind"] for advance in advances for request in advance.requests}
        ended = tuple(advance.tree_id for advance in advances if advance.search.finished)
        messages = [message for kind, message in WAKE_UPS.items() if kind.value in kinds]
        if ended:
            messages.append(LabelTrees(tree_ids=ended))
        return messages


def _is_away(error: Exception) -> bool:
    """Return whether it is the database that keeps every tree from being stored."""
    return isinstance(error.__cause__, OperationalError)
