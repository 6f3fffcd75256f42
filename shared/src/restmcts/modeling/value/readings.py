"""One text for a value model, and the places in it at which values are read. Knows tokens, no
weights and no torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from restmcts.modeling.tokenization import EncodedText

# Question, all steps, and the number of the first step to be read (steps count from 1).
Path = tuple[str, Sequence[str], int]


@dataclass(frozen=True, slots=True)
class Reading:
    """One text for the value model, and the places to read in it.

    Attributes:
        token_ids: of the text.
        places: of the tokens to read at, rising; only the last token where the model must be asked
            once a prefix.
        steps: `steps[i]` is the number of the path's steps that lie before `places[i]`.
    """

    token_ids: list[int]
    places: list[int]
    steps: list[int]


def token_places(encoded: EncodedText, ends: Sequence[int]) -> list[int] | None:
    """Return the last token at or before each character in `ends`; None if a token lies across
    one of them.
    """
    places: list[int] = []
    token, num_tokens = 0, len(encoded.token_ids)
    for end in ends:
        while token + 1 < num_tokens and encoded.ends[token + 1] <= end:
            token += 1
        if token + 1 < num_tokens and encoded.starts[token + 1] < end:
            return None
        if places and places[-1] == token:
            return None
        places.append(token)
    return places


def token_batches(readings: Sequence[Reading], max_batch_tokens: int) -> Iterator[list[int]]:
    """Yield places in `readings` by length, in batches of so many tokens, padding counted; a
    single one always goes through.
    """
    batch: list[int] = []
    for place in sorted(range(len(readings)), key=lambda place: len(readings[place].token_ids)):
        if batch and (len(batch) + 1) * len(readings[place].token_ids) > max_batch_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
