"""A reward model behind HTTP as a `StepScorer`: texts are encoded here, scored there, and read at
the places that the format says.

A server is asked what it serves before and after every batch; scores that another model may have
given are thrown away.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from restmcts.adapters.models.bounded_http import model_client
from restmcts.adapters.models.http_policy.calling import Caller, PromptTooLongError, ServerLimits, served_as
from restmcts.adapters.models.http_scorer.address import ScoringAddress
from restmcts.adapters.models.http_scorer.routes import ROUTES, Rows
from restmcts.adapters.models.interruption import carried
from restmcts.domain.requests import ScoreSteps, StepsScored
from restmcts.domain.scoring import Aggregation, Calibration, first_step, scored_branches
from restmcts.errors import ModelError, ServerUnavailableError

# Half-precision servers round probabilities.
_SUM_TOLERANCE = 0.01
# What a server that rejects a request may be instead.
_SPOKEN = {
    "classify": "classify+http is SGLang's route: write pooling+http for vLLM",
    "pooling": "pooling+http is vLLM's route: write classify+http for SGLang",
}
Path = tuple[str, Sequence[str], int]


class ServedReading(Protocol):
    """One text in tokens, and where to read in it (restmcts.modeling.value.value_reading)."""

    @property
    def token_ids(self) -> list[int]: ...
    @property
    def places(self) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class ScoreReading:
    """How a format's scores are read in what a server gives.

    Attributes:
        readings_of_paths: yields the readings of each path (restmcts.modeling.prm.layouts).
        good_class: whose probability is the score, of two; None: one output, a logit.
        every_token: whether the server gives an output for every token; else one a text.
        takes_sigmoid: whether one output is a logit; else it is the value.
        calibration: of the values; None: they stay as they are.
        low: of the format's own range; scores are mapped from [low, high] to [0, 1].
        high: likewise.
        aggregation: of the steps' values to a whole solution's score.
    """

    readings_of_paths: Callable[[Sequence[Path]], Iterator[Sequence[ServedReading]]]
    good_class: int | None
    low: float
    high: float
    aggregation: Aggregation
    every_token: bool = True
    takes_sigmoid: bool = True
    calibration: Calibration | None = None


class HttpScorer:
    """A `StepScorer` over a scoring server.

    Invariants: a text is never cut; no more than `concurrency` calls are under way.

    Args:
        token: of the server; empty: none.
    """

    def __init__(self, address: ScoringAddress, token: str, limits: ServerLimits, reading: ScoreReading) -> None:
        self._address = address
        self._reading = reading
        self._body, self._rows = ROUTES[address.route]
        self._http = model_client(address.base_url, token, limits.timeout_seconds)
        self._caller = Caller(f"scoring server {address.base_url}", token, limits.retry_seconds)
        self._concurrency = address.concurrency or limits.concurrency
        self._model = address.model

    def close(self) -> None:
        """Give up the connections."""
        self._http.close()

    def score(self, questions: Sequence[str], requests: Sequence[ScoreSteps]) -> list[StepsScored]:
        """Return one answer per request, in order; `num_scored_tokens` counts the tokens of the
        request's branches.

        Raises:
            ModelError: if a path does not fit the server's context, or what the server gives is not
                of the format.
            ServerUnavailableError: if the server is down, or serves another model; the requests may
                wait.
        """
        if not requests:
            return []
        paths = [_paths(question, request) for question, request in zip(questions, requests, strict=True)]
        distinct = list(dict.fromkeys(path for listed in paths for path in listed))
        readings = dict(zip(distinct, map(list, self._reading.readings_of_paths(distinct)), strict=True))
        values = self._values(readings)
        answers = []
        for request, listed in zip(requests, paths, strict=True):
            num_tokens = sum(len(reading.token_ids) for path in listed for reading in readings[path])
            answers.append(
                scored_branches(request, [values[path] for path in listed], self._reading.aggregation, num_tokens)
            )
        return answers

    def _values(self, readings: Mapping[Path, Sequence[ServedReading]]) -> dict[Path, list[float]]:
        self._check_model()
        texts = [text for listed in readings.values() for one in listed for text in self._texts(one)]
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="scoring-server")
        try:
            found = list(pool.map(carried(self._values_in), texts))
        finally:
            pool.shutdown(cancel_futures=True)
        self._check_model()
        in_order = iter(found)
        return {
            path: [value for one in listed for _ in self._texts(one) for value in next(in_order)]
            for path, listed in readings.items()
        }

    def _texts(self, reading: ServedReading) -> list[tuple[list[int], list[int]]]:
        """Return tokens and the places to read in them; where a server gives one output a text,
        one text a place.
        """
        if self._reading.every_token:
            return [(reading.token_ids, reading.places)]
        return [(reading.token_ids[: place + 1], [place]) for place in reading.places]

    def _values_in(self, text: tuple[list[int], list[int]]) -> list[float]:
        token_ids, places = text
        body = self._body(self._model, token_ids, self._reading.good_class is not None)
        try:
            rows = self._caller.call(partial(self._post, body))
        except PromptTooLongError:
            raise
        except ModelError as error:
            raise ModelError(f"{error}; {_SPOKEN[self._address.route]}") from None
        scores = [self._score(row) for row in self._read(rows, token_ids, places)]
        low, high = self._reading.low, self._reading.high
        values = [min(max((score - low) / (high - low), 0.0), 1.0) for score in scores]
        calibration = self._reading.calibration
        return values if calibration is None else [calibration.applied(value) for value in values]

    def _post(self, body: dict[str, Any]) -> Rows:
        return self._rows(self._http.post(f"/{self._address.route}", json=body).raise_for_status().json())

    def _read(self, rows: Rows, token_ids: Sequence[int], places: Sequence[int]) -> Rows:
        """Return the rows of these places: a server gives one for every token, or one for every
        token that ends a step.
        """
        if len(rows) == len(token_ids):
            return [rows[place] for place in places]
        if not self._reading.every_token and len(rows) == 1:
            return rows
        marked = [place for place, token in enumerate(token_ids) if token == token_ids[places[0]]]
        if len(rows) == len(marked) and set(places) <= set(marked):
            return [rows[marked.index(place)] for place in places]
        raise ModelError(
            f"{self._address.base_url} gives {len(rows)} scores for {len(token_ids)} tokens, {len(places)} of them to be read; "
            "start it with pooling of all tokens or of the format's step token, and check ?format= and ?tokenizer="
        )

    def _score(self, row: Sequence[float]) -> float:
        """Return a row's score.

        Raises:
            ModelError: if the row is not what the format has.
        """
        good = self._reading.good_class
        if not all(map(math.isfinite, row)) or len(row) != (1 if good is None else 2):
            raise ModelError(
                f"{self._address.base_url} gives {list(row)[:4]} as a score; is the format the model's own?"
            )
        if good is None and not self._reading.takes_sigmoid:
            return row[0]
        if good is None:
            return 1 / (1 + math.exp(-max(min(row[0], 500.0), -500.0)))
        if min(row) < 0 or abs(sum(row) - 1) > _SUM_TOLERANCE:
            raise ModelError(
                f"{self._address.base_url} gives {list(row)}, which are not probabilities; let it use its activation"
            )
        return row[good]

    def _check_model(self) -> None:
        """See that the server serves the model whose scores are wanted.

        Raises:
            ServerUnavailableError: if it does not, or does not answer.
        """
        served = self._caller.models(self._served_models)
        name = served_as(self._address.model, served)
        if name is None:
            names = ", ".join(dict.fromkeys(served)) or "none that it names"
            raise ServerUnavailableError(
                f"scoring server {self._address.base_url} serves {names}; requests for {self._address.model} wait"
            )
        self._model = name

    def _served_models(self) -> list[str]:
        """Return the ids of `/v1/models`, and what they were loaded from."""
        models = self._http.get("/v1/models").raise_for_status().json()["data"]
        return [str(entry[key]) for entry in models for key in ("id", "root") if entry.get(key)]


def _paths(question: str, request: ScoreSteps) -> list[Path]:
    return [(question, request.steps + branch, first_step(request)) for branch in request.branches]
