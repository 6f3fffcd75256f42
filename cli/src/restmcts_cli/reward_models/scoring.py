"""The values of every step of many solutions: in batches, kept in a file as they come, and gone on
with from there. Knows scorers and solutions, no labels' meaning.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from restmcts.domain.labels.labelled_solutions import LabelledSolution
from restmcts.domain.requests import ScoreSteps
from restmcts.errors import InputError, ModelError, StorageError
from restmcts.ports import StepScorer

VALUES_FILE = "values.jsonl"
BATCH = 32


@dataclass(frozen=True, slots=True)
class ScoredSolution:
    """The values of a solution's steps.

    Attributes:
        place: of the solution among all.
        values: of its steps; None where the model refused it.
        reason: why; "" where it did not.
        tokens: of the texts that were scored.
        seconds: that it took, its share of its batch's.
    """

    place: int
    values: tuple[float, ...] | None
    reason: str
    tokens: int
    seconds: float


def score_solutions(
    scorer: StepScorer,
    solutions: Sequence[LabelledSolution],
    out: Path | None,
    model: str,
    on_progress: Callable[[int], None],
) -> list[ScoredSolution]:
    """Return the values of all solutions, in order.

    Args:
        scorer: the model.
        solutions: what it scores.
        out: folder for what is scored, from which it is resumed; None: nothing is kept.
        model: its name: what another has scored is not resumed.
        on_progress: is called with how many solutions have been scored.

    Raises:
        InputError: if the folder holds values of another model or of other solutions.
        StorageError: if the disk does not take them.
        ServerUnavailableError: if a server does not answer; what is scored is kept.
    """
    known = {} if out is None else _begun(out / VALUES_FILE, _header(model, solutions))
    left = [place for place in range(len(solutions)) if place not in known]
    for first in range(0, len(left), BATCH):
        places = left[first : first + BATCH]
        scored = _scored(scorer, solutions, places)
        if out is not None:
            _keep(out / VALUES_FILE, scored)
        known.update({each.place: each for each in scored})
        on_progress(len(known))
    return [known[place] for place in range(len(solutions))]


def check_values_file(out: Path | None, model: str, solutions: Sequence[LabelledSolution]) -> None:
    """Check, before the model is loaded, that a folder can be resumed with (`score_solutions`).

    Raises:
        InputError: if it holds values of another model or of other solutions.
        StorageError: if the disk does not take them.
    """
    if out is not None and (out / VALUES_FILE).exists():
        _begun(out / VALUES_FILE, _header(model, solutions))


def _header(model: str, solutions: Sequence[LabelledSolution]) -> dict[str, str]:
    return {"model": model, "solutions": digest_of(solutions)}


def digest_of(solutions: Sequence[LabelledSolution]) -> str:
    """Return a digest of what is scored."""
    texts = json.dumps([(each.split, each.key, each.question, each.steps) for each in solutions])
    return hashlib.sha256(texts.encode(errors="surrogatepass")).hexdigest()[:32]


def _scored(scorer: StepScorer, solutions: Sequence[LabelledSolution], places: Sequence[int]) -> list[ScoredSolution]:
    """Score a batch; where the model refuses it, each solution alone."""
    begin = time.perf_counter()
    requests = [ScoreSteps(number, (), (solutions[place].steps,)) for number, place in enumerate(places)]
    try:
        answers = scorer.score([solutions[place].question for place in places], requests)
    except ModelError as error:
        if len(places) > 1:
            return [one for place in places for one in _scored(scorer, solutions, [place])]
        return [ScoredSolution(places[0], None, str(error), 0, time.perf_counter() - begin)]
    seconds = (time.perf_counter() - begin) / len(places)
    return [
        ScoredSolution(place, tuple(answer.values[0]), "", answer.num_scored_tokens, seconds)
        for place, answer in zip(places, answers, strict=True)
    ]


def _begun(file: Path, header: dict[str, str]) -> dict[int, ScoredSolution]:
    """Return what a file holds, made if it is not there; a line that was cut off is dropped."""
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(header) + "\n")
            return {}
        text = file.read_text()
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            file.write_text(whole)
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror or error}; choose another --out") from error
    try:
        first, *rows = (json.loads(line) for line in whole.splitlines() or ["null"])
        scored = [ScoredSolution(**{**row, "values": row["values"] and tuple(row["values"])}) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file} is damaged; remove it, or choose another --out") from error
    if first != header:
        raise InputError(f"{file} holds the values of another model or of other solutions; choose another --out")
    return {each.place: each for each in scored}


def _keep(file: Path, scored: Sequence[ScoredSolution]) -> None:
    try:
        with file.open("a") as stream:
            stream.writelines(json.dumps(asdict(each), allow_nan=False) + "\n" for each in scored)
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror or error}; free some space, and run it again") from error
