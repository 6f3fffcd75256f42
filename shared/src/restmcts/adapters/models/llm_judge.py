"""An LLM as judge: a `StepScorer` that asks a policy, through its port, whether a solution so far
is right and leads to the answer.

A value is P(yes) / (P(yes) + P(no)) of the reply's token; where the policy returns no
log-probabilities, the share of yes among sampled replies. A judge that argues first writes several
examinations of the solution, and is asked once after each: its value is the mean of what it then
says (a generative verifier with majority voting, arXiv:2408.15240, Section 3.2; there an
examination is free text, here one line). Knows neither models nor servers: retries, time-outs and
bounds are those of the policy.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from restmcts.adapters.models.http_policy.address import MAX_DIGITS, ServerAddress, parse_address
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
SAMPLES, ARGUE, TEMPLATE = "samples", "argue", "template"
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
    """V of a partial solution, None where the judge says neither, and what was read and written for
    it.
    """

    value: float | None
    num_tokens: int
    num_reused_tokens: int


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """How a judge is asked.

    Attributes:
        num_samples: examinations of a partial solution; without them, replies to it where no
            log-probabilities are returned.
        argument_tokens: of one examination at most; 0: none is written.
        num_alternatives: to the reply's token that are asked for.
        aggregation: of the steps' values to a whole solution's score.
    """

    num_samples: int = DEFAULT_SAMPLES
    argument_tokens: int = 0
    num_alternatives: int = MAX_ALTERNATIVES
    aggregation: Aggregation = "last"


class LlmJudge:
    """A `StepScorer` over any policy.

    Args:
        settings: how it is asked.
    """

    def __init__(self, proposer: StepProposer, settings: JudgeSettings = JudgeSettings()) -> None:
        self._proposer: Any = proposer
        self._settings = settings
        self._returns_log_probs = True
        self._num_judged = self._num_neither = 0
        # Whoever reads the log need not read it with every batch.
        self._warn_at = 1

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        """Return one answer per request, in order; `num_scored_tokens` counts the prompts that the
        judge was given, and the tokens of its examinations.

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
            answers.append(
                scored_branches(request, values, self._settings.aggregation, num_tokens, num_tokens - num_new)
            )
        return answers

    def close(self) -> None:
        """Give up the policy's connections, if it has any."""
        if hasattr(self._proposer, "close"):
            self._proposer.close()

    def _judge(self, prefixes: Sequence[_Prefix]) -> list[_Judgement]:
        if not self._settings.argument_tokens:
            return self._verdicts([(prefix, "") for prefix in prefixes])
        examined = self._examine(prefixes)
        asked = [
            (prefix, step.text.strip())
            for prefix, answer in zip(prefixes, examined, strict=True)
            for sample in answer.samples
            for step in sample.steps
        ]
        verdicts: dict[_Prefix, list[_Judgement]] = {prefix: [] for prefix in prefixes}
        for (prefix, _), verdict in zip(asked, self._verdicts(asked), strict=True):
            verdicts[prefix].append(verdict)
        return [_together(answer, verdicts[prefix]) for prefix, answer in zip(prefixes, examined, strict=True)]

    def _examine(self, prefixes: Sequence[_Prefix]) -> list[StepsProposed]:
        most = self._settings.argument_tokens
        settings = GenerationSettings(temperature=1.0, max_step_tokens=most, max_solution_tokens=most)
        requests = [
            ProposeSteps(
                number,
                steps,
                self._settings.num_samples,
                max_steps=1,
                seed=derive_seed("examiner", question, steps),
                critic="examiner",
            )
            for number, (question, steps) in enumerate(prefixes)
        ]
        return self._answers(prefixes, requests, settings)

    def _verdicts(self, asked: Sequence[tuple[_Prefix, str]]) -> list[_Judgement]:
        """Return what the judge says of each partial solution, after an examination of it."""
        num_samples = 1 if self._settings.argument_tokens else self._settings.num_samples
        if self._returns_log_probs:
            try:
                answers = self._ask(asked, _TOKEN, 1, self._settings.num_alternatives)
                return [_judgement(answer, _by_log_probs(answer.samples)) for answer in answers]
            except MissingLogProbsError as error:
                log.warning("judge: %s; values are shares of yes among %d replies", error, self._settings.num_samples)
                self._returns_log_probs = False
        return [_judgement(answer, _by_share(answer.samples)) for answer in self._ask(asked, _WORDS, num_samples, 0)]

    def _ask(
        self,
        asked: Sequence[tuple[_Prefix, str]],
        settings: GenerationSettings,
        num_samples: int,
        num_alternatives: int,
    ) -> list[StepsProposed]:
        requests = [
            ProposeSteps(
                number,
                steps,
                num_samples,
                max_steps=1,
                seed=derive_seed("judge", question, steps, argument)
                if argument
                else derive_seed("judge", question, steps),
                greedy=num_alternatives > 0,
                num_alternatives=num_alternatives,
                critic="judge",
                analysis=argument,
            )
            for number, ((question, steps), argument) in enumerate(asked)
        ]
        return self._answers([prefix for prefix, _ in asked], requests, settings)

    def _answers(
        self, prefixes: Sequence[_Prefix], requests: Sequence[ProposeSteps], settings: GenerationSettings
    ) -> list[StepsProposed]:
        found: list[StepsProposed] = self._proposer.propose([question for question, _ in prefixes], requests, settings)
        if not all(answer.samples for answer in found):
            raise ModelError(
                "a partial solution does not fit the judge's context; choose one with a longer, or allow fewer steps"
            )
        return found

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


