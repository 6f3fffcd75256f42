"""What a person may do to runs: pause, resume, cancel, promote, tag, archive, add problems, and
decide on dead letters.

Every change is made under the run's lock, which the coordinator takes too, so that each sees the
other's work whole or not at all.
"""

from collections.abc import Iterable, Sequence
from shlex import quote

from sqlalchemy import delete, select, update

from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads.queries import run_named
from restmcts.adapters.sql.rows import StoredPhase, StoredRun
from restmcts.adapters.sql.state import blocks, projects, promotions, requests, runs, token_budget, trees
from restmcts.adapters.sql.state.requests import REQUESTS, WAKE_UPS
from restmcts.adapters.sql.state.runs import DEAD_LETTERS
from restmcts.adapters.sql.state.trees import NODES, RUNS, TREES
from restmcts.adapters.sql.tables import PhaseState, RunState, TreeState
from restmcts.adapters.storage.folder_lock import folder_use
from restmcts.domain.problems import Problem
from restmcts.domain.text import check_name
from restmcts.errors import InputError, NotFoundError
from restmcts.messages.commands import AdvanceRun, AdvanceTrees, LabelTrees
from restmcts.messages.routes import parse

TREES_PER_MESSAGE = 64
MAX_TAGS = 100
"""Of a run."""


def pause(transaction: Transaction, name: str) -> None:
    """Stop a running run from going on: no tree advances and no phase begins until it is resumed;
    what trains, trains to its end.

    Raises:
        InputError: if there is no such run, or it does not run.
    """
    run = _locked(transaction, name, RunState.RUNNING)
    _set_state(transaction, run.id, RunState.PAUSED)


def resume(transaction: Transaction, name: str, max_tokens: int | None = None) -> None:
    """Let a paused run go on, with another token budget if one is given, and wake what came in
    while it was paused; what blocked it is tried again at once.

    Raises:
        InputError: if there is no such run, it is not paused, its token budget is spent, or its
            project has not the tokens or the room.
    """
    run = _locked(transaction, name, RunState.PAUSED)
    projects.check_quotas(transaction, run, max_tokens)
    if max_tokens is not None:
        token_budget.set_limit(transaction, run, max_tokens)
    token_budget.check(transaction, run.id)
    _set_state(transaction, run.id, RunState.RUNNING)
    runs.record_start(transaction, run.id)
    blocks.retry_now(transaction, run.id)
    searching = select(TREES.c.id).where(TREES.c.run_id == run.id, TREES.c.state == TreeState.SEARCHING.value)
    tree_ids = list(transaction.execute(searching.order_by(TREES.c.id)).scalars())
    for start in range(0, len(tree_ids), TREES_PER_MESSAGE):
        transaction.emit(AdvanceTrees(tree_ids=tuple(tree_ids[start : start + TREES_PER_MESSAGE])))
    transaction.emit(*(message for kind, message in WAKE_UPS.items() if requests.any_waiting(transaction, kind)))
    transaction.emit(AdvanceRun(run_id=run.id))


def set_max_tokens(transaction: Transaction, name: str, max_tokens: int) -> None:
    """Give a run that has not ended a token budget; one that was paused because its budget was
    spent goes on.

    Raises:
        InputError: if there is no such run, it was paused and this budget is spent too, or its
            project has not the tokens or the room.
    """
    run = runs.lock_run(transaction, run_named(transaction, name).id)
    if run is None or run.state not in (RunState.RUNNING, RunState.PAUSED):
        return
    if run.state == RunState.PAUSED and token_budget.is_spent(run.error):
        resume(transaction, name, max_tokens)
    else:
        projects.check_quotas(transaction, run, max_tokens)
        token_budget.set_limit(transaction, run, max_tokens)


def cancel(transaction: Transaction, name: str) -> None:
    """End a run for good, and its requests; answers that are still under way change nothing.

    Raises:
        InputError: if there is no such run, or it has ended.
    """
    run = _locked(transaction, name, RunState.RUNNING, RunState.PAUSED)
    runs.finish_run(transaction, run.id, RunState.CANCELLED)
    requests.end_unwanted(transaction)


