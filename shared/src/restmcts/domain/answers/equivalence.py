"""When two answers are the same: numbers, choices, words, tuples, sets, intervals, unions,
matrices, equations.

Takes answers apart down to plain numbers and single expressions. Numbers it compares itself;
expressions it hands to the comparison it is given, since it knows no algebra.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from restmcts.domain.answers.assignments import (
    Assignments,
    assignments_of,
    function_of,
    gives_one_name,
    is_said_of_another,
    with_variable,
)
from restmcts.domain.answers.choices import compare_choices
from restmcts.domain.answers.formulas import describes_a_set
from restmcts.domain.answers.normalisation import (
    is_balanced,
    one_spelling,
    split_top_level,
    squeezed,
    without_thousands_separators,
)
from restmcts.domain.answers.number_words import bound_of_words, formula_of_words
from restmcts.domain.answers.parts import (
    SYMBOL,
    Parts,
    equation_sides,
    matrix_rows,
    mirrored_chain,
    number_base,
    parts_of,
    tuple_rows,
    unmarked,
    with_both_signs,
    without_unit,
)
from restmcts.domain.answers.quantities import parse_quantity
from restmcts.domain.answers.scalars import SCALAR_READINGS, compare_bases, compare_quantities
from restmcts.domain.problems import Verdict

MAX_CHARACTERS = 1000
MAX_ITEMS = 40
MAX_DEPTH = 6

CompareExpressions = Callable[[str, str], Verdict]
"""(truth, prediction), both LaTeX in one spelling -> verdict."""

_LONE_LETTER = re.compile(r"(?:\\text\s*\{\s*(?:\(\s*[A-J]\s*\)|[A-J])\s*\}|\(\s*[A-J]\s*\))")
_LETTER_AND_TEXT = re.compile(r"(?:\\text\s*\{\s*\(?([A-J])[).]?\s*\}|\(([A-J])\)|([A-J])[.)])\s*(\S.*)", re.DOTALL)
_SET_OPERATION = re.compile(r"\\(?:setminus|backslash|cap|mid|ne|mathbb)(?![a-z])|\\\{[^{}]*[|:]")
_UNIT_VECTOR = re.compile(r"\\(?:vec|hat|text|begin)(?![a-z])|(?<![a-zA-Z])[ijk](?![a-zA-Z])")
_APPROXIMATELY = re.compile(r"\\(?:approx|simeq|sim)(?![a-z])")
_PLAIN_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_OUTWARD_BRACKETS = re.compile(r"(?=\]|.*\[$)([\[\]])([^()\[\]]+[,;][^()\[\]]+)([\[\]])")
_OPTION_LABEL = re.compile(r"(?:\\text\s*\{\s*)?(?:\([A-H]\)|[A-H][:).])(?:\s*\})?\s+(?=\S)")
_NEGATED_NUMBER = re.compile(
    r"(?:.*\s)?(?:not|isn't|never|cannot\s+be)\s+(?:equal\s+to\s+|be\s+)?(\S*\d\S*)|.*(?:不是|不等于|≠)\s*(\S*\d\S*)",
    re.IGNORECASE,
)
_ALL_REALS = re.compile(
    r"(?:all |any |the )+reals?(?: numbers?| values?)?(?: of [a-z]| [a-z])?|\{R\}|全体实数|所有实数|任意实数",
    re.IGNORECASE,
)
_WHOLE_PARAMETER = re.compile(
    r",?\s*(?:\\text\s*\{[^{}]*\}\s*)?(?:(?:where|for)\s+)?\(?\s*[a-zA-Z]\s*\\in\s*\{?\s*\\?[ZN]\s*\}?\s*\)?$"
)
# Of an integral: any letter means the same.
_CONSTANT = re.compile(r"(?<=\S)\s*\+\s*[cCkK]$")
_NAME = re.compile(r"[a-zA-Z\\]")
_CALCULATION = re.compile(r"[\d\s+\-*/().,{}^!$%]|\\(?:frac|cdot|times|sqrt|div|pi|binom|approx)(?![a-z])")
# Of an integral: any letter means the same.
_CONSTANT = re.compile(r"(?<=\S)\s*\+\s*[cCkK]$")


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
        if truth == prediction or squeezed(truth) == squeezed(prediction):
            return Verdict.RIGHT
        if max(len(truth), len(prediction)) > MAX_CHARACTERS:
            return Verdict.UNDECIDED
        if _PLAIN_NUMBER.fullmatch(truth) and _PLAIN_NUMBER.fullmatch(prediction):
            return compare_quantities(truth, prediction, self.relative_tolerance) or Verdict.UNDECIDED
        spelled_truth, spelled = (_CONSTANT.sub("+ C", _spelled_answer(one)) for one in (truth, prediction))
        if spelled and squeezed(unmarked(spelled_truth)) == squeezed(unmarked(spelled)):
            return Verdict.RIGHT
        if not spelled or not is_balanced(spelled) or not is_balanced(spelled_truth):
            return Verdict.UNDECIDED
        return self._with_either_comma(spelled_truth, spelled)

    def _with_either_comma(self, truth: str, prediction: str) -> Verdict:
        """Read 1,000 as a number; where that is not right, commas may divide a list instead."""
        plain = without_thousands_separators(truth), without_thousands_separators(prediction)
        verdict = self._spelled(*plain, MAX_DEPTH)
        if verdict is Verdict.RIGHT or plain == (truth, prediction):
            return verdict
        return Verdict.RIGHT if self._spelled(truth, prediction, MAX_DEPTH) is Verdict.RIGHT else verdict

    def _spelled(self, truth: str, prediction: str, depth: int) -> Verdict:
        if squeezed(truth) == squeezed(prediction):
            return Verdict.RIGHT
        if depth == 0:
            return Verdict.UNDECIDED
        for reading in (
            self._letters,
            self._approximations,
            self._phrases,
            self._scalars,
            self._assignments,
            self._equations,
            self._matrices,
            self._parts,
        ):
            verdict = reading(truth, prediction, depth)
            if verdict is not None:
                return verdict
        return self._expressions(truth, prediction)

    def _letters(self, truth: str, prediction: str, depth: int) -> Verdict | None:
        """Compare letters of options where the truth is one, or begins with one."""
        if _LONE_LETTER.fullmatch(truth) or (re.fullmatch(r"[A-J]", truth) and _LONE_LETTER.match(prediction)):
            return compare_choices(truth, prediction)
        if labelled := _LETTER_AND_TEXT.fullmatch(truth):
            letter, text = next(filter(None, labelled.groups()[:3])), labelled.group(4)
            if re.fullmatch(r"[A-J]", prediction) or _LONE_LETTER.fullmatch(prediction):
                return compare_choices(letter, prediction)
            if label := _OPTION_LABEL.match(prediction):
                return _all_of(
                    [compare_choices(letter, label.group()), self._spelled(text, prediction[label.end() :], depth - 1)]
                )
            return self._spelled(text, prediction, depth - 1)
        if label := _OPTION_LABEL.match(prediction):
            return self._spelled(truth, prediction[label.end() :], depth - 1)
        return None

    def _approximations(self, truth: str, prediction: str, depth: int) -> Verdict | None:
        """Take the exact or the approximate side of 2\\pi \\approx 6.28, whichever the truth is."""
        sides = [side.strip() for side in _APPROXIMATELY.split(prediction) if side.strip()]
        if len(sides) > 1 and SYMBOL.fullmatch(sides[0]):
            sides = sides[1:]
        if not sides or sides == [prediction] or _APPROXIMATELY.search(truth):
            return None
        return _any_of([self._spelled(truth, side, depth - 1) for side in sides])

    def _phrases(self, truth: str, prediction: str, depth: int) -> Verdict | None:
        """Compare what words say: a bound (at least 12), a calculation (half of 50), a denial (not
        12).
        """
        bounds = bound_of_words(truth), bound_of_words(prediction)
        if any(bounds):
            if parse_quantity(truth) is not None or parse_quantity(prediction) is not None:
                return Verdict.WRONG
            return self._spelled(bounds[0] or truth, bounds[1] or prediction, depth - 1)
        if denied := _NEGATED_NUMBER.fullmatch(prediction):
            same = self._spelled(truth, next(filter(None, denied.groups())), depth - 1) is Verdict.RIGHT
            return Verdict.WRONG if same else Verdict.UNDECIDED
        if parse_quantity(prediction) is None and (formula := formula_of_words(prediction)):
            return self._spelled(truth, formula, depth - 1)
        return None

    def _scalars(self, truth: str, prediction: str, depth: int) -> Verdict | None:
        for reading in SCALAR_READINGS:
            verdict = reading(truth, prediction, self.relative_tolerance)
            if verdict is not None:
                return verdict
        return None

    def _assignments(self, truth: str, prediction: str, depth: int) -> Verdict | None:
        """Compare values by their names; against a tuple or list, in the order of the names."""
        true_values, values = assignments_of(truth), assignments_of(prediction)
        if true_values is None and values is None:
            return None
        if true_values and values:
            if true_values.values.keys() == values.values.keys():
                pairs = [(value, values.values[name]) for name, value in true_values.values.items()]
                return _all_of([self._spelled(first, second, depth - 1) for first, second in pairs])
            same = self._in_any_order(list(true_values.values.values()), list(values.values.values()), depth)
            return Verdict.WRONG if same is Verdict.WRONG else Verdict.UNDECIDED
        named, other = (true_values, prediction) if true_values else (values, truth)
        if named is not None and not named.indexed and gives_one_name(other):
            return Verdict.UNDECIDED
        return self._named_against_unnamed(named, parts_of(other), depth)

    def _named_against_unnamed(self, named: Assignments | None, other: Parts | None, depth: int) -> Verdict | None:
        if named is None or other is None or other.kind not in ("list", "bracketed"):
            return None
        if len(other.items) != len(named.values):
            return Verdict.WRONG
        values, ordered = list(named.values.values()), named.in_order()
        in_any_order = self._in_any_order(values, other.items, depth)
        if in_any_order is not Verdict.RIGHT or (named.indexed and other.kind == "list"):
            return in_any_order
        in_order = Verdict.UNDECIDED if ordered is None else self._in_order(ordered, other.items, depth)
        return Verdict.UNDECIDED if in_order is Verdict.WRONG and other.kind == "list" else in_order

    def _equations(self, truth: str, prediction: str, depth: int) -> Verdict | None:
        """Drop the left side that only one of the two has (x = 5 against 5), or that both have."""
        if len(split_top_level(truth)) > 1 or len(split_top_level(prediction)) > 1:
            return None
        true_sides, sides = equation_sides(truth), equation_sides(prediction)
        if len(sides) > 1 and len(true_sides) == 1:
            return self._value_of_chain(truth, sides, depth)
        if len(true_sides) != 2:
            return None
        if len(sides) == 1:
            is_name = SYMBOL.fullmatch(true_sides[0]) and not describes_a_set(prediction)
            return self._spelled(true_sides[1], prediction, depth - 1) if is_name else None
        if SYMBOL.fullmatch(true_sides[0]) and squeezed(true_sides[0]) == squeezed(sides[0]):
            return self._spelled(true_sides[1], sides[-1], depth - 1)
        return self._functions(truth, prediction, depth)

    def _value_of_chain(self, truth: str, sides: list[str], depth: int) -> Verdict:
        """Compare a value with the end of x = ... = value, or with 12 = 3 * 4; what is said of
        2x, -x or x^2 is not said of x.
        """
        verdict = self._spelled(truth, sides[-1], depth - 1)
        if verdict is Verdict.RIGHT and is_said_of_another(sides):
            return Verdict.UNDECIDED
        if all(_CALCULATION.sub("", side) == "" for side in sides) and verdict is not Verdict.RIGHT:
            return self._spelled(truth, sides[0], depth - 1)
        return verdict

    def _functions(self, truth: str, prediction: str, depth: int) -> Verdict | None:
        """Compare f(x) = 2x + 1 with y = 2x + 1 and with f(t) = 2t + 1."""
        first, second = function_of(truth), function_of(prediction)
        if first is None or second is None or (first[1] is None and second[1] is None):
            return None
        (name, variable, term), (other_name, other_variable, other_term) = first, second
        variable, other_variable = variable or "x", other_variable or "x"
        if variable != other_variable:
            other_term = with_variable(other_term, other_variable, variable)
        verdict = self._spelled(term, other_term, depth - 1)
        same_name = name == other_name or "y" in (name, other_name)
        return verdict if same_name or verdict is not Verdict.RIGHT else Verdict.UNDECIDED

    def _matrices(self, truth: str, prediction: str, depth: int) -> Verdict | None:
        true_rows, rows = matrix_rows(truth), matrix_rows(prediction)
        if true_rows is None and rows is None:
            return None
        if true_rows is None or rows is None:
            other = prediction if rows is None else truth
            if other.startswith(r"\begin"):
                return None
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
        if describes_a_set(truth) or describes_a_set(prediction):
            return self._sets(truth, prediction, true_parts, parts, depth)
        if true_parts is None and parts is None:
            return None
        if _SET_OPERATION.search(truth) or _SET_OPERATION.search(prediction):
            # Only algebra can carry the operation out, and what it cannot show equal may still be.
            return Verdict.RIGHT if self.expressions(truth, prediction) is Verdict.RIGHT else Verdict.UNDECIDED
        true_parts = true_parts or Parts("list", tuple(with_both_signs([truth])))
        parts = parts or Parts("list", tuple(with_both_signs([prediction])))
        return self._same_parts(truth, true_parts, parts, depth)

    def _sets(self, truth: str, prediction: str, true_parts: Parts | None, parts: Parts | None, depth: int) -> Verdict:
        """Compare sets of numbers: by their parts where both are written alike, else by algebra."""
        if true_parts and parts and self._same_parts(truth, true_parts, parts, depth) is Verdict.RIGHT:
            return Verdict.RIGHT
        if mirrored_chain(truth) == squeezed(prediction):
            return Verdict.RIGHT
        return self.expressions(truth, prediction)

    def _same_parts(self, truth: str, true_parts: Parts, parts: Parts, depth: int) -> Verdict:
        if "set" in (true_parts.kind, parts.kind):
            true_parts, parts = _without_repeats(true_parts), _without_repeats(parts)
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
        if truth.endswith(r"^\circ") != prediction.endswith(r"^\circ"):
            in_radians = (truth, bare) if truth.endswith(r"^\circ") else (bare_truth, prediction)
            if self.expressions(*in_radians) is Verdict.RIGHT:
                return Verdict.RIGHT
        if (bare_truth, bare) != (truth, prediction):
            return self._spelled(bare_truth, bare, 1) if squeezed(bare) else Verdict.UNDECIDED
        true_base, base = number_base(truth), number_base(prediction)
        if true_base or base:
            return compare_bases(true_base or (truth, ""), base or (prediction, ""))
        return self.expressions(truth, prediction)


def _spelled_answer(answer: str) -> str:
    """Return an answer in one spelling, words for all reals as a sign, a whole parameter unsaid."""
    spelled = one_spelling(answer)
    if _ALL_REALS.fullmatch(unmarked(spelled)):
        return r"\reals"
    if open_interval := _OUTWARD_BRACKETS.fullmatch(spelled):
        opening, ends, closing = open_interval.groups()
        spelled = ("(" if opening == "]" else "[") + ends + (")" if closing == "[" else "]")
    return _WHOLE_PARAMETER.sub("", spelled) or spelled


def _without_repeats(parts: Parts) -> Parts:
    return replace(parts, items=tuple({squeezed(item): item for item in parts.items}.values()))


def _is_interval(parts: Parts) -> bool:
    return parts.kind == "bracketed" and len(parts.items) == 2


def _brackets_differ(truth: Parts, prediction: Parts) -> bool:
    """Return whether the brackets make two answers of equal parts different: open or closed ends,
    set or tuple, union or list.
    """
    if _is_interval(truth) and _is_interval(prediction):
        return truth.brackets != prediction.brackets
    kinds = {truth.kind, prediction.kind}
    return kinds == {"set", "bracketed"} or ("union" in kinds and len(kinds) > 1 and kinds != {"union", "list"})


def _all_of(verdicts: Sequence[Verdict]) -> Verdict:
    if Verdict.WRONG in verdicts:
        return Verdict.WRONG
    return Verdict.UNDECIDED if Verdict.UNDECIDED in verdicts else Verdict.RIGHT


def _any_of(verdicts: Sequence[Verdict]) -> Verdict:
    if Verdict.RIGHT in verdicts:
        return Verdict.RIGHT
    return Verdict.UNDECIDED if Verdict.UNDECIDED in verdicts else Verdict.WRONG
