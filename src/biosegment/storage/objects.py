"""Bytes under keys: the smallest interface that a folder and an S3 bucket both keep.

An object is whole or absent: `put` returns after the bytes are durable, and a reader sees the old bytes or
the new ones, never a mixture. Keys are checked by `biosegment.storage.key`. Prefixes end with '/'.

Errors of every method:
    InvalidArgument BAD_OBJECT_KEY          the key or prefix is malformed
    NotFound OBJECT_NOT_FOUND               `get`, `get_range`, `size` and `copy` of a key that is not there
    ResourceExhausted DISK_FULL             no room (or no quota) left; nothing was written
    Unavailable OBJECT_STORE_UNAVAILABLE    the store does not answer, or refuses our credentials
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

from biosegment.settings import ObjectStoreSettings

_P = ParamSpec("_P")
_T = TypeVar("_T")

Buffer = bytes | bytearray | memoryview


class BlockingObjects(Protocol):
    """The store itself; thread-safe, every call may block on the disk or the network."""

    def put(self, key: str, data: Buffer) -> None:
        """Write an object durably, replacing an older one."""

    def put_many(self, items: Sequence[tuple[str, Buffer]]) -> None:
        """Write objects durably, sharing what that costs; after an error any of them may have been written."""

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        """Write an object unless the key is taken; of several racing writers exactly one gets True."""

    def get(self, key: str) -> bytes:
        """Read a whole object."""

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Read bytes `[start, stop)`; shorter when the object ends before `stop`.

        Raises:
            InvalidArgument: BAD_BYTE_RANGE unless `0 <= start < stop` and `start` is before the end.
        """

    def exists(self, key: str) -> bool: ...

    def size(self, key: str) -> int:
        """Size of an object in bytes."""

    def list(self, prefix: str) -> list[str]:
        """All keys below `prefix`, sorted."""

    def copy(self, source: str, target: str) -> None:
        """Give an object a second key durably, replacing what was there; its bytes do not pass through here."""

    def delete(self, key: str) -> None:
        """Remove an object; a missing one is no error."""

    def delete_prefix(self, prefix: str) -> None:
        """Remove all objects below `prefix`, which must not be empty; nothing there is no error."""

    def check(self) -> None:
        """Return when the store can serve, within seconds; raise Unavailable otherwise."""

    def close(self) -> None: ...


class Objects:
    """The store for async code: the methods of `BlockingObjects`, run in threads of its own.

    Own threads, because a store that hangs must not take the event loop's default pool with it.
    """

    def __init__(self, blocking: BlockingObjects, threads: int = 8) -> None:
        self.blocking = blocking
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="objects")

    async def put(self, key: str, data: Buffer) -> None:
        await self._run(self.blocking.put, key, data)

    async def put_many(self, items: Sequence[tuple[str, Buffer]]) -> None:
        await self._run(self.blocking.put_many, items)

    async def put_if_absent(self, key: str, data: Buffer) -> bool:
        return await self._run(self.blocking.put_if_absent, key, data)

    async def get(self, key: str) -> bytes:
        return await self._run(self.blocking.get, key)

    async def get_range(self, key: str, start: int, stop: int) -> bytes:
        return await self._run(self.blocking.get_range, key, start, stop)

    async def exists(self, key: str) -> bool:
        return await self._run(self.blocking.exists, key)

    async def size(self, key: str) -> int:
        return await self._run(self.blocking.size, key)

    async def list(self, prefix: str) -> list[str]:
        return await self._run(self.blocking.list, prefix)

    async def copy(self, source: str, target: str) -> None:
        await self._run(self.blocking.copy, source, target)

    async def delete(self, key: str) -> None:
        await self._run(self.blocking.delete, key)

    async def delete_prefix(self, prefix: str) -> None:
        await self._run(self.blocking.delete_prefix, prefix)

    async def check(self) -> None:
        await self._run(self.blocking.check)

    async def close(self) -> None:
        """Release connections and threads; calls that are under way finish first."""
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.to_thread(self.blocking.close)

    async def _run(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: call(*args, **kwargs))


def open_blocking_objects(settings: ObjectStoreSettings) -> BlockingObjects:
    """Open the store that the settings name, for code that runs in threads or in a worker process.

    Raises:
        Unavailable: OBJECT_STORE_UNAVAILABLE when the folder cannot be made or the endpoint is down.
    """
    # Imported here: the S3 client costs a process 20 MB that does not use it.
    if settings.object_store_url.startswith("file://"):
        from biosegment.storage.folder import FolderObjects

        return FolderObjects.at_url(settings.object_store_url)
    from biosegment.storage.s3 import S3Objects

    return S3Objects(settings)


def open_objects(settings: ObjectStoreSettings) -> Objects:
    """Open the store that the settings name, for async code; see `open_blocking_objects`."""
    return Objects(open_blocking_objects(settings))
