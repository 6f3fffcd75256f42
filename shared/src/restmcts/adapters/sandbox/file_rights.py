"""What of the file system a confined program may see: the kernel's Landlock, by its three system
calls. It may read the libraries of Python, and write nothing.
"""

import ctypes
import os
import struct
from collections.abc import Sequence

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_WRITE_FILE, _READ_FILE, _READ_FOLDER = 1 << 1, 1 << 2, 1 << 3
_RIGHTS_BY_VERSION = (0, 13, 14, 15, 15, 16)
_CONNECTIONS = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11
_FIRST_WITH_CONNECTIONS, _FIRST_WITH_SCOPES = 4, 6

_libc = ctypes.CDLL(None, use_errno=True)


def landlock_version() -> int:
    """Return the version of Landlock that this kernel has and permits, 0 for none."""
    return max(0, _call(_CREATE, None, 0, _VERSION))


def reading_only(readable: Sequence[str], writable: Sequence[str]) -> int:
    """Return the descriptor of a rule set under which these paths, and all below them, can be
    read, the `writable` ones (devices) written too, and nothing else be opened.

    Raises:
        OSError: if the kernel has no Landlock.
    """
    version = landlock_version()
    files = (1 << _RIGHTS_BY_VERSION[min(version, len(_RIGHTS_BY_VERSION) - 1)]) - 1
    connections = _CONNECTIONS if version >= _FIRST_WITH_CONNECTIONS else 0
    scopes = _ABSTRACT_SOCKETS_AND_SIGNALS if version >= _FIRST_WITH_SCOPES else 0
    attributes = struct.pack("QQQ", files, connections, scopes)
    rules = _call(_CREATE, attributes, len(attributes), 0)
    if rules < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    for path in readable:
        _permit(rules, path, _READ_FILE | _READ_FOLDER if os.path.isdir(path) else _READ_FILE)
    for path in writable:
        _permit(rules, path, _READ_FILE | _WRITE_FILE)
    return rules


def confine_files(rules: int) -> None:
    """Put this process, which must have given up new privileges, under a rule set for good.

    Raises:
        OSError: if the kernel does not do it.
    """
    if _call(_RESTRICT, rules, 0) < 0:
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")


def _permit(rules: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if _call(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0) < 0:
            raise OSError(ctypes.get_errno(), f"landlock_add_rule {path}")
    finally:
        os.close(place)


def _call(number: int, *arguments: int | bytes | None) -> int:
    given = (ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)
    return int(_libc.syscall(ctypes.c_long(number), *given))
