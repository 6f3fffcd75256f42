"""Move runs on: begin the phases whose needs are met, admit trees, end what is complete.

Everything is decided from rows under the run's lock, so that two coordinators, or a message that
comes twice, do no harm.
"""

from collections.abc import Sequence

from restmcts.adapters.sql.database import Database, Transaction
from restmcts.adapters.sql.reads.tree_counts import summarise_trees
from restmcts.adapters.sql.rows import StoredCheckpoint, StoredPhase, StoredRun
from restmcts.adapters.sql.state import blocks, projects, promotions, runs, token_budget, trees
from restmcts.adapters.sql.tables import Need, PhaseState, RunState
from restmcts.domain.requests import derive_seed
from restmcts.domain.runs.phases import PHASE, Phase, PromotionPhase, SearchPhase, TrainPolicyPhase, TrainValuePhase
from restmcts.errors import UnknownEntryError, reason_of
from restmcts.messages.base import RunMessage
from restmcts.messages.commands import AdvanceRun, AdvanceTrees, EvaluateValues, TrainPolicy, TrainValue, WriteDataset
from restmcts.usecases import derive, promote
from restmcts.usecases.truth import doubt

TREES_PER_MESSAGE = 64
ENDED_PHASES = (PhaseState.DONE, PhaseState.SKIPPED, PhaseState.FAILED)


