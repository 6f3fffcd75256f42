"""Where an evaluation is done: in this process, in a folder of its own, or by the workers of
the stack, as a run like any other.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import queries
from restmcts.adapters.sql.state import runs
from restmcts.domain.problems import Problem
from restmcts.domain.runs.evaluation import Evaluation, evaluation_plan
from restmcts.domain.runs.phases import Phase
from restmcts.errors import RestMctsError
from restmcts.usecases import steer
from restmcts.usecases.create import NewCheckpoint, NewRun, create_run
from restmcts.usecases.same_settings import check_same_settings

from restmcts_cli.arguments.connection import Connection
from restmcts_cli.reports.live_display import LiveDisplay

if TYPE_CHECKING:
    from restmcts_local.local_run import ModelOptions

RUN_NAME = "evaluation"
METHOD = "evaluation"
SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class EvaluationWork:
    """An evaluation, and all that its run is made of.

    Attributes:
        evaluation: methods, budgets, seeds and models.
        problems: by the names of their sets.
        checkpoints: each one's kind and URI, by its name.
        max_tokens: of the whole run; None: without end.
    """

    evaluation: Evaluation
    problems: Mapping[str, Sequence[Problem]]
    checkpoints: Mapping[str, tuple[str, str]]
    max_tokens: int | None = None

    @cached_property
    def plan(self) -> list[Phase]:
        """The phases of its run."""
        return list(evaluation_plan(self.evaluation))

    @cached_property
    def config(self) -> dict[str, Any]:
        """What makes an evaluation the same one, as JSON."""
        return {
            **TypeAdapter(Evaluation).dump_python(self.evaluation, mode="json"),
            "problems": {
                name: hashlib.sha256(repr(members).encode()).hexdigest() for name, members in self.problems.items()
            },
            "checkpoints": {name: uri for name, (_, uri) in self.checkpoints.items()},
        }


@contextmanager
def evaluated_here(
    out: Path,
    options: "ModelOptions",
    work: EvaluationWork,
) -> Iterator[tuple[Database, int]]:
    """Work on the evaluation of a folder until it has ended; yield its database and the run's id.

    Raises:
        InputError: if the folder contains an evaluation with other settings.
        RestMctsError: if the run fails, or is paused since its token budget is spent; what is done
            stays done.
    """
    from restmcts_local.local_run import LocalRun

    display = LiveDisplay(f"restmcts evaluate in {out}")
    with LocalRun(out / "work", options, display.on_training) as run:
        with display:
            known = run.find(RUN_NAME)
            if known is None:
                models = dict(work.checkpoints)
                run_id = run.create(RUN_NAME, METHOD, 0, work.config, work.problems, models, work.plan, work.max_tokens)
            else:
                check_same_settings(known.config, work.config, str(out), "choose another folder")
                run_id = run.known(known, work.max_tokens)
            display.watch(run.database, run_id, run.trainings_at_once)
            run.run(run_id, takes_max_tokens=True)
        yield run.database, run_id


def evaluated_on_stack(
    connection: Connection,
    name: str,
    work: EvaluationWork,
) -> int:
    """Let the stack's workers do the evaluation as the run of that name; return its id once it has
    ended.

    Raises:
        InputError: if another run has the name.
        RestMctsError: if the run fails, is cancelled, or is paused since its token budget is spent.
    """
    with connection.database.transaction() as transaction:
        known = runs.find_run(transaction, name)
        if known is None:
            models = {given: NewCheckpoint(kind, uri) for given, (kind, uri) in work.checkpoints.items()}
            new = NewRun(name, METHOD, 0, work.plan, work.config, work.problems, models, work.max_tokens)
            run_id = create_run(transaction, new).run_id
        else:
            check_same_settings(known.config, work.config, f"the stack's run {name}", "choose another name")
            run_id = int(known.id)
            if work.max_tokens is not None:
                steer.set_max_tokens(transaction, name, work.max_tokens)
    _await_end(connection, name, run_id)
    return run_id


def _await_end(connection: Connection, name: str, run_id: int) -> None:
    with LiveDisplay(f"run {name} of the stack", "it goes on; the same command waits for it again") as display:
        display.watch(connection.database, run_id)
        while True:
            with connection.database.transaction() as transaction:
                row = queries.run_named(transaction, name)
            if row.state == "done":
                return
            if row.state in ("failed", "cancelled"):
                raise RestMctsError(
                    f"run {name} {'failed: ' + str(row.error) if row.state == 'failed' else 'was cancelled'}"
                )
            if row.state == "paused" and row.error:
                raise RestMctsError(
                    f"run {name} is paused: {row.error}; to go on: this command with a larger --max-tokens"
                )
            time.sleep(SECONDS_BETWEEN_LOOKS)
