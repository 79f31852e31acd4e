"""Keeps the memory of a process that holds keys from being written to disk or read by its neighbours.

Source: prctl(2), core(5), ptrace(2).
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys

_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4


def harden() -> None:
    """No core dumps, and no debugger of the same user may attach. Call it before the first key is opened.

    Child processes inherit the limit on core files; whether they are dumpable is decided anew when they start a program.
    Does what the system can: on others than Linux only the limit. Raises OSError if Linux refuses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def is_hardened() -> bool:
    """Whether `harden` is in force for this process."""
    if resource.getrlimit(resource.RLIMIT_CORE)[0] != 0:
        return False
    return sys.platform != "linux" or bool(ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 0)
