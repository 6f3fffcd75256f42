"""Evaluation as data: methods by name, and the phases in which they answer the same problems under
the same budgets.

A method that needs only whole samples reads them from one pool a problem and seed
(restmcts.domain.search.sample_pool); every other one has a phase a budget and seed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from restmcts.domain.requests import GenerationSettings
from restmcts.domain.runs.phases import Phase, SearchPhase, TrainValuePhase
from restmcts.domain.runs.training_settings import TrainingSettings, ValueObjective
from restmcts.domain.search.best_first import BestFirstSettings
from restmcts.domain.search.best_of_n import BestOfNSettings, CotSettings, SelfConsistencySettings
from restmcts.domain.search.mcts_star import MctsStarSettings
from restmcts.domain.search.protocol import Budget
from restmcts.domain.search.settings import SearchSettings
from restmcts.domain.search.tool_calls import ToolSettings
from restmcts.domain.search.tree_of_thoughts import StepBeamSettings, TotBfsSettings, TotDfsSettings
from restmcts.errors import InputError
from restmcts.registry import Registry

VALUE = "value"
STOP_THRESHOLD = 0.9
MAX_SAMPLES = 4096
SAMPLES_AT_ONCE = 4
PROBLEM_SET = "problems"
TRAINING_SET = "verifier-training"
VERIFIERS: Mapping[str, ValueObjective] = {VALUE: "mse", "orm": "orm", "ms": "hard"}
"""What a value model of that name learns, if it is trained here."""


@dataclass(frozen=True, slots=True)
class AnsweringMethod:
    """A way to answer.

    Attributes:
        name: for readers; unique in an evaluation.
        search: its settings, but for widths that follow from the budget.
        value: name of the value model that it asks.
    """

    name: str
    search: SearchSettings
    value: str = VALUE


def _best_of_n(name: str, value: str = VALUE, **settings: object) -> AnsweringMethod:
    return AnsweringMethod(name, BestOfNSettings(num_samples=MAX_SAMPLES, samples_at_once=1, **settings), value)  # type: ignore[arg-type]


_VOTE = SelfConsistencySettings(num_samples=MAX_SAMPLES, samples_at_once=1)
_KEEPING_ROLLOUTS = MctsStarSettings(keep_rollouts=True, stop_on_any_gated=True, choose="leaf")

ANSWERING: Registry[AnsweringMethod] = Registry("answering", "answering method")
"""The ways to answer. `orm` and `ms` ask value models of those names (an outcome reward model, a
Math-Shepherd PRM); the others ask "value". `-own`: a solution's score is made of its steps' values
as that model's authors do it."""

_METHODS = (
    AnsweringMethod("greedy", CotSettings()),
    AnsweringMethod("gated-greedy", CotSettings(stop_threshold=STOP_THRESHOLD, num_retries=MAX_SAMPLES)),
    AnsweringMethod("self-consistency", _VOTE),
    AnsweringMethod("gated-self-consistency", replace(_VOTE, stop_threshold=STOP_THRESHOLD)),
    _best_of_n("best-of-n"),
    _best_of_n("best-of-n-min", aggregation="min"),
    _best_of_n("best-of-n-mean", aggregation="mean"),
    _best_of_n("best-of-n-product", aggregation="product"),
    _best_of_n("best-of-n-own", aggregation="own"),
    _best_of_n("gated-best-of-n", stop_threshold=STOP_THRESHOLD),
    _best_of_n("sc-value", choose="vote"),
    _best_of_n("sc-value-own", aggregation="own", choose="vote"),
    _best_of_n("orm", "orm"),
    _best_of_n("sc-orm", "orm", choose="vote"),
    _best_of_n("ms", "ms", aggregation="min"),
    _best_of_n("sc-ms", "ms", aggregation="min", choose="vote"),
    AnsweringMethod("tot-bfs", TotBfsSettings()),
    AnsweringMethod("gated-tot-bfs", TotBfsSettings(stop_threshold=STOP_THRESHOLD)),
    AnsweringMethod("tot-dfs", TotDfsSettings(stop_threshold=None)),
    AnsweringMethod("gated-tot-dfs", TotDfsSettings(stop_threshold=STOP_THRESHOLD)),
    AnsweringMethod("step-beam", StepBeamSettings()),
    AnsweringMethod("gated-step-beam", StepBeamSettings(stop_threshold=STOP_THRESHOLD)),
    AnsweringMethod("mcts-star", MctsStarSettings()),
    AnsweringMethod("mcts-star-parallel", MctsStarSettings(leaves_in_flight=4)),
    AnsweringMethod("gated-mcts-star", _KEEPING_ROLLOUTS),
    AnsweringMethod("gated-mcts-star-parallel", replace(_KEEPING_ROLLOUTS, leaves_in_flight=4)),
    AnsweringMethod("gated-mcts-star-puct", replace(_KEEPING_ROLLOUTS, selection="puct")),
    AnsweringMethod("best-first", BestFirstSettings()),
    AnsweringMethod("best-first-parallel", BestFirstSettings(branches_in_flight=4)),
    AnsweringMethod("best-first-free-text", BestFirstSettings(branch_at="untried-mass", merge="normalised")),
)
for _method in _METHODS:
    ANSWERING.add(_method.name, _method)


