"""Plain numbers as people and models write them: separators, signs, currency, percent, fractions,
powers of ten, units.

Never evaluates an expression: a text is one number with its trimmings, or it is not a plain number
and the answer is None.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from restmcts.domain.answers.normalisation import one_spelling
from restmcts.domain.answers.number_words import leading_number, names_a_number
from restmcts.domain.answers.units import conversion, dimensions_of, is_unit_text

MAX_CHARACTERS = 200
MAX_EXPONENT = 400
MIN_DIGITS_OF_ROUNDED = 6

_DIGITS = r"(?:\d{1,3}(?:,\s?\d{3})+(?!\d)|\d+)(?:\.\d*)?|\.\d+"
_NUMBER = re.compile(
    rf"""(?P<sign>[-+]?)\s*(?P<currency>US\$|[$€£¥₹]|(?:USD|EUR|GBP|RMB|CNY)\s)?\s*(?P<inner_sign>[-+]?)\s*
    (?:(?P<whole>\d+)\s*\\frac\s*\{{\s*(?P<top>\d+)\s*\}}\s*\{{\s*(?P<bottom>\d+)\s*\}}
     |(?P<whole2>\d+)\s+(?P<top2>\d+)\s*/\s*(?P<bottom2>\d+)
     |\\frac\s*\{{\s*(?P<top3>[-+]?(?:{_DIGITS}))\s*\}}\s*\{{\s*(?P<bottom3>[-+]?(?:{_DIGITS}))\s*\}}
     |(?P<top4>{_DIGITS})\s*/\s*(?P<bottom4>{_DIGITS})
     |(?P<digits>{_DIGITS})(?:[eE](?P<exponent>[-+]?\d+)(?![a-zA-Z\d]))?)
    (?:\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{{\s*(?P<power>[-+]?\d+)\s*\}}|(?P<power2>[-+]?\d+)))?
    """,
    re.VERBOSE,
)
_REPEATING = re.compile(r"([-+]?)(\d*)\.(\d*)\\overline\s*\{(\d+)\}")
_PERCENT = re.compile(r"\s*(?:%|(?:percent|per cent|pct|percentage points?)\b)")
_MULTIPLIER = re.compile(r"\s+(dozen|hundred|thousand|million|billion|trillion)\b|\s*(百万|千万|百|千|万|亿)")
_MULTIPLIERS = {
    "dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "百": 10**2, "千": 10**3, "万": 10**4, "百万": 10**6, "千万": 10**7, "亿": 10**8,
}  # fmt: skip
_COMPOUND = re.compile(r"(\d+(?:\.\d+)?)\s*(\^\\circ|['\"]|[A-Za-z]+|[\u4e00-\u9fff]+)[\s,]*(?:and\s+)?")
_UNITS_OF_MARKS = {"'": "feet", '"': "inches", "分": "分钟"}
_MINUTES_OF_ARC = {"^\\circ": Fraction(1), "'": Fraction(1, 60), '"': Fraction(1, 3600)}
_SPREAD = re.compile(r"(\()?\s*(-?[\d.,]+)\s*\\pm\s*[\d.,]+\s*(?(1)\))")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as written.

    Attributes:
        value: the number, the percent sign not applied.
        num_decimals: digits after the decimal point; 0 when it has none or is a fraction.
        percent: whether a percent sign follows.
        unit: text of the unit or currency, "" if none.
    """

    value: Fraction
    num_decimals: int = 0
    percent: bool = False
    unit: str = ""


def normalise_number(text: str) -> Fraction | None:
    """Return the exact value of a plain number (percent applied, unit ignored), or None if the
    text is anything else.
    """
    quantity = parse_quantity(one_spelling(text)) if len(text) <= MAX_CHARACTERS else None
    if quantity is None:
        return None
    return quantity.value / 100 if quantity.percent else quantity.value


