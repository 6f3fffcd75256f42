"""Calls of tools in what a policy writes: each is answered before the search sees it, and the
answer, an observation, is the step after the call.

Knows no tool and no task: which step is a call, the task says, and what it answers comes as a
response. Invariant: in a tree, the only child of a call that was answered is its observation.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from restmcts.domain.ranges import AtLeastOne, AtLeastZero, check_ranges
from restmcts.domain.requests import (
    STEP_SEPARATOR,
    CallTool,
    Observation,
    ProposedStep,
    ProposeSteps,
    Request,
    Response,
    Sample,
    StepsProposed,
    ToolAnswered,
    derive_seed,
)
from restmcts.domain.tree import Tree

Asking = Generator[Sequence[Request], Sequence[Response], list[Response]]


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """Whether steps may call tools of the problem's task, and how much.

    Attributes:
        max_calls: calls of one solution that are answered; a solution that calls once more ends
            there, unanswered. 0: calls are text like any other.
        max_chars: characters of an observation that are kept.
    """

    max_calls: AtLeastZero = 0
    max_chars: AtLeastOne = 500

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of one problem.

    Attributes:
        kind: of the problem, whose task answers.
        calls: whether a step is a call.
        settings: how much may be called.
    """

    kind: str
    calls: Callable[[str], bool]
    settings: ToolSettings


def observed_places(steps: Sequence[str], calls: Callable[[str], bool]) -> set[int]:
    """Return which places of a partial solution hold observations, that of a last call, which is
    not answered yet, included: each is behind a call.
    """
    places: set[int] = set()
    for place, step in enumerate(steps):
        if place not in places and calls(step):
            places.add(place + 1)
    return places


def mark_observations(tree: Tree, calls: Callable[[str], bool], first: int = 1) -> None:
    """Mark the observations among the nodes of a tree, from an id on: its given steps, which
    nobody has marked yet.
    """
    for node in tree.nodes[first:]:
        before = tree[node.parent_id] if node.parent_id else None
        if before is not None and not before.observed and calls(before.step):
            node.observed = True
            tree.touch(node)


@dataclass(slots=True)
class _Draft:
    """A sample that is being written: the policy's steps and observations after `before`.

    Attributes:
        request: that the search made.
        is_written: whether nothing more is asked for it.
    """

    request: ProposeSteps
    before: tuple[str, ...]
    steps: list[ProposedStep]
    num_tokens: int = 0
    ended: bool = False
    is_written: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        return (*self.before, *(step.text for step in self.steps))

    @property
    def is_full(self) -> bool:
        most = self.request.max_steps
        return most is not None and len(self.steps) >= most

    def take(self, sample: Sample) -> None:
        """Add what the policy wrote."""
        self.steps += sample.steps
        self.num_tokens += sample.num_tokens
        self.ended = sample.ended and bool(sample.steps)
        self.is_written = not sample.steps


