"""Units that answers carry: which texts are units, and by what factor two of them differ.

Knows the units that school and college problems use; any other word is a unit of unknown dimension,
equal to every unit.
"""

import re
from fractions import Fraction

Dimensions = tuple[tuple[str, int], ...]
_Unit = tuple[str, int, Fraction]  # base, power of the base, factor


def _table() -> dict[str, _Unit]:
    rows = (
        ("length", 1, "1", "m meter meters metre metres"),
        ("length", 1, "1/100", "cm centimeter centimeters centimetre centimetres"),
        ("length", 1, "1/1000", "mm millimeter millimeters millimetre millimetres"),
        ("length", 1, "1000", "km kilometer kilometers kilometre kilometres"),
        ("length", 1, "254/10000", "inch inches"),
        ("length", 1, "3048/10000", "ft foot feet"),
        ("length", 1, "9144/10000", "yd yard yards"),
        ("length", 1, "1609344/1000", "mile miles"),
        ("length", 3, "1/1000", "L liter liters litre litres"),
        ("length", 3, "1/1000000", "mL ml milliliter milliliters millilitre millilitres"),
        ("time", 1, "1", "s sec secs second seconds"),
        ("time", 1, "60", "min mins minute minutes"),
        ("time", 1, "3600", "h hr hrs hour hours"),
        ("time", 1, "86400", "day days"),
        ("time", 1, "604800", "week weeks"),
        ("mass", 1, "1", "g gram grams"),
        ("mass", 1, "1000", "kg kilogram kilograms"),
        ("mass", 1, "1/1000", "mg milligram milligrams"),
        ("dollar", 1, "1", "$ dollar dollars usd"),
        ("dollar", 1, "1/100", "¢ cent cents"),
        ("euro", 1, "1", "€ euro euros eur"),
        ("pound sterling", 1, "1", "£ gbp"),
        ("angle", 1, "1", "degree degrees deg °"),
        ("energy", 1, "1", "J joule joules"),
        ("energy", 1, "1000", "kJ kilojoule kilojoules"),
        ("mole", 1, "1", "mol mole moles"),
        ("temperature", 1, "1", "K kelvin kelvins"),
    )
    return {name: (base, power, Fraction(factor)) for base, power, factor, names in rows for name in names.split()}


_UNITS = _table()
_SINGLE_LETTERS = frozenset("mgshLJNKVWATCF")
_TOKEN = re.compile(r"[/·*]|\\cdot|\bper\b|[A-Za-z]+|[$€£¢°]|\^\{?(-?\d)\}?|\s+|\(|\)|.", re.DOTALL)


def is_unit_text(text: str, glued: bool) -> bool:
    """Tell whether a text that follows a value names its unit.

    Args:
        text: what stands after the value, without font commands.
        glued: whether no space divides it from the value, when letters may as well be variables.
    """
    if not re.fullmatch(r"[A-Za-z$€£¢°/·*()^{}.'\s\d\-]*|(?:\\cdot|[A-Za-z/^{}\s\d\-])*|\s*[一-鿿]{1,6}", text):
        return False
    if re.search(r"(?<!\^)(?<!\^\{)(?<!\^-)(?<!\^\{-)\d|\s-\s", text):
        return False
    return all(_is_unit_word(word, glued and place == 0) for place, word in enumerate(re.findall(r"[A-Za-z]+", text)))


def _is_unit_word(word: str, glued: bool) -> bool:
    if len(word) == 1:
        return word in _SINGLE_LETTERS
    return word in _UNITS or word.lower() in _UNITS or len(word) > 3 or not glued


def unit_ratio(unit: str, other: str) -> Fraction | None:
    """Return how many of `other` make one `unit`; 1 if either is unknown or missing; None if
    they measure different things.
    """
    first, second = _dimensions(unit), _dimensions(other)
    if first is None or second is None:
        return Fraction(1)
    return first[1] / second[1] if first[0] == second[0] else None


def _dimensions(unit: str) -> tuple[Dimensions, Fraction] | None:
    """Return a unit's base powers and factor, or None when any word of it is unknown."""
    text = re.sub(r"\bsq(?:uare)?\.?\s+(\w+)", r"\1^2", re.sub(r"\bcu(?:bic)?\.?\s+(\w+)", r"\1^3", unit.strip()))
    text = re.sub(r"(\w+)\s+squared", r"\1^2", re.sub(r"(\w+)\s+cubed", r"\1^3", text))
    text = "inch" if text == "in" else re.sub(r"^in(?=\^)", "inch", text)
    powers: dict[str, int] = {}
    total, sign = Fraction(1), 1
    atoms: list[tuple[_Unit, int]] = []
    for token in _TOKEN.finditer(text):
        word = token.group()
        if word in ("/", "per"):
            sign = -1
        elif token.group(1) and atoms:
            atoms[-1] = (atoms[-1][0], atoms[-1][1] * int(token.group(1)))
        elif word.strip() and word not in ("·", "*", r"\cdot", "(", ")"):
            known = _UNITS.get(word) or _UNITS.get(word.lower())
            if known is None:
                return None
            atoms.append((known, sign))
    for (base, power, factor), exponent in atoms:
        powers[base] = powers.get(base, 0) + power * exponent
        total *= factor**exponent
    return (tuple(sorted(powers.items())), total) if atoms else None