def archive(transaction: Transaction, name: str, *, archived: bool = True) -> None:
    """Leave a run that does not run out of lists, or put it back into them; nothing of it is lost.

    Raises:
        InputError: if there is no such run, or it is to be archived and runs.
    """
    resting = [state for state in RunState if not archived or state != RunState.RUNNING]
    run = _locked(transaction, name, *resting)
    transaction.execute(update(RUNS).where(RUNS.c.id == run.id).values(archived_at=moment() if archived else None))


def tag(transaction: Transaction, name: str, tags: Iterable[str], *, removed: bool = False) -> list[str]:
    """Give a run tags, or take them away; return those that it has then, in alphabetical order.

    Raises:
        InputError: if there is no such run, a tag cannot be used, or they are too many.
    """
    given = {check_name(one.strip(), "tag") for one in tags}
    run = _locked(transaction, name, *RunState)
    found = sorted(set(run.tags) - given if removed else {*run.tags, *given})
    if len(found) > MAX_TAGS and not removed:
        raise InputError(f"run {name} would have {len(found)} tags; at most {MAX_TAGS}: take some away")
    transaction.execute(update(RUNS).where(RUNS.c.id == run.id).values(tags=found))
    return found


def promote(transaction: Transaction, name: str, checkpoint: str) -> None:
    """Make a checkpoint the one of its kind that the run goes on with, whatever its promotions
    decided.

    Phases that begin from now on use it, and the next promotion compares with it; what is under way
    is left as it is.

    Raises:
        InputError: if there is no such run, or it has no such checkpoint.
    """
    run = runs.lock_run(transaction, run_named(transaction, name).id)
    known = runs.checkpoints_of(transaction, run.id) if run is not None else {}
    if checkpoint not in known:
        raise InputError(f"run {name} has no checkpoint {checkpoint!r}; it has {', '.join(known) or 'none'}")
    promotions.promote(transaction, known[checkpoint])


def begin_paused(transaction: Transaction, run_id: int) -> None:
    """Make a run that was created in this transaction wait to be resumed."""
    _set_state(transaction, run_id, RunState.PAUSED)


def append_problems(transaction: Transaction, name: str, set_name: str, problems: Iterable[Problem]) -> int:
    """Add problems to the end of a set of a run; return how many. The run is locked until the
    transaction ends.

    Raises:
        InputError: if no phase of the run uses that set, or one that does has started: its trees,
            or its training data, are made.
    """
    run = _locked(transaction, name, RunState.RUNNING, RunState.PAUSED)
    users = {row.name: row for row in runs.phases_of(transaction, run.id) if set_name in _sets_of(row)}
    if not users:
        known = sorted({used for row in runs.phases_of(transaction, run.id) for used in _sets_of(row)})
        raise InputError(
            f"no phase of run {name} uses a problem set {set_name!r}; its phases use {', '.join(known) or 'none'}"
        )
    started = next((row for row in users.values() if row.state != PhaseState.PENDING), None)
    if started is not None:
        raise InputError(
            f"run {name}: phase {started.name} has started ({started.state}), and a phase has the problems that its set had then; "
            "create another run for these"
        )
    return runs.add_problems(transaction, run.id, set_name, problems)


def _sets_of(row: StoredPhase) -> set[str]:
    return {row.spec[key] for key in ("problem_set", "solutions_of") if row.spec.get(key)}


def retry_dead_letter(transaction: Transaction, letter_id: int) -> None:
    """Publish a dead letter's message again and forget the letter.

    Raises:
        InputError: if there is no such letter, or its message is malformed, which another try would
            not fix.
    """
    row = transaction.execute(select(DEAD_LETTERS).where(DEAD_LETTERS.c.id == letter_id)).first()
    if row is None:
        raise NotFoundError(f"there is no dead letter {letter_id}")
    try:
        message = parse(row.name, row.body)
    except InputError as error:
        raise InputError(f"dead letter {letter_id} cannot be tried again: {error}; drop it") from error
    transaction.emit(message)
    drop_dead_letter(transaction, letter_id)


