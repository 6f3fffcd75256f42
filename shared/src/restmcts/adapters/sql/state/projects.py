"""Projects: their tokens, who did what in them, and what is left of their quotas.

A project hands its tokens out as budgets of runs (restmcts.adapters.sql.state.token_budget): a run
counts with its budget until it has ended, and with what it has generated from then on. So nothing
is counted here while runs generate. Whoever takes something of a quota locks the project's row,
after that of the run.
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from shlex import quote
from typing import Any

from sqlalchemy import case, func, insert, select, update

from restmcts.adapters.sql.clock import moment
from restmcts.adapters.sql.database import Transaction, table_of
from restmcts.adapters.sql.project_rows import StoredAudit, StoredProject, StoredToken, Usage
from restmcts.adapters.sql.project_tables import ApiTokenRow, AuditRow, ProjectRow
from restmcts.adapters.sql.rows import StoredRun, columns
from restmcts.adapters.sql.state import runs, token_budget
from restmcts.adapters.sql.state.blocks import BLOCKS
from restmcts.adapters.sql.state.runs import CHECKPOINTS, DATASETS
from restmcts.adapters.sql.state.token_budget import COUNTS
from restmcts.adapters.sql.state.trees import PHASES, RUNS, TREES
from restmcts.adapters.sql.tables import Need, PhaseState, RunState, TreeState
from restmcts.domain.access import Caller, Role
from restmcts.domain.text import check_name
from restmcts.errors import InputError, NotFoundError

PROJECTS = table_of(ProjectRow)
TOKENS = table_of(ApiTokenRow)
AUDIT = table_of(AuditRow)
SECRET = "rmp_"
NUM_SECRET_BYTES = 32
MAX_OF_QUOTAS = {"max_tokens": 2**63 - 1, "max_trees_in_flight": 2**31 - 1, "max_bytes": 2**63 - 1}
_IS_OPEN = RUNS.c.state.in_([RunState.RUNNING.value, RunState.PAUSED.value])


def create_project(transaction: Transaction, name: str) -> int:
    """Insert a project without quotas; return its id.

    Raises:
        InputError: if the name cannot be used or a project has it.
    """
    check_name(name, "project")
    if transaction.row(StoredProject, select(PROJECTS).where(PROJECTS.c.name == name)) is not None:
        raise InputError(f"a project named {name!r} exists already: choose another name")
    return int(transaction.execute(insert(PROJECTS).values(name=name).returning(PROJECTS.c.id)).scalar_one())


def project_named(transaction: Transaction, name: str) -> StoredProject:
    """Return the project's row.

    Raises:
        NotFoundError: if no project has that name; it says which there are.
    """
    row = transaction.row(StoredProject, select(PROJECTS).where(PROJECTS.c.name == name))
    if row is None:
        known = ", ".join(one.name for one in list_projects(transaction))
        raise NotFoundError(f"no project is named {name!r}; there {f'are {known}' if known else 'is none yet'}")
    return row


def list_projects(transaction: Transaction) -> list[StoredProject]:
    """Return all projects by name."""
    return transaction.rows(StoredProject, select(PROJECTS).order_by(PROJECTS.c.name))


def set_quotas(
    transaction: Transaction,
    name: str,
    *,
    max_tokens: int | None = None,
    max_trees_in_flight: int | None = None,
    max_bytes: int | None = None,
) -> None:
    """Set quotas of a project: None leaves one as it is, 0 lifts it. What its runs have already
    stays theirs.

    Raises:
        InputError: if there is no such project, a number cannot be a quota, or a run that has not
            ended has no token budget where tokens get a quota.
    """
    project = _locked(transaction, project_named(transaction, name).id)
    given = {"max_tokens": max_tokens, "max_trees_in_flight": max_trees_in_flight, "max_bytes": max_bytes}
    for quota, number in given.items():
        if number is not None and not 0 <= number <= MAX_OF_QUOTAS[quota]:
            raise InputError(f"{quota} is {number}: give a number up to {MAX_OF_QUOTAS[quota]}; 0 lifts the quota")
    if max_tokens:
        _check_have_budgets(transaction, project)
    values = {quota: number or None for quota, number in given.items() if number is not None}
    if values:
        transaction.execute(update(PROJECTS).where(PROJECTS.c.id == project.id).values(**values))


def _check_have_budgets(transaction: Transaction, project: StoredProject) -> None:
    unlimited = select(RUNS.c.name).where(RUNS.c.project_id == project.id, _IS_OPEN, RUNS.c.max_tokens.is_(None))
    name = transaction.execute(unlimited.order_by(RUNS.c.id).limit(1)).scalar()
    if name is not None:
        raise InputError(
            f"run {name} of project {project.name} has no token budget: `restmcts runs pause {quote(name)}"
            f"{transaction.place}`, then `restmcts runs resume {quote(name)}{transaction.place} --max-tokens N`"
        )


def issue_token(transaction: Transaction, project: str, name: str, role: Role) -> str:
    """Insert a token; return its secret, which cannot be read again.

    Raises:
        InputError: if there is no such project, or the name cannot be used or a token has, or had,
            it.
    """
    project_id = project_named(transaction, project).id
    check_name(name, "token")
    if any(name == token.name for token in tokens_of(transaction, project)):
        raise InputError(f"project {project} has or had a token named {name!r}: choose another name")
    secret = SECRET + secrets.token_urlsafe(NUM_SECRET_BYTES)
    values = {"project_id": project_id, "name": name, "role": role.value, "digest": _digest(secret)}
    transaction.execute(insert(TOKENS).values(**values))
    return secret


def revoke_token(transaction: Transaction, project: str, name: str) -> None:
    """Let a token be of no use from now on; its name stays known.

    Raises:
        NotFoundError: if there is no such project, or it has no such token that is valid.
    """
    of_name = (TOKENS.c.project_id == project_named(transaction, project).id) & (TOKENS.c.name == name)
    revoked = update(TOKENS).where(of_name, TOKENS.c.revoked_at.is_(None)).values(revoked_at=moment())
    if not transaction.execute(revoked).rowcount:
        valid = ", ".join(token.name for token in tokens_of(transaction, project) if token.revoked_at is None)
        raise NotFoundError(f"project {project} has no valid token named {name!r}; it has {valid or 'none'}")


def tokens_of(transaction: Transaction, project: str) -> list[StoredToken]:
    """Return the tokens of a project, revoked ones among them, the oldest first.

    Raises:
        NotFoundError: if there is no such project.
    """
    of_project = TOKENS.c.project_id == project_named(transaction, project).id
    return transaction.rows(StoredToken, select(*columns(StoredToken, TOKENS)).where(of_project).order_by(TOKENS.c.id))


def caller_of(transaction: Transaction, secret: str) -> Caller | None:
    """Return whose secret that is; None if it is unknown or revoked."""
    valid = (TOKENS.c.digest == _digest(secret)) & TOKENS.c.revoked_at.is_(None)
    named = (PROJECTS.c.name.label("project"), TOKENS.c.project_id, TOKENS.c.name.label("token"), TOKENS.c.role)
    found = select(*named).join(PROJECTS, PROJECTS.c.id == TOKENS.c.project_id).where(valid)
    row = transaction.execute(found).first()
    return Caller(row.project, row.project_id, row.token, Role(row.role)) if row is not None else None


def _digest(secret: str) -> str:
    """Return what is stored of a secret: it is random, and need not be made slow to guess."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def record(
    transaction: Transaction,
    action: str,
    subject: str,
    *,
    actor: str,
    project_id: int | None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add a row to the audit; it is there only if the transaction commits what it is about."""
    values = {"project_id": project_id, "actor": actor, "action": action, "subject": subject}
    transaction.execute(insert(AUDIT).values(**values, detail=dict(detail or {})))


def audit(transaction: Transaction, project: str | None = None, limit: int = 100) -> list[StoredAudit]:
    """Return the last changes in a project, or of all, the newest first.

    Raises:
        NotFoundError: if there is no such project.
    """
    own = columns(StoredAudit, AUDIT, besides=("project",))
    statement = select(*own, PROJECTS.c.name.label("project")).outerjoin(PROJECTS, PROJECTS.c.id == AUDIT.c.project_id)
    if project is not None:
        statement = statement.where(AUDIT.c.project_id == project_named(transaction, project).id)
    return transaction.rows(StoredAudit, statement.order_by(AUDIT.c.id.desc()).limit(limit))


def runs_of(transaction: Transaction, project_id: int) -> set[str]:
    """Return the names of the runs of a project."""
    return set(transaction.execute(select(RUNS.c.name).where(RUNS.c.project_id == project_id)).scalars())


def project_of_run(transaction: Transaction, run_name: str) -> int | None:
    """Return the id of a run's project; None if it has none, or there is no such run."""
    found: int | None = transaction.execute(select(RUNS.c.project_id).where(RUNS.c.name == run_name)).scalar()
    return found


