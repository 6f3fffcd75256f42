"""Runs begin here: stored whole in one transaction, given their problems, and later extended."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from shlex import quote
from typing import Any, Self

from restmcts.adapters.models.ensemble import is_ensemble
from restmcts.adapters.sql.database import Transaction
from restmcts.adapters.sql.reads.queries import run_named
from restmcts.adapters.sql.reads.truth import source_of_verdicts
from restmcts.adapters.sql.rows import StoredPhase, StoredRun
from restmcts.adapters.sql.state import archived_trees, projects, promotions, runs, token_budget
from restmcts.adapters.sql.tables import PhaseState, RunState
from restmcts.adapters.storage.uris import ARTIFACT
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import PHASE, Phase, SearchPhase, TrainValuePhase
from restmcts.domain.runs.spec_plan import BOOTSTRAP, HELD_OUT, SEEDS, TRAIN
from restmcts.domain.runs.splits import MAX_BOOTSTRAP_PROBLEMS, HeldOut
from restmcts.domain.text import check_name, valid_text
from restmcts.errors import InputError, NotFoundError
from restmcts.messages.commands import AdvanceRun
from restmcts.usecases import steer

_EXTENDED_STATES = (RunState.DONE, RunState.RUNNING, RunState.PAUSED)
MAX_NUMBER = 2**63 - 1
Config = Mapping[str, Any]
"""What makes a run the same run, as JSON."""


@dataclass(frozen=True, slots=True)
class NewCheckpoint:
    """A model that a run begins with.

    Attributes:
        kind: "policy" or "value".
        digest: of its files; empty: what its URI says of it.
    """

    kind: str
    uri: str
    digest: str = ""

    @property
    def known_digest(self) -> str:
        """The digest; that of a stored artifact is the end of its URI, any other URI represents
        itself.
        """
        return self.digest or (self.uri.rpartition("/")[2] if self.uri.startswith(ARTIFACT) else self.uri)


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that is to be stored.

    Attributes:
        method: of self-training, or what else the run is.
        seed: decides every sample and the order of training data.
        config: what makes it the same run when it is asked for again.
        problems: by set, read as they are stored; a run that is given none of the sets
            "held-out", "bootstrap" and "seeds" has those that it uses filled from its problems for
            "train".
        checkpoints: by name.
        max_tokens: that it may generate in all.
        paused: begin only when it is resumed.
        project: under whose quotas it is; None: it is a run of the operators.
    """

    name: str
    method: str
    seed: int
    phases: Sequence[Phase]
    config: Config = field(default_factory=dict)
    problems: Mapping[str, Iterable[Problem]] = field(default_factory=dict)
    checkpoints: Mapping[str, NewCheckpoint] = field(default_factory=dict)
    max_tokens: int | None = None
    paused: bool = False
    project: str | None = None


@dataclass(frozen=True, slots=True)
class CreatedRun:
    """A stored run's id, and how many problems each of its sets was given."""

    run_id: int
    num_problems: Mapping[str, int]


def create_run(transaction: Transaction, new: NewRun) -> CreatedRun:
    """Store a run, and wake the coordinator for it unless it is to begin paused.

    Raises:
        InputError: if the name cannot be used or a run has it, a number is too large, a problem
            cannot be read, it goes on training an ensemble, or its project does not allow it.
    """
    name = check_name(new.name, "run")
    for what, number in (("seed", new.seed), ("token budget", new.max_tokens or 0)):
        if abs(number) > MAX_NUMBER:
            raise InputError(f"the {what} of a run is {number}: at most {MAX_NUMBER} can be stored")
    _check_trainable(new)
    project = projects.project_named(transaction, new.project) if new.project is not None else None
    run_id = runs.create_run(transaction, name, new.method, new.seed, dict(new.config), new.max_tokens)
    runs.add_phases(transaction, run_id, new.phases)
    for model, checkpoint in new.checkpoints.items():
        runs.add_checkpoint(transaction, run_id, model, checkpoint.kind, checkpoint.uri, checkpoint.known_digest)
    fills = not {HELD_OUT, BOOTSTRAP, SEEDS} & new.problems.keys()
    filled = _Filled.by(new.config, new.phases) if fills else _Filled()
    counts: dict[str, int] = {}
    for set_name, problems in new.problems.items():
        counts |= _fill(
            set_name,
            problems,
            _Intake(filled if set_name == TRAIN else _Filled()),
            lambda name, found: runs.add_problems(transaction, run_id, name, found),
        )
    # last: others of the project wait from here on
    if project is not None:
        projects.assign_run(transaction, run_id, project.id)
    if new.paused:
        steer.begin_paused(transaction, run_id)
    else:
        transaction.emit(AdvanceRun(run_id=run_id))
    return CreatedRun(run_id, counts)


