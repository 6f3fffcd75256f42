"""Where a run comes from: the commands that it was created and continued with, without their
secrets, and the versions and machines that they ran on.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

HIDDEN = "***"
MIN_SECRET = 8
"""Characters from which the value of a secret variable is looked for in other texts."""

_SECRET_WORDS = {
    *("token", "key", "apikey", "secret", "password", "passwd", "passphrase", "credential", "credentials"),
    *("auth", "authorization", "bearer", "signature", "sig"),
}
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+")
_PAIR = re.compile(
    rf"""(?P<name>[\w.-]*(?:{"|".join(sorted(_SECRET_WORDS))}))(?P<equals>["']?\s*[=:]\s*["']?)(?P<value>[^\s&;,"'}}]+)""",
    re.IGNORECASE,
)
_USER = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)[^/\s?#]+@")
_KNOWN = re.compile(
    r"\b(?:hf_|sk-|gh[a-z]_|github_pat_|glpat-|xox[a-z]-|nvapi-)[\w-]{8,}"
    r"|\bAKIA[A-Z0-9]{16}\b|\beyJ[\w-]+\.[\w-]+\.[\w-]*|(?<=\bBearer )\S+|(?<=\bBasic )\S+",
)


@dataclass(frozen=True, slots=True)
class Start:
    """What a run was created or continued with.

    Attributes:
        command: as it was typed, without secrets; empty: not known.
        versions: of Python and packages, by name.
        machine: that the command ran on: "os", "cpu", "cores", "memory_bytes" and "gpus".
    """

    command: str
    versions: Mapping[str, str]
    machine: Mapping[str, Any]


def with_start(recorded: Sequence[Mapping[str, Any]], start: Start, when: str) -> list[dict[str, Any]]:
    """Return what is recorded of a run once it has also been started so; a start that is equal to
    the last one adds nothing.

    Args:
        when: in ISO 8601.

    Returns:
        JSON objects with the fields of `Start`, and "when".
    """
    new = asdict(start)
    if recorded and all(recorded[-1].get(name) == value for name, value in new.items()):
        return [dict(one) for one in recorded]
    return [*map(dict, recorded), {"when": when, **new}]


def is_secret(name: str) -> bool:
    """Return whether an option, variable or parameter is named as what must not be shown."""
    words = [word.lower() for word in _WORD.findall(name)]
    return bool(words) and words[-1] in _SECRET_WORDS


def secret_values(variables: Mapping[str, str]) -> list[str]:
    """Return the values of variables that must not be shown, the longest first."""
    found = {value for name, value in variables.items() if is_secret(name) and len(value) >= MIN_SECRET}
    return sorted(found, key=len, reverse=True)


def without_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text with passwords and tokens replaced by `***`: in URLs, behind names that say so,
    in forms that are known, and wherever one of `secrets` is.
    """
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = _KNOWN.sub(HIDDEN, _USER.sub(rf"\g<scheme>{HIDDEN}@", text))
    return _PAIR.sub(
        lambda found: found["name"] + found["equals"] + HIDDEN if is_secret(found["name"]) else found.group(), text
    )


def words_without_secrets(words: Sequence[str], secrets: Iterable[str] = ()) -> list[str]:
    """Return the words of a command without secrets, those that follow an option included."""
    known = list(secrets)
    shown: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        follows = before.startswith("-") and "=" not in before and is_secret(before)
        shown.append(HIDDEN if follows else without_secrets(word, known))
    return shown
