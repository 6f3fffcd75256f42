"""Models that follow a script: the same ports as the real ones, exact and instant."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from restmcts.domain.requests import (
    GenerationSettings,
    ProposedStep,
    ProposeSteps,
    Request,
    Response,
    Sample,
    ScoreSteps,
    StepsProposed,
    StepsScored,
)
from restmcts.domain.scoring import Aggregation, first_step, scored_branches
from restmcts.domain.search.protocol import Search


class ScriptedModels:
    """A policy that gives each partial solution's listed steps in order, each once, and a value
    model that looks values up.

    A partial solution is the concatenation of its steps. Where a list is used up, fewer samples
    come.
    """

    def __init__(
        self,
        proposals: Mapping[str, Sequence[str]],
        values: Mapping[str, float],
        states_answer: Callable[[str], bool],
        log_prob: float = -1.0,
        aggregation: Aggregation = "last",
    ) -> None:
        self._proposals = proposals
        self._values = values
        self._states_answer = states_answer
        self._log_prob = log_prob
        self._aggregation = aggregation
        self._num_used: dict[str, int] = defaultdict(int)

    def propose(
        self, questions: Sequence[str], requests: Sequence[ProposeSteps], settings: GenerationSettings
    ) -> list[StepsProposed]:
        return [self.propose_one(request) for request in requests]

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        return [self.score_one(request) for request in requests]

    def propose_one(self, request: ProposeSteps) -> StepsProposed:
        samples = [self._sample("".join(request.steps), request.max_steps) for _ in range(request.num_samples)]
        return StepsProposed(request.number, tuple(sample for sample in samples if sample.steps), len(request.steps))

    def score_one(self, request: ScoreSteps) -> StepsScored:
        solutions = [request.steps + branch for branch in request.branches]
        first = first_step(request)
        values = [
            [self._values["".join(steps[:number])] for number in range(first, len(steps) + 1)] for steps in solutions
        ]
        return scored_branches(request, values, self._aggregation, sum(map(len, request.branches)))

    def answer(self, request: Request) -> Response:
        """Return the models' answer to either kind of request."""
        if isinstance(request, ScoreSteps):
            return self.score_one(request)
        assert isinstance(request, ProposeSteps), "no model answers calls of tools"
        return self.propose_one(request)

    def _sample(self, partial: str, max_steps: int | None) -> Sample:
        steps: list[ProposedStep] = []
        while max_steps is None or len(steps) < max_steps:
            listed = self._proposals.get(partial, ())
            place = self._num_used[partial]
            if place >= len(listed):
                break
            self._num_used[partial] += 1
            steps.append(ProposedStep(listed[place], len(listed[place].split()), self._log_prob))
            partial += listed[place]
            if self._states_answer(listed[place]):
                break
        return Sample(tuple(steps), sum(step.num_tokens for step in steps), ended=False)


def run_search(search: Search, answer: Callable[[Request], Response]) -> Search:
    """Run a search to its end, answering every request at once and in order of issue; return it."""
    requests = search.begin()
    while requests:
        request, *requests = requests
        requests += search.receive(answer(request))
    return search
