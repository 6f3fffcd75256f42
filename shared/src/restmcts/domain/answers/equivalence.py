"""When two answers are the same: numbers, choices, words, tuples, sets, intervals, unions,
matrices, equations.

Takes answers apart down to plain numbers and single expressions. Numbers it compares itself;
expressions it hands to the comparison it is given, since it knows no algebra.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from restmcts.domain.answers.normalisation import is_balanced, one_spelling, split_top_level
from restmcts.domain.answers.parts import (
    EQUALS,
    SYMBOL,
    Parts,
    colon_fields,
    is_marked_text,
    matrix_rows,
    number_among_words,
    number_base,
    parts_of,
    tuple_rows,
    unmarked,
    with_both_signs,
    without_unit,
    words_of,
)
from restmcts.domain.answers.quantities import (
    Quantity,
    equal_quantities,
    is_close,
    names_a_number,
    parse_quantity,
    percent_readings,
)
from restmcts.domain.problems import Verdict

MAX_CHARACTERS = 1000
MAX_ITEMS = 40
MAX_DEPTH = 6

CompareExpressions = Callable[[str, str], Verdict]
"""(truth, prediction), both LaTeX in one spelling -> verdict."""

_CHOICE = re.compile(
    r"(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer|选项?)\s*)?(?:\\text\s*\{\s*)?[(\[]?\s*"
    r"(?:([A-H])\s*(?:[)\].:,、}]|\\text(?![a-z])|$|(?=[一-鿿]))|([B-H])(?=\s)|([a-h])\s*(?:\)|\}|$))"
)
_LONE_LETTER = re.compile(r"(?:\\text\s*\{\s*(?:\(\s*[A-H]\s*\)|[A-H])\s*\}|\(\s*[A-H]\s*\))")
_SET_OPERATION = re.compile(r"\\(?:setminus|backslash|cap|mid|ne|mathbb)(?![a-z])|\\\{[^{}]*[|:]")
_UNIT_VECTOR = re.compile(r"\\(?:vec|hat|text|begin)(?![a-z])|(?<![a-zA-Z])[ijk](?![a-zA-Z])")
_APPROXIMATELY = re.compile(r"\\(?:approx|simeq|sim)(?![a-z])")
_INFINITE = re.compile(r"[-+]?\s*\\infty\s*")
_REMARK = re.compile(r"(?<=\w)\s+\([^()]*[a-zA-Z]{3,}[^()]*\)$")
_OPTION_LABEL = re.compile(r"(?:\\text\s*\{\s*)?(?:\([A-H]\)|[A-H][:).])(?:\s*\})?\s+(?=\S)")
_NEGATIONS = frozenset({"not", "neither", "nor", "no", "never", "isn't", "none", "cannot", "without"})


@dataclass(frozen=True, slots=True)
class Comparison:
    """How to compare two answers.

    Attributes:
        expressions: decides what is neither a plain number nor made of parts.
        relative_tolerance: of numbers; None: they must be equal.
    """

    expressions: CompareExpressions
    relative_tolerance: float | None = None

    def answers(self, truth: str, prediction: str) -> Verdict:
        """Return whether a stated answer is the true one; UNDECIDED when it cannot be read."""
        if _squeezed(truth) == _squeezed(prediction):
            return Verdict.RIGHT
        if max(len(truth), len(prediction)) > MAX_CHARACTERS:
            return Verdict.UNDECIDED
        spelled_truth, spelled = one_spelling(truth), one_spelling(prediction)
        if spelled and _squeezed(unmarked(spelled_truth)) == _squeezed(unmarked(spelled)):
            return Verdict.RIGHT
        if not spelled or not is_balanced(spelled) or not is_balanced(spelled_truth):
            return Verdict.UNDECIDED
        return self._spelled(spelled_truth, spelled, MAX_DEPTH)

    def _spelled(self, truth: str, prediction: str, depth: int) -> Verdict:
        if _squeezed(truth) == _squeezed(prediction):
            return Verdict.RIGHT
        if depth == 0:
            return Verdict.UNDECIDED
        if _LONE_LETTER.fullmatch(truth) or (re.fullmatch(r"[A-H]", truth) and _LONE_LETTER.match(prediction)):
            return compare_choices(truth, prediction)
        if label := _OPTION_LABEL.match(prediction):
            return self._spelled(truth, prediction[label.end() :], depth - 1)
        for reading in (
            self._approximations,
            self._quantities,
            self._colons,
            self._words,
            self._equations,
            self._matrices,
            self._parts,
        ):
            verdict = reading(truth, prediction, depth)
            if verdict is not None:
                return verdict
        return self._expressions(truth, prediction)

    def _approximations(self, truth: str, prediction: str, depth: int) -> Verdict | None:
        """Take the exact or the approximate side of 2\\pi \\approx 6.28, whichever the truth is."""
        sides = [side.strip() for side in _APPROXIMATELY.split(prediction) if side.strip()]
        if len(sides) > 1 and SYMBOL.fullmatch(sides[0]):
            sides = sides[1:]
        if not sides or sides == [prediction] or _APPROXIMATELY.search(truth):
            return None
        return _any_of([self._spelled(truth, side, depth - 1) for side in sides])

    def _quantities(self, truth: str, prediction: str, depth: int) -> Verdict | None:
        true_number, number = parse_quantity(truth), parse_quantity(_REMARK.sub("", prediction))
        if true_number is None or number is None:
            one_is_infinite = _INFINITE.fullmatch(truth) or _INFINITE.fullmatch(prediction)
            if one_is_infinite and (true_number or number):
                return Verdict.WRONG
        if true_number is None:
            return None
        if number is not None:
            return _verdict(self._numbers_agree(true_number, number))
        inner = number_among_words(prediction)
        if not inner:
            return None
        agreeing = [self._numbers_agree(true_number, one) for one in inner]
        if len(inner) == 1:
            return _verdict(agreeing[0])
        return Verdict.UNDECIDED if any(agreeing) else Verdict.WRONG

    def _numbers_agree(self, truth: Quantity, prediction: Quantity) -> bool:
        if self.relative_tolerance is None:
            return equal_quantities(truth, prediction)
        pairs = percent_readings(truth, prediction.value, prediction.percent)
        return any(is_close(first, second, self.relative_tolerance) for first, second in pairs)

    def _colons(self, truth: str, prediction: str, depth: int) -> Verdict | None:
        """Compare times of day and ratios written with a colon; a ratio against its quotient is
        left undecided.
        """
        true_fields, fields = colon_fields(truth), colon_fields(prediction)
        if true_fields and fields:
            same_half = true_fields[1] == fields[1] or "" in (true_fields[1], fields[1])
            return _verdict(true_fields[0] == fields[0] and same_half)
        if not true_fields and not fields:
            return None
        number = parse_quantity(prediction if true_fields else truth)
        parts = (true_fields or fields or ((), ""))[0]
        same_quotient = number is not None and len(parts) == 2 and parts[1] * number.value == parts[0]
        return Verdict.UNDECIDED if same_quotient or number is None else Verdict.WRONG

    def _words(self, truth: str, prediction: str, depth: int) -> Verdict | None:
        true_words, words = words_of(truth), words_of(prediction)
        if true_words is not None and words is not None:
            return _compare_words(true_words, words)
        if true_words is not None and (parse_quantity(prediction) is not None or is_marked_text(truth)):
            return _words_against_formula(true_words, prediction)
        if words is not None and parse_quantity(truth) is not None:
            return Verdict.UNDECIDED if names_a_number(words) else Verdict.WRONG
        return None

    def _equations(self, truth: str, prediction: str, depth: int) -> Verdict | None:
        """Drop the left side that only one of the two has (x = 5 against 5), or that both have."""
        if len(split_top_level(truth)) > 1 or len(split_top_level(prediction)) > 1:
            return None
        true_sides, sides = EQUALS.split(truth), EQUALS.split(prediction)
        if len(sides) > 1 and len(true_sides) == 1:
            return self._spelled(truth, sides[-1].strip(), depth - 1)
        if len(true_sides) == 2 and SYMBOL.fullmatch(true_sides[0].strip()):
            if len(sides) == 1:
                return self._spelled(true_sides[1].strip(), prediction, depth - 1)
            if _squeezed(true_sides[0]) == _squeezed(sides[0]):
                return self._spelled(true_sides[1].strip(), sides[-1].strip(), depth - 1)
        return None

    def _matrices(self, truth: str, prediction: str, depth: int) -> Verdict | None:
        true_rows, rows = matrix_rows(truth), matrix_rows(prediction)
        if true_rows is None and rows is None:
            return None
        if true_rows is None or rows is None:
            other = prediction if rows is None else truth
            if tuple_rows(other) is None:
                return Verdict.UNDECIDED if _UNIT_VECTOR.search(other) else Verdict.WRONG
            return self._vector(true_rows or tuple_rows(truth) or [], rows or tuple_rows(prediction) or [], depth)
        if [len(row) for row in true_rows] != [len(row) for row in rows]:
            return Verdict.WRONG
        return self._in_order(list(chain(*true_rows)), list(chain(*rows)), depth)

    def _vector(self, truth: list[list[str]], prediction: list[list[str]], depth: int) -> Verdict:
        """Compare a row or column with a tuple of the same entries."""
        is_line = all(1 in (len(rows), max(map(len, rows))) for rows in (truth, prediction))
        return self._in_order(list(chain(*truth)), list(chain(*prediction)), depth) if is_line else Verdict.WRONG

    def _parts(self, truth: str, prediction: str, depth: int) -> Verdict | None:
        true_parts, parts = parts_of(truth), parts_of(prediction)
        if true_parts is None and parts is None:
            return None
        if _SET_OPERATION.search(truth) or _SET_OPERATION.search(prediction):
            # Only algebra can carry the operation out, and what it cannot show equal may still be.
            return Verdict.RIGHT if self.expressions(truth, prediction) is Verdict.RIGHT else Verdict.UNDECIDED
        true_parts = true_parts or Parts("list", tuple(with_both_signs([truth])))
        parts = parts or Parts("list", tuple(with_both_signs([prediction])))
        if max(len(true_parts.items), len(parts.items)) > MAX_ITEMS:
            return Verdict.UNDECIDED
        if len(true_parts.items) != len(parts.items):
            return self._other_length(truth, parts, depth)
        if _brackets_differ(true_parts, parts):
            return Verdict.WRONG
        ordered = "bracketed" in (true_parts.kind, parts.kind) and "[]" not in (true_parts.brackets, parts.brackets)
        ordered = ordered or (_is_interval(true_parts) and _is_interval(parts))
        compare = self._in_order if ordered else self._in_any_order
        return compare(true_parts.items, parts.items, depth)

    def _other_length(self, truth: str, prediction: Parts, depth: int) -> Verdict:
        """Different numbers of parts are different answers, unless the parts repeat the truth
        or are sentences nobody can weigh.
        """
        if prediction.kind != "list":
            return Verdict.WRONG
        if parts_of(truth) is None and all(
            self._spelled(truth, item, depth - 1) is Verdict.RIGHT for item in prediction.items
        ):
            return Verdict.RIGHT
        has_sentence = any(len(item.split()) > 3 and "\\" not in item for item in prediction.items)
        return Verdict.UNDECIDED if has_sentence else Verdict.WRONG

    def _in_order(self, truth: Sequence[str], prediction: Sequence[str], depth: int) -> Verdict:
        if len(truth) != len(prediction):
            return Verdict.WRONG
        verdicts = [self._spelled(first, second, depth - 1) for first, second in zip(truth, prediction, strict=True)]
        return _all_of(verdicts)

    def _in_any_order(self, truth: Sequence[str], prediction: Sequence[str], depth: int) -> Verdict:
        left, verdicts = list(prediction), []
        for item in truth:
            tries = []
            for candidate in left:
                tries.append(self._spelled(item, candidate, depth - 1))
                if tries[-1] is Verdict.RIGHT:
                    left.remove(candidate)
                    break
            verdicts.append(_any_of(tries))
            if verdicts[-1] is Verdict.WRONG:
                return Verdict.WRONG
        return _all_of(verdicts)

    def _expressions(self, truth: str, prediction: str) -> Verdict:
        bare_truth, bare = without_unit(truth), without_unit(prediction)
        if (bare_truth, bare) != (truth, prediction):
            return self._spelled(bare_truth, bare, 1) if _squeezed(bare) else Verdict.UNDECIDED
        true_base, base = number_base(truth), number_base(prediction)
        if true_base or base:
            return _compare_bases(true_base or (truth, ""), base or (prediction, ""))
        return self.expressions(truth, prediction)


def compare_choices(truth: str, prediction: str) -> Verdict:
    """Return whether a multiple-choice answer names the true letter; UNDECIDED when it names
    none.
    """
    if _squeezed(truth).casefold() == _squeezed(prediction).casefold():
        return Verdict.RIGHT
    true_letter, letter = _choice_letter(truth), _choice_letter(prediction)
    if true_letter is None or letter is None:
        return Verdict.UNDECIDED
    return _verdict(true_letter == letter)


def _choice_letter(text: str) -> str | None:
    """Return the letter that an answer begins with ("B", "(B)", "B. text"), or the only one it
    holds in brackets.
    """
    spelled = one_spelling(text[:MAX_CHARACTERS])
    if re.match(r"\W*[A-H]\W*(?:and|or|,|和|或)\W*[A-H]\b|[A-H]{2,4}$", spelled):
        return spelled
    if found := _CHOICE.match(spelled):
        return next(letter for letter in found.groups() if letter).upper()
    inner = set(re.findall(r"\(([A-H])\)|\b(?:option|choice)\s+\(?([A-H])\b", spelled))
    return "".join(inner.pop()) if len(inner) == 1 else None


def _compare_words(truth: list[str], prediction: list[str]) -> Verdict:
    if truth == prediction or "".join(truth) == "".join(prediction):
        return Verdict.RIGHT
    holds_truth = any(prediction[place : place + len(truth)] == truth for place in range(len(prediction)))
    if holds_truth and not _NEGATIONS.intersection(prediction):
        return Verdict.UNDECIDED
    return Verdict.WRONG


def _words_against_formula(truth: list[str], prediction: str) -> Verdict:
    letters = re.sub(r"[^a-z]", "", re.sub(r"\\text\b", "", prediction.casefold()))
    return _verdict(letters == "".join(truth))


def _is_interval(parts: Parts) -> bool:
    return parts.kind == "bracketed" and len(parts.items) == 2


def _brackets_differ(truth: Parts, prediction: Parts) -> bool:
    """Tell whether the brackets make two answers of equal parts different: open or closed ends,
    set or tuple, union or list.
    """
    if _is_interval(truth) and _is_interval(prediction):
        return truth.brackets != prediction.brackets
    kinds = {truth.kind, prediction.kind}
    return kinds == {"set", "bracketed"} or ("union" in kinds and len(kinds) > 1 and kinds != {"union", "list"})


def _compare_bases(truth: tuple[str, str], prediction: tuple[str, str]) -> Verdict:
    """Compare digits; a base that one side leaves out is the one that the question asked for."""
    digits_agree = truth[0].casefold() == _squeezed(prediction[0]).casefold()
    return _verdict(digits_agree and ("" in (truth[1], prediction[1]) or truth[1] == prediction[1]))


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _verdict(right: bool) -> Verdict:
    return Verdict.RIGHT if right else Verdict.WRONG


def _all_of(verdicts: Sequence[Verdict]) -> Verdict:
    if Verdict.WRONG in verdicts:
        return Verdict.WRONG
    return Verdict.UNDECIDED if Verdict.UNDECIDED in verdicts else Verdict.RIGHT


def _any_of(verdicts: Sequence[Verdict]) -> Verdict:
    if Verdict.RIGHT in verdicts:
        return Verdict.RIGHT
    return Verdict.UNDECIDED if Verdict.UNDECIDED in verdicts else Verdict.WRONG