@dataclass(frozen=True, slots=True)
class ModelPair:
    """A policy and the value models that belong to it, by checkpoint name.

    Attributes:
        name: for readers ("iteration 1"); empty where there is only one pair.
        values: checkpoint names by the value model's name.
    """

    name: str
    policy: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class VerifierTraining:
    """How missing value models are trained: on the policy's own samples of other problems, the same
    for all of them.

    "orm" learns whether a whole solution is right; "value", v_k; "ms", a Math-Shepherd PRM
    (arXiv:2312.08935, hard estimation), whether any sample that begins with the same steps is
    right, where the original continues every step with samples of its own.

    Attributes:
        num_samples: of each problem of the set `TRAINING_SET`.
    """

    training: TrainingSettings
    num_samples: int = 8


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Every method, on the same problems, under the same budgets of generated tokens a problem.

    Attributes:
        budgets: rising.
        solution_tokens: of a typical solution; None where no method asks.
        verifiers: how value models are trained that methods ask and no pair brings; None: every one
            must be given.
        tools: whether steps may call tools.
    """

    methods: tuple[AnsweringMethod, ...]
    budgets: tuple[int, ...]
    seeds: tuple[int, ...]
    models: tuple[ModelPair, ...]
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    solution_tokens: int | None = None
    verifiers: VerifierTraining | None = None
    tools: ToolSettings = field(default_factory=ToolSettings)

    def __post_init__(self) -> None:
        for name in ("methods", "budgets", "seeds", "models"):
            if not getattr(self, name):
                raise InputError(f"an evaluation needs {name}")
        for name, given in (
            ("budget", self.budgets),
            ("seed", self.seeds),
            ("method", [method.name for method in self.methods]),
        ):
            twice = next((one for one in given if list(given).count(one) > 1), None)
            if twice is not None:
                raise InputError(f"the {name} {twice} is named twice")
        if min(self.budgets) < 1 or min(self.seeds) < 0:
            raise InputError("budgets must be at least 1 token, seeds at least 0")
        wide = next((method.name for method in self.methods if method.search.has_width), None)
        if wide is not None and (self.solution_tokens is None or self.solution_tokens < 1):
            raise InputError(
                f"how wide {wide} searches follows from the budget: say how many tokens a solution has (solution_tokens)"
            )
        for method in self.methods:
            for pair in self.models:
                if method.search.needs_values and self.value_of(pair, method.value) is None:
                    raise InputError(f"{method.name} asks a value model named {method.value!r}, and none was given")

    def value_of(self, pair: ModelPair, name: str) -> str | None:
        """Return the checkpoint of a pair's value model, given or to be trained; None if it is
        neither.
        """
        if name in pair.values:
            return pair.values[name]
        return name + _of(pair) if self.verifiers is not None and name in VERIFIERS else None


def _of(pair: ModelPair) -> str:
    return f", {pair.name}" if pair.name else ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One method under one budget with one seed: the phase that has its trees, and the one with V
    of its samples.

    Attributes:
        budget: generated tokens a problem; None for a method without one.
        phase: whose trees are the method's own, or the pool that it reads.
        scores: the phase with the pool's values; None where the method reads no pool or asks no
            values.
    """

    method: AnsweringMethod
    budget: int | None
    seed: int
    models: str
    phase: str
    scores: str | None = None


