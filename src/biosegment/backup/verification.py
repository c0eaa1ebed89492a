"""Reads a snapshot back and compares every checksum."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from biosegment.backup.copying import batches, read_object
from biosegment.backup.index import Stored
from biosegment.backup.line import read_checked, read_parts
from biosegment.backup.manifest import Manifest, object_key
from biosegment.backup.progress import Progress, silent
from biosegment.errors import FailedPrecondition
from biosegment.storage.objects import BlockingObjects

_THREADS = 8


@dataclass(slots=True)
class Verified:
    """What reading a snapshot found.

    Attributes:
        objects: That were read.
        size_bytes: Of those.
        damaged_objects: Keys of the platform whose content is missing or damaged in the target.
        damaged_parts: Keys of the target: rows and lists.
    """

    objects: int = 0
    size_bytes: int = 0
    damaged_objects: list[str] = field(default_factory=list)
    damaged_parts: list[str] = field(default_factory=list)


def verify(
    source: BlockingObjects, manifest: Manifest, *, remove_damaged: bool = False, say: Progress = silent
) -> Verified:
    """Read everything of a snapshot.

    Args:
        source: The target that holds it.
        manifest: The snapshot.
        remove_damaged: Delete damaged content, so that the next backup copies it anew.
        say: Told how far it is.
    """
    found = Verified()
    rows = [part for service in manifest.services for table in service.tables for part in table.parts]
    for part in (*rows, *manifest.objects):
        try:
            read_checked(source, part)
        except FailedPrecondition:
            found.damaged_parts.append(part.key)
    readable = [part for part in manifest.objects if part.key not in found.damaged_parts]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="verify") as pool:
        for batch in batches(Stored(*line) for line in read_parts(source, readable)):
            for item, sound in zip(batch, pool.map(lambda item: _is_sound(source, item), batch), strict=True):
                found.objects += 1
                found.size_bytes += item.size
                if not sound:
                    found.damaged_objects.append(item.key)
                    if remove_damaged:
                        source.delete(object_key(item.sha256))
                say("reading", found.objects, manifest.object_count)
    return found


def _is_sound(source: BlockingObjects, item: Stored) -> bool:
    data = read_object(source, item.sha256)
    return data is not None and len(data) == item.size
