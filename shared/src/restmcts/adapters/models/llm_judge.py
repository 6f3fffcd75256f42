"""An LLM as judge: a `StepScorer` that asks a policy, through its port, whether a solution so far
is right and leads to the answer.

A value is P(yes) / (P(yes) + P(no)) of the reply's token; where the policy returns no
log-probabilities, the share of yes among sampled replies. Knows neither models nor servers:
retries, time-outs and bounds are those of the policy.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from restmcts.adapters.models.http_policy.address import ServerAddress, parse_address
from restmcts.domain.prompts import read_judgement
from restmcts.domain.requests import (
    GenerationSettings,
    ProposeSteps,
    Sample,
    ScoreSteps,
    StepsProposed,
    StepsScored,
    derive_seed,
)
from restmcts.domain.scoring import Aggregation, first_step, scored_branches
from restmcts.errors import InputError, MissingLogProbsError, ModelError
from restmcts.ports import StepProposer

log = logging.getLogger(__name__)
SAMPLES = "samples"
DEFAULT_SAMPLES = 8
NEITHER = 0.5
"""The value where a judge says neither yes nor no: it says nothing."""

MAX_ALTERNATIVES = 19
"""With the chosen token, as many as vLLM, SGLang and the chat route of OpenAI return (20)."""

TGI_ALTERNATIVES = 4
"""With the chosen token, as many as text-generation-inference returns unless it is started
otherwise (5)."""

# A server may begin a reply with blank tokens.
_TOKEN = GenerationSettings(temperature=1.0, max_step_tokens=1, max_solution_tokens=4)
_WORDS = GenerationSettings(temperature=1.0, max_step_tokens=8, max_solution_tokens=8)
_Prefix = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Judgement:
    """V of a partial solution, None where the judge says neither, and what was read for it."""

    value: float | None
    num_tokens: int
    num_reused_tokens: int


class LlmJudge:
    """A `StepScorer` over any policy.

    Args:
        num_samples: replies to a partial solution, where no log-probabilities are returned.
        num_alternatives: to the reply's token that are asked for.
        aggregation: of the steps' values to a whole solution's score.
    """

    def __init__(
        self,
        proposer: StepProposer,
        num_samples: int = DEFAULT_SAMPLES,
        num_alternatives: int = MAX_ALTERNATIVES,
        aggregation: Aggregation = "last",
    ) -> None:
        self._proposer: Any = proposer
        self._num_samples = num_samples
        self._num_alternatives = num_alternatives
        self._aggregation = aggregation
        self._returns_log_probs = True
        self._num_judged = self._num_neither = 0
        # Whoever reads the log need not read it with every batch.
        self._warn_at = 1

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        """Return one answer per request, in order; `num_scored_tokens` counts the prompts that the
        judge was given.

        Raises:
            ModelError: if a partial solution does not fit the judge's context.
            ServerUnavailableError: if the judge is behind HTTP and does not answer; the requests
                may wait.
        """
        prefixes = [_prefixes(question, request) for question, request in zip(questions, requests, strict=True)]
        distinct = list(dict.fromkeys(prefix for branches in prefixes for branch in branches for prefix in branch))
        judged = dict(zip(distinct, self._judge(distinct), strict=True)) if distinct else {}
        self._warn_of_neither(judged)
        answers, paid = [], set[_Prefix]()
        for request, branches in zip(requests, prefixes, strict=True):
            values = [[_value(judged[prefix]) for prefix in branch] for branch in branches]
            read = dict.fromkeys(prefix for branch in branches for prefix in branch)
            num_tokens = sum(judged[prefix].num_tokens for prefix in read)
            # The first request with a prefix pays for it.
            num_new = sum(
                judged[prefix].num_tokens - judged[prefix].num_reused_tokens for prefix in read if prefix not in paid
            )
            paid.update(read)
            answers.append(scored_branches(request, values, self._aggregation, num_tokens, num_tokens - num_new))
        return answers

    def close(self) -> None:
        """Give up the policy's connections, if it has any."""
        if hasattr(self._proposer, "close"):
            self._proposer.close()

    def _judge(self, prefixes: Sequence[_Prefix]) -> list[_Judgement]:
        if self._returns_log_probs:
            try:
                return [
                    self._read(answer, _by_log_probs)
                    for answer in self._ask(prefixes, _TOKEN, 1, self._num_alternatives)
                ]
            except MissingLogProbsError as error:
                log.warning("judge: %s; values are shares of yes among %d replies", error, self._num_samples)
                self._returns_log_probs = False
        return [self._read(answer, _by_share) for answer in self._ask(prefixes, _WORDS, self._num_samples, 0)]

    def _ask(
        self, prefixes: Sequence[_Prefix], settings: GenerationSettings, num_samples: int, num_alternatives: int
    ) -> list[StepsProposed]:
        requests = [
            ProposeSteps(
                number,
                steps,
                num_samples,
                max_steps=1,
                seed=derive_seed("judge", question, steps),
                greedy=num_alternatives > 0,
                num_alternatives=num_alternatives,
                critic="judge",
            )
            for number, (question, steps) in enumerate(prefixes)
        ]
        found: list[StepsProposed] = self._proposer.propose([question for question, _ in prefixes], requests, settings)
        return found

    def _read(self, answer: StepsProposed, read: Callable[[Sequence[Sample]], float | None]) -> _Judgement:
        if not answer.samples:
            raise ModelError(
                "a partial solution does not fit the judge's context; choose one with a longer, or allow fewer steps"
            )
        return _Judgement(read(answer.samples), answer.num_prompt_tokens, answer.num_reused_tokens)

    def _warn_of_neither(self, judged: Mapping[_Prefix, _Judgement]) -> None:
        self._num_judged += len(judged)
        self._num_neither += sum(each.value is None for each in judged.values())
        if self._num_neither >= self._warn_at:
            self._warn_at = 2 * self._num_neither
            log.warning(
                "judge: %d of %d replies were neither yes nor no, and count %g; choose a model that follows instructions, by chat",
                self._num_neither,
                self._num_judged,
                NEITHER,
            )


