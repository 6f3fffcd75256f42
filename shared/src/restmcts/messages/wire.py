"""Model requests, their answers and generation settings as JSON, for storing and for reading
back exactly.
"""

from pydantic import TypeAdapter

from restmcts.domain.requests import (
    GenerationSettings,
    ProposeSteps,
    Request,
    Response,
    ScoreSteps,
    StepsProposed,
    StepsScored,
)

_PROPOSE = TypeAdapter(ProposeSteps)
_SCORE = TypeAdapter(ScoreSteps)
_PROPOSED = TypeAdapter(StepsProposed)
_SCORED = TypeAdapter(StepsScored)
GENERATION = TypeAdapter(GenerationSettings)


def dump_request(request: Request) -> str:
    adapter = _PROPOSE if isinstance(request, ProposeSteps) else _SCORE
    return adapter.dump_json(request).decode()  # type: ignore[arg-type]


def dump_response(response: Response) -> str:
    adapter = _PROPOSED if isinstance(response, StepsProposed) else _SCORED
    return adapter.dump_json(response).decode()  # type: ignore[arg-type]


def load_proposal(payload: str) -> ProposeSteps:
    return _PROPOSE.validate_json(payload)


def load_scoring(payload: str) -> ScoreSteps:
    return _SCORE.validate_json(payload)


def load_response(kind: str, answer: str) -> Response:
    """Return the answer to a request of that kind ("propose" or "score")."""
    return _PROPOSED.validate_json(answer) if kind == "propose" else _SCORED.validate_json(answer)
