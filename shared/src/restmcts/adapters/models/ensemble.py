"""Several value models as one: `ensemble+MODEL1,MODEL2,MODEL3[?penalty=1.0]`.

A value is the mean of the members' values minus `penalty` times their standard deviation, which is
a measure of what the models do not know (arXiv:1612.01474, Section 2.4). A negative penalty is
optimistic, as an upper confidence bound is. Knows neither how models are opened nor what their
values mean.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from restmcts.domain.requests import ScoreSteps, StepsScored
from restmcts.domain.scoring import Aggregation, scored_branches
from restmcts.errors import InputError
from restmcts.ports import StepScorer

_SCHEME, _PENALTY = "ensemble+", "penalty="


@dataclass(frozen=True, slots=True)
class Ensemble:
    """What an ensemble's URI says: the members, each as a person names a value model, and how many
    standard deviations their values are lowered by.
    """

    members: tuple[str, ...]
    penalty: float = 0.0

    @property
    def uri(self) -> str:
        """The URI that `parse_ensemble` reads."""
        listed = _SCHEME + ",".join(self.members)
        return f"{listed}{'&' if '?' in self.members[-1] else '?'}{_PENALTY}{self.penalty}" if self.penalty else listed


def is_ensemble(uri: str) -> bool:
    """Return whether a model's URI names an ensemble (it may still be malformed)."""
    return uri.startswith(_SCHEME)


def parse_ensemble(uri: str) -> Ensemble:
    """Return what a URI says; `penalty` may be behind any member.

    Raises:
        InputError: if it names no member, one of them twice or another ensemble, or more than one
            penalty, or one that is no number.
    """
    members, penalties = [], []
    for text in uri.removeprefix(_SCHEME).split(","):
        place, _, query = text.partition("?")
        options = [option for option in query.split("&") if option]
        own = [option for option in options if not option.startswith(_PENALTY)]
        penalties += [option.removeprefix(_PENALTY) for option in options if option.startswith(_PENALTY)]
        members.append(f"{place}?{'&'.join(own)}" if own else place)
    if not all(members) or any(map(is_ensemble, members)):
        raise InputError(f"{uri}: write ensemble+MODEL1,MODEL2 with single models")
    twice = next((member for member in members if members.count(member) > 1), None)
    if twice is not None:
        raise InputError(f"{uri}: {twice} is named twice; name each model once")
    if len(penalties) > 1:
        raise InputError(f"{uri}: give one penalty")
    return Ensemble(tuple(members), _number(uri, penalties[0]) if penalties else 0.0)


def _number(uri: str, text: str) -> float:
    try:
        penalty = float(text)
    except ValueError:
        penalty = math.nan
    if not math.isfinite(penalty):
        raise InputError(f"{uri}: the penalty is {text!r}; give a number, below 0 for optimistic values")
    return penalty


def each_member(uri: str, change: Callable[[str], str]) -> str:
    """Return a URI with each member of its ensemble changed; that of a single model changed itself.

    Raises:
        InputError: if it is malformed.
    """
    if not is_ensemble(uri):
        return change(uri)
    ensemble = parse_ensemble(uri)
    return replace(ensemble, members=tuple(map(change, ensemble.members))).uri


def members_of(uri: str) -> tuple[str, ...]:
    """Return the URIs of an ensemble's members; of a single model its own.

    Raises:
        InputError: if it is malformed.
    """
    return parse_ensemble(uri).members if is_ensemble(uri) else (uri,)


class EnsembleScorer:
    """A `StepScorer` over several, each of which is asked once a batch.

    `num_scored_tokens` counts what all of them read. A whole solution's score is made of the
    ensemble's values of its steps.
    """

    def __init__(self, members: Sequence[StepScorer], penalty: float, aggregation: Aggregation) -> None:
        self._members, self._penalty, self._aggregation = tuple(members), penalty, aggregation

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        """Return one answer per request, in order.

        Raises:
            ModelError: if a member refuses a request.
            ServerUnavailableError: if a member is behind HTTP and does not answer.
        """
        asked = [_with_all_values(request) for request in requests]
        answers = zip(*(member.score(questions, asked) for member in self._members), strict=True)
        return [self._joined(request, found) for request, found in zip(requests, answers, strict=True)]

    def _joined(self, request: ScoreSteps, answers: Sequence[StepsScored]) -> StepsScored:
        values = [
            [self._value(of_step) for of_step in zip(*of_branch, strict=True)]
            for of_branch in zip(*(answer.values for answer in answers), strict=True)
        ]
        num_scored = sum(answer.num_scored_tokens for answer in answers)
        num_reused = sum(answer.num_reused_tokens for answer in answers)
        return scored_branches(request, values, self._aggregation, num_scored, num_reused)

    def _value(self, values: Sequence[float]) -> float:
        """Return the ensemble's value; the same in whatever order the members are."""
        mean = math.fsum(values) / len(values)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        return min(max(mean - self._penalty * deviation, 0.0), 1.0)

    def close(self) -> None:
        """Give up the members' connections, where they have any."""
        for member in self._members:
            if hasattr(member, "close"):
                member.close()


def _with_all_values(request: ScoreSteps) -> ScoreSteps:
    """Return a request for the values of all steps where a whole solution's score is made of
    them.
    """
    if not request.whole:
        return request
    return ScoreSteps(request.number, (), tuple(request.steps + branch for branch in request.branches))
