"""Texts of models and problems as characters that a terminal only shows, on one line."""

import unicodedata

_CONTROL = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def plain(text: str) -> str:
    """Return a text as one line of characters that a terminal only shows: white space is one
    blank, controls are written out.
    """
    return controls_written_out(" ".join(text.split()))


def controls_written_out(line: str) -> str:
    """Return a line as it is, but for what a terminal obeys."""
    return "".join(f"\\x{ord(letter):02x}" if unicodedata.category(letter) in _CONTROL else letter for letter in line)


def shortened(text: str, max_characters: int) -> str:
    """Return a text as one line of at most so many characters."""
    line = plain(text)
    return line if len(line) <= max_characters else line[: max_characters - 1] + "…"
