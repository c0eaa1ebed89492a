"""A process that ends with the one that started it.

The child asks for it by itself. Were it done between fork and exec, Python would have to fork with all that other
libraries do at a fork: gRPC's threads start anew in the child and find their files closed, which ends it
(https://github.com/grpc/grpc/issues/43055).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

SUPERVISOR: Final = "BIOSEGMENT_SUPERVISOR"
"""Variable with the process id of who looks after a service."""
_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(number: signal.Signals) -> None:
    """Have Linux send us a signal when the thread that started us ends; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def end_with_supervisor() -> None:
    """As `end_with_parent`, for a service that was started by a supervisor, also when that one has ended already."""
    # Not for processes that this one starts: we are their parent.
    supervisor = os.environ.pop(SUPERVISOR, "")
    if not supervisor:
        return
    end_with_parent(signal.SIGTERM)
    if os.getppid() != int(supervisor):
        sys.exit(f"the supervisor, process {supervisor}, has ended")
