"""The protocol of every search: a pure state machine that says which model requests it wants, takes
the answers in any order, and says when it is done.

A search is a function of its settings, its seed and the sequence of responses it was given: playing
the recorded responses again in the order in which they were received rebuilds it exactly. It knows
no clock, no I/O and no true answer.

An algorithm is written as *coroutines*: generators that yield a list of requests and are resumed
with their responses. Several coroutines may be under way at once; each is resumed when the last of
its responses has come.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from restmcts.domain.ranges import AtLeastZero, NotNegative, check_ranges
from restmcts.domain.requests import (
    Observation,
    ProposedStep,
    ProposeSteps,
    Request,
    Response,
    Sample,
    ScoreSteps,
    StepsProposed,
    StepsScored,
    derive_seed,
)
from restmcts.domain.search.tool_calls import AnsweredCalls, ToolUse, mark_observations
from restmcts.domain.tree import ROOT, Node, Tree


@dataclass(frozen=True, slots=True)
class Budget:
    """What a tree may spend; None is no limit. Tested before each unit of work, so the last unit
    may overshoot.

    Attributes:
        tokens: generated tokens of a tree.
        model_calls: requests to either model, and calls of tools.
        nodes: nodes of a tree, its root not counted.
        iterations: an algorithm's own rounds (a simulation of MCTS*, a layer of a beam, a sample of
            best-of-N).
        seconds: seconds since the tree's first request, as whoever delivers responses reports.
    """

    tokens: AtLeastZero | None = None
    model_calls: AtLeastZero | None = None
    nodes: AtLeastZero | None = None
    iterations: AtLeastZero | None = None
    seconds: NotNegative | None = None

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(slots=True)
class Spent:
    """What a tree has spent so far: the fields of `Budget`, and tokens that the models read.

    Attributes:
        prompt_tokens: of the policy's prompts, each request's once.
        reused_tokens: those of them that the policy needed not prefill again.
        scored_tokens: read by the value model.
    """

    tokens: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    scored_tokens: int = 0
    model_calls: int = 0
    nodes: int = 0
    iterations: int = 0
    seconds: float = 0.0

    def exhausts(self, budget: Budget) -> bool:
        """Return whether any limit of the budget is reached."""
        return any(
            limit is not None and getattr(self, name) >= limit
            for name in budget.__dataclass_fields__
            for limit in (getattr(budget, name),)
        )


class StopReason(StrEnum):
    """Why a search ended."""

    THRESHOLD = "gate"
    BUDGET = "budget"
    COMPLETE = "complete"
    EXHAUSTED = "exhausted"


Coroutine = Generator[Sequence[Request], Sequence[Response], None]


@dataclass(slots=True)
class _Wait:
    """A coroutine waiting for its responses; `responses[i]` answers request `numbers[i]`."""

    coroutine: Coroutine
    numbers: list[int]
    responses: dict[int, Response] = field(default_factory=dict)


class Search(ABC):
    """Base of all algorithms.

    Invariants: every request is issued once and answered at most once; a response that is not
    awaited changes nothing; a finished search issues no request.
    """

    max_coroutines = 1
    needs_log_probs = False

    def __init__(self, budget: Budget, seed: int, states_answer: Callable[[str], bool]) -> None:
        self.tree = Tree()
        self.budget = budget
        self.spent = Spent()
        self.stop_reason: StopReason | None = None
        self.chosen: Node | None = None
        self._seed = seed
        self._states_answer = states_answer
        self._num_requests = 0
        self._waits: dict[int, _Wait] = {}
        self._num_coroutines = 0
        self._calls: AnsweredCalls | None = None

    def use_tools(self, tools: ToolUse) -> None:
        """Have calls of tools answered from now on; to be called before the first request. Given
        steps behind calls are observations.
        """

        def is_call(step: str) -> bool:
            return tools.calls(step) and not self._states_answer(step)

        mark_observations(self.tree, is_call)
        self._calls = AnsweredCalls(tools, is_call, self._seed, self._next_number, lambda: not self.out_of_budget)

    @abstractmethod
    def next_coroutine(self) -> Coroutine | None:
        """Return work to begin now, or None while (or because) there is none."""

    @abstractmethod
    def choose(self) -> Node | None:
        """Return the node whose partial solution is the search's answer, once the search has
        ended.
        """

    @property
    def finished(self) -> bool:
        """Whether no request is awaited or will be issued."""
        return self.stop_reason is not None

    @property
    def awaited(self) -> frozenset[int]:
        """The numbers of the requests that are out."""
        return frozenset(self._waits)

    @property
    def out_of_budget(self) -> bool:
        return self.spent.exhausts(self.budget)

    def begin(self) -> list[Request]:
        """Return the first requests."""
        return self._pump([])

    def receive(self, response: Response, elapsed_seconds: float = 0.0) -> list[Request]:
        """Take one response and return the requests that it makes possible; empty if the response
        is not awaited.

        Args:
            elapsed_seconds: since the tree's first request.
        """
        wait = self._waits.pop(response.number, None)
        if wait is None or self.finished:
            return []
        self._account(response, elapsed_seconds)
        wait.responses[response.number] = response
        if len(wait.responses) < len(wait.numbers):
            return []
        requests: list[Request] = []
        self._resume(wait.coroutine, [wait.responses[number] for number in wait.numbers], requests)
        return self._pump(requests)

    def _account(self, response: Response, elapsed_seconds: float) -> None:
        self.spent.model_calls += 1
        self.spent.seconds = max(self.spent.seconds, elapsed_seconds)
        if isinstance(response, StepsProposed):
            self.spent.tokens += sum(sample.num_tokens for sample in response.samples)
            self.spent.prompt_tokens += response.num_prompt_tokens
            self.spent.reused_tokens += response.num_reused_tokens
        elif isinstance(response, StepsScored):
            self.spent.scored_tokens += response.num_scored_tokens

    def _pump(self, requests: list[Request]) -> list[Request]:
        while not self.finished and self._num_coroutines < self.max_coroutines:
            coroutine = self.next_coroutine()
            if coroutine is None:
                break
            self._num_coroutines += 1
            self._resume(coroutine if self._calls is None else self._calls.around(coroutine), None, requests)
        self.spent.nodes = len(self.tree) - 1
        if not self.finished and self._num_coroutines == 0:
            self.stop(StopReason.BUDGET if self.out_of_budget else StopReason.COMPLETE)
        return [] if self.finished else requests

    def _resume(self, coroutine: Coroutine, responses: list[Response] | None, requests: list[Request]) -> None:
        try:
            asked = list(next(coroutine) if responses is None else coroutine.send(responses))
        except StopIteration:
            self._num_coroutines -= 1
            return
        wait = _Wait(coroutine, [request.number for request in asked])
        self._waits.update(dict.fromkeys(wait.numbers, wait))
        requests.extend(asked)
        self.spent.nodes = len(self.tree) - 1

    def stop(self, reason: StopReason, chosen: Node | None = None) -> None:
        """End the search now: what is under way is dropped."""
        self.stop_reason = reason
        self._waits.clear()
        for node in self.tree.nodes:
            if node.pending_visits:
                node.pending_visits = 0
        self.chosen = chosen if chosen is not None else self.choose()

    def propose(self, node: Node, num_samples: int, max_steps: int | None, *, greedy: bool = False) -> ProposeSteps:
        """Return a new request for continuations of a node."""
        return self.propose_after(self.tree.steps_to(node), num_samples, max_steps, greedy=greedy)

    def propose_after(
        self, steps: tuple[str, ...], num_samples: int, max_steps: int | None, *, greedy: bool = False
    ) -> ProposeSteps:
        """Return a new request for continuations of a partial solution."""
        number = self._next_number()
        seed = derive_seed(self._seed, number)
        return ProposeSteps(number, steps, num_samples, max_steps, seed, greedy, needs_log_probs=self.needs_log_probs)

    def score(self, steps: tuple[str, ...], branches: Sequence[tuple[str, ...]], *, whole: bool = False) -> ScoreSteps:
        """Return a new request for the values of branches below a partial solution, or of
        `whole` solutions and their scores.
        """
        return ScoreSteps(self._next_number(), steps, tuple(branches), whole)

    def _next_number(self) -> int:
        self._num_requests += 1
        return self._num_requests - 1

    def is_final(self, step: ProposedStep) -> bool:
        return self._states_answer(step.text) and not isinstance(step, Observation)

    def continuation(self, sample: Sample) -> list[tuple[ProposedStep, bool]]:
        """Return a sample's steps with whether each is final, cut after the first final one.

        A step is final when it states an answer, or is the last of a sample that the policy ended.
        """
        steps: list[tuple[ProposedStep, bool]] = []
        for index, step in enumerate(sample.steps):
            final = self.is_final(step) or (sample.ended and index == len(sample.steps) - 1)
            steps.append((step, final))
            if final:
                break
        return steps

    def add_sample(self, parent: Node, sample: Sample, *, from_rollout: bool = False) -> list[Node]:
        """Add a sample's steps below a node, merged with what is there; return the nodes of the
        path that are below it.
        """
        nodes = []
        for step, final in self.continuation(sample):
            parent, _ = self.tree.add_child(parent, step, final=final, from_rollout=from_rollout)
            nodes.append(parent)
        return nodes


def best_final(tree: Tree, key: Callable[[Node], float]) -> Node | None:
    """Return the final node of greatest key, the first in depth-first order among equals; None
    if no node is final.
    """
    return max(tree.final_nodes(), key=key, default=None)


def proposed(response: Response) -> StepsProposed:
    """Return the response as a policy's answer.

    Raises:
        TypeError: if it is not one.
    """
    if not isinstance(response, StepsProposed):
        raise TypeError(f"request {response.number} asked the policy, but {type(response).__name__} came")
    return response


def scored(response: Response) -> StepsScored:
    """Return the response as a value model's answer.

    Raises:
        TypeError: if it is not one.
    """
    if not isinstance(response, StepsScored):
        raise TypeError(f"request {response.number} asked the value model, but {type(response).__name__} came")
    return response


__all__ = [
    "ROOT",
    "Budget",
    "Coroutine",
    "Search",
    "Spent",
    "StopReason",
    "best_final",
    "proposed",
    "scored",
]