class AnsweredCalls:
    """Answers the calls of one search.

    Args:
        is_call: whether a step is a call, and ends no solution.
        seed: of the search.
        next_number: gives the number of a new request.
        may_ask: whether the search's budget allows another request to the policy.
    """

    def __init__(
        self,
        tools: ToolUse,
        is_call: Callable[[str], bool],
        seed: int,
        next_number: Callable[[], int],
        may_ask: Callable[[], bool],
    ) -> None:
        self._tools, self._is_call, self._seed = tools, is_call, seed
        self._next_number, self._may_ask = next_number, may_ask
        self._known: dict[str, ToolAnswered] = {}

    def around(
        self, coroutine: Generator[Sequence[Request], Sequence[Response], None]
    ) -> Generator[Sequence[Request], Sequence[Response], None]:
        """Yield the requests of a coroutine, with those that calls need between them; it is resumed
        with samples whose calls are answered.
        """
        responses: list[Response] | None = None
        while True:
            try:
                asked = next(coroutine) if responses is None else coroutine.send(responses)
            except StopIteration:
                return
            responses = yield from self._answered(asked)

    def _answered(self, asked: Sequence[Request]) -> Asking:
        found: dict[int, Response] = {}
        drafts: dict[int, list[_Draft]] = {}
        yield from self._know([one.steps for one in asked if self._begins_with_call(one)])
        sent: list[Request] = []
        for request in asked:
            if not self._begins_with_call(request):
                sent.append(request)
                continue
            assert isinstance(request, ProposeSteps)
            first = self._observation(request.steps)
            if request.max_steps == 1 or self._is_unknown(request.steps):
                sample = Sample((first,), 0, ended=self._is_unknown(request.steps))
                found[request.number] = StepsProposed(request.number, (sample,), 0)
            else:
                left = None if request.max_steps is None else request.max_steps - 1
                sent.append(replace(request, steps=(*request.steps, first.text), max_steps=left))
        responses = (yield sent) if sent else []
        by_number = {request.number: request for request in asked}
        for response in responses:
            request = by_number[response.number]
            found[response.number] = response
            if isinstance(response, StepsProposed) and isinstance(request, ProposeSteps) and request.critic is None:
                drafts[response.number] = list(self._begun(request, response))
        yield from self._finish([draft for listed in drafts.values() for draft in listed])
        for number, listed in drafts.items():
            response = found[number]
            assert isinstance(response, StepsProposed)
            samples = tuple(Sample(tuple(one.steps), one.num_tokens, one.ended) for one in listed)
            found[number] = replace(response, samples=samples)
        return [found[request.number] for request in asked]

    def _begins_with_call(self, request: Request) -> bool:
        """Return whether a request goes on from a call that is not answered yet."""
        is_for_step = isinstance(request, ProposeSteps) and request.critic is None
        return is_for_step and len(request.steps) in observed_places(request.steps, self._is_call)

    def _begun(self, request: ProposeSteps, response: StepsProposed) -> Iterator[_Draft]:
        for sample in response.samples:
            draft = _Draft(request, request.steps, [])
            if self._begins_with_call(request):
                draft.steps.append(self._observation(request.steps))
            draft.take(sample)
            yield draft

    def _finish(self, drafts: Sequence[_Draft]) -> Generator[Sequence[Request], Sequence[Response], None]:
        """Answer the calls of drafts, and have the policy go on behind each, until none is open."""
        while waiting := [draft for draft in drafts if self._cut(draft)]:
            yield from self._know([draft.texts for draft in waiting])
            for draft in waiting:
                self._observe(draft)
            going_on = [draft for draft in waiting if not draft.is_written]
            requests = [self._continuation(draft) for draft in going_on]
            responses = (yield requests) if requests else []
            for draft, response in zip(going_on, responses, strict=True):
                assert isinstance(response, StepsProposed)
                draft.take(response.samples[0] if response.samples else Sample((), 0, ended=False))

    def _cut(self, draft: _Draft) -> bool:
        """Return whether a draft ends with a call to be answered; what follows it is dropped."""
        if draft.is_written:
            return False
        texts = draft.texts
        places = sorted(observed_places(texts, self._is_call))
        observed = {len(draft.before) + place for place, one in enumerate(draft.steps) if isinstance(one, Observation)}
        unanswered = [place for place in places if place >= len(draft.before) and place not in observed]
        if not unanswered:
            draft.is_written = True
            return False
        place = unanswered[0]
        del draft.steps[place - len(draft.before) :]
        draft.ended = places.index(place) >= self._tools.settings.max_calls
        draft.is_written = draft.ended or draft.is_full
        return not draft.is_written

    def _observe(self, draft: _Draft) -> None:
        before = draft.texts
        draft.steps.append(self._observation(before))
        draft.ended = self._is_unknown(before)
        draft.is_written = draft.ended or draft.is_full or not self._may_ask()

    def _continuation(self, draft: _Draft) -> ProposeSteps:
        number, most = self._next_number(), draft.request.max_steps
        return replace(
            draft.request,
            number=number,
            steps=draft.texts,
            num_samples=1,
            max_steps=None if most is None else most - len(draft.steps),
            seed=derive_seed(self._seed, number),
            begun="",
            analysis="",
        )

    def _know(self, solutions: Sequence[tuple[str, ...]]) -> Generator[Sequence[Request], Sequence[Response], None]:
        """Ask for the answers of the last steps of partial solutions that are not known."""
        wanted = {steps[-1]: steps for steps in solutions if not self._has_answer(steps)}
        if not wanted:
            return
        most = self._tools.settings.max_chars
        calls = [CallTool(self._next_number(), steps, self._tools.kind, most) for steps in wanted.values()]
        for call, response in zip(calls, (yield calls), strict=True):
            assert isinstance(response, ToolAnswered)
            if not self._has_answer(call.steps):
                self._known[call.steps[-1]] = response

    def _has_answer(self, steps: tuple[str, ...]) -> bool:
        known = self._known.get(steps[-1])
        return known is not None and known.is_known

    def _is_unknown(self, steps: tuple[str, ...]) -> bool:
        return not self._known[steps[-1]].is_known

    def _observation(self, steps: tuple[str, ...]) -> Observation:
        """Return the answer to a call, the last of some steps, as a step: on a line of its own."""
        begun = "" if steps[-1].endswith(STEP_SEPARATOR) else STEP_SEPARATOR
        return Observation(f"{begun}{self._known[steps[-1]].text}{STEP_SEPARATOR}", 0, 0.0)
