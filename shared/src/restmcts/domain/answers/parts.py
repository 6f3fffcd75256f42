"""Taking answers apart: lists, tuples, sets, intervals, inequalities, unions, matrices, words,
clock times, number bases.

Knows how such things are written, not when two of them are the same. Works on texts in one
spelling.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from restmcts.domain.answers.normalisation import split_top_level
from restmcts.domain.answers.quantities import Quantity, parse_quantity
from restmcts.domain.answers.units import is_unit_text

_WORD_TEXT = re.compile(r"[^\W\d_][^\W\d_'\-]*(?:[ ,./'&-]+[^\W\d_][^\W\d_'\-]*)*")
_SHORT = "yes no odd one two six ten all red max min sum not east west none"
_SHORT_WORDS = frozenset(_SHORT.split())
_FILLERS = frozenset({"a", "an", "the", "is", "are", "it", "its", "of", "only"})
_RELATION = re.compile(r"(\\le(?![a-z])|\\ge(?![a-z])|<=|>=|<|>)")
_OTHER_EQUALS = re.compile(r"[<>!]=|==")
SYMBOL = re.compile(r"\\?[a-zA-Z]+(?:_\{?\w+\}?)?(?:\s*\(\s*\\?\w+(?:\s*,\s*\w+)*\s*\))?'*")
_MATRIX = re.compile(r"\\begin\s*\{([pbB]?matrix|smallmatrix|array)\}(?:\s*\{[lcr|]*\})?(.*?)\\end\s*\{\1\}", re.DOTALL)
_UNIT_TAIL = re.compile(
    r"(?:\\text\s*\{[^{}]*\}\s*(?:\^\s*(?:\{-?\d\}|\d))?[\s/]*)+$"
    r"|(?<=[\d)}\w])\s+[A-Za-z]{2,}(?:[\s.]+[A-Za-z]{2,})*[\s.]*(?:\^\s*(?:\{\d\}|\d))?$"
)
_NUMBERED = re.compile(
    r"(?:only|just|exactly|about|around|roughly|approximately|day|page|age|year|number)\s|[约共]|.*[\u4e00-\u9fff]{2}",
    re.I,
)
# 10 degrees is no 10 inside a sine.
_IN_DEGREES = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z]).*\^\\circ\s*$")


@dataclass(frozen=True, slots=True)
class Parts:
    """An answer made of several: `kind` is "list" (no brackets), "set", "bracketed" or "union";
    `brackets` as written.
    """

    kind: str
    items: tuple[str, ...]
    brackets: str = ""


def without_unit(text: str) -> str:
    """Return an expression without the unit that closes it; the expression itself where none
    does.
    """
    found = _UNIT_TAIL.search(text)
    if found and found.start() > 0:
        return text[: found.start()].strip() if is_unit_text(unmarked(found.group()).strip(), glued=False) else text
    if _IN_DEGREES.search(text):
        return text
    return re.sub(r"\s*(?:\^\\circ|%)\s*$", "", text).removeprefix("$").strip() or text


def parts_of(text: str) -> Parts | None:
    """Return the parts of a list, set, tuple, interval, union or inequality, or None for a
    single expression.
    """
    text = re.sub(r"^\\?[a-zA-Z]\s*\\in(?![a-z])\s*", "", text.strip())
    if len(pieces := re.split(r"\\cup(?![a-z])", text)) > 1:
        return Parts("union", tuple(piece.strip() for piece in pieces))
    if interval := _interval_of_inequality(text):
        return interval
    if (inner := inside_brackets(text)) is not None:
        brackets = text[:2] + text[-2:] if text.startswith("\\{") else text[0] + text[-1]
        items = split_top_level(inner) if inner else []
        if brackets in (r"\{\}", "{}"):
            return Parts("set", tuple(with_both_signs(items)))
        if len(items) > 1 and len(both := with_both_signs([text])) > 1:
            return Parts("list", tuple(both))
        return Parts("bracketed", tuple(items), brackets) if len(items) > 1 else None
    items = _list_items(text)
    return Parts("list", tuple(items)) if len(items) > 1 else None


def enumerated(text: str) -> list[str]:
    """Return what commas, semicolons and the words and, or divide, outside brackets."""
    joined = re.sub(
        r",?\s*(?:\\text\s*\{\s*(?:and|or)\s*\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z]))\s*|\s*[和或且]\s*", ", ", text
    )
    return [item for item in split_top_level(joined) if item]


def _list_items(text: str) -> list[str]:
    items = enumerated(text)
    names = [equation_sides(item) for item in items]
    # x = 1, x = 2 and x = 1, 2 enumerate values of one unknown.
    if len(items) > 1 and len(names[0]) == 2 and SYMBOL.fullmatch(names[0][0].strip()):
        items = [sides[-1].strip() for sides in names]
    return with_both_signs(items)


def equation_sides(text: str) -> list[str]:
    """Return what equals signs outside brackets divide; one text where there is none."""
    masked = _OTHER_EQUALS.sub(lambda found: chr(0xE000 + ord(found.group()[0])), text.replace(":=", "="))
    parts = split_top_level(masked, "=")
    return [re.sub("[\ue000-\ue0ff]", lambda found: chr(ord(found.group()) - 0xE000) + "=", part) for part in parts]


def with_both_signs(items: Sequence[str]) -> list[str]:
    """Write an item with one plus-minus sign as the two items it represents."""
    both: list[str] = []
    for item in items:
        halves = re.split(r"\\pm(?![a-z])", item)
        if len(halves) == 2:
            plus = f"{halves[0]}+{halves[1]}" if halves[0].strip() else halves[1].strip()
            both += [plus, f"{halves[0]}-{halves[1].strip()}"]
        else:
            both.append(item)
    return both


def inside_brackets(text: str) -> str | None:
    """Return what is between brackets that open at the start and close only at the end."""
    opening = text[:2] if text.startswith(r"\{") else text[:1]
    closing = text[-2:] if text.endswith(r"\}") else text[-1:]
    if (
        opening not in ("(", "[", r"\{", "{")
        or closing not in (")", "]", r"\}", "}")
        or len(text) < len(opening + closing)
    ):
        return None
    depth = 0
    tokens = list(re.finditer(r"\\[{}]|\\.|[{}()\[\]]", text, re.DOTALL))
    for token in tokens:
        depth += {"(": 1, "[": 1, "{": 1, r"\{": 1, ")": -1, "]": -1, "}": -1, r"\}": -1}.get(token.group(), 0)
        if depth == 0 and token.end() < len(text):
            return None
    return text[len(opening) : len(text) - len(closing)].strip()


def _interval_of_inequality(text: str) -> Parts | None:
    pieces = [piece.strip() for piece in _RELATION.split(text)]
    if len(pieces) == 3 and SYMBOL.fullmatch(pieces[2]) and not SYMBOL.fullmatch(pieces[0]):
        pieces = [pieces[2], _mirrored(pieces[1]), pieces[0]]
    if len(pieces) == 5 and SYMBOL.fullmatch(pieces[2]) and _is_less(pieces[1]) == _is_less(pieces[3]):
        low, high = (0, 4) if _is_less(pieces[1]) else (4, 0)
        first, second = (1, 3) if low == 0 else (3, 1)
        return _interval(pieces[low], pieces[high], not _is_strict(pieces[first]), not _is_strict(pieces[second]))
    if len(pieces) == 3 and SYMBOL.fullmatch(pieces[0]) and "," not in pieces[2]:
        closed = not _is_strict(pieces[1])
        below = _is_less(pieces[1])
        return (
            _interval(r"-\infty", pieces[2], False, closed) if below else _interval(pieces[2], r"\infty", closed, False)
        )
    return None


def _interval(low: str, high: str, low_closed: bool, high_closed: bool) -> Parts:
    return Parts("bracketed", (low, high), ("[" if low_closed else "(") + ("]" if high_closed else ")"))


def _is_less(relation: str) -> bool:
    return relation.startswith(("<", r"\le"))


def _is_strict(relation: str) -> bool:
    return relation in ("<", ">")


def _mirrored(relation: str) -> str:
    return {"<": ">", ">": "<", "<=": ">=", ">=": "<=", r"\le": r"\ge", r"\ge": r"\le"}[relation]


def mirrored_chain(text: str) -> str | None:
    """Return a chain of inequalities read from right to left, without spaces, or None."""
    pieces = [re.sub(r"\s+", "", piece) for piece in _RELATION.split(text)]
    if len(pieces) < 3:
        return None
    return "".join(_mirrored(piece) if place % 2 else piece for place, piece in reversed(list(enumerate(pieces))))


def matrix_rows(text: str) -> list[list[str]] | None:
    """Return a matrix's entries by row, or None if the text is no matrix."""
    inner = inside_brackets(text) or ""
    found = _MATRIX.fullmatch(text) or _MATRIX.fullmatch(inner)
    if found is None:
        return _nested_rows(inner)
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\cr(?![a-z])", found.group(2)) if row.strip()]
    return [[cell.strip() for cell in row.split("&")] for row in rows]


