"""Memory that a process has freed and still keeps."""

import ctypes
import gc


def give_back_memory() -> None:
    """Return to the system what this process has freed: the library of C keeps it, and what is
    needed next, here or in another process, would not fit into its gaps.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)
