"""The system calls that a confined program may make, and the filter of the kernel (seccomp) that
refuses all others.

Left out on purpose: whatever starts a program or a process (threads may be started), sends a
signal, opens a connection, traces, mounts, changes rights, or makes, renames or removes a file.
"""

import ctypes
import errno
import platform
import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _MACHINE = 0, 4
_CLONE_THREAD = 0x00010000
_FIRST_X32_CALL = 0x40000000

# name: number on x86_64, number on aarch64
_CALLS: Mapping[str, tuple[int | None, int | None]] = MappingProxyType(
    {
        "access": (21, None),
        "alarm": (37, None),
        "brk": (12, 214),
        "clock_getres": (229, 114),
        "clock_gettime": (228, 113),
        "clock_nanosleep": (230, 115),
        "close": (3, 57),
        "dup": (32, 23),
        "dup2": (33, None),
        "dup3": (292, 24),
        "epoll_create1": (291, 20),
        "epoll_ctl": (233, 21),
        "epoll_pwait": (281, 22),
        "epoll_wait": (232, None),
        "eventfd2": (290, 19),
        "exit": (60, 93),
        "exit_group": (231, 94),
        "faccessat": (269, 48),
        "faccessat2": (439, 439),
        "fstat": (5, 80),
        "fstatfs": (138, 44),
        "futex": (202, 98),
        "getcwd": (79, 17),
        "getdents64": (217, 61),
        "getegid": (108, 177),
        "geteuid": (107, 175),
        "getgid": (104, 176),
        "getitimer": (36, 102),
        "getpid": (39, 172),
        "getppid": (110, 173),
        "getrandom": (318, 278),
        "getrlimit": (97, 163),
        "getrusage": (98, 165),
        "getsockname": (51, 204),
        "getsockopt": (55, 209),
        "gettid": (186, 178),
        "gettimeofday": (96, 169),
        "getuid": (102, 174),
        "lseek": (8, 62),
        "lstat": (6, None),
        "madvise": (28, 233),
        "membarrier": (324, 283),
        "mmap": (9, 222),
        "mprotect": (10, 226),
        "mremap": (25, 216),
        "munmap": (11, 215),
        "nanosleep": (35, 101),
        "newfstatat": (262, 79),
        "open": (2, None),
        "openat": (257, 56),
        "pause": (34, None),
        "pipe": (22, None),
        "pipe2": (293, 59),
        "poll": (7, None),
        "ppoll": (271, 73),
        "pread64": (17, 67),
        "pselect6": (270, 72),
        "pwrite64": (18, 68),
        "read": (0, 63),
        "readlink": (89, None),
        "readlinkat": (267, 78),
        "readv": (19, 65),
        "recvfrom": (45, 207),
        "restart_syscall": (219, 128),
        "rseq": (334, 293),
        "rt_sigaction": (13, 134),
        "rt_sigprocmask": (14, 135),
        "rt_sigreturn": (15, 139),
        "rt_sigtimedwait": (128, 137),
        "sched_getaffinity": (204, 123),
        "sched_yield": (24, 124),
        "select": (23, None),
        "sendto": (44, 206),
        "set_robust_list": (273, 99),
        "setitimer": (38, 103),
        "shutdown": (48, 210),
        "sigaltstack": (131, 132),
        "socketpair": (53, 199),
        "stat": (4, None),
        "statfs": (137, 43),
        "statx": (332, 291),
        "sysinfo": (99, 179),
        "time": (201, None),
        "times": (100, 153),
        "uname": (63, 160),
        "wait4": (61, 260),
        "write": (1, 64),
        "writev": (20, 66),
    }
)
_CLONE, _CLONE3, _FCNTL, _IOCTL, _PRLIMIT = (56, 220), (435, 435), (72, 25), (16, 29), (302, 261)
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, the locks, F_DUPFD_CLOEXEC, F_GETPIPE_SZ: those that
# make the kernel send signals to another process are not among them.
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1032)
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_IOCTL_COMMANDS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
_MACHINES: Mapping[str, tuple[int, int]] = MappingProxyType({"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)})


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def filter_of(machine: str = "") -> bytes | None:
    """Return the filter for a machine (`platform.machine`), this one if none is named; None where
    its system calls are not known here.
    """
    known = _MACHINES.get(machine or platform.machine())
    if known is None:
        return None
    column, architecture = known
    refuse = _instruction(_RETURN, _REFUSE | errno.EPERM)
    allow = _instruction(_RETURN, _ALLOW)
    code = [_instruction(_LOAD, _MACHINE), _instruction(_EQUAL, architecture, 1, 0)]
    code += [_instruction(_RETURN, _KILL_PROCESS), _instruction(_LOAD, _NUMBER)]
    if column == 0:
        code += [_instruction(_AT_LEAST, _FIRST_X32_CALL, 0, 1), refuse]
    code += _when(_CLONE3[column], [_instruction(_RETURN, _REFUSE | errno.ENOSYS)])
    code += _when(_CLONE[column], [_load_argument(0), _instruction(_ANY_BIT, _CLONE_THREAD, 0, 1), allow, refuse])
    code += _when(_FCNTL[column], _one_of(1, _FCNTL_COMMANDS))
    code += _when(_IOCTL[column], _one_of(1, _IOCTL_COMMANDS))
    code += _when(_PRLIMIT[column], _only_reading_limits())
    for numbers in _CALLS.values():
        number = numbers[column]
        if number is not None:
            code += _when(number, [allow])
    return b"".join([*code, refuse])


def confine_calls(program: bytes) -> None:
    """Put this process, for good, under a filter of `filter_of`.

    Raises:
        OSError: if the kernel does not do it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    holder = _Program(len(program) // 8, program)
    number = ctypes.c_ulong
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, number(1), number(0), number(0), number(0)):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    if libc.prctl(_PR_SET_SECCOMP, number(_SECCOMP_MODE_FILTER), ctypes.byref(holder)):
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, operand)


def _when(number: int, body: Sequence[bytes]) -> list[bytes]:
    """Return instructions that end in `body` for that call, and are passed over for others."""
    return [_instruction(_EQUAL, number, 0, len(body)), *body]


def _load_argument(index: int, high: bool = False) -> bytes:
    """Return the loading of half an argument, on a machine whose low half comes first."""
    return _instruction(_LOAD, 16 + 8 * index + 4 * high)


def _one_of(argument: int, values: Sequence[int]) -> list[bytes]:
    code = [_load_argument(argument)]
    for value in values:
        code += _when(value, [_instruction(_RETURN, _ALLOW)])
    return [*code, _instruction(_RETURN, _REFUSE | errno.EPERM)]


def _only_reading_limits() -> list[bytes]:
    refuse = _instruction(_RETURN, _REFUSE | errno.EPERM)
    null = [_instruction(_EQUAL, 0, 1, 0), refuse]
    return [_load_argument(2), *null, _load_argument(2, high=True), *null, _instruction(_RETURN, _ALLOW)]