def _nested_rows(inner: str) -> list[list[str]] | None:
    """Return the entries of rows in brackets, as programs write a matrix: [1, 2], [3, 4]."""
    rows = [inside_brackets(row) for row in split_top_level(inner)]
    if len(rows) < 2 or not all(
        row is not None and row_text.startswith("[") for row, row_text in zip(rows, split_top_level(inner), strict=True)
    ):
        return None
    return [split_top_level(row or "") for row in rows]


def tuple_rows(text: str) -> list[list[str]] | None:
    """Return a tuple's or list's entries as one row, or None if the text is neither."""
    parts = parts_of(re.sub(r"^\\langle\s*(.*)\\rangle$", r"(\1)", text))
    return [list(parts.items)] if parts and parts.kind in ("bracketed", "list") else None


def number_among_words(text: str) -> list[Quantity]:
    """Return the plain numbers in a phrase of words ("he has 12 apples in 3 bags"); empty if it
    is no such phrase.
    """
    is_phrase = len(re.findall(r"[^\W\d_]{2,}", text)) >= 2 or _NUMBERED.match(text)
    if not is_phrase or re.search(r"[\\^_={}()\[\]*+]", text) or re.search(r"\d[A-Za-z]{1,2}\b", text):
        return []
    if re.search(r"[^\W\d_]{2,},? (?:and|or) \S*\d", text) is None and re.match(r"\S*\d\S*,? (?:and|or) \S*\d", text):
        return []
    found = re.findall(r"[-$]{0,2}\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?\s?%?", text)
    numbers = [parse_quantity(one.strip().rstrip(",")) for one in found]
    return [number for number in numbers if number is not None]


