"""What a person sees while a local run works: a live table on a terminal, a line now and then
elsewhere.

Reads the database from a thread of its own; the run does not know of it.
"""

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import Self

from restmcts.adapters.sql.database import Database
from restmcts.adapters.sql.reads import progress
from restmcts.adapters.sql.state.blocks import BLOCKED
from restmcts.adapters.sql.tables import PhaseState, RunState
from restmcts.domain.text import counted
from restmcts.errors import StorageError
from restmcts.reporting.plain_text import shortened
from restmcts.reporting.time_left import TimedPhase, TimeLeft, timed_phase
from restmcts.reporting.truth import marked
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from restmcts_cli.reports.run_results import mark_of_run

SECONDS_BETWEEN_FRAMES = 0.5
SECONDS_BETWEEN_LINES = 60.0
MAX_SHARES = 4
GATE = "gate"
WORKING = (PhaseState.SEARCHING, PhaseState.WRITING, PhaseState.TRAINING, PhaseState.PROMOTING)


@dataclass(frozen=True, slots=True)
class _Training:
    """Steps of a training that is under way, as the trainer last reported them."""

    step: int
    num_steps: int
    loss: float


class LiveDisplay:
    """Shows one run from `__enter__` to `__exit__`; after Ctrl-C or SIGTERM, its last state and how
    to go on.

    Args:
        resumption: what resumes the run, as a sentence; "": what ends is not the run.
        claims: whether promotions are shown with the figures that decided on them.
        token_examples: what is known before of the time that the first search takes
            (restmcts.reporting.time_left).
    """

    def __init__(
        self,
        title: str,
        resumption: str = "the same command resumes it",
        *,
        claims: bool = True,
        token_examples: float | None = None,
    ) -> None:
        self._claims = claims
        self._title = title
        self._resumption = resumption
        self._last: progress.RunProgress | None = None
        self._mark = ""
        self._console = Console(stderr=True)
        self._trainings: dict[str, _Training] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._begin = time.monotonic()
        self._first: progress.RunProgress | None = None
        self._token_examples = token_examples
        self._left = TimeLeft()
        self._announced: set[str] = set()
        self._is_end_said = False

    def on_training(self, name: str, step: int, num_steps: int, loss: float) -> None:
        """Take the trainer's progress."""
        self._trainings[name] = _Training(step, num_steps, loss)

    def watch(self, database: Database, run_id: int, trainings_at_once: int = 2) -> Self:
        """Begin to show a run."""
        self._left = TimeLeft(trainings_at_once, self._token_examples)
        self._note_before(self._read(database, run_id))
        show = self._show_live if self._console.is_terminal else self._show_lines
        self._thread = threading.Thread(target=show, args=(database, run_id), daemon=True)
        self._thread.start()
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if kind in (KeyboardInterrupt, SystemExit) and self._resumption:
            how = "interrupted" if kind is KeyboardInterrupt else "terminated"
            self._print(f"{how} · {self._headline(self._last)}" if self._last is not None else how)
            self._print(f"{self._title}: what is done is kept; {self._resumption}")
        sys.stderr.flush()

    def _read(self, database: Database, run_id: int) -> progress.RunProgress | None:
        try:
            with database.transaction() as transaction:
                state = progress.read(transaction, run_id)
                self._mark = mark_of_run(transaction, run_id)
        except StorageError:
            return None
        self._first, self._last = self._first or state, state
        self._left.look(_timed(state, self._trainings), time.monotonic())
        return state

    def _show_live(self, database: Database, run_id: int) -> None:
        with Live(console=self._console, refresh_per_second=4, transient=True) as live:
            while not self._stop.wait(SECONDS_BETWEEN_FRAMES):
                state = self._read(database, run_id)
                if state is not None:
                    live.update(self._frame(state))

    def _show_lines(self, database: Database, run_id: int) -> None:
        last = float("-inf")
        while True:
            ended = self._stop.wait(SECONDS_BETWEEN_FRAMES)
            state = self._read(database, run_id)
            if state is not None:
                self._print_ended(state.phases)
                if state.state == RunState.DONE and not self._is_end_said:
                    self._is_end_said = True
                    self._print(f"done: all {counted(len(state.phases), 'phase')}")
                if time.monotonic() - last >= SECONDS_BETWEEN_LINES and not ended:
                    last = time.monotonic()
                    self._print(self._headline(state))
            if ended:
                return

    def _note_before(self, state: progress.RunProgress | None) -> None:
        """Say how many phases have ended before, in place of each of them with the time of now."""
        if state is None:
            return
        ended = [one.name for one in state.phases if one.state not in (PhaseState.PENDING, *WORKING)]
        num_phases = counted(len(state.phases), "phase")
        if state.state == RunState.DONE:
            self._is_end_said = True
            self._announced.update(one.name for one in state.phases)
            self._print(f"finished before: all {num_phases}; nothing is done again")
        elif ended:
            self._announced.update(ended)
            self._print(f"ended before: {len(ended)} of {num_phases}; nothing of them is done again")

    def _print_ended(self, phases: Sequence[progress.PhaseProgress]) -> None:
        ended = [one for one in phases if one.state not in (PhaseState.PENDING, *WORKING)]
        new = [one for one in ended if one.name not in self._announced]
        self._announced.update(one.name for one in new)
        for (state, outcome), alike in groupby(new, key=lambda one: (one.state, self._came_to(one))):
            names = [one.name for one in alike]
            if state == PhaseState.SKIPPED and len(names) > 1:
                self._print(f"{names[0]} to {names[-1]}, {len(names)} phases: {state}{outcome}")
                continue
            for name in names:
                self._print(f"{name}: {state}{outcome}")

    def _print(self, line: str) -> None:
        seconds = int(time.monotonic() - self._begin)
        self._console.print(
            f"[{seconds // 60:02d}:{seconds % 60:02d}] {line}", markup=False, highlight=False, soft_wrap=True
        )

    def _headline(self, state: progress.RunProgress) -> str:
        seconds = max(time.monotonic() - self._begin, 1e-3)
        first = self._first or state
        tokens = (state.tokens - first.tokens) / seconds
        nodes = (state.nodes - first.nodes) / seconds
        trees = 3600.0 * (state.num_done - first.num_done) / seconds
        left = self._time_left() if state.state == RunState.RUNNING else _why_it_waits(state)
        rates = (
            [f"{trees:,.0f} trees/h", f"{tokens:,.0f} tokens/s", f"{nodes:,.0f} nodes/s"] if trees and tokens else []
        )
        shares = [f"{phase.name} {self._share(phase)}" for phase in state.phases if phase.state in WORKING]
        working = ", ".join(shares[:MAX_SHARES]) + (
            f", and {len(shares) - MAX_SHARES} more" if len(shares) > MAX_SHARES else ""
        )
        done = [f"{counted(state.num_done, 'tree')} done"] if state.num_done else []
        if state.num_searched:
            solved = f"{state.num_solved:,} of {state.num_searched:,} solved in search"
            done.append(f"{marked(solved, self._mark)}")
        parts = (f"iteration {state.iteration}", working or "starting", *done, *rates, left)
        return " · ".join(part for part in parts if part) + _budget(state, tokens)

    def _time_left(self) -> str:
        seconds = self._left.seconds()
        return "" if seconds is None else f"about {int(seconds) // 60}:{int(seconds) % 60:02d} left"

    def _share(self, phase: progress.PhaseProgress) -> str:
        if phase.num_trees:
            return f"{phase.num_done}/{phase.num_trees}"
        training = self._trainings.get(phase.name)
        if training is not None and phase.state == PhaseState.TRAINING:
            return f"step {training.step}/{training.num_steps}, loss {training.loss:.3f}"
        return "writing its training data" if phase.state == PhaseState.WRITING else phase.state

    def _frame(self, state: progress.RunProgress) -> Group:
        table = Table.grid(padding=(0, 2))
        for phase in state.phases:
            if phase.state != PhaseState.PENDING:
                table.add_row(*self._row(phase))
        if state.max_tokens is not None:
            bar = ProgressBar(total=state.max_tokens, completed=min(state.tokens_spent, state.max_tokens), width=30)
            table.add_row(Text("token budget"), bar, Text(f"{state.tokens_spent:,}/{state.max_tokens:,}"), Text())
        num_ended = sum(phase.state not in (PhaseState.PENDING, *WORKING) for phase in state.phases)
        title = Text(f"{self._title} · phase {num_ended + 1} of {len(state.phases)}", style="bold")
        return Group(title, Text(self._headline(state), style="dim"), table)

    def _row(self, phase: progress.PhaseProgress) -> tuple[RenderableType, ...]:
        done, total = phase.num_done, phase.num_trees
        if not total and phase.name in self._trainings:
            done, total = self._trainings[phase.name].step, self._trainings[phase.name].num_steps
        bar = ProgressBar(total=max(total, 1), completed=done, width=30)
        return Text(phase.name), bar, Text(self._share(phase)), Text(self._came_to(phase).removeprefix(" · "))

    def _came_to(self, phase: progress.PhaseProgress) -> str:
        if phase.num_trees:
            solved = marked(f"{phase.num_solved} of {phase.num_trees} solved", self._mark)
            return f" · {solved}" + (f", {phase.num_failed} failed" if phase.num_failed else "")
        reason = phase.result.get("reason")
        if reason and phase.kind == GATE:
            return f" · {marked(reason, self._mark) if self._claims else reason.partition(':')[0]}"
        if reason:
            return f" · {reason}"
        if "last_loss" in phase.result:
            return f" · loss {phase.result['first_loss']:.3f} -> {phase.result['last_loss']:.3f}"
        return ""


def _budget(state: progress.RunProgress, tokens_per_second: float) -> str:
    """Return what is spent of the run's token budget and, while it generates, when it will all
    be.
    """
    if state.max_tokens is None:
        return ""
    left = max(state.max_tokens - state.tokens_spent, 0)
    seconds = int(left / tokens_per_second) if tokens_per_second > 0 and state.state == RunState.RUNNING else None
    until = f", all in about {seconds // 60}:{seconds % 60:02d}" if seconds is not None and left else ""
    return f" · {state.tokens_spent:,} of {state.max_tokens:,} tokens spent{until}"


def _why_it_waits(state: progress.RunProgress) -> str:
    return f"blocked: {shortened(state.error, 100)}" if state.state == BLOCKED and state.error else state.state


def _timed(state: progress.RunProgress, trainings: Mapping[str, _Training]) -> list[TimedPhase]:
    steps = {name: training.step / training.num_steps for name, training in trainings.items()}
    return [timed_phase(phase, steps.get(phase.name, 0.0)) for phase in state.phases]