def _check_trainable(new: NewRun) -> None:
    """Refuse an ensemble as the value model that a run goes on training."""
    ensemble = next((model.uri for model in new.checkpoints.values() if is_ensemble(model.uri)), None)
    trained = next((phase.name for phase in new.phases if isinstance(phase, TrainValuePhase) and phase.parent), None)
    if ensemble is not None and trained is not None:
        raise InputError(
            f"{ensemble} cannot be trained, and {trained} goes on from it: name one of its members as --value, or a "
            "method that trains no value model"
        )


def enqueue_problems(
    transaction: Transaction, run_name: str, set_name: str, problems: Iterable[Problem]
) -> dict[str, int]:
    """Add problems to a set of a run as they come; return how many by set.

    Of the questions for the set "train" one in ten is held out, until the run has as many as it
    compares new checkpoints on: their problems go to the set "held-out". The first thousand of the
    others are also those from which the first value model is trained: they fill the set "bootstrap"
    where a phase uses one that has no problems of its own. Those with a solution are also the set
    "seeds" of a run whose first policy is trained on given solutions.

    Raises:
        InputError: if there is no such run, none of its phases uses the set, or one that does has
            started.
    """
    run = run_named(transaction, run_name)
    phases = [PHASE.validate_python(row.spec) for row in runs.phases_of(transaction, run.id)]
    intake = _Intake(_Filled())
    if set_name == TRAIN:
        digests = {name: runs.digests_of(transaction, run.id, name) for name in (TRAIN, HELD_OUT, BOOTSTRAP)}
        intake = _Intake(_Filled.by(run.config, phases), digests)
    return _fill(
        set_name, problems, intake, lambda name, found: steer.append_problems(transaction, run_name, name, found)
    )


@dataclass(frozen=True, slots=True)
class _Filled:
    """What else the problems for the set "train" fill.

    Attributes:
        num_held_out: questions that are held out, at most.
        needs_answers: whether only problems with true answers are.
        num_bootstrap: problems of which the first value model's data are made, at most.
        has_seeds: whether the first policy is trained on the given solutions.
    """

    num_held_out: int = 0
    needs_answers: bool = False
    num_bootstrap: int = 0
    has_seeds: bool = False

    @classmethod
    def by(cls, config: Config, phases: Iterable[Phase]) -> Self:
        """Return what a run's training problems fill."""
        bootstraps = config.get("bootstrap_set") == BOOTSTRAP and any(
            isinstance(phase, SearchPhase) and phase.purpose == "bootstrap" for phase in phases
        )
        num_held_out = config["gate"]["num_problems"] if config.get("held_out_set") == HELD_OUT else 0
        needs_answers = source_of_verdicts(dict(config)) is not None
        num_bootstrap = MAX_BOOTSTRAP_PROBLEMS if bootstraps else 0
        return cls(num_held_out, needs_answers, num_bootstrap, config.get("seed_set") == SEEDS)


class _Intake:
    """Divides problems that come one by one; `digests` are those of the questions that sets have
    already, by name.
    """

    def __init__(self, filled: _Filled, digests: Mapping[str, Sequence[str]] | None = None) -> None:
        known = digests or {}
        self._filled = filled
        sides = known.get(HELD_OUT, ()), known.get(TRAIN, ())
        self._rule = HeldOut(filled.num_held_out, *sides, needs_answers=filled.needs_answers)
        self._num_bootstrap = len(known.get(BOOTSTRAP, ()))
        self.kept: dict[str, list[Problem]] = {BOOTSTRAP: [], HELD_OUT: [], SEEDS: []}

    def passed_on(self, problems: Iterable[Problem]) -> Iterator[Problem]:
        """Yield the problems that are not held out, and keep what other sets are to have."""
        for number, problem in enumerate(problems, start=1):
            _check(problem, number)
            if self._filled.num_held_out and self._rule.takes(problem):
                self.kept[HELD_OUT].append(problem)
                continue
            if self._num_bootstrap + len(self.kept[BOOTSTRAP]) < self._filled.num_bootstrap:
                self.kept[BOOTSTRAP].append(problem)
            if self._filled.has_seeds and problem.solution:
                self.kept[SEEDS].append(problem)
            yield problem