def evaluation_cells(evaluation: Evaluation) -> Iterator[Cell]:
    """Yield all cells, in the order in which they are to be listed."""
    for pair in evaluation.models:
        for method in evaluation.methods:
            for budget in evaluation.budgets if method.search.is_budgeted else (None,):
                for seed in evaluation.seeds if method.search.is_budgeted else evaluation.seeds[:1]:
                    yield _cell(method, budget, seed, pair)


def _cell(method: AnsweringMethod, budget: int | None, seed: int, pair: ModelPair) -> Cell:
    suffix = f", seed {seed}{_of(pair)}"
    if method.search.reads_pool:
        scores = f"{method.value} of samples{suffix}" if method.search.needs_values else None
        return Cell(method, budget, seed, pair.name, f"samples{suffix}", scores)
    if budget is None:
        return Cell(method, None, seed, pair.name, method.name + _of(pair))
    return Cell(method, budget, seed, pair.name, f"{method.name} @ {budget}{suffix}")


def evaluation_plan(evaluation: Evaluation) -> list[Phase]:
    """Return the phases of an evaluation; those with equal budgets are together, so that a
    part of them is a whole comparison.
    """
    return [*_training(evaluation), *_searching(evaluation)]


def _training(evaluation: Evaluation) -> Iterator[Phase]:
    """Yield the phases that train the value models which are not given."""
    if evaluation.verifiers is None:
        return
    asked = sorted({method.value for method in evaluation.methods if method.search.needs_values})
    drawing = SelfConsistencySettings(num_samples=evaluation.verifiers.num_samples)
    for pair in evaluation.models:
        missing = [name for name in asked if name not in pair.values]
        samples = f"training samples{_of(pair)}"
        if missing:
            drawn = _phase(evaluation, samples, pair, None, drawing, None)
            yield replace(drawn, purpose="bootstrap", problem_set=TRAINING_SET)
        for name in missing:
            checkpoint = evaluation.value_of(pair, name) or name
            training = evaluation.verifiers.training
            yield TrainValuePhase(checkpoint, 0, None, pair.policy, training, (samples,), objective=VERIFIERS[name])


def _searching(evaluation: Evaluation) -> list[SearchPhase]:
    pairs = {pair.name: pair for pair in evaluation.models}
    cells = sorted(evaluation_cells(evaluation), key=lambda cell: (not cell.method.search.reads_pool, cell.budget or 0))
    phases: dict[str, SearchPhase] = {}
    for cell in cells:
        for phase in _phases(evaluation, cell, pairs[cell.models]):
            phases.setdefault(phase.name, phase)
    return list(phases.values())


def _phases(evaluation: Evaluation, cell: Cell, pair: ModelPair) -> Iterator[SearchPhase]:
    method = cell.method
    value = evaluation.value_of(pair, method.value) if method.search.needs_values else None
    if not method.search.reads_pool:
        search = method.search
        if cell.budget is not None:
            search = method.search.at_budget(cell.budget, evaluation.solution_tokens or cell.budget)
        yield _phase(evaluation, cell.phase, pair, value, search, cell.budget)
        return
    # Samples that call are drawn one after the other, as the methods that read them would have.
    at_once = 1 if evaluation.tools.max_calls else SAMPLES_AT_ONCE
    drawing = SelfConsistencySettings(num_samples=MAX_SAMPLES, samples_at_once=at_once)
    yield _phase(evaluation, cell.phase, pair, None, drawing, max(evaluation.budgets))
    if cell.scores is not None:
        scoring = _phase(evaluation, cell.scores, pair, value, BestOfNSettings(), None)
        yield replace(scoring, samples_of=cell.phase)


def _phase(
    evaluation: Evaluation, name: str, pair: ModelPair, value: str | None, search: SearchSettings, tokens: int | None
) -> SearchPhase:
    return SearchPhase(
        name=name,
        iteration=0,
        purpose="evaluate",
        problem_set=PROBLEM_SET,
        policy=pair.policy,
        value=value,
        search=search,
        budget=Budget(tokens=tokens),
        generation=evaluation.generation,
        tools=evaluation.tools,
    )