def drop_dead_letter(transaction: Transaction, letter_id: int) -> None:
    """Forget a dead letter.

    Raises:
        InputError: if there is no such letter.
    """
    if not transaction.execute(delete(DEAD_LETTERS).where(DEAD_LETTERS.c.id == letter_id)).rowcount:
        raise NotFoundError(f"there is no dead letter {letter_id}")


def retry_tree(transaction: Transaction, tree_id: int) -> None:
    """Let a failed tree be labelled again if its search has ended; otherwise put a fresh tree of
    the same seed in its place.

    A fresh one has another number: what workers still remember of the failed one cannot touch it.

    Raises:
        InputError: if there is no such tree, it has not failed, or its phase or run has ended.
    """
    row = transaction.execute(select(TREES).where(TREES.c.id == tree_id)).first()
    if row is None:
        raise NotFoundError(f"there is no tree {tree_id}")
    run = runs.lock_run(transaction, row.run_id)
    phase = runs.phase_by_id(transaction, row.phase_id)
    if (
        run is None
        or run.state not in (RunState.RUNNING, RunState.PAUSED)
        or phase is None
        or phase.state != PhaseState.SEARCHING
    ):
        raise InputError(f"tree {tree_id} cannot be tried again: its phase has ended, and counts it as failed")
    failed = (TREES.c.id == tree_id) & (TREES.c.state == TreeState.FAILED.value)
    if row.stop_reason is not None:
        again = {"state": TreeState.ENDED.value, "num_attempts": 0, "error": None, "updated_at": moment()}
        changed = transaction.execute(update(TREES).where(failed).values(**again)).rowcount
        transaction.emit(LabelTrees(tree_ids=(tree_id,)))
    else:
        changed = transaction.execute(delete(TREES).where(failed)).rowcount
        for table in (REQUESTS, NODES):
            transaction.execute(delete(table).where(table.c.tree_id == tree_id))
        names = ("run_id", "phase_id", "problem_id", "seed")
        trees.create_trees(transaction, [{name: getattr(row, name) for name in names}])
        transaction.emit(AdvanceRun(run_id=run.id))
    if not changed:
        raise InputError(f"tree {tree_id} has not failed")


def _locked(transaction: Transaction, name: str, *allowed: RunState) -> StoredRun:
    row = runs.lock_run(transaction, run_named(transaction, name).id)
    if row is None or row.state not in allowed:
        state = state_in_words(transaction, row) if row is not None else "gone"
        way = _way_on(name, row.state, allowed, transaction.place) if row is not None else ""
        raise InputError(f"run {name} is {state}; this can be done to a run that is {' or '.join(allowed)}{way}")
    return row


def state_in_words(transaction: Transaction, run: StoredRun) -> str:
    """Return a run's state; one that no process works on waits for one."""
    if run.state == RunState.RUNNING and transaction.folder and folder_use(transaction.folder).is_idle(run.id):
        return "waiting, as no process works on it"
    return run.state


def _way_on(name: str, state: str, allowed: Sequence[RunState], place: str) -> str:
    """Return the command that helps where a run is in another state than those allowed."""
    if state == RunState.RUNNING and RunState.PAUSED in allowed:
        return f"; `restmcts runs pause {quote(name)}{place}` pauses it"
    return f"; `restmcts runs clone {quote(name)} NAME{place}` repeats it" if state == RunState.FAILED else ""


def _set_state(transaction: Transaction, run_id: int, state: RunState) -> None:
    # What a person does is no news to anybody.
    notified = state.value if state != RunState.RUNNING else None
    values = {"state": state.value, "error": None, "notified_state": notified}
    transaction.execute(update(RUNS).where(RUNS.c.id == run_id).values(**values))
