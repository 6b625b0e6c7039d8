"""What every long stage does about its own process."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """End this process when the one that started it is killed, so that no orphan goes on writing a stage's outputs.

    Linux only (prctl(2), PR_SET_PDEATHSIG); elsewhere the journal's lock still keeps a second writer out.
    """
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
