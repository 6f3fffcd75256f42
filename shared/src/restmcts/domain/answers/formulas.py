"""Formulas in one spelling made readable to a LaTeX parser without loss: decimals as fractions,
degrees in radians, powers of ten, binomials.

Knows notations only; None where a notation would be read as something else.
"""

import re

_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?![\d.])")
_SCIENTIFIC = re.compile(r"(?<![\d.a-zA-Z])(\d+(?:\.\d*)?|\.\d+)[eE]([-+]?\d+)(?![\d.a-zA-Z])")
_DEGREES = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?|\.\d+|(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z]))\s*\^\s*\{?\\circ\s*\}?")
_BINOMIALS = (
    (re.compile(r"(?<![a-zA-Z\\])C\s*\(\s*(\d+)\s*,\s*(\d+)\s*\)"), r"\\binom{\1}{\2}"),
    (re.compile(r"(?:\{\}|\\,)?\^\s*\{?(\d+)\}?\s*C\s*_\s*\{?(\d+)\}?"), r"\\binom{\1}{\2}"),
    (re.compile(r"(?<![a-zA-Z\d}])(?:\{\})?_\s*\{?(\d+)\}?\s*C\s*_\s*\{?(\d+)\}?"), r"\\binom{\1}{\2}"),
)
_UNREADABLE = re.compile(
    r"\\circ(?![a-z])|\\text|\\overline\s*\{\s*\d|\\dot|(?<![_^\d.])\d+\s+\d|\.\.\.|\\l?dots|[?]|!!|(?<![a-zA-Z\\])[a-zA-Z]\s*\^\s*\{?\s*(?:T|\\top)\s*\}?(?![a-zA-Z])|\\pm|\\mp|[%$#\'\"]"
)

_RELATION = re.compile(r"\\(?:le|ge|ne)(?![a-z])|[<>]")
_SET = re.compile(
    r"\\(?:cup|cap|setminus|backslash|reals|in)(?![a-z])|\\\{[^{}]*(?::|\||\\mid)|^\].*[\[\])]$|^[\[(].*\[$"
)


def has_relation(text: str) -> bool:
    """Return whether a text holds an inequality."""
    return _RELATION.search(text) is not None


def describes_a_set(text: str) -> bool:
    """Return whether a text describes a set of real numbers otherwise than by a single interval or
    a list.
    """
    return has_relation(text) or _SET.search(text) is not None


def parsable_formula(text: str) -> str | None:
    """Return the formula as a parser reads it rightly, or None where it would not."""
    text = text.replace(r"^\circ", r"^{\circ}").strip()
    text = _SCIENTIFIC.sub(r"(\1 \\cdot 10^{\2})", text)
    text = _DEGREES.sub(r"(\\frac{\1 \\pi}{180})", text)
    for pattern, replacement in _BINOMIALS:
        text = pattern.sub(replacement, text)
    text = _DECIMAL.sub(_fraction, text)
    text = re.sub(r"(?<=\d)\.(?!\d)", "", text)
    return None if not text or _UNREADABLE.search(text) else text


def _fraction(found: re.Match[str]) -> str:
    whole, decimals = found.groups()
    return rf"(\frac{{{int(whole + decimals)}}}{{{10 ** len(decimals)}}})"
