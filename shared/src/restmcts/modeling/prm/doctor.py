"""Whether a process reward model can be scored with: tries it on a few solutions and says what is
wrong and how to fix it.

Everything is measured on the model itself; no weights are changed. Knows no searches.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from restmcts.domain.requests import ScoreSteps, StepsScored
from restmcts.errors import ModelError, ServerUnavailableError
from restmcts.modeling.prm.layouts import token_ids
from restmcts.modeling.prm.loading import LoadedPrm
from restmcts.modeling.value.readings import Reading
from restmcts.modeling.value.value_model import TransformersScorer
from restmcts.ports import StepScorer

# Above rounding of float32, and of bfloat16, whose numbers have 8 bits.
_TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-4}
_COARSE_TOLERANCE = 0.02
QUESTIONS = (
    "What is 3 + 4?",
    "A train goes 60 km in an hour. How far does it go in two hours and a half?",
    "Janet has 12 eggs. She eats 3 of them, bakes with 4 and sells the rest for 2 dollars each. How much does she get?",
)
SOLUTIONS = (
    ("3 + 4 = 7.\n", "The answer is 7\n"),
    ("In two hours it goes 120 km.\n", "In half an hour it goes 30 km.\n", "The answer is 150 km\n"),
    ("She uses 3 + 4 = 7 eggs.\n", "12 - 7 = 6 are left.\n", "6 * 2 = 12.\n", "The answer is 12 dollars\n"),
)


@dataclass(frozen=True, slots=True)
class PrmFinding:
    """What one check found; `remedy` is empty where all is right. One that does not `decide` is
    shown, and does not count for the verdict.
    """

    check: str
    right: bool
    found: str
    remedy: str = ""
    decides: bool = True


def examine(prm: LoadedPrm) -> Iterator[PrmFinding]:
    """Yield what each check finds."""
    tolerance = _TOLERANCES.get(prm.loaded.model.dtype, _COARSE_TOLERANCE)
    yield checked("markers", lambda: _markers(prm))
    for name, check in (
        ("padding side", _padding),
        ("last position", _last_position),
        ("batch", _batch),
        ("prefixes", _prefixes),
    ):
        yield checked(name, lambda check=check: check(prm, tolerance))  # type: ignore[misc]
    yield checked("range", lambda: _range(prm))
    yield checked("length limit", lambda: _length(prm))


def examine_scorer(scorer: StepScorer) -> Iterator[PrmFinding]:
    """Yield what each check finds of a model that is not at hand, but asked: a judge, or one
    behind HTTP.
    """
    yield checked("answers", lambda: _answers(scorer))
    yield checked("whole solutions", lambda: _whole(scorer))


def _answers(scorer: StepScorer) -> tuple[str, str]:
    together = _asked(scorer, whole=False)
    alone = [
        scorer.score([QUESTIONS[place]], [ScoreSteps(0, (), (SOLUTIONS[place],))])[0] for place in range(len(QUESTIONS))
    ]
    worst = _worst([answer.values[0] for answer in together], [answer.values[0] for answer in alone])
    values = [value for answer in together for value in answer.values[0]]
    found = f"{min(values):.3f} to {max(values):.3f} for {len(values)} steps; they differ by {worst:.1e} alone and in a batch"
    if max(values) - min(values) < 1e-6:
        return (
            found,
            "all values are the same, and say nothing; choose a model that follows instructions, or another format",
        )
    return found, "it does not give the same again; ask it with &concurrency=1" if worst > _COARSE_TOLERANCE else ""


def _whole(scorer: StepScorer) -> tuple[str, str]:
    scores = [answer.solution_scores[0] for answer in _asked(scorer, whole=True)]
    return "scored " + ", ".join(f"{score:.3f}" for score in scores), ""


def _asked(scorer: StepScorer, *, whole: bool) -> list[StepsScored]:
    requests = [ScoreSteps(number, (), (steps,), whole) for number, steps in enumerate(SOLUTIONS)]
    return scorer.score(QUESTIONS, requests)


def checked(name: str, look: Callable[[], tuple[str, str]], *, decides: bool = True) -> PrmFinding:
    """Return what a look found, its own failure too: what it saw, and the remedy, if any."""
    try:
        found, remedy = look()
    except ModelError as error:
        found, remedy = str(error), "choose another format, or fetch the model again"
    except ServerUnavailableError as error:
        found, remedy = str(error), "start the server, or check its URL"
    return PrmFinding(name, not remedy, found, remedy, decides)


def _markers(prm: LoadedPrm) -> tuple[str, str]:
    marker, readings = prm.format.marker, _readings(prm)
    num_places = sum(len(reading.places) for reading in readings)
    wanted = sum(map(len, SOLUTIONS))
    if num_places != wanted:
        return f"{num_places} places of reading for {wanted} steps", "say another format (MODEL?format=NAME)"
    written = marker or prm.separator
    lost = sum(not _is_read_at(prm, written, reading, place) for reading in readings for place in reading.places)
    if lost:
        return (
            f"{written!r} is not in the text where {lost} of {wanted} scores are read",
            "its tokenizer drops or joins the separator: say another (MODEL?separator=TEXT) or another format",
        )
    return (
        f"{marker!r} is read" if marker else f"read at the last token of each step, which ends with {written!r},"
    ) + f" after each of {wanted} steps", ""


def _is_read_at(prm: LoadedPrm, written: str, reading: Reading, place: int) -> bool:
    """Return whether a separator is among the tokens that a score is read at, or right before."""
    tokenizer = prm.loaded.tokenizer
    num_tokens = len(token_ids(tokenizer, written))
    # A format may read at the token that says its marker next.
    near = reading.token_ids[max(place + 1 - num_tokens, 0) : place + 2]
    text = str(tokenizer.decode(near, skip_special_tokens=False, clean_up_tokenization_spaces=False))
    return num_tokens > 0 and written.strip(" ") in text


def _padding(prm: LoadedPrm, tolerance: float) -> tuple[str, str]:
    expected = _alone(prm)
    worst = max(_worst(_padded(prm, side), expected) for side in ("left", "right"))
    remedy = "its positions do not follow the attention mask: score it unpadded (a batch budget of 1 token)"
    return f"scores differ by {worst:.1e} between left, right and no padding", remedy if worst > tolerance else ""


def _last_position(prm: LoadedPrm, tolerance: float) -> tuple[str, str]:
    """Read as code does that knows positions only: the released one the last column of a batch
    (`logits[:, -1]`, padded to the maximal length), the library's classifiers the last token
    that is not the pad token.
    """
    side = prm.loaded.tokenizer.padding_side
    if prm.format.name == "thudm":
        right, read = (
            [values[-1] for values in _alone(prm)],
            [values[-1] for values in _padded(prm, side, last_column=True)],
        )
        where, cause = "in the last column of a batch", "code that reads there, as the released one does, reads padding"
    elif prm.format.name in ("value", "orm") and prm.reader.reads_every_step:
        right, read = [_pooled(prm, [reading])[0] for reading in _readings(prm)], _pooled(prm, _readings(prm), side)
        where, cause = "by the library's pooling", "its pad token is not the one that its texts are padded with"
    else:
        return "not read by position", ""
    worst = max(abs(a - b) for a, b in zip(right, read, strict=True))
    remedy = (
        f"{cause}; set padding_side to left in tokenizer_config.json (this system reads at the last token, unaffected)"
    )
    return (
        f"read {where}, padded on the {side} as its tokenizer says: off by {worst:.1e}",
        remedy if worst > tolerance else "",
    )


def _batch(prm: LoadedPrm, tolerance: float) -> tuple[str, str]:
    requests = [ScoreSteps(number, (), (steps,)) for number, steps in enumerate(SOLUTIONS)]
    together = TransformersScorer(prm.loaded, reader=prm.reader).score(QUESTIONS, requests)
    scorer = TransformersScorer(prm.loaded, key_value_bytes=0, reader=prm.reader)
    alone = [scorer.score([question], [request])[0] for question, request in zip(QUESTIONS, requests, strict=True)]
    worst = _worst([answer.values[0] for answer in together], [answer.values[0] for answer in alone])
    return (
        f"scores differ by {worst:.1e} alone and in a batch",
        "score it with a batch budget of 1" if worst > tolerance else "",
    )


def _prefixes(prm: LoadedPrm, tolerance: float) -> tuple[str, str]:
    paths = [(q, steps[:n], n) for q, steps in zip(QUESTIONS, SOLUTIONS, strict=True) for n in range(1, len(steps) + 1)]
    with torch.inference_mode():
        own = [float(prm.reader.values(listed)) for listed in prm.reader.readings_of_paths(paths)]
    worst = _worst([own], [[value for values in _alone(prm) for value in values]])
    remedy = (
        "what follows a step changes its score (attention in both directions?): it cannot guide a search step by step"
    )
    return f"a step's score differs by {worst:.1e} with what follows it", remedy if worst > tolerance else ""


def _range(prm: LoadedPrm) -> tuple[str, str]:
    values = np.concatenate(_alone(prm))
    low, high = float(values.min()), float(values.max())
    found = f"{low:.3f} to {high:.3f} (of 0 to 1); the format's own range: {prm.format.low:g} to {prm.format.high:g}"
    if not np.isfinite(values).all():
        return found, "some scores are no numbers: the checkpoint is broken, use another"
    if low < -0.05 or high > 1.05:
        return (
            found,
            "scores leave the range and are cut: the head was trained to another scale, or the format is another",
        )
    return found, "all scores are one: the head is not trained" if high - low < 1e-6 else ""


def _length(prm: LoadedPrm) -> tuple[str, str]:
    limit = prm.loaded.max_context_tokens
    if limit is None:
        return "no limit", ""
    scorer = TransformersScorer(prm.loaded, reader=prm.reader)
    question = "1 + " * limit
    try:
        scorer.score([question], [ScoreSteps(0, (), (SOLUTIONS[0],))])
    except ModelError:
        short = "" if limit >= 512 else "too short for most solutions: choose a model with a longer context"
        return f"{limit:,} tokens; a longer text is refused, not cut", short
    return (
        f"{limit:,} tokens, but a longer text is scored",
        "its tokenizer cuts texts: remove truncation from tokenizer.json",
    )


def _readings(prm: LoadedPrm) -> list[Reading]:
    paths = [(question, steps, 1) for question, steps in zip(QUESTIONS, SOLUTIONS, strict=True)]
    return [reading for listed in prm.reader.readings_of_paths(paths) for reading in listed]


@torch.inference_mode()
def _alone(prm: LoadedPrm) -> list[list[float]]:
    """Return the scores of each solution by itself, not cut to the range."""
    return [prm.reader.values([reading]).tolist() for reading in _readings(prm)]


@torch.inference_mode()
def _padded(prm: LoadedPrm, side: str, *, last_column: bool = False) -> list[list[float]]:
    """Return the scores of all solutions in one batch padded on that side; with `last_column`,
    read there whatever is in it.
    """
    readings = _readings(prm)
    ids, mask, begins = _batch_of(prm, readings, side)
    places = torch.zeros_like(ids, dtype=torch.bool)
    for row, (begin, reading) in enumerate(zip(begins, readings, strict=True)):
        places[row, [-1] if last_column else [begin + place for place in reading.places]] = True
    positions = (mask.cumsum(dim=1) - 1).clamp_(min=0) if side == "left" else None
    flat = iter(prm.reader.values_at(ids, mask, places, positions).tolist())
    return [[next(flat) for _ in ([-1] if last_column else reading.places)] for reading in readings]


@torch.inference_mode()
def _pooled(prm: LoadedPrm, readings: Sequence[Reading], side: str = "right") -> list[float]:
    """Return what the library's own classifier says of these texts in one batch."""
    ids, mask, _ = _batch_of(prm, readings, side)
    found: list[float] = prm.loaded.model(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist()
    return found


def _batch_of(prm: LoadedPrm, readings: Sequence[Reading], side: str) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Return padded ids, their mask, and the column where each text begins."""
    longest = max(len(reading.token_ids) for reading in readings)
    begins = [longest - len(reading.token_ids) if side == "left" else 0 for reading in readings]
    ids = torch.full((len(readings), longest), prm.reader.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, (begin, reading) in enumerate(zip(begins, readings, strict=True)):
        ids[row, begin : begin + len(reading.token_ids)] = torch.tensor(reading.token_ids)
        mask[row, begin : begin + len(reading.token_ids)] = 1
    return ids.to(prm.loaded.device), mask.to(prm.loaded.device), begins


def _worst(some: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> float:
    return float(np.abs(np.concatenate([*map(np.array, some)]) - np.concatenate([*map(np.array, others)])).max())
