"""Model requests, their answers and generation settings as JSON, for storing and for reading
back exactly.
"""

import math
from dataclasses import replace
from itertools import chain

from pydantic import TypeAdapter

from restmcts.domain.requests import (
    CallTool,
    GenerationSettings,
    ProposedStep,
    ProposeSteps,
    Request,
    Response,
    ScoreSteps,
    StepsProposed,
    StepsScored,
    ToolAnswered,
)
from restmcts.domain.text import clean_text
from restmcts.errors import ModelError

_PROPOSE = TypeAdapter(ProposeSteps)
_SCORE = TypeAdapter(ScoreSteps)
_CALL = TypeAdapter(CallTool)
_PROPOSED = TypeAdapter(StepsProposed)
_SCORED = TypeAdapter(StepsScored)
_OBSERVED = TypeAdapter(ToolAnswered)
GENERATION = TypeAdapter(GenerationSettings)

MAX_ANSWER_CHARS = 16 * 2**20


def dump_request(request: Request) -> str:
    match request:
        case ProposeSteps():
            return _PROPOSE.dump_json(request).decode()
        case CallTool():
            return _CALL.dump_json(request).decode()
        case ScoreSteps():
            return _SCORE.dump_json(request).decode()


def dump_response(response: Response) -> str:
    """Return a model's answer as it is stored: its text cleaned of what no database holds.

    Raises:
        ModelError: if a figure of it is not a finite number, or it is larger than any answer may
            be.
    """
    if isinstance(response, StepsProposed):
        answer = _PROPOSED.dump_json(_cleaned(response)).decode()
    elif isinstance(response, ToolAnswered):
        answer = _OBSERVED.dump_json(replace(response, text=clean_text(response.text))).decode()
    else:
        for value in (*chain.from_iterable(response.values), *response.solution_scores):
            _check_finite(value, "the value model gave a value")
        answer = _SCORED.dump_json(response).decode()
    if len(answer) > MAX_ANSWER_CHARS:
        raise ModelError(f"a model's answer has {len(answer):,} characters: at most {MAX_ANSWER_CHARS:,} are stored")
    return answer


def _cleaned(response: StepsProposed) -> StepsProposed:
    """Return the answer with texts that can be stored; that of a sound model is not copied."""
    steps = [step for sample in response.samples for step in sample.steps]
    for step in steps:
        _check_finite(step.log_prob, "the policy gave a step a log-probability")
    if all(clean_text(step.text) == step.text for step in steps) and all(
        math.isfinite(other.log_prob) and clean_text(other.begun) == other.begun
        for step in steps
        for other in step.alternatives
    ):
        return response
    return replace(
        response,
        samples=tuple(
            replace(sample, steps=tuple(_clean_step(step) for step in sample.steps)) for sample in response.samples
        ),
    )


def _clean_step(step: ProposedStep) -> ProposedStep:
    """Return the step without alternatives that no sampler would take or that cannot be written."""
    alternatives = tuple(
        other for other in step.alternatives if math.isfinite(other.log_prob) and clean_text(other.begun) == other.begun
    )
    return replace(step, text=clean_text(step.text), alternatives=alternatives)


def _check_finite(value: float, what: str) -> None:
    if not math.isfinite(value):
        raise ModelError(f"{what} of {value}: its weights or its number format are broken")


def load_proposal(payload: str) -> ProposeSteps:
    return _PROPOSE.validate_json(payload)


def load_scoring(payload: str) -> ScoreSteps:
    return _SCORE.validate_json(payload)


def load_call(payload: str) -> CallTool:
    return _CALL.validate_json(payload)


def load_response(kind: str, answer: str) -> Response:
    """Return the answer to a request of that kind ("propose", "score" or "call")."""
    match kind:
        case "propose":
            return _PROPOSED.validate_json(answer)
        case "call":
            return _OBSERVED.validate_json(answer)
        case _:
            return _SCORED.validate_json(answer)
