"""How far an import came, kept beside its voxels, so that the next attempt goes on from there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from biosegment.errors import NotFound
from biosegment.storage.objects import BlockingObjects

_NAME: Final = "import.json"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """What is durable.

    Attributes:
        identity: Of the source and of everything that decides what is written.
        planes: Of every level, from the first one on; whole rows of shards.
        shards: Objects that hold them; a shard of zeros has none.
        pieces: Of the level that is being written, when its rows are written piece by piece.
        statistics: State of the `IntensityGatherer`.
    """

    identity: str
    planes: tuple[int, ...]
    shards: tuple[int, ...]
    pieces: int
    statistics: dict[str, Any]


def save_progress(objects: BlockingObjects, prefix: str, progress: ImportProgress) -> None:
    """Keep it durably, replacing what was there."""
    text = json.dumps({"version": _VERSION, **asdict(progress)})
    objects.put(f"{prefix}/{_NAME}", text.encode())


def load_progress(objects: BlockingObjects, prefix: str) -> ImportProgress | None:
    """What an earlier attempt kept at `prefix`; None when there is nothing, or nothing that can be read."""
    try:
        found = json.loads(objects.get(f"{prefix}/{_NAME}"))
        if found["version"] != _VERSION:
            return None
        return ImportProgress(
            str(found["identity"]),
            tuple(map(int, found["planes"])),
            tuple(map(int, found["shards"])),
            int(found["pieces"]),
            dict(found["statistics"]),
        )
    except (NotFound, ValueError, KeyError, TypeError):
        return None


def progress_key(prefix: str) -> str:
    """Where the progress of the import at `prefix` is; to be deleted when the volume is entered."""
    return f"{prefix}/{_NAME}"


def count_shards(objects: BlockingObjects, key: str, start: int, stop: int, depth: int) -> int:
    """Objects of the planes `[start, stop)` of the array at `key`, whole rows of shards that are `depth` deep."""
    rows = range(start // depth, -(-stop // depth))
    return sum(len(objects.list(f"{key}/c/{row}/")) for row in rows)


def source_identity(path: Path | None, *more: object) -> str:
    """Tells a file or folder from what lies at the same path after a change.

    Args:
        path: Names, sizes and times of change count; None when `more` says it all.
        more: What else decides what an import makes of it.
    """
    digest = hashlib.sha256()
    for member in [] if path is None else sorted([path, *path.rglob("*")]):
        found = member.stat()
        digest.update(f"{member}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    digest.update(json.dumps(more, default=str).encode())
    return digest.hexdigest()
