"""When two steps say the same in other words: their texts agree once case, spacing, punctuation and
opening connectives are gone.

Knows no meaning: numbers, operators, brackets and every other word count as they are, in their
order.
"""

import re
import unicodedata

_PARTS = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|[^\W\d_]+|[^\s\w]")
_IGNORED = frozenset(",.;:!?\"'`$’‘“”")
_CONNECTIVES = frozenset(
    {"also", "and", "finally", "first", "hence", "last", "next", "now", "second", "so", "then", "therefore", "thus"}
)
_SAME_SIGN = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})


def normalised_step(text: str) -> tuple[str, ...]:
    """Return what is left of a step: words, numbers and signs, in order.

    Connectives are dropped at the beginning only, and never all that there is.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_SAME_SIGN)
    parts = [
        part.replace(",", "") if part[0].isdigit() else part for part in _PARTS.findall(plain) if part not in _IGNORED
    ]
    start = next((place for place, part in enumerate(parts) if part not in _CONNECTIVES), 0)
    return tuple(parts[start:])