def has_made(transaction: Transaction, project_id: int, uri: str) -> bool:
    """Return whether a run of a project made a checkpoint's files: those that runs were given, and
    whose names anybody may know, are not the project's own.
    """
    made = (CHECKPOINTS.c.uri == uri) & (CHECKPOINTS.c.num_bytes > 0) & (RUNS.c.project_id == project_id)
    statement = select(CHECKPOINTS.c.id).join(RUNS, RUNS.c.id == CHECKPOINTS.c.run_id).where(made).limit(1)
    return transaction.execute(statement).first() is not None


def assign_run(transaction: Transaction, run_id: int, project_id: int) -> None:
    """Put a run under the quotas of a project; one without a token budget gets all the tokens that
    are left.

    Raises:
        InputError: if there is no such run or project, or the quotas do not allow the run.
    """
    run = runs.lock_run(transaction, run_id)
    if run is None:
        raise NotFoundError(f"there is no run {run_id}")
    left = _tokens_left(transaction, _locked(transaction, project_id), run_id)
    if run.max_tokens is None and left is not None and left > 0:
        token_budget.set_limit(transaction, run, left)
        run = replace(run, max_tokens=left)
    check_quotas(transaction, replace(run, project_id=project_id))
    transaction.execute(update(RUNS).where(RUNS.c.id == run_id).values(project_id=project_id))


