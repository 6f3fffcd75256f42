"""Solutions that were drawn once: scored by a value model afterwards, and read again by every
method that needs only samples.

Knows nothing of policies or true answers.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from restmcts.domain.requests import (
    Request,
    Response,
    Sample,
    ScoreSteps,
    StepsProposed,
    StepsScored,
    ToolAnswered,
)
from restmcts.domain.search.best_of_n import BestOfNSettings, SelfConsistencySettings, SolutionSampling
from restmcts.domain.search.protocol import Budget, Coroutine, Search, best_final, scored
from restmcts.domain.search.tool_calls import ToolUse
from restmcts.domain.tree import Node, Tree
from restmcts.errors import InputError

SOLUTIONS_PER_REQUEST = 16
PoolSettings = BestOfNSettings | SelfConsistencySettings


@dataclass(frozen=True, slots=True)
class SolutionValues:
    """V of every step of a whole solution, and its score as the value model's authors make it
    of them.
    """

    of_steps: tuple[float, ...]
    score: float


Values = Mapping[tuple[str, ...], SolutionValues]
"""What is known of whole solutions, by their steps."""


class ScoreGivenSamples(Search):
    """Puts samples of the pool into a tree and asks the value model for every distinct solution;
    generates nothing.

    Every node has V as its `model_value`; where a solution ends, `value` is the score of the whole.
    """

    def __init__(
        self, samples: Sequence[Sample], budget: Budget, seed: int, states_answer: Callable[[str], bool]
    ) -> None:
        super().__init__(budget, seed, states_answer)
        self._samples = samples
        self._is_started = False

    def next_coroutine(self) -> Coroutine | None:
        if self._is_started:
            return None
        self._is_started = True
        return self._score_all()

    def choose(self) -> Node | None:
        return best_final(self.tree, lambda node: node.model_value or 0.0)

    def _score_all(self) -> Coroutine:
        paths: dict[int, list[Node]] = {}
        for sample in self._samples:
            path = self.add_sample(self.tree.root, sample)
            if path:
                path[-1].multiplicity += 1
                paths[path[-1].node_id] = path
        waiting = list(paths.values())
        for start in range(0, len(waiting), SOLUTIONS_PER_REQUEST):
            chunk = waiting[start : start + SOLUTIONS_PER_REQUEST]
            branches = [tuple(node.step for node in path) for path in chunk]
            response = scored((yield [self.score((), branches, whole=True)])[0])
            for path, values, score in zip(chunk, response.values, _scores(response), strict=True):
                for node, value in zip(path, values, strict=True):
                    node.model_value = value
                    if not node.multiplicity:
                        node.search_value = value
                    self.tree.touch(node)
                path[-1].search_value = score


def _scores(response: StepsScored) -> Sequence[float]:
    """Return the scores of whole solutions; answers from before they were returned have none."""
    return response.solution_scores or [values[-1] for values in response.values]


def solution_values(tree: Tree) -> dict[tuple[str, ...], SolutionValues]:
    """Return what is known by solution, in a tree of `ScoreGivenSamples`, of those whose whole
    path was scored.
    """
    values: dict[tuple[str, ...], SolutionValues] = {}
    for node in tree.nodes[1:]:
        path = tree.lineage(node)[1:]
        known = [step.model_value for step in path if step.model_value is not None]
        if node.multiplicity and len(known) == len(path):
            values[tuple(step.step for step in path)] = SolutionValues(tuple(known), node.search_value)
    return values


@dataclass(frozen=True, slots=True)
class SamplePool:
    """The samples of one problem in the order in which they were drawn.

    Attributes:
        samples: whole solutions, with the answers to their calls.
        num_prompt_tokens: of the problem's prompt.
        responses: what drawing them one after the other received, and when, in seconds since the
            first request: a response a sample, and more where samples call tools.
    """

    samples: tuple[Sample, ...]
    num_prompt_tokens: int
    responses: tuple[tuple[StepsProposed | ToolAnswered, float], ...]


class _Drawing(SolutionSampling):
    """Samples whole solutions, and keeps each as it was drawn."""

    def __init__(self, settings: PoolSettings, budget: Budget, seed: int, states_answer: Callable[[str], bool]) -> None:
        super().__init__(settings, budget, seed, states_answer)
        self.drawn: list[Sample] = []

    def _add_path(self, sample: Sample) -> list[Node]:
        self.drawn.append(sample)
        return super()._add_path(sample)


def samples_with_calls(
    settings: PoolSettings,
    budget: Budget,
    seed: int,
    states_answer: Callable[[str], bool],
    tools: ToolUse,
    responses: Sequence[tuple[Response, float]],
) -> tuple[Sample, ...]:
    """Return the whole samples of a pool whose samples call tools, from all that drawing them
    received, with the seconds since its first request.
    """
    drawing = _Drawing(settings, budget, seed, states_answer)
    drawing.use_tools(tools)
    drawing.begin()
    for response, seconds in responses:
        drawing.receive(response, seconds)
    return tuple(drawing.drawn)


def search_pool(
    settings: PoolSettings,
    budget: Budget,
    pool: SamplePool,
    values: Values,
    states_answer: Callable[[str], bool],
    tools: ToolUse | None = None,
) -> SolutionSampling:
    """Return the ended search of a method that draws one sample after the other, given the pool's
    samples in their order.

    It spends what it would have spent on its own, but for prompts: every sample counts its prompt.

    Args:
        tools: that the pool's samples called.

    Raises:
        InputError: if the settings ask for several samples at once, or for a value that is not
            there.
    """
    if settings.samples_at_once != 1:
        raise InputError("samples from a pool are read one at a time: samples_at_once must be 1")
    settings = replace(settings, num_samples=min(settings.num_samples, max(len(pool.samples), 1)))
    search = SolutionSampling(settings, budget, 0, states_answer)
    if tools is not None:
        search.use_tools(tools)
    unread = iter(pool.responses)
    waiting: deque[Request] = deque(search.begin())
    seconds = 0.0
    while waiting:
        request = waiting.popleft()
        response: Response
        if not isinstance(request, ScoreSteps):
            received, seconds = next(unread, (StepsProposed(request.number, (), pool.num_prompt_tokens), seconds))
            response = replace(received, number=request.number)
        else:
            num_tokens = len(request.branches) * pool.num_prompt_tokens + _num_tokens(search.tree, request.branches)
            known = [_values(branch, values) for branch in request.branches]
            scores = tuple(each.score for each in known) if request.whole else ()
            of_steps = tuple(each.of_steps for each in known)
            response = StepsScored(request.number, of_steps, num_tokens, solution_scores=scores)
        waiting.extend(search.receive(response, seconds))
    return search


def _values(branch: tuple[str, ...], values: Values) -> SolutionValues:
    """Return what is known of a sample, or of its beginning: a budget that is spent between two
    calls ends a sample there.
    """
    if branch in values:
        return values[branch]
    whole = next((known for steps, known in values.items() if steps[: len(branch)] == branch), None)
    if whole is None:
        raise InputError(f"no value is known of the sample that ends in {branch[-1].strip()!r}")
    of_steps = whole.of_steps[: len(branch)]
    return SolutionValues(of_steps, of_steps[-1])


def _num_tokens(tree: Tree, branches: Sequence[tuple[str, ...]]) -> int:
    return sum(node.num_tokens for branch in branches for node in find_path(tree, branch))


def find_path(tree: Tree, steps: Sequence[str]) -> list[Node]:
    """Return the nodes below the root with those steps, as far as the tree knows them."""
    path: list[Node] = []
    node: Node | None = tree.root
    for step in steps:
        node = tree.find_child(node, step) if node is not None else None
        if node is None:
            break
        path.append(node)
    return path