def parse_quantity(text: str) -> Quantity | None:
    """Return the number that a text in one spelling consists of, with its percent sign and
    unit, or None.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    marked = re.fullmatch(r"\\text\s*\{([^{}]*)\}", text)
    text = marked.group(1).strip() if marked else text
    if compound := _compound(text):
        return compound
    if repeating := _REPEATING.fullmatch(text):
        return _repeating_decimal(repeating)
    found = _NUMBER.match(text)
    if found is None:
        return _number_in_words(text)
    value = _value(found)
    if value is None:
        return None
    end = found.end()
    if percent := _PERCENT.match(text, end):
        end = percent.end()
    elif multiplier := _MULTIPLIER.match(text, end):
        end = multiplier.end()
        value *= _MULTIPLIERS[multiplier.group(1) or multiplier.group(2)]
    unit = _unit(text[end:])
    if unit is None:
        return None
    return Quantity(value, _num_decimals(found), percent is not None, found["currency"] or unit)


def _value(found: re.Match[str]) -> Fraction | None:
    groups = found.groupdict()
    exponent = int(next((groups[name] for name in ("exponent", "power", "power2") if groups[name]), "0")[:6])
    if abs(exponent) > MAX_EXPONENT:
        return None
    top = next((groups[name] for name in ("top", "top2", "top3", "top4") if groups[name]), None)
    if top is None:
        value = _decimal(groups["digits"])
    else:
        bottom = _decimal(next(groups[name] for name in ("bottom", "bottom2", "bottom3", "bottom4") if groups[name]))
        if bottom == 0:
            return None
        value = _decimal(groups["whole"] or groups["whole2"] or "0") + _decimal(top) / bottom
    negative = (found["sign"] == "-") != (found["inner_sign"] == "-")
    return (-value if negative else value) * Fraction(10) ** exponent


def _decimal(digits: str) -> Fraction:
    return Fraction(re.sub(r"[,\s]", "", digits).rstrip(".") or "0")


def _repeating_decimal(found: re.Match[str]) -> Quantity:
    sign, whole, once, period = found.groups()
    places = 10 ** len(once)
    value = Fraction(int(whole + once or "0"), places) + Fraction(int(period), places * (10 ** len(period) - 1))
    return Quantity(-value if sign == "-" else value)


def _num_decimals(found: re.Match[str]) -> int:
    digits = found["digits"] or ""
    exponent = int(found["exponent"] or found["power"] or found["power2"] or "0")
    return max(0, len(digits.partition(".")[2]) - exponent)


def _number_in_words(text: str) -> Quantity | None:
    found = leading_number(text)
    if found is None:
        return None
    value, rest = found
    if percent := _PERCENT.match(rest):
        return Quantity(value, percent=True) if not rest[percent.end() :].strip(" .") else None
    unit = _unit(" " + rest) if rest else ""
    return None if unit is None or names_a_number(re.findall(r"[a-z]+", rest)) else Quantity(value, unit=unit)


def _compound(text: str) -> Quantity | None:
    """Return the sum of parts in units of one dimension, each smaller than the one before: 2 hours
    30 minutes, 5'6".
    """
    parts = [(Fraction(number), unit) for number, unit in _COMPOUND.findall(text)]
    if len(parts) < 2 or _COMPOUND.sub("", text).strip(" .'\""):
        return None
    if parts[0][1] == r"^\circ":
        unit = "°"
        weights = [_MINUTES_OF_ARC.get(name) for _, name in parts]
    else:
        unit = _UNITS_OF_MARKS.get(parts[0][1], parts[0][1])
        weights = [_weight(_UNITS_OF_MARKS.get(name, name), unit) for _, name in parts]
    known = [weight for weight in weights if weight is not None]
    if len(known) < len(parts) or sorted(set(known), reverse=True) != known:
        return None
    return Quantity(
        sum((value * weight for (value, _), weight in zip(parts, known, strict=True)), Fraction(0)), unit=unit
    )


def _weight(unit: str, whole: str) -> Fraction | None:
    """Return how many of `whole` make one `unit`, or None."""
    first, second = dimensions_of(unit), dimensions_of(whole)
    return first[1] / second[1] if first and second and first[0] == second[0] else None


def without_spread(text: str) -> str:
    """Return a measured number without its uncertainty: 3.0 \\pm 0.1 as 3.0."""
    return _SPREAD.sub(r"\2", text)


def _unit(rest: str) -> str | None:
    """Return the unit that the text after a number is ("" for none), or None if it is no unit."""
    if not rest.strip(" ."):
        return ""
    text = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", rest).replace(r"^\circ", "°").strip(" .")
    text = re.sub(r"\\mu\s*", "μ", re.sub(r"\\Omega(?![a-z])", "Ω", text)).strip()
    text = re.sub(r"\s+\^", "^", re.sub(r"\s*\$$", "", text))
    if re.fullmatch(r"°\s*[CF]?|\(?°\)?", text):
        return text.strip("()")
    if text.startswith(("^", "*", "-", "(", "'")) or (text.startswith("/") and not re.match(r"/\s*[A-Za-z]{2}", text)):
        return None
    glued = bool(rest) and rest[0].isalpha()
    return text if is_unit_text(text, glued) else None


def equal_quantities(truth: Quantity, prediction: Quantity) -> bool:
    """Return whether two numbers agree: exactly, or one being the other rounded to at least six
    significant digits.

    A percent sign on one side only is read both ways, as a factor of 1/100 and as the unit that the
    question asked for.
    """
    convert = conversion(prediction.unit, truth.unit)
    if convert is None:
        return False
    return any(
        first == second
        or _is_rounded(first, truth.num_decimals, second)
        or _is_rounded(second, prediction.num_decimals, first)
        for first, second in percent_readings(truth, convert(prediction.value), prediction.percent)
    )


def close_quantities(truth: Quantity, prediction: Quantity, relative_tolerance: float) -> bool:
    """Return whether two numbers differ by at most a share of the larger, in the truth's unit."""
    convert = conversion(prediction.unit, truth.unit)
    if convert is None:
        return False
    pairs = percent_readings(truth, convert(prediction.value), prediction.percent)
    return any(is_close(first, second, relative_tolerance) for first, second in pairs)


def percent_readings(truth: Quantity, predicted: Fraction, predicted_percent: bool) -> list[tuple[Fraction, Fraction]]:
    """Return the pairs (truth, prediction) of values to compare: two when one side alone has a
    percent sign.
    """
    pairs = [(truth.value, predicted)]
    if truth.percent != predicted_percent:
        pairs.append((truth.value / 100, predicted) if truth.percent else (truth.value, predicted / 100))
    return pairs


def _is_rounded(written: Fraction, num_decimals: int, exact: Fraction) -> bool:
    """Return whether `written` is `exact` rounded to its own decimals, with enough significant
    digits to count as equal.
    """
    units_of_last_place = Fraction(10) ** num_decimals
    if num_decimals == 0 or abs(written) * units_of_last_place < 10 ** (MIN_DIGITS_OF_ROUNDED - 1):
        return False
    return abs(exact - written) * units_of_last_place <= Fraction(1, 2)


def is_close(truth: Fraction, predicted: Fraction, relative_tolerance: float) -> bool:
    """Return whether two values differ by at most the tolerance times the larger of them, as
    SciBench grades.

    Where the truth is 0 the tolerance would allow nothing but 0 itself; values below 1e-9 then
    count as 0.
    """
    if truth == 0:
        return abs(predicted) < Fraction(1, 10**9)
    return abs(truth - predicted) <= Fraction(relative_tolerance) * max(abs(truth), abs(predicted))
