"""How long a run would take here: its first policy, and one iteration over a few of its problems,
really done in a temporary work folder and measured.

Searches are measured over more and more problems, as far as the time allows: models are called for
many trees at once, so that a few trees say little of many.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Self

from restmcts.adapters.sql.reads.earlier_runs import measured_in
from restmcts.adapters.sql.state import runs
from restmcts.adapters.sql.tables import RunState
from restmcts.domain.forecasts.work import Measured, num_steps
from restmcts.domain.problems import Problem
from restmcts.domain.runs.phases import Phase, TrainPolicyPhase, TrainValuePhase
from restmcts.domain.runs.spec import RunSpec
from restmcts.domain.runs.spec_plan import self_training, spec_plan
from restmcts.domain.text import counted
from restmcts.errors import RestMctsError
from restmcts.usecases import steer

from restmcts_local.local_run import LocalRun, ModelOptions

SIZES = (1, 4, 16, 64)
"""Problems of each set in one measurement after the other."""

SECONDS = 10.0
"""Of the processor for all measurements: no further one begins that would probably take longer than
what is left."""

BUSY = 6.0
"""By how much a busy machine or a slow server may prolong them."""

GROWTH = 2.0
"""How much longer a measurement of four times as many problems probably takes."""

SEED_SECONDS = 8.0
"""For the first training of a policy from given solutions: what it learns there decides how long
its solutions are."""

NUM_STEPS = 4
MAX_DOUBTS = 4
BASE, FIRST_POLICY = "base", "policy-0"
Models = Mapping[str, tuple[str, str]]
Sets = Mapping[str, Sequence[Problem]]


def probe_work(
    spec: RunSpec,
    sets: Sets,
    models: Models,
    options: ModelOptions,
    seconds: float = SECONDS,
    note: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Return what the phases of a run took on a few problems.

    Args:
        sets: all problems of the run, of which the first are used.
        models: with which it begins, by checkpoint name: kind and URI.
        note: takes a sentence before each measurement.

    Raises:
        RestMctsError: if the run cannot be done: it says why.
    """
    watch = _StepWatch()
    with (
        TemporaryDirectory(prefix="restmcts-forecast-") as folder,
        LocalRun(Path(folder, "work"), options, watch) as run,
    ):
        probe = _Probe(run, spec, sets, dict(models), note)
        if spec.seed_training is not None:
            probe.train_first_policy(watch)
        probe.measure(seconds)
        with run.database.transaction() as transaction:
            return measured_in(transaction, run.artifacts, probe.run_ids, "probe", watch.step_seconds())


@dataclass(frozen=True, slots=True)
class _Clocks:
    """Seconds of this process's processor time, and of the wall."""

    processor: float
    wall: float

    @classmethod
    def now(cls) -> Self:
        return cls(time.process_time(), time.monotonic())

    def since(self, other: Self) -> Self:
        return replace(self, processor=self.processor - other.processor, wall=self.wall - other.wall)


class _StepWatch:
    """Is called with the steps of trainings, and remembers when."""

    def __init__(self) -> None:
        self._times: dict[str, list[tuple[int, float]]] = defaultdict(list)

    def __call__(self, name: str, step: int, num_steps: int, loss: float) -> None:
        times = self._times[name]
        if times and times[-1][0] >= step:  # the same phase of the next measurement
            times.clear()
        times.append((step, time.monotonic()))

    def step_seconds(self) -> dict[str, float]:
        """Return the median time of a step, by phase."""
        found = {}
        for name, times in self._times.items():
            steps = [(end - begin) / (last - first) for (first, begin), (last, end) in pairwise(times)]
            if steps:
                found[name] = median(steps)
        return found


class _Probe:
    """Runs of a few problems in one work folder."""

    def __init__(
        self, run: LocalRun, spec: RunSpec, sets: Sets, models: dict[str, tuple[str, str]], note: Callable[[str], None]
    ) -> None:
        self._run, self._spec, self._sets, self._models, self._note = run, spec, sets, models, note
        self.run_ids: list[int] = []

    def train_first_policy(self, watch: _StepWatch) -> None:
        """Train the first policy as long as it may take here, and begin with it from then on."""
        phase = next(one for one in spec_plan(self._spec) if isinstance(one, TrainPolicyPhase))
        solutions = {name: self._sets[name] for name in [self_training(self._spec).seed_set or ""]}
        self._note(f"probe: {NUM_STEPS} steps of {phase.name}")
        self._do("speed", [_shortened(phase, NUM_STEPS)], solutions)
        affordable = int(SEED_SECONDS / max(watch.step_seconds()[phase.name], 1e-4))
        most = num_steps(phase.training, len(next(iter(solutions.values()))))
        steps = max(min(affordable, most), 1)
        self._note(f"probe: {steps} of {most} steps of {phase.name}")
        run_id = self._do("first policy", [_shortened(phase, steps)], solutions)
        with self._run.database.transaction() as transaction:
            self._models[BASE] = ("policy", runs.checkpoints_of(transaction, run_id)[phase.name].uri)

    def measure(self, seconds: float) -> None:
        """Do one iteration over more and more problems."""
        one_iteration = {"iterations": 1, "seed_training": None, "control": False}
        plan = spec_plan(self._spec.model_copy(update=one_iteration))
        phases = [_shortened(phase, NUM_STEPS) for phase in plan]
        largest = max((len(members) for members in self._sets.values()), default=0)
        begin = before = _Clocks.now()
        for size in SIZES:
            self._note(f"probe: one iteration over {counted(size, 'problem')}")
            self._do(counted(size, "problem"), phases, {name: members[:size] for name, members in self._sets.items()})
            now = _Clocks.now()
            spent, took, before = now.since(begin), now.since(before), now
            is_late = spent.processor + GROWTH * took.processor > seconds
            if size >= largest or is_late or spent.wall + GROWTH * took.wall > BUSY * seconds:
                return

    def _do(self, name: str, phases: Sequence[Phase], sets: Sets) -> int:
        run_id = self._run.create(name, self._spec.method, self._spec.seed, {}, sets, self._models, phases)
        self.run_ids.append(run_id)
        for _ in range(MAX_DOUBTS):
            try:
                self._run.run(run_id)
            except RestMctsError:
                if not self._goes_on(run_id, name):
                    raise
            else:
                break
        return run_id

    def _goes_on(self, run_id: int, name: str) -> bool:
        """Resume a run that doubts its verdicts, as it must on so few problems; return whether."""
        with self._run.database.transaction() as transaction:
            if runs.state_of(transaction, run_id) != RunState.PAUSED:
                return False
            steer.resume(transaction, name)
        return True


def _shortened(phase: Phase, steps: int) -> Phase:
    if isinstance(phase, TrainPolicyPhase | TrainValuePhase):
        return replace(phase, training=replace(phase.training, num_steps=steps))
    return phase
