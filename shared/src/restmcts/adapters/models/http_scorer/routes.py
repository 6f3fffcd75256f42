"""The two routes that score token ids, and what their answers hold.

vLLM's `/pooling` (a request for `token_classify`) gives one row of class probabilities a token, or,
where the server is started with STEP pooling, one for each token that ends a step; for a sequence
classifier, one row for the text. SGLang's `/classify` gives one row for the text, as the model's
head gives it. Schemas are those of their repositories; vLLM's must know `use_activation`.
"""

from collections.abc import Callable, Mapping, Sequence

Rows = list[list[float]]
Body = Callable[[str, Sequence[int], bool], dict[str, object]]
Read = Callable[[object], Rows]


def pooling_body(model: str, token_ids: Sequence[int], by_token: bool) -> dict[str, object]:
    """Return a request to vLLM: probabilities of classes a token, or else a text's logit,
    whatever its configuration would make of it.
    """
    body = {"model": model, "input": list(token_ids), "encoding_format": "float", "use_activation": by_token}
    return {**body, "task": "token_classify"} if by_token else body


def pooling_rows(answer: object) -> Rows:
    """Return the rows of an answer of vLLM.

    Raises:
        ValueError: if it is none.
    """
    data = _of(_of(answer, "data"), 0)
    rows = _of(data, "data")
    return _rows([rows] if isinstance(rows, list) and rows and not isinstance(rows[0], list) else rows)


def classify_body(model: str, token_ids: Sequence[int], by_token: bool) -> dict[str, object]:
    """Return a request to SGLang; its model is the one that it was started with."""
    return {"input_ids": list(token_ids)}


def classify_rows(answer: object) -> Rows:
    """Return the one row of an answer of SGLang.

    Raises:
        ValueError: if it is none.
    """
    return _rows([_of(_of(answer, 0) if isinstance(answer, list) else answer, "embedding")])


def _of(found: object, key: str | int) -> object:
    if isinstance(found, dict) and key in found:
        return found[key]
    if isinstance(found, list) and isinstance(key, int) and key < len(found):
        return found[key]
    raise ValueError(f"there is no field {key!r}")


def _rows(rows: object) -> Rows:
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise ValueError("its scores are not numbers")
    try:
        return [[float(number) for number in row] for row in rows]
    except TypeError:
        raise ValueError("its scores are not numbers") from None


ROUTES: Mapping[str, tuple[Body, Read]] = {
    "pooling": (pooling_body, pooling_rows),
    "classify": (classify_body, classify_rows),
}