def _prefixes(question: str, request: ScoreSteps) -> list[list[_Prefix]]:
    """Return the partial solutions of each branch whose values are needed."""
    solutions = [request.steps + branch for branch in request.branches]
    return [
        [(question, steps[:number]) for number in range(first_step(request), len(steps) + 1)] for steps in solutions
    ]


def _value(judgement: _Judgement) -> float:
    return NEITHER if judgement.value is None else judgement.value


def _by_log_probs(samples: Sequence[Sample]) -> float | None:
    """Return P(yes) / (P(yes) + P(no)) of the reply's token, over all tokens that say either."""
    masses = {True: 0.0, False: 0.0, None: 0.0}
    for step in samples[0].steps[:1]:
        masses[read_judgement(step.text)] += math.exp(step.log_prob)
        for other in step.alternatives:
            masses[read_judgement(other.begun)] += math.exp(other.log_prob)
    return _share(masses[True], masses[False])


def _by_share(samples: Sequence[Sample]) -> float | None:
    said = [read_judgement(sample.steps[0].text) for sample in samples if sample.steps]
    return _share(said.count(True), said.count(False))


def _share(yes: float, no: float) -> float | None:
    return yes / (yes + no) if yes + no > 0 else None


def num_judge_samples(options: Mapping[str, str]) -> int:
    """Return how many replies a judge's reference asks for.

    Raises:
        InputError: if it is no number of at least 1.
    """
    given = options.get(SAMPLES, str(DEFAULT_SAMPLES))
    if not given.isdecimal() or int(given) < 1:
        raise InputError(f"{SAMPLES} is {given!r}: give a number of at least 1")
    return int(given)


def judge_address(place: str, options: Mapping[str, str]) -> ServerAddress:
    """Return the policy server of a judge's reference.

    Raises:
        InputError: if it is malformed.
    """
    return parse_address(f"{place}?{urlencode({name: text for name, text in options.items() if name != SAMPLES})}")
