"""Machines that train one model together, as settings write them: a number, or LEAST:MOST, and
HOST:PORT of the first.
"""

import re
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class TrainingMachines:
    """How many machines train one model together, and where the first of them is reached."""

    least: int
    most: int
    host: str
    port: int

    @classmethod
    def of(cls, nodes: str, rendezvous: str) -> Self | None:
        """Return what is written; None where a machine trains alone.

        Raises:
            ValueError: if either is wrong.
        """
        least, most = least_and_most(nodes)
        return cls(least, most, *host_and_port(rendezvous)) if most > 1 else None


def least_and_most(nodes: str) -> tuple[int, int]:
    """Return how many machines there are at least and at most.

    Raises:
        ValueError: if that is not what is written.
    """
    if re.fullmatch(r"\d+(:\d+)?", nodes) is None:
        raise ValueError("is no number of machines; write 4, or LEAST:MOST as 2:4")
    least, _, most = nodes.partition(":")
    if not 0 < int(least) <= int(most or least):
        raise ValueError("is no number of machines; the least is at least 1, and the most no less")
    return int(least), int(most or least)


def host_and_port(rendezvous: str) -> tuple[str, int]:
    """Return where the first machine is reached; an IPv6 address without its brackets.

    Raises:
        ValueError: if that is not what is written.
    """
    host, _, port = rendezvous.rpartition(":")
    if not (host and re.fullmatch(r"[0-9]+", port) and 0 < int(port) < 2**16):
        raise ValueError("is no address; write HOST:PORT of the trainer that takes jobs")
    return host.strip("[]"), int(port)