def unmarked(text: str) -> str:
    """Return the text with its text commands replaced by what they hold."""
    return re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text)


def is_marked_text(text: str) -> bool:
    """Return whether the whole answer is in a text command, and so is words and no product of
    variables.
    """
    return re.fullmatch(r"\\text\s*\{[^{}]*\}", text) is not None


def words_of(text: str) -> list[str] | None:
    """Return an answer's words in lower case without articles, or None if it is not an answer
    in words.
    """
    inner = unmarked(text).strip()
    if not _WORD_TEXT.fullmatch(inner):
        return None
    words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", inner.casefold())
    looks_like_variables = not is_marked_text(text) and all(
        len(word) <= 3 and word not in _SHORT_WORDS for word in words
    )
    return (
        None if looks_like_variables and inner.isascii() else [word for word in words if word not in _FILLERS] or words
    )


@dataclass(frozen=True, slots=True)
class ColonNumbers:
    """Numbers with colons between them: a time of day or a ratio.

    Attributes:
        fields: the numbers.
        half: "a" or "p" for the half of the day, "" if none is written.
        may_be_time: whether every number after the first has two digits.
    """

    fields: tuple[int, ...]
    half: str
    may_be_time: bool

    def same_time(self, other: "ColonNumbers") -> bool:
        """Return whether two times of day agree, one of which may leave its half out."""
        if self.fields[1:] != other.fields[1:]:
            return False
        hours = {self._hour(half) for half in ([self.half] if self.half else ["", "a", "p"] if other.half else [""])}
        return other._hour(other.half) in hours or (not other.half and other.fields[0] == self.fields[0])

    def _hour(self, half: str) -> int:
        hour = self.fields[0]
        return hour if not half or hour > 12 else hour % 12 + 12 * (half == "p")

    def same_ratio(self, other: "ColonNumbers") -> bool:
        """Return whether two ratios are proportional."""
        if len(self.fields) != len(other.fields):
            return False
        pairs = list(zip(self.fields, other.fields, strict=True))
        return all(first * pairs[0][1] == second * pairs[0][0] for first, second in pairs) and any(self.fields)


def colon_numbers(text: str) -> ColonNumbers | None:
    """Return the numbers of a clock time or ratio; None if the text is neither."""
    found = re.fullmatch(r"(\d{1,6}(?:\s*:\s*\d{1,6})*)\s*(?:\\text\s*\{)?\s*(?:([aApP])\.?\s*[mM]\.?)?\s*\}?", text)
    if found is None or (":" not in text and not found.group(2)):
        return None
    digits = [field.strip() for field in found.group(1).split(":")]
    fields = tuple(int(field) for field in digits)
    is_time = all(len(field) == 2 for field in digits[1:])
    return ColonNumbers(fields if len(fields) > 1 else (*fields, 0), (found.group(2) or "").lower(), is_time)


_RESIDUE = re.compile(
    r"(?:[a-zA-Z]\s*\\equiv\s*)?(-?\d+)\s*\(?\s*(?:\\text\s*\{)?\s*\\?(?:pmod|bmod|mod)\s*\}?\s*\{?\s*(\d+)\s*\}?\s*\)?"
)


def residue(text: str) -> tuple[int, int] | None:
    """Return the least residue and the modulus of a congruence such as x \\equiv 12 \\pmod 7, or
    None.
    """
    found = _RESIDUE.fullmatch(text)
    if found is None or int(found.group(2)) == 0:
        return None
    return int(found.group(1)) % int(found.group(2)), int(found.group(2))


_BASE_WORDS = {
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
    "twelve": "12",
    "sixteen": "16",
}


def number_base(text: str) -> tuple[str, str] | None:
    """Return the digits and base of a number written with its base, such as 4210_{5}; None if
    it is none.
    """
    text = unmarked(text)
    found = re.fullmatch(r"\(?([0-9A-Za-z]+)\)?\s*_\s*(?:\{\s*(\w+)\s*\}|(\d+))", text)
    if found is None or not re.search(r"\d", found.group(1)) or not re.match(r"\d|[A-Fa-f]+\d", found.group(1)):
        return None
    base = found.group(2) or found.group(3)
    return found.group(1), _BASE_WORDS.get(base, base)
