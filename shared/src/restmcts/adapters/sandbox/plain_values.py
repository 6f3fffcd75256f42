"""Values on the way between a program and its tests: plain data of Python's own types goes over as
a copy, everything else as a number that represents it.

What comes from a program is only ever data: no object of its own, with its own idea of equality,
reaches the tests.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Protocol

MAX_MESSAGE_BYTES = 32 * 1024**2
_LENGTH_BYTES = 4
_SAFE_INTEGER = 1 << 53

Coded = None | bool | int | float | str | list["Coded"] | dict[str, "Coded"]


class Referring(Protocol):
    """How a side names what it does not send as a copy."""

    def __call__(self, value: object) -> Coded:
        """Return the name of a value in a message."""
        ...


def encode(value: object, refer: Referring) -> Coded:
    """Return a value as JSON can hold it; subclasses of Python's types become these types."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        number = int.__index__(value)
        return number if abs(number) < _SAFE_INTEGER else {"int": hex(number)}
    if isinstance(value, float):
        return float.__float__(value)
    for kind, name, items in _CONTAINERS:
        if isinstance(value, kind):
            return {name: [encode(one, refer) for one in items(value)]}
    if isinstance(value, dict):
        return {"dict": [[encode(key, refer), encode(one, refer)] for key, one in dict.items(value)]}
    for kind, name, text in _TEXTS:
        if isinstance(value, kind):
            return {name: text(value)}
    item = getattr(value, "item", None) if type(value).__module__ == "numpy" else None
    if item is not None and getattr(value, "ndim", None) == 0:
        return encode(item(), refer)
    return refer(value)


def decode(coded: Coded, resolve: Callable[[Coded], object]) -> object:
    """Return the value that a message holds.

    Raises:
        ValueError, TypeError: if it holds none.
    """
    if not isinstance(coded, dict):
        if isinstance(coded, list):
            raise ValueError("no value")
        return coded
    ((name, inside),) = coded.items()
    if name == "ref":
        return resolve(inside)
    if name == "dict" and isinstance(inside, list):
        pairs = [one for one in inside if isinstance(one, list) and len(one) == 2]
        return {decode(key, resolve): decode(one, resolve) for key, one in pairs}
    if isinstance(inside, list):
        return _MAKE_CONTAINER[name](decode(one, resolve) for one in inside)
    return _MAKE_FROM_TEXT[name](str(inside))


_CONTAINERS: tuple[tuple[type, str, Callable[..., Iterator[object]]], ...] = (
    (list, "list", list.__iter__),
    (tuple, "tuple", tuple.__iter__),
    (set, "set", set.__iter__),
    (frozenset, "frozenset", frozenset.__iter__),
    (deque, "deque", deque.__iter__),
)
_MAKE_CONTAINER: dict[str, Callable[..., object]] = {name: kind for kind, name, _ in _CONTAINERS}
_TEXTS: tuple[tuple[type, str, Callable[..., str]], ...] = (
    (bytes, "bytes", lambda value: bytes.hex(value)),
    (bytearray, "bytearray", lambda value: bytearray.hex(value)),
    (complex, "complex", lambda value: complex.__repr__(value)),
    (Decimal, "decimal", lambda value: Decimal.__str__(value)),
    (Fraction, "fraction", lambda value: f"{value.numerator}/{value.denominator}"),
    (range, "range", lambda value: f"{value.start},{value.stop},{value.step}"),
)
_MAKE_FROM_TEXT: dict[str, Callable[[str], object]] = {
    "int": lambda text: int(text, 16),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": complex,
    "decimal": Decimal,
    "fraction": Fraction,
    "range": lambda text: range(*map(int, text.split(","))),
}


def send(descriptor: int, message: Coded) -> None:
    """Write a message.

    Raises:
        OSError: if nobody reads any more.
        ValueError: if it is too long, or nested too deeply.
    """
    try:
        body = json.dumps(message).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if len(body) > MAX_MESSAGE_BYTES:
        raise ValueError(f"larger than {MAX_MESSAGE_BYTES:,} bytes")
    data = memoryview(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
    while data:
        data = data[os.write(descriptor, data) :]


def receive(descriptor: int) -> Coded:
    """Read a message.

    Raises:
        EOFError: if there is none any more.
        ValueError: if it is too long, or is none.
    """
    length = int.from_bytes(_exactly(descriptor, _LENGTH_BYTES), "big")
    if length > MAX_MESSAGE_BYTES:
        raise ValueError("a message of too many bytes")
    try:
        message: Coded = json.loads(_exactly(descriptor, length))
    except RecursionError:
        raise ValueError("a message nested too deeply") from None
    return message


def _exactly(descriptor: int, count: int) -> bytes:
    pieces = []
    while count:
        piece = os.read(descriptor, min(count, 1 << 20))
        if not piece:
            raise EOFError
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def read_all(descriptor: int) -> bytes:
    """Return everything up to the end, and close the descriptor."""
    with os.fdopen(descriptor, "rb") as file:
        return file.read()
