"""Single values compared without algebra: numbers with units, times, ratios, residues, words, the
empty set.

Each reading returns None where it does not apply. Works on texts in one spelling.
"""

import re

from restmcts.domain.answers.changing_words import are_opposite, changes_number
from restmcts.domain.answers.normalisation import squeezed
from restmcts.domain.answers.number_words import ORDINALS, names_a_number
from restmcts.domain.answers.parts import (
    colon_numbers,
    is_marked_text,
    number_among_words,
    residue,
    unmarked,
    words_of,
)
from restmcts.domain.answers.quantities import (
    Quantity,
    close_quantities,
    equal_quantities,
    parse_quantity,
    without_spread,
)
from restmcts.domain.problems import Verdict

_SCALED_NUMBER = re.compile(r"([-+]?\$?\d[\d.,]*)\s*([kK])")
_NO_SOLUTION = re.compile(
    r"(?:there (?:is|are) )?no (?:real |such |integer )*(?:solutions?|values?|roots?|x)(?: exists?)?"
    r"|(?:the )?empty set|none|无解|空集",
    re.IGNORECASE,
)
_EMPTY = re.compile(r"\\emptyset|\\?\{\s*\\?\}")
_GLUED_UNIT = re.compile(r"([-+]?[\d.,]+)([mgshLJNKVWACF])")
_REMARK = re.compile(r"(?<=\w)\s+\([^()]*[a-zA-Z]{3,}[^()]*\)$")
_INFINITE = re.compile(r"[-+]?\s*\\infty\s*")
_NEGATIONS = frozenset({"not", "neither", "nor", "no", "never", "isn't", "none", "cannot", "without"})


def compare_quantities(truth: str, prediction: str, tolerance: float | None) -> Verdict | None:
    if tolerance is not None:
        truth, prediction = without_spread(truth), without_spread(prediction)
    remark = _REMARK.search(prediction)
    said = prediction if remark is None or changes_number(remark.group()) else prediction[: remark.start()]
    true_number, number = parse_quantity(truth), parse_quantity(said)
    if true_number is None or number is None:
        one_is_infinite = _INFINITE.fullmatch(truth) or _INFINITE.fullmatch(prediction)
        if one_is_infinite and (true_number or number):
            return Verdict.WRONG
    if true_number is None:
        return None
    if number is None and (thousands := _SCALED_NUMBER.fullmatch(prediction)):
        number = parse_quantity(thousands.group(1) + " thousand")
    if number is None and (glued := _with_glued_unit(true_number, prediction, tolerance)):
        return glued
    if number is not None:
        return verdict_of(_numbers_agree(true_number, number, tolerance))
    return _number_in_phrase(true_number, prediction, tolerance)


def _with_glued_unit(truth: Quantity, prediction: str, tolerance: float | None) -> Verdict | None:
    """Read 5m: five metres where a measured number is asked for, else nobody can know."""
    found = _GLUED_UNIT.fullmatch(prediction)
    number = parse_quantity(f"{found.group(1)} {found.group(2)}") if found else None
    if number is None:
        return None
    if not _numbers_agree(truth, number, tolerance):
        return Verdict.WRONG
    return Verdict.RIGHT if tolerance is not None or truth.unit else Verdict.UNDECIDED


def _number_in_phrase(truth: Quantity, prediction: str, tolerance: float | None) -> Verdict | None:
    inner = number_among_words(prediction)
    if not inner:
        return None
    if are_opposite(truth.unit, prediction):
        return Verdict.WRONG
    agreeing = [_numbers_agree(truth, one, tolerance) for one in inner]
    if changes_number(prediction) or len(inner) > 1:
        return Verdict.UNDECIDED if any(agreeing) or changes_number(prediction) else Verdict.WRONG
    return verdict_of(agreeing[0])


def _numbers_agree(truth: Quantity, prediction: Quantity, tolerance: float | None) -> bool:
    if tolerance is None:
        return equal_quantities(truth, prediction)
    return close_quantities(truth, prediction, tolerance)


def compare_colons(truth: str, prediction: str, tolerance: float | None) -> Verdict | None:
    """Compare times of day and ratios written with a colon; a ratio against its quotient is
    left undecided.
    """
    true_fields, fields = colon_numbers(truth), colon_numbers(prediction)
    if true_fields and fields:
        if true_fields.half or fields.half or (true_fields.may_be_time and fields.may_be_time):
            return verdict_of(true_fields.same_time(fields))
        return verdict_of(true_fields.same_ratio(fields))
    one = true_fields or fields
    if one is None:
        return None
    number = parse_quantity(prediction if true_fields else truth)
    same_quotient = number is not None and len(one.fields) == 2 and one.fields[1] * number.value == one.fields[0]
    return Verdict.UNDECIDED if same_quotient or number is None else Verdict.WRONG


def compare_residues(truth: str, prediction: str, tolerance: float | None) -> Verdict | None:
    first, second = residue(truth), residue(prediction)
    if first is None or second is None:
        return None if first is second else Verdict.UNDECIDED
    return verdict_of(first == second)


def compare_solution_sets(truth: str, prediction: str, tolerance: float | None) -> Verdict | None:
    """Compare the empty set and the words for it."""
    nothing = [bool(_EMPTY.fullmatch(text) or _NO_SOLUTION.fullmatch(unmarked(text))) for text in (truth, prediction)]
    if not any(nothing):
        return None
    return verdict_of(all(nothing))


def compare_words(truth: str, prediction: str, tolerance: float | None) -> Verdict | None:
    true_words, words = words_of(truth), words_of(prediction)
    if true_words is not None and words is not None:
        return _compare_words(true_words, words)
    stated = parse_quantity(prediction)
    if true_words is not None and stated is not None and len(true_words) == 1 and true_words[0] in ORDINALS:
        return verdict_of(ORDINALS[true_words[0]] == stated.value)
    if true_words is not None and (stated is not None or is_marked_text(truth)):
        return _words_against_formula(true_words, prediction)
    number = parse_quantity(truth)
    if words is not None and number is not None:
        if words[0] in ORDINALS and not names_a_number(words[1:]):
            return (
                verdict_of(ORDINALS[words[0]] == number.value) if number.value.denominator == 1 else Verdict.UNDECIDED
            )
        return Verdict.UNDECIDED if names_a_number(words) else Verdict.WRONG
    return None


def _compare_words(truth: list[str], prediction: list[str]) -> Verdict:
    if truth == prediction or "".join(truth) == "".join(prediction):
        return Verdict.RIGHT
    contains_truth = any(prediction[place : place + len(truth)] == truth for place in range(len(prediction)))
    if contains_truth and not _NEGATIONS.intersection(prediction):
        return Verdict.UNDECIDED
    return Verdict.WRONG


def _words_against_formula(truth: list[str], prediction: str) -> Verdict:
    said = re.sub(r"\\text(?![a-z])|[\s{}.,'\-]", "", prediction.casefold())
    return verdict_of(said == "".join(truth))


SCALAR_READINGS = (compare_solution_sets, compare_quantities, compare_colons, compare_residues, compare_words)
"""The readings, tried in this order until one applies."""


def compare_bases(truth: tuple[str, str], prediction: tuple[str, str]) -> Verdict:
    """Compare digits; a base that one side leaves out is the one that the question asked for."""
    digits_agree = truth[0].casefold() == squeezed(prediction[0]).casefold()
    return verdict_of(digits_agree and ("" in (truth[1], prediction[1]) or truth[1] == prediction[1]))


def verdict_of(right: bool) -> Verdict:
    """Return RIGHT or WRONG."""
    return Verdict.RIGHT if right else Verdict.WRONG