def check_quotas(transaction: Transaction, run: StoredRun, max_tokens: int | None = None) -> None:
    """Do nothing if a run, which this transaction has locked, may go on, with another token budget
    if one is given.

    Raises:
        InputError: if its project has stored all that it may, or has fewer tokens left than the
            budget; it says how many.
    """
    if run.project_id is None:
        return
    project = _locked(transaction, run.project_id)
    if (reason := _over_bytes(transaction, project)) is not None:
        raise InputError(reason)
    left = _tokens_left(transaction, project, run.id)
    budget = max_tokens if max_tokens is not None else run.max_tokens
    if left is None or (budget is not None and budget <= left):
        return
    asked = f"{budget:,}" if budget is not None else "no limit"
    raised = f"end another run, or raise the quota: {_quota_command(transaction, project, 'tokens')}"
    way = f"give it at most {left} by --max-tokens" if left > 0 else raised
    raise InputError(
        f"project {project.name} has {max(left, 0):,} of {project.max_tokens or 0:,} tokens left for run {run.name}, "
        f"which asks for {asked}: {way}"
    )


def over_bytes(transaction: Transaction, run: StoredRun) -> str | None:
    """Return why nothing more is to be stored for a run; None if it has no project, or that has
    stored less than it may.
    """
    return _over_bytes(transaction, _project(transaction, run.project_id)) if run.project_id is not None else None


def trees_left(transaction: Transaction, run: StoredRun) -> int | None:
    """Return how many more trees of a run's project may search at the same time, which nobody else
    finds out until this transaction ends; None: as many as there are.
    """
    if run.project_id is None or _project(transaction, run.project_id).max_trees_in_flight is None:
        return None
    limit = _locked(transaction, run.project_id).max_trees_in_flight
    return max(limit - _trees_in_flight(transaction, run.project_id), 0) if limit is not None else None


def waiting_runs(transaction: Transaction, project_id: int, last: int) -> dict[int, int]:
    """Return how many trees search of each running run of a project of which trees wait, in turn:
    by their ids, from the one after `last` to that. A run that the coordinator cannot move is left
    out, and so are those that another process works on.
    """
    waiting = select(TREES.c.id).where(TREES.c.phase_id == PHASES.c.id, TREES.c.state == TreeState.WAITING.value)
    unmoved = select(BLOCKS.c.need_id).where(BLOCKS.c.need == Need.RUN.value)
    statement = (
        select(RUNS.c.id)
        .join(PHASES, PHASES.c.run_id == RUNS.c.id)
        .where(RUNS.c.project_id == project_id, RUNS.c.state == RunState.RUNNING.value)
        .where(RUNS.c.id.not_in(unmoved), PHASES.c.state == PhaseState.SEARCHING.value, waiting.exists())
    )
    only = transaction.only_run
    found = transaction.execute(statement if only is None else statement.where(RUNS.c.id == only)).scalars()
    in_turn = sorted(set(found), key=lambda run_id: (run_id <= last, run_id))
    return {run_id: runs.num_searching(transaction, run_id) for run_id in in_turn}


def equal_shares(num_free: int, searching: Mapping[int, int], max_of_run: int) -> dict[int, int]:
    """Return how many of the free places each run gets that gets any: one after the other goes to
    the run of which the fewest trees search, of several to the one whose turn is first.

    Args:
        searching: how many trees of each run search, in turn.
        max_of_run: trees of a run that may search.
    """
    places = [(number, turn, run_id) for turn, (run_id, number) in enumerate(searching.items()) if number < max_of_run]
    heapify(places)
    shares: Counter[int] = Counter()
    for _ in range(num_free):
        if not places:
            break
        number, turn, run_id = heappop(places)
        shares[run_id] += 1
        if number + 1 < max_of_run:
            heappush(places, (number + 1, turn, run_id))
    return dict(shares)


