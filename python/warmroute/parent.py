"""Children that end with their parent (Linux)."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


class ParentError(OSError):
    """This process cannot be tied to its parent; the message says why."""


def die_with_parent() -> int:
    """Have the kernel send SIGTERM to this process when its parent ends; the parent's pid.

    Raises:
        ParentError: elsewhere than on Linux, when the kernel refuses, or when the parent is gone already.
    """
    if sys.platform != "linux":
        raise ParentError("--die-with-parent needs Linux")
    parent = os.getppid()
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise ParentError(f"--die-with-parent: {os.strerror(ctypes.get_errno())}")
    # It may have ended between the two calls; the signal would never come.
    if os.getppid() != parent:
        raise ParentError("--die-with-parent: the parent has ended")
    return parent
