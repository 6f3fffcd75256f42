"""Texts of strangers at the door: what no database, file or page can hold is replaced.

Pure functions; whoever takes text from models, files, messages or people calls them once.
"""

from restmcts.errors import InputError

MAX_NAME_CHARS = 100
REPLACEMENT = "\ufffd"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, in the plural where it is not one: `1,200 trees`.

    Args:
        plural: where it is not the noun with an s.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def clean_text(text: str) -> str:
    """Return the text with NUL and lone surrogates replaced by U+FFFD; most texts come back as
    they are.
    """
    if "\0" in text:
        text = text.replace("\0", REPLACEMENT)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def valid_text(text: str, name: str) -> str:
    """Return the text itself.

    Raises:
        InputError: naming it, if it contains NUL or half of a surrogate pair, which no database
            takes.
    """
    if "\0" in text:
        raise InputError(f'"{name}" contains a NUL character')
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f'"{name}" is not valid Unicode') from None
    return text


def escaped_text(text: str) -> str:
    """Return the text with NUL and lone surrogates written out (`\\x00`, `\\ud800`), for people who
    look for what was wrong with it.
    """
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def check_name(name: str, what: str) -> str:
    """Return a name that people give to a run or a set, if it can be typed, printed and stored.

    Raises:
        InputError: if it is empty, too long, or contains characters that are not printed.
    """
    if not name.strip():
        raise InputError(f"the name of a {what} is empty: give at least one letter")
    if len(name) > MAX_NAME_CHARS:
        raise InputError(f"the name of a {what} has {len(name)} characters: at most {MAX_NAME_CHARS} are allowed")
    if not name.isprintable():
        raise InputError(f"the name of a {what} contains a character that is not printed: {escaped_text(name)!r}")
    return name
