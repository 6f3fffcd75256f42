"""Units that answers carry: which texts are units, and by what two of them differ.

Knows the units that school and college problems use; any other word is a unit of unknown dimension,
equal to every unit.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from restmcts.domain.answers.changing_words import CHANGING_WORDS, are_opposite, changes_in_chinese, is_function_of

Dimensions = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a number in one unit becomes one in another: times `factor`, then plus `offset`."""

    factor: Fraction
    offset: Fraction = Fraction(0)

    def __call__(self, value: Fraction) -> Fraction:
        """Return the converted value."""
        return value if self is _SAME else value * self.factor + self.offset


_SAME = Conversion(Fraction(1))


@dataclass(frozen=True, slots=True)
class _Unit:
    dimensions: Dimensions
    factor: Fraction


# Powers of the base units, factor, names. Energies and the like are in kilogram, metre, second.
_ROWS = (
    ("length", "1", "meter meters metre metres"),
    ("length", "1/100", "centimeter centimeters centimetre centimetres"),
    ("length", "1/1000", "millimeter millimeters millimetre millimetres"),
    ("length", "1000", "kilometer kilometers kilometre kilometres"),
    ("length", "254/10000", "inch inches"),
    ("length", "3048/10000", "ft foot feet"),
    ("length", "9144/10000", "yd yds yard yards"),
    ("length", "1609344/1000", "mile miles mi"),
    ("length", "1/10000000000", "Å angstrom angstroms"),
    ("length^3", "1/1000", "liter liters litre litres"),
    ("length^3", "1/1000000", "ml milliliter milliliters millilitre millilitres cc"),
    ("time", "1", "sec secs second seconds"),
    ("time", "60", "min mins minute minutes"),
    ("time", "3600", "h hr hrs hour hours"),
    ("time", "86400", "day days"),
    ("time", "604800", "week weeks"),
    ("mass", "1/1000", "gram grams"),
    ("mass", "1", "kilogram kilograms"),
    ("mass", "45359237/100000000", "lb lbs pound pounds"),
    ("mass", "45359237/1600000000", "oz ounce ounces"),
    ("mass", "1000", "ton tons tonne tonnes"),
    ("money", "1", "$ US$ dollar dollars usd"),
    ("money", "1/100", "¢ cent cents"),
    ("euro", "1", "€ euro euros eur"),
    ("sterling", "1", "£ gbp"),
    ("angle", "1", "degree degrees deg °"),
    ("radian", "1", "rad radian radians"),
    ("mass length^2 time^-2", "1", "joule joules"),
    ("mass length^2 time^-2", "1000", "kilojoule kilojoules"),
    ("mass length^2 time^-2", "4184/1000", "calorie calories"),
    ("mass length^-1 time^-2", "101325", "atm atmosphere atmospheres"),
    ("mass length^-1 time^-2", "101325/760", "torr Torr mmHg"),
    ("mass length time^-2", "1", "newton newtons"),
    ("mass length^2 time^-3", "1", "watt watts"),
    ("mole", "1", "mole moles"),
    ("temperature", "1", "kelvin kelvins"),
    ("length time^-1", "1609344/3600000", "mph"),
    ("length time^-1", "1000/3600", "kmh kph"),
    ("length", "1", "米"),
    ("length", "1/10", "分米"),
    ("length", "1/100", "厘米"),
    ("length", "1/1000", "毫米"),
    ("length", "1000", "千米 公里"),
    ("length^2", "1", "平方米"),
    ("length^2", "1/100", "平方分米"),
    ("length^2", "1/10000", "平方厘米"),
    ("length^2", "1000000", "平方千米 平方公里"),
    ("length^3", "1", "立方米"),
    ("length^3", "1/1000", "立方分米 升"),
    ("length^3", "1/1000000", "立方厘米 毫升"),
    ("time", "1", "秒"),
    ("time", "60", "分钟"),
    ("time", "3600", "小时"),
    ("time", "86400", "天"),
    ("time", "604800", "周"),
    ("mass", "1/1000", "克"),
    ("mass", "1/2", "斤"),
    ("mass", "1", "千克 公斤"),
    ("mass", "1000", "吨"),
    ("money", "1", "元 美元"),
    ("money", "1/10", "角"),
    ("angle", "1", "度"),
)
_PREFIXABLE = (
    ("length", "1", "m"),
    ("length^3", "1/1000", "L l"),
    ("time", "1", "s"),
    ("time^-1", "1", "Hz"),
    ("mass", "1/1000", "g"),
    ("mass length^2 time^-2", "1", "J"),
    ("mass length^2 time^-2", "1602176634/10000000000000000000000000000", "eV"),
    ("mass length^2 time^-2", "4184/1000", "cal"),
    ("mass length^-1 time^-2", "1", "Pa"),
    ("mass length^-1 time^-2", "100000", "bar"),
    ("mass length time^-2", "1", "N"),
    ("mass length^2 time^-3", "1", "W"),
    ("mole", "1", "mol"),
    ("current", "1", "A"),
    ("current time", "1", "C"),
    ("mass length^2 time^-3 current^-1", "1", "V"),
    ("mass length^2 time^-3 current^-2", "1", "Ω ohm ohms"),
    ("mass^-1 length^-2 time^4 current^2", "1", "F"),
    ("mass time^-2 current^-1", "1", "T"),
    ("temperature", "1", "K"),
)
_PREFIXES = {"": 0, "n": -9, "μ": -6, "u": -6, "m": -3, "c": -2, "d": -1, "k": 3, "M": 6, "G": 9, "p": -12, "f": -15}