def _judgement(answer: StepsProposed, value: float | None) -> _Judgement:
    return _Judgement(value, answer.num_prompt_tokens, answer.num_reused_tokens)


def _together(examined: StepsProposed, verdicts: Sequence[_Judgement]) -> _Judgement:
    """Return the mean of what was said after each examination of one partial solution."""
    said = [verdict.value for verdict in verdicts if verdict.value is not None]
    num_written = sum(sample.num_tokens for sample in examined.samples)
    return _Judgement(
        sum(said) / len(said) if said else None,
        examined.num_prompt_tokens + num_written + sum(verdict.num_tokens for verdict in verdicts),
        examined.num_reused_tokens + sum(verdict.num_reused_tokens for verdict in verdicts),
    )


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


def judge_settings(options: Mapping[str, str], num_alternatives: int, aggregation: Aggregation) -> JudgeSettings:
    """Return how a judge is asked, as its reference says it.

    Raises:
        InputError: if a number is none, or too small.
    """
    numbers = {}
    for name, default, least in ((SAMPLES, DEFAULT_SAMPLES, 1), (ARGUE, 0, 0)):
        given = options.get(name, str(default))
        if not given.isdecimal() or len(given) > MAX_DIGITS or int(given) < least:
            raise InputError(f"{name} is {given!r}: give a number of at least {least}")
        numbers[name] = int(given)
    return JudgeSettings(numbers[SAMPLES], numbers[ARGUE], num_alternatives, aggregation)


def judge_template(options: Mapping[str, str]) -> str | None:
    """Return the template that the reference of a judge in this process names, if it names one.

    Raises:
        InputError: if the reference says anything that is not known of such a judge.
    """
    known = (SAMPLES, ARGUE, TEMPLATE)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(f"format=judge: unknown option {', '.join(unknown)}; there are {', '.join(known)}")
    return options.get(TEMPLATE)


def judge_address(place: str, options: Mapping[str, str]) -> ServerAddress:
    """Return the policy server of a judge's reference.

    Raises:
        InputError: if it is malformed.
    """
    of_server = {name: text for name, text in options.items() if name not in (SAMPLES, ARGUE)}
    return parse_address(f"{place}?{urlencode(of_server)}")