def _check(problem: Problem, number: int) -> None:
    """Refuse a problem that no database can hold, wherever it comes from."""
    texts = [("question", problem.question), ("answer", problem.answer or ""), ("kind", problem.kind)]
    try:
        for name, text in [*texts, *(("solution", step) for step in problem.solution or ())]:
            valid_text(text, name)
    except InputError as error:
        raise InputError(f"problem {number}: {error}") from None


def _fill(
    set_name: str, problems: Iterable[Problem], intake: _Intake, add: Callable[[str, Iterable[Problem]], int]
) -> dict[str, int]:
    counts = {set_name: add(set_name, intake.passed_on(problems))}
    return counts | {name: add(name, found) for name, found in intake.kept.items() if found}


@dataclass(frozen=True, slots=True)
class Extension:
    """What a run is to be.

    Attributes:
        config: what makes it the same run when it is asked for again.
        phases: all of them, those that are stored too.
        problems: by set; of sets that are stored, nothing is added.
        max_tokens: that it may generate in all; None: what it has.
    """

    config: Mapping[str, Any]
    phases: Sequence[Phase]
    problems: Mapping[str, Sequence[Problem]]
    max_tokens: int | None = None


def extend_run(transaction: Transaction, name: str, extension: Extension) -> tuple[str, ...]:
    """Add to a run the phases and problem sets that it has not, and let a run that was done go on;
    return the names of the new phases.

    The run is then the one that would have been made with all phases from the beginning: seeds are
    those of the phases' names.

    Raises:
        InputError: if there is no such run, it has failed or was cancelled, its trees are archived,
            a phase of its is another now, a new phase needs what the run skipped, or its project
            has not the tokens or the room.
    """
    run = runs.lock_run(transaction, run_named(transaction, name).id)
    if run is None:
        raise NotFoundError(f"run {name} is gone")
    archived_trees.check_run_is_here(transaction, run.id)
    projects.check_quotas(transaction, run, extension.max_tokens)
    added = added_phases(transaction, run, extension)
    for set_name, problems in extension.problems.items():
        if not runs.digests_of(transaction, run.id, set_name):
            runs.add_problems(transaction, run.id, set_name, problems)
    runs.add_phases(transaction, run.id, added)
    if extension.max_tokens is not None:
        token_budget.set_limit(transaction, run, extension.max_tokens)
    runs.change_run(transaction, run.id, dict(extension.config), goes_on=run.state == RunState.DONE)
    runs.record_start(transaction, run.id)
    transaction.emit(AdvanceRun(run_id=run.id))
    return tuple(phase.name for phase in added)


def added_phases(transaction: Transaction, run: StoredRun, extension: Extension) -> list[Phase]:
    """Return the phases that an extension adds to a run, which stays as it is.

    Raises:
        InputError: as `extend_run`.
    """
    if run.state not in _EXTENDED_STATES:
        raise InputError(f"run {run.name} is {run.state}; a run that is done, running or paused can be extended")
    stored = {row.name: row for row in runs.phases_of(transaction, run.id)}
    added = [phase for phase in extension.phases if phase.name not in stored]
    clone = f"restmcts runs clone {quote(run.name)} NEW{transaction.place}"
    _check_same(run.name, stored, extension.phases, clone)
    _check_needs(run.name, stored, added, promotions.models(transaction, run.id), clone)
    return added


def _check_same(name: str, stored: Mapping[str, StoredPhase], phases: Sequence[Phase], clone: str) -> None:
    for phase in phases:
        row = stored.get(phase.name)
        if row is not None and _as_planned(PHASE.validate_python(row.spec), phase) != phase:
            raise InputError(
                f"run {name} cannot be extended: its phase {phase.name} was stored with other settings than this "
                f"version of restmcts gives it; clone it (`{clone}`)"
            )


def _as_planned(stored: Phase, planned: Phase) -> Phase:
    """Return a stored phase before its budget was divided (restmcts.domain.runs.allocation)."""
    if isinstance(stored, SearchPhase) and isinstance(planned, SearchPhase) and stored.allocates:
        return replace(stored, budget=planned.budget)
    return stored


def _check_needs(
    name: str, stored: Mapping[str, StoredPhase], added: Sequence[Phase], models: Mapping[str, object], clone: str
) -> None:
    given_up = {row.name: row for row in stored.values() if row.state == PhaseState.SKIPPED}
    for phase in added:
        for need in phase.needs():
            if need in given_up and need not in models:
                reason = given_up[need].result.get("reason", "skipped")
                raise InputError(
                    f"run {name} cannot be extended: it has no {need}, as {reason}: the next iteration has "
                    f"nothing to begin with; a copy with other settings may get further: {clone} --set …"
                )
