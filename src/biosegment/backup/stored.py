"""Which content a target has."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from biosegment.backup.manifest import OBJECTS
from biosegment.backup.progress import Progress
from biosegment.storage.objects import BlockingObjects

_FOLDERS: Final = [f"{OBJECTS}{number:02x}/" for number in range(256)]
_AT_ONCE: Final = 8


def stored_digests(target: BlockingObjects, say: Progress) -> Iterator[list[str]]:
    """SHA-256 of all content, folder by folder, so that never all of it is in memory."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="listing") as pool:
        for first in range(0, len(_FOLDERS), _AT_ONCE):
            say("listing the target", first, len(_FOLDERS))
            for keys in pool.map(target.list, _FOLDERS[first : first + _AT_ONCE]):
                yield [key.rpartition("/")[2] for key in keys]
