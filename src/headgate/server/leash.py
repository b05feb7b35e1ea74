"""Run a program that does not outlive its parent.

    python leash.py PARENT PROGRAM ARGUMENT...

The kernel kills it when the parent ends, however that comes about; Linux only, elsewhere the program just
runs. A file of its own that imports nothing of the package, because it is started for this alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Become the program; does nothing when the parent is gone already."""
    parent, *command = arguments
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == int(parent):
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