class CoordinatorHandlers:
    """Handlers of the queue `coordinator`."""

    def __init__(self, database: Database, max_trees_in_flight: int = 256) -> None:
        self._database = database
        self._max_trees_in_flight = max_trees_in_flight
        self._passed_over: set[int] = set()
        self._last_in_turn: dict[int, int] = {}
        """The run of each project that got the last place from here."""

    def advance_run(self, message: RunMessage) -> None:
        """Do whatever can be done now for a running run; one that somebody has locked is passed
        over, so that it stops no other. One that names what no plugin here brings is blocked.
        """
        try:
            self._advance(message)
        except UnknownEntryError as error:
            with self._database.transaction() as transaction:
                blocks.block(transaction, message.run_id, Need.RUN, message.run_id, f"coordinator: {reason_of(error)}")
            raise

    def _advance(self, message: RunMessage) -> None:
        with self._database.transaction() as transaction:
            run = runs.lock_run(transaction, message.run_id, waits=False)
            if run is None:
                self._passed_over.add(message.run_id)
                return
            if run.state != RunState.RUNNING:
                return
            while self._move_phases(transaction, run):
                if runs.state_of(transaction, run.id) != RunState.RUNNING:
                    return
            blocks.unblock(transaction, Need.RUN, run.id)
            if token_budget.pause_if_spent(transaction, run):
                return
            self._admit(transaction, run)
            self._finish(transaction, run)

    def wake_passed_over(self) -> None:
        """Wake the coordinator for the running runs that were passed over."""
        run_ids = []
        while self._passed_over:
            run_ids.append(self._passed_over.pop())
        if run_ids:
            with self._database.transaction() as transaction:
                transaction.emit(*(AdvanceRun(run_id=run_id) for run_id in runs.running(transaction, run_ids)))

    def _move_phases(self, transaction: Transaction, run: StoredRun) -> bool:
        rows = runs.phases_of(transaction, run.id)
        checkpoints = promotions.models(transaction, run.id)
        ready = {row.name for row in rows if row.state == PhaseState.DONE} | set(checkpoints)
        # Value models last: while one is trained, the new policy can be evaluated.
        in_turn = sorted(rows, key=lambda row: row.kind == "train-value")
        moved = [self._move(transaction, run, row, rows, ready, checkpoints) for row in in_turn]
        return any(moved)

    def _move(
        self,
        transaction: Transaction,
        run: StoredRun,
        row: StoredPhase,
        rows: Sequence[StoredPhase],
        ready: set[str],
        checkpoints: dict[str, StoredCheckpoint],
    ) -> bool:
        phase: Phase = PHASE.validate_python(row.spec)
        match row.state, phase:
            case PhaseState.PENDING, _ if not set(phase.needs()) <= ready:
                return False
            case PhaseState.PENDING, TrainPolicyPhase() | TrainValuePhase() if doubt.awaits_truth(rows, row.iteration):
                return False
            case PhaseState.PENDING, SearchPhase():
                self._begin_search(transaction, run, row, phase, checkpoints)
            case PhaseState.PENDING, PromotionPhase(model="policy"):
                promote.decide_policy(transaction, row, phase)
            case PhaseState.PENDING, PromotionPhase():
                runs.set_phase(transaction, row.id, PhaseState.PROMOTING, **runs.started())
                transaction.emit(EvaluateValues(phase_id=row.id))
            case PhaseState.PENDING, _:
                runs.set_phase(transaction, row.id, PhaseState.WRITING, **runs.started())
                transaction.emit(WriteDataset(phase_id=row.id))
            case PhaseState.WRITING, TrainPolicyPhase() | TrainValuePhase():
                if runs.dataset_of(transaction, row.id) is None:
                    return False
                if (reason := projects.over_bytes(transaction, run)) is not None:
                    runs.pause_run(transaction, run.id, reason)
                    return True
                command = TrainPolicy if isinstance(phase, TrainPolicyPhase) else TrainValue
                runs.set_phase(transaction, row.id, PhaseState.TRAINING, attempt=0, lease_until=None)
                transaction.emit(command(phase_id=row.id))
            case PhaseState.SEARCHING, SearchPhase():
                if not self._end_search(transaction, row, phase, rows):
                    return False
                doubt.pause_if_doubtful(transaction, run, phase)
            case _:
                return False
        return True

    def _begin_search(
        self,
        transaction: Transaction,
        run: StoredRun,
        row: StoredPhase,
        phase: SearchPhase,
        checkpoints: dict[str, StoredCheckpoint],
    ) -> None:
        problems = (
            derive.derive_problems(transaction, run, phase)
            if phase.follows
            else runs.problems_of_round(transaction, run.id, phase.problem_set, phase.round)
        )
        trees.create_trees(
            transaction,
            [
                {
                    "run_id": run.id,
                    "phase_id": row.id,
                    "problem_id": problem.id,
                    "seed": derive_seed(run.seed, phase.name, problem.position),
                }
                for problem in problems
            ],
        )
        value_id = checkpoints[phase.value].id if phase.value is not None else None
        bindings = {"policy_id": checkpoints[phase.policy].id, "value_id": value_id}
        runs.set_phase(transaction, row.id, PhaseState.SEARCHING, **bindings, **runs.started())

    def _end_search(
        self, transaction: Transaction, row: StoredPhase, phase: SearchPhase, rows: Sequence[StoredPhase]
    ) -> bool:
        if runs.any_open_tree(transaction, row.id):
            return False
        summary = summarise_trees(transaction, row.id)
        others_may_solve = phase.follows or any(
            phase.name in other.spec.get("follows", ()) and not other.spec.get("restarts") for other in rows
        )
        is_needed = phase.purpose != "evaluate" and not others_may_solve
        if is_needed and (reason := trees.why_all_failed(transaction, row.run_id, row.id)) is not None:
            runs.set_phase(transaction, row.id, PhaseState.FAILED, result={**summary, "reason": reason})
            return True
        runs.set_phase(transaction, row.id, PhaseState.DONE, result=summary)
        others_may_solve = others_may_solve or phase.round is not None
        if phase.purpose == "collect" and not summary["solved"] and not others_may_solve:
            self._skip_dependents(transaction, phase.name, rows)
        return True

    def _skip_dependents(self, transaction: Transaction, name: str, rows: Sequence[StoredPhase]) -> None:
        """Skip what would train on, or search with, what a phase without any solved tree cannot
        give.
        """
        blocked: set[str] = set()
        for row in rows:
            phase = PHASE.validate_python(row.spec)
            needs = set(phase.needs())
            is_dependent = name in needs and (not isinstance(phase, TrainPolicyPhase) or phase.needs_solved)
            if row.state == PhaseState.PENDING and (is_dependent or needs & blocked):
                blocked.add(row.name)
                runs.set_phase(transaction, row.id, PhaseState.SKIPPED, result={"reason": f"{name} solved no problem"})

    def _admit(self, transaction: Transaction, run: StoredRun) -> None:
        """Let trees search: of the run, and where its project has a limit of the other runs of it
        too, so that they have equal shares of what is free.
        """
        num_free = projects.trees_left(transaction, run)
        if run.project_id is None or num_free is None:
            num_searching = runs.num_searching(transaction, run.id)
            self._admit_trees(transaction, run, self._max_trees_in_flight - num_searching)
            return
        last = self._last_in_turn.get(run.project_id, run.id)
        searching = projects.waiting_runs(transaction, run.project_id, last)
        while shares := projects.equal_shares(num_free, searching, self._max_trees_in_flight):
            for run_id, num_places in shares.items():
                is_locked, num_admitted = self._admit_run(transaction, run, run_id, num_places)
                num_free -= num_places if is_locked else num_admitted
                searching[run_id] += num_admitted
                if num_admitted:
                    self._last_in_turn[run.project_id] = run_id
                if num_admitted < num_places:
                    del searching[run_id]

    def _admit_run(self, transaction: Transaction, moved: StoredRun, run_id: int, num_free: int) -> tuple[bool, int]:
        """Let trees of a run search while another of its project is moved, or that itself; return
        whether somebody has locked it, and how many trees do. Nobody waits for a second lock; who
        has it gives out what is left for it.
        """
        run = moved if run_id == moved.id else runs.lock_run(transaction, run_id, waits=False)
        if run is None:
            self._passed_over.add(run_id)
            return True, 0
        may_search = run.state == RunState.RUNNING and not token_budget.pause_if_spent(transaction, run)
        return False, self._admit_trees(transaction, run, num_free) if may_search else 0

    def _admit_trees(self, transaction: Transaction, run: StoredRun, num_free: int) -> int:
        """Let up to `num_free` trees of a run search; return how many do now. While there are any
        that other phases wait for, those alone; what nothing waits for is done beside trainings.
        """
        rows = runs.phases_of(transaction, run.id)
        pending = (PHASE.validate_python(row.spec) for row in rows if row.state == PhaseState.PENDING)
        needed = {name for phase in pending for name in phase.needs()}
        searching = [row for row in rows if row.state == PhaseState.SEARCHING]
        num_admitted = 0
        for row in [row for row in searching if row.name in needed] or searching:
            tree_ids = trees.admit(transaction, row.id, num_free - num_admitted)
            num_admitted += len(tree_ids)
            for start in range(0, len(tree_ids), TREES_PER_MESSAGE):
                transaction.emit(AdvanceTrees(tree_ids=tuple(tree_ids[start : start + TREES_PER_MESSAGE])))
        return num_admitted

    def _finish(self, transaction: Transaction, run: StoredRun) -> None:
        rows = runs.phases_of(transaction, run.id)
        failed = next((row for row in rows if row.state == PhaseState.FAILED), None)
        if failed is not None:
            runs.finish_run(
                transaction, run.id, RunState.FAILED, f"{failed.name}: {failed.result.get('reason', 'failed')}"
            )
        elif all(row.state in ENDED_PHASES for row in rows):
            reason = trees.why_all_failed(transaction, run.id)
            state = RunState.DONE if reason is None else RunState.FAILED
            runs.finish_run(transaction, run.id, state, reason)