def usage(transaction: Transaction, project_id: int) -> Usage:
    """Return what counts against the quotas of a project."""
    shares = _shares(transaction, project_id)
    in_flight, num_bytes = _trees_in_flight(transaction, project_id), _num_bytes(transaction, project_id)
    return Usage(sum(shares.values()), in_flight, num_bytes, len(shares))


def _project(transaction: Transaction, project_id: int, *, lock: bool = False) -> StoredProject:
    statement = select(PROJECTS).where(PROJECTS.c.id == project_id)
    # Rows that only name a project, as those of the audit do, wait for nobody who has it locked.
    row = transaction.row(StoredProject, statement.with_for_update(key_share=True) if lock else statement)
    if row is None:
        raise NotFoundError(f"there is no project {project_id}")
    return row


def _locked(transaction: Transaction, project_id: int) -> StoredProject:
    """Return a project's row, locked until the transaction ends."""
    return _project(transaction, project_id, lock=True)


def _tokens_left(transaction: Transaction, project: StoredProject, run_id: int) -> int | None:
    """Return how many tokens a run of a project, which is locked, may have in all; None: any
    number. Below 0 where the quota was made smaller.
    """
    if project.max_tokens is None:
        return None
    shares = _shares(transaction, project.id)
    return project.max_tokens - sum(tokens for one, tokens in shares.items() if one != run_id)


@dataclass(frozen=True, slots=True)
class _Share:
    """What a run has of its project's tokens."""

    id: int
    is_open: bool
    max_tokens: int | None
    generated: int

    @property
    def tokens(self) -> int:
        # The answer that went beyond a budget counts too.
        budget = self.max_tokens if self.is_open and self.max_tokens is not None else 0
        return max(budget, int(self.generated))


def _shares(transaction: Transaction, project_id: int) -> dict[int, int]:
    """Return the tokens of each run of a project, by its id."""
    counted = select(func.sum(COUNTS.c.tokens)).where(COUNTS.c.run_id == RUNS.c.id).scalar_subquery()
    of_trees = select(func.sum(TREES.c.tokens)).where(TREES.c.run_id == RUNS.c.id).scalar_subquery()
    generated = func.coalesce(case((RUNS.c.max_tokens.is_(None), of_trees), else_=counted), 0).label("generated")
    statement = select(RUNS.c.id, _IS_OPEN.label("is_open"), RUNS.c.max_tokens, generated)
    rows = transaction.rows(_Share, statement.where(RUNS.c.project_id == project_id))
    return {row.id: row.tokens for row in rows}


def _trees_in_flight(transaction: Transaction, project_id: int) -> int:
    """Return how many trees of a project search; asked by phase, for the sake of the index."""
    open_runs = select(RUNS.c.id).where(RUNS.c.project_id == project_id, _IS_OPEN)
    phase_ids = select(PHASES.c.id).where(PHASES.c.run_id.in_(open_runs))
    searching = TREES.c.phase_id.in_(phase_ids) & (TREES.c.state == TreeState.SEARCHING.value)
    return int(transaction.execute(select(func.count()).select_from(TREES).where(searching)).scalar_one())


def _num_bytes(transaction: Transaction, project_id: int) -> int:
    of_project = select(RUNS.c.id).where(RUNS.c.project_id == project_id)
    phase_ids = select(PHASES.c.id).where(PHASES.c.run_id.in_(of_project))
    stored = (
        select(func.sum(CHECKPOINTS.c.num_bytes)).where(CHECKPOINTS.c.run_id.in_(of_project)),
        select(func.sum(DATASETS.c.num_bytes)).where(DATASETS.c.phase_id.in_(phase_ids)),
    )
    return sum(int(transaction.execute(statement).scalar() or 0) for statement in stored)


def _over_bytes(transaction: Transaction, project: StoredProject) -> str | None:
    if project.max_bytes is None or (stored := _num_bytes(transaction, project.id)) < project.max_bytes:
        return None
    raised = _quota_command(transaction, project, "bytes")
    return (
        f"project {project.name} has stored {stored:,} of {project.max_bytes:,} bytes: delete runs that have ended, or "
        f"raise the quota: {raised}"
    )


def _quota_command(transaction: Transaction, project: StoredProject, what: str) -> str:
    return f"restmcts projects quota {quote(project.name)}{transaction.place} --max-{what} N"
