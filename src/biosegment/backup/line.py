"""Lines in parts: any number of JSON values as gzip files of bounded size, each with its checksum."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from biosegment.backup.manifest import Part
from biosegment.errors import FailedPrecondition, NotFound
from biosegment.storage.objects import BlockingObjects

_PART_BYTES: Final = 8 << 20
"""Of text in one part; a few times that is in memory."""
_LEVEL: Final = 3


def write_parts(target: BlockingObjects, prefix: str, lines: Iterable[list[Any]]) -> tuple[Part, ...]:
    """Write values below `{prefix}-{number}`, as they come."""
    parts: list[Part] = []
    buffer, rows = io.BytesIO(), 0
    for line in lines:
        buffer.write(json.dumps(line, default=_encode, separators=(",", ":")).encode())
        buffer.write(b"\n")
        rows += 1
        if buffer.tell() >= _PART_BYTES:
            parts.append(_write(target, f"{prefix}-{len(parts):06d}", buffer, rows))
            buffer, rows = io.BytesIO(), 0
    if rows:
        parts.append(_write(target, f"{prefix}-{len(parts):06d}", buffer, rows))
    return tuple(parts)


def _write(target: BlockingObjects, key: str, buffer: io.BytesIO, rows: int) -> Part:
    data = gzip.compress(buffer.getvalue(), _LEVEL, mtime=0)
    target.put(key, data)
    return Part(key, rows, len(data), hashlib.sha256(data).hexdigest())


def read_parts(source: BlockingObjects, parts: Iterable[Part]) -> Iterator[list[Any]]:
    """The values again.

    Raises:
        FailedPrecondition: BACKUP_DAMAGED when a part is missing or is not what it was.
    """
    for part in parts:
        text = gzip.decompress(read_checked(source, part))
        for line in text.splitlines():
            yield json.loads(line, object_hook=_decode)


def read_checked(source: BlockingObjects, part: Part) -> bytes:
    """A part as it was written; FailedPrecondition BACKUP_DAMAGED."""
    try:
        data = source.get(part.key)
    except NotFound:
        data = b""
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise FailedPrecondition(
            "BACKUP_DAMAGED",
            f"{part.key} of the backup is missing or damaged: choose an earlier snapshot, or another backup",
        )
    return data


def _encode(value: Any) -> dict[str, str]:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"base64": base64.b64encode(bytes(value)).decode()}
    raise TypeError(f"a column holds {type(value).__name__}, for which a backup has no form")


def _decode(value: dict[str, Any]) -> bytes:
    return base64.b64decode(value["base64"])
