"""Named points at which a test may kill the process, to show that nothing acknowledged is lost.

`BIOSEGMENT_FAILPOINT=name:/path/of/marker` kills the process with SIGKILL when it first reaches `name`; the marker file
records that it happened, so that the restarted process passes. Without the variable a point costs one comparison.
"""

from __future__ import annotations

import os
import signal

_NAME, _, _MARKER = os.environ.get("BIOSEGMENT_FAILPOINT", "").partition(":")


def failpoint(name: str) -> None:
    """Die here when the environment says so."""
    if _NAME == name:
        try:
            os.close(os.open(_MARKER, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)
