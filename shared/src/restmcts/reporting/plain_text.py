"""Texts of models and problems as characters that a terminal only shows, on one line."""

import unicodedata

_CONTROL = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def plain(text: str) -> str:
    """Return a text as one line of characters that a terminal only shows: white space is one
    blank, controls are written out.
    """
    line = " ".join(text.split())
    return "".join(f"\\x{ord(letter):02x}" if unicodedata.category(letter) in _CONTROL else letter for letter in line)


def shortened(text: str, max_characters: int) -> str:
    """Return a text as one line of at most so many characters."""
    line = plain(text)
    return line if len(line) <= max_characters else line[: max_characters - 1] + "…"
