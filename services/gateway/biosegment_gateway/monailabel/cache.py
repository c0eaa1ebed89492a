"""Files that were made for clients, kept on disk as long as there is room."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from biosegment.ids import new_id

_PIECE: Final = 1 << 20
_ABANDONED_S: Final = 24 * 3600
"""A file that was begun so long ago is of a process that died."""
_ROOM: Final = 0.9
"""What is left of the bound after making room, so that not every new file has to."""


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A complete file: where it is, its size in bytes, and SHA-256 in hexadecimal."""

    path: Path
    size: int
    sha256: str


class FileCache:
    """Files by key; the least recently used go first. It survives restarts.

    A file that is being sent may be deleted meanwhile: whoever has it open reads it to its end.

    Args:
        folder: For nothing else; made when missing.
        max_bytes: Of all files together; one that is larger is kept until the next one.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._making: dict[str, asyncio.Task[CachedFile]] = {}
        # Bytes of all files, or somewhat more; None before they were looked at, which takes long when there are many.
        self._used: int | None = None
        self._counting = threading.Lock()

    async def get(self, key: str, make: Callable[[Path], Awaitable[None]]) -> CachedFile:
        """The file of a key; made when there is none, once for all who ask at the same time.

        Args:
            key: Any text; says everything that the file depends on.
            make: Writes the file at a path.
        """
        name = _name(key)
        found = await self.peek(key)
        if found is not None:
            return found
        task = self._making.get(name)
        if task is None:
            task = asyncio.create_task(self._make(name, make))
            self._making[name] = task
            task.add_done_callback(lambda _: self._making.pop(name, None))
        # Who gives up must not spoil it for the others.
        return await asyncio.shield(task)

    async def peek(self, key: str) -> CachedFile | None:
        """The file of a key if there is one."""
        return await asyncio.to_thread(self._find, _name(key))

    async def _make(self, name: str, make: Callable[[Path], Awaitable[None]]) -> CachedFile:
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        staged = self._folder / f".{name}.{new_id()}"
        try:
            await make(staged)
            return await asyncio.to_thread(self._keep, name, staged)
        finally:
            with contextlib.suppress(OSError):
                staged.unlink(missing_ok=True)

    def _find(self, name: str) -> CachedFile | None:
        path = self._folder / name
        try:
            facts = json.loads(path.with_suffix(".json").read_text())
            status = path.stat()
            os.utime(path)
        except (OSError, ValueError):
            return None
        if status.st_size != facts["size"]:
            return None
        return CachedFile(path, facts["size"], facts["sha256"])

    def _keep(self, name: str, staged: Path) -> CachedFile:
        digest, size = hashlib.sha256(), 0
        with staged.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
        self._make_room(size)
        path = self._folder / name
        facts = staged.with_name(f"{staged.name}.facts")
        facts.write_text(json.dumps({"size": size, "sha256": digest.hexdigest()}))
        os.replace(staged, path)
        os.replace(facts, path.with_suffix(".json"))
        return CachedFile(path, size, digest.hexdigest())

    def _make_room(self, size: int) -> None:
        with self._counting:
            if self._used is None or self._used + size > self._max_bytes:
                self._used = self._tidied(size)
            self._used += size

    def _tidied(self, size: int) -> int:
        """Bytes of all files, after those that nobody uses have gone as far as one of `size` needs it."""
        files = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(FileNotFoundError):
                if entry.name.startswith(".") and time.time() - entry.stat().st_mtime > _ABANDONED_S:
                    os.unlink(entry.path)
                elif entry.is_file() and not entry.name.startswith(".") and not entry.name.endswith(".json"):
                    status = entry.stat()
                    files.append((status.st_mtime, status.st_size, Path(entry.path)))
        used = sum(each[1] for each in files)
        if used + size <= self._max_bytes:
            return used
        for _, freed, path in sorted(files):
            if used + size <= _ROOM * self._max_bytes:
                break
            for each in (path, path.with_suffix(".json")):
                each.unlink(missing_ok=True)
            used -= freed
        return used


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