def _table() -> dict[str, _Unit]:
    table = {
        prefix + name: _Unit(_powers(dimensions), Fraction(factor) * Fraction(10) ** exponent)
        for dimensions, factor, names in _PREFIXABLE
        for name in names.split()
        for prefix, exponent in _PREFIXES.items()
    }
    return table | {
        name: _Unit(_powers(dimensions), Fraction(factor))
        for dimensions, factor, names in _ROWS
        for name in names.split()
    }


def _powers(dimensions: str) -> Dimensions:
    return tuple(
        sorted((base, int(power or 1)) for base, _, power in (one.partition("^") for one in dimensions.split()))
    )


_UNITS = _table()
_SINGLE_LETTERS = frozenset("mgshLJNKVWATCF")
_TOKEN = re.compile(
    r"[/·*]|\\cdot|\bper\b|[A-Za-zμΩÅ]+|[一-鿿]+|[$€£¢°]|\^\s*\{?\s*(-?\d)\s*\}?|\s+|\(|\)|.", re.DOTALL
)
_UNIT_TEXT = re.compile(r"[A-Za-zμΩÅ$€£¢₹°/·*()^{}.,'\s\d\-]*|(?:\\cdot|[A-Za-zμΩÅ/^{}\s\d\-])*|\s*[一-鿿]{1,6}")


def is_unit_text(text: str, glued: bool) -> bool:
    """Return whether a text that follows a value names its unit.

    Args:
        text: what is after the value, without font commands.
        glued: whether no space divides it from the value, when letters may as well be variables.
    """
    if not _UNIT_TEXT.fullmatch(text) or re.search(r"(?<!\^)(?<!\^\{)(?<!\^-)(?<!\^\{-)\d|\s-\s", text):
        return False
    words = re.findall(r"[A-Za-zμΩÅ]+", text)
    if (
        re.search("[百千万亿一二两三四五六七八九十]", text)
        or changes_in_chinese(text)
        or is_function_of(text)
        or not all(_is_unit_word(word, glued) for word in words)
    ):
        return False
    # "5 meters squared" is an area, "5 squared" is 25.
    return all(
        word.lower() not in CHANGING_WORDS or (place and word.lower() in ("squared", "cubed"))
        for place, word in enumerate(words)
    )


def _is_unit_word(word: str, glued: bool) -> bool:
    if word == "in":
        return True
    if word in _UNITS and (len(word) > 1 or (word in _SINGLE_LETTERS and not glued) or not word.isascii()):
        return True
    return (word.lower() in _UNITS and len(word) > 1) or (
        not word.isupper() and (len(word) > 3 or (len(word) == 3 and not glued and _has_vowel(word)))
    )


def _has_vowel(word: str) -> bool:
    return re.search(r"[aeiouy]", word.lower()) is not None


def conversion(unit: str, other: str) -> Conversion | None:
    """Return how a number in `unit` becomes one in `other`; unchanged if either is unknown or
    missing; None if they measure different things.
    """
    if not unit or not other:
        return _SAME
    if are_opposite(unit, other):
        return None
    if {_temperature(unit), _temperature(other)} == {"C", "K"}:
        return Conversion(Fraction(1), Fraction(27315, 100) * (1 if _temperature(unit) == "C" else -1))
    first, second = dimensions_of(unit), dimensions_of(other)
    if first is None or second is None:
        return _SAME
    return Conversion(first[1] / second[1]) if first[0] == second[0] else None


def _temperature(unit: str) -> str:
    plain = unit.replace(" ", "")
    return "C" if plain in ("°C", "degreesCelsius", "celsius") else "K" if plain in ("K", "kelvin", "kelvins") else ""


def dimensions_of(unit: str) -> tuple[Dimensions, Fraction] | None:
    """Return a unit's base powers and factor, or None when any word of it is unknown."""
    text = re.sub(r"\bsq(?:uare)?\.?\s+(\w+)", r"\1^2", re.sub(r"\bcu(?:bic)?\.?\s+(\w+)", r"\1^3", unit.strip()))
    text = re.sub(r"(\w+)\s+squared", r"\1^2", re.sub(r"(\w+)\s+cubed", r"\1^3", text))
    text = "inch" if text == "in" else re.sub(r"^in(?=\^)", "inch", text)
    atoms: list[tuple[_Unit, int]] = []
    sign = 1
    for token in _TOKEN.finditer(text):
        word = token.group()
        if word in ("/", "per"):
            sign = -1
        elif token.group(1) and atoms:
            atoms[-1] = (atoms[-1][0], atoms[-1][1] * int(token.group(1)))
        elif word.strip() and word not in ("·", "*", r"\cdot", "(", ")", "."):
            known = _UNITS.get(word) or _UNITS.get(word.lower())
            if known is None:
                return None
            atoms.append((known, sign))
    return _product(atoms) if atoms else None


def _product(atoms: list[tuple[_Unit, int]]) -> tuple[Dimensions, Fraction]:
    powers: dict[str, int] = {}
    total = Fraction(1)
    for unit, exponent in atoms:
        total *= unit.factor**exponent
        for base, power in unit.dimensions:
            powers[base] = powers.get(base, 0) + power * exponent
    return tuple(sorted((base, power) for base, power in powers.items() if power)), total
