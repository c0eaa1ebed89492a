"""Folders for files that exist only while something works with them, also when that is killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_MARK = "biosegment-scratch-"


@contextlib.contextmanager
def scratch_folder(parent: Path, purpose: str) -> Iterator[Path]:
    """A new folder below `parent`, removed at the end.

    It is locked for as long as this process lives and uses it, so that `remove_leftovers` knows what may go.
    """
    with contextlib.ExitStack() as stack:
        with _opened(parent) as place:
            fcntl.flock(place, fcntl.LOCK_EX)
            folder = Path(tempfile.mkdtemp(prefix=f"{_MARK}{purpose}-", dir=parent))
            fcntl.flock(stack.enter_context(_opened(folder)), fcntl.LOCK_EX)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def remove_leftovers(parent: Path) -> int:
    """Remove the folders of processes that were killed; returns how many."""
    removed = 0
    for folder in parent.glob(f"{_MARK}*"):
        with contextlib.suppress(OSError), _opened(parent) as place:
            fcntl.flock(place, fcntl.LOCK_EX)
            with _opened(folder) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
                removed += 1
    return removed


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
