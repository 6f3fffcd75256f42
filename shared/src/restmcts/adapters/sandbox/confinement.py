"""Puts the process that calls it into a cage that it cannot leave: limits, a user of its own, no
files but Python's libraries, no network, no signals to others.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass

from restmcts.adapters.sandbox.file_rights import confine_files, landlock_version, reading_only
from restmcts.adapters.sandbox.system_calls import confine_calls, filter_of

FIRST_USER, NUM_USERS = 61_184, 4_000
MAX_OPEN_FILES = 64
STACK_BYTES = 128 * 1024**2
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS = 1, 4, 8, 38
_CAP_DAC_READ_SEARCH = 1 << 2
_CAPABILITIES_VERSION = 0x20080522
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/usr/share/zoneinfo")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process may use.

    Attributes:
        seconds: of processor time.
        memory_bytes: of address space, beyond what the process has when it is confined.
    """

    seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Cage:
    """What is made once and holds for all processes that are confined.

    Attributes:
        rules: descriptor of the rule set of files.
        calls: filter of system calls.
        capabilities: of root that a process keeps, as a mask. Where Python's libraries are in
            root's home, nobody else can read them: then the right to read is kept, and Landlock
            alone says of what.
    """

    rules: int
    calls: bytes
    capabilities: int


def missing() -> tuple[str, ...]:
    """Return what this machine lacks of that without which no program of strangers is run."""
    if sys.platform != "linux":
        return ("Linux",)
    lacking = []
    if landlock_version() < 1:
        lacking.append("Landlock (Linux 5.13 or newer, with landlock among the kernel's security modules)")
    if filter_of() is None:
        lacking.append("a machine of the kind x86_64 or aarch64")
    return tuple(lacking)


def cage() -> Cage:
    """Return the cage of this machine, which lacks nothing.

    Raises:
        OSError: if the kernel does not make it.
    """
    calls = filter_of()
    assert calls is not None
    readable = _readable()
    capabilities = 0 if all(map(_is_open_to_all, readable)) else _CAP_DAC_READ_SEARCH
    return Cage(reading_only(readable, ("/dev/null",)), calls, capabilities)


def _readable() -> list[str]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    own = [sysconfig.get_path(name) for name in names] + [os.path.join(sys.base_prefix, "lib"), *sys.path]
    return [*_LIBRARIES, *filter(os.path.isdir, own), "/dev/zero", "/dev/urandom", "/dev/random"]


def confine(limits: Limits, cage: Cage) -> None:
    """Confine this process, for good. It should have one thread, and open only what it may use.

    Raises:
        OSError: if the kernel does not do it; the process must then run nothing.
    """
    os.umask(0o077)
    _limit(limits)
    _become_nobody(cage.capabilities)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_DUMPABLE, 0)
    confine_files(cage.rules)
    os.close(cage.rules)
    confine_calls(cage.calls)


def _limit(limits: Limits) -> None:
    seconds = max(1, round(limits.seconds))
    memory = limits.memory_bytes + _address_space()
    for name, soft, hard in (
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_STACK, STACK_BYTES, STACK_BYTES),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES, MAX_OPEN_FILES),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_MEMLOCK, 0, 0),
        (resource.RLIMIT_MSGQUEUE, 0, 0),
    ):
        most = resource.getrlimit(name)[1]
        fits = hard if most == resource.RLIM_INFINITY else min(hard, most)
        resource.setrlimit(name, (min(soft, fits), fits))


def _address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _become_nobody(capabilities: int) -> None:
    """Give up root: become a user that owns nothing, or, where that is not permitted, root without
    a right of root.
    """
    if os.geteuid() != 0:
        return
    user = FIRST_USER + os.getpid() % NUM_USERS
    _prctl(_PR_SET_KEEPCAPS, 1)
    try:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    except PermissionError:
        capabilities = 0  # it has none to keep, and what root owns is still its own to read
    header = struct.pack("Ii", _CAPABILITIES_VERSION, 0)
    if _libc.capset(header, struct.pack("IIIIII", capabilities, capabilities, 0, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "capset")


def _is_open_to_all(path: str) -> bool:
    parts = os.path.realpath(path).split("/")
    places = ["/".join(parts[:count]) or "/" for count in range(1, len(parts) + 1)]
    return all(os.stat(place).st_mode & 0o001 for place in places if os.path.exists(place))


def _prctl(option: int, value: int) -> None:
    number = ctypes.c_ulong
    if _libc.prctl(option, number(value), number(0), number(0), number(0)):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def close_all_but(kept: Sequence[int]) -> None:
    """Close every descriptor of this process that is not named."""
    first = 0
    for descriptor in sorted(kept):
        if first < descriptor:
            os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, 1 << 16)
