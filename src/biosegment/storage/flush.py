"""Makes files durable that somebody else wrote, many at a time: the disk orders its work better than we could."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ENGINE_LOCK = ".__lock"
"""The array engine writes `name.__lock` and renames it to `name`; a crash may leave one behind."""

_THREADS = 4


def flush_below(root: Path, places: Iterable[Path]) -> None:
    """Flush files, and all files below folders, to the disk, then every folder up to `root`; absent ones are left out.

    So are files that are being written: they change their names at any moment, and nobody relies on them yet.

    Raises:
        OSError: What the disk said.
    """
    found = (path for place in places for path in (place, *place.rglob("*")))
    files = {path for path in found if not path.name.endswith(ENGINE_LOCK) and path.is_file()}
    folders = {parent for path in files for parent in path.parents if parent.is_relative_to(root)}
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="flush") as pool:
        list(pool.map(_flush, files))
        list(pool.map(_flush, folders))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
