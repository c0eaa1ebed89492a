"""Voxel arrays in object storage: sharded Zarr v3, moved by tensorstore.

An array lives below a key of the store (`volumes/v/0`), next to the objects of `biosegment.storage.objects`.
Writers must not share a shard: two that write parts of one shard at the same time lose data.

Errors:
    NotFound ARRAY_NOT_FOUND, AlreadyExists ARRAY_EXISTS, InvalidArgument REGION_OUT_OF_BOUNDS, BAD_ARRAY_DATA
    and BAD_ARRAY, ResourceExhausted DISK_FULL, Unavailable OBJECT_STORE_UNAVAILABLE, Internal ARRAY_CORRUPT.
"""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from biosegment.errors import (
    AlreadyExists,
    BiosegmentError,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.flush import flush_below
from biosegment.storage.folder import folder_of_url
from biosegment.storage.key import check_key
from biosegment.storage.layout import ZSTD_LEVEL, ArrayLayout
from biosegment.storage.s3_url import bucket_and_prefix
from biosegment.volume import Region

Voxels = npt.NDArray[Any]
_T = TypeVar("_T")

DTYPES = (
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "float32",
    "float64",
)

_S3_CACHE_BYTES = 128 << 20
"""Without a cache every read of a sharded array on S3 fetches the shard's index again: 49 instead of 6 ms."""


class Pending(Protocol):
    """A write under way: `result()` blocks until it is durable, awaiting it does so without blocking."""

    def result(self) -> None: ...

    def done(self) -> bool:
        """Whether it has ended, well or not."""

    def __await__(self) -> Any: ...


class Array:
    """An open array; safe to use from several threads."""

    def __init__(self, name: str, store: Any, keep: object = None, root: Path | None = None) -> None:
        self.name = name
        self._store = store
        self._root = root  # of a store in a folder
        self._keep = keep  # what the store needs to stay open as long as it

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(size) for size in self._store.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        kind: np.dtype[Any] = np.dtype(self._store.dtype.numpy_dtype)
        return kind

    @property
    def layout(self) -> ArrayLayout:
        grid = self._store.chunk_layout
        return ArrayLayout(tuple(grid.write_chunk.shape), tuple(grid.read_chunk.shape))

    def read(self, region: Region | tuple[slice, ...]) -> Voxels:
        """Read a region (3D arrays) or a tuple of slices, also with steps; blocks.

        Absent shards read as the fill value. A step saves memory, not time: whole chunks are decoded.
        """
        voxels: Voxels = self._wait(self._at(region).read(order="C"))
        return voxels

    async def read_async(self, region: Region | tuple[slice, ...]) -> Voxels:
        """Like `read`, without blocking the event loop."""
        return await self._wait_async(self._at(region).read(order="C"))

    def write(self, region: Region | tuple[slice, ...], data: Voxels) -> None:
        """Write `data` durably; blocks. A shard that is only partly covered is read and written again.

        Raises:
            InvalidArgument: BAD_ARRAY_DATA when shape or dtype differ from the region's and the array's.
        """
        self._wait(self._writing(region, data, borrow=False))

    async def write_async(self, region: Region | tuple[slice, ...], data: Voxels) -> None:
        """Like `write`, without blocking the event loop."""
        await self._wait_async(self._writing(region, data, borrow=False))

    def start_write(self, region: Region | tuple[slice, ...], data: Voxels) -> Pending:
        """Begin a write and return at once; `data` is used in place: leave it unchanged until the result."""
        return _MappedWrite(self, self._writing(region, data, borrow=True))

    def make_durable(self, rows: slice) -> None:
        """Flush to the disk what was written to all shards of `rows` (of the first axis); blocks.

        Only needed with `Arrays(..., sync=False)`; nothing to do on S3.
        """
        if self._root is None:
            return
        folder, depth = self._root / self.name, self.layout.shard[0]
        rows_of_shards = range(rows.start // depth, -(-rows.stop // depth))
        try:
            flush_below(
                self._root, [folder / "zarr.json", *(folder / "c" / str(row) for row in rows_of_shards)]
            )
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _disk_full(self.name) from error
            raise Unavailable(
                "OBJECT_STORE_UNAVAILABLE", f"array {self.name!r} cannot be flushed: {error.strerror}"
            ) from error

    def _writing(self, region: Region | tuple[slice, ...], data: Voxels, borrow: bool) -> Any:
        view = self._at(region)
        if tuple(view.shape) != data.shape or data.dtype != self.dtype:
            raise InvalidArgument(
                "BAD_ARRAY_DATA",
                f"{self.name}: {data.dtype} data of shape {data.shape} for a region of shape "
                f"{tuple(view.shape)} in a {self.dtype} array; they must be the same",
            )
        return view.write(data, can_reference_source_data_indefinitely=borrow)

    def _at(self, region: Region | tuple[slice, ...]) -> Any:
        if isinstance(region, Region):
            if len(self.shape) != 3:
                raise InvalidArgument(
                    "BAD_REGION", f"{self.name} has {len(self.shape)} axes: a region needs three"
                )
            region.require_within(self.shape, self.name)
            region = region.slices
        bounds = [part.indices(size) for part, size in zip(region, self.shape, strict=False)]
        if any(step < 1 for _, _, step in bounds):
            raise InvalidArgument("BAD_REGION", f"{region} of {self.name} goes backwards; steps begin at 1")
        # NumPy would cut a slice to the array, and the caller would get another shape than it asked for.
        if len(region) != len(self.shape) or any(
            part.stop is not None and part.stop > size for part, size in zip(region, self.shape, strict=False)
        ):
            raise InvalidArgument(
                "REGION_OUT_OF_BOUNDS", f"{region} is not inside {self.name}, whose shape is {self.shape}"
            )
        return self._store[tuple(slice(start, stop, step) for start, stop, step in bounds)]

    def _wait(self, future: Any) -> Any:
        try:
            return future.result()
        except ValueError as error:
            raise _mapped(self.name, error) from None

    async def _wait_async(self, future: Awaitable[_T]) -> _T:
        try:
            return await future
        except ValueError as error:
            raise _mapped(self.name, error) from None


class _MappedWrite:
    def __init__(self, array: Array, future: Any) -> None:
        self._array, self._future = array, future

    def result(self) -> None:
        self._array._wait(self._future)

    def done(self) -> bool:
        return bool(self._future.done())

    def __await__(self) -> Any:
        return self._array._wait_async(self._future).__await__()


class Arrays:
    """The arrays of one object store. Make one per process and keep it: it holds the cache and the limits.

    Args:
        settings: Where the store is, and the credentials.
        cache_bytes: Memory for chunks and shard indexes; by default none on a folder: the page cache serves.
        sync: Whether a write is durable when it has ended; otherwise `Array.make_durable` makes it so, many at a time.
    """

    def __init__(
        self, settings: ObjectStoreSettings, cache_bytes: int | None = None, *, sync: bool = True
    ) -> None:
        self._settings = settings
        self._remote = settings.object_store_url.startswith("s3://")
        if cache_bytes is None:
            cache_bytes = _S3_CACHE_BYTES if self._remote else 0
        self._credentials = _CredentialsFile(settings) if self._remote else None
        self._context = ts.Context(
            {
                "cache_pool": {"total_bytes_limit": cache_bytes},
                "file_io_sync": sync,
                "s3_request_concurrency": {"limit": 32},
                # An outage has to reach the caller within seconds.
                "s3_request_retries": {"max_retries": 2, "initial_delay": "300ms", "max_delay": "2s"},
            }
        )
        if self._remote:
            _time_out_after(settings.s3_timeout_s)

    def kvstore(self, key: str) -> dict[str, Any]:
        """Tensorstore's description of the place below `key`; holds no secret."""
        check_key(key)
        url = self._settings.object_store_url
        if not self._remote:
            return {"driver": "file", "path": f"{folder_of_url(url)}/{key}/"}
        assert self._credentials is not None
        bucket, prefix = bucket_and_prefix(url)
        return {
            "driver": "s3",
            "bucket": bucket,
            "path": f"{prefix}{key}/",
            "endpoint": self._settings.s3_endpoint_url,
            "aws_region": self._settings.s3_region,
            "aws_credentials": self._credentials.spec,
            # radosgw answers 412 to every If-Match with a quoted ETag, and the engine would try for ever. Nothing is
            # lost without it: writers do not share a shard.
            "use_conditional_write": False,
        }

    def create(
        self,
        key: str,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        *,
        layout: ArrayLayout | None = None,
        fill: float = 0,
        axes: tuple[str, ...] | None = None,
    ) -> Array:
        """Make an array of `fill` below `key` and open it.

        Args:
            key: Place in the store; nothing may be there.
            shape: Voxels along every axis, zyx last.
            dtype: One of `DTYPES`.
            layout: Shards and chunks; the default layout, cut to the shape, when not given.
            fill: Value of what is not written; a chunk of only this value takes no space.
            axes: Dimension names; z, y, x when there are three axes.

        Raises:
            AlreadyExists: ARRAY_EXISTS.
        """
        kind = np.dtype(dtype)
        if kind.name not in DTYPES or not shape or min(shape) < 1:
            raise InvalidArgument(
                "BAD_ARRAY",
                f"cannot make a {kind} array of shape {shape} at {key!r}: use {', '.join(DTYPES)}",
            )
        layout = ArrayLayout.for_shape(shape) if layout is None else layout.clamped(shape)
        metadata = _metadata(
            shape, kind, layout, fill, axes or (("z", "y", "x") if len(shape) == 3 else None)
        )
        return self._open({"metadata": metadata}, key, create=True)

    def open(self, key: str, *, immutable: bool = False) -> Array:
        """Open the array below `key`.

        Args:
            key: Place in the store.
            immutable: Nobody writes to it any more, so that what is cached need not be checked for changes.

        Raises:
            NotFound: ARRAY_NOT_FOUND.
        """
        extra = {"recheck_cached_data": False} if immutable else {}
        return self._open({**extra, "recheck_cached_metadata": "open"}, key, create=False)

    def _open(self, spec: dict[str, Any], key: str, create: bool) -> Array:
        whole = {"driver": "zarr3", "kvstore": self.kvstore(key), **spec}
        try:
            return Array(
                key,
                ts.open(whole, context=self._context, create=create, open=not create).result(),
                self._credentials,
                None if self._remote else folder_of_url(self._settings.object_store_url),
            )
        except ValueError as error:
            raise _mapped(key, error) from None


def _metadata(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    layout: ArrayLayout,
    fill: float,
    axes: tuple[str, ...] | None,
) -> dict[str, Any]:
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    zstd = {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}
    shards = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": list(layout.chunk),
            "codecs": [little, zstd],
            "index_codecs": [little, {"name": "crc32c"}],
            "index_location": "end",
        },
    }
    names = {"dimension_names": list(axes)} if axes else {}
    return {
        "shape": list(shape),
        "data_type": dtype.name,
        "fill_value": dtype.type(fill).item(),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(layout.shard)}},
        "codecs": [shards],
        **names,
    }


def _mapped(name: str, error: ValueError) -> BiosegmentError:
    """The engine's status as one of ours; its text holds paths and whole specs, so it stays in the log."""
    status = str(error).partition(":")[0]
    match status:
        case "NOT_FOUND":
            return NotFound("ARRAY_NOT_FOUND", f"there is no array at {name!r}")
        case "ALREADY_EXISTS":
            return AlreadyExists("ARRAY_EXISTS", f"there is already an array at {name!r}")
        case "RESOURCE_EXHAUSTED":
            return _disk_full(name)
        case "DATA_LOSS" | "FAILED_PRECONDITION" | "INVALID_ARGUMENT":
            return Internal(
                "ARRAY_CORRUPT", f"array {name!r} cannot be decoded: its objects are damaged ({status})"
            )
    return Unavailable("OBJECT_STORE_UNAVAILABLE", f"object storage failed at array {name!r} ({status})")


def _disk_full(name: str) -> ResourceExhausted:
    return ResourceExhausted(
        "DISK_FULL", f"no space left while writing array {name!r}: free space, try again"
    )


def _time_out_after(seconds: float) -> None:
    """Let the engine give up requests that bring no byte; it takes this from the environment, for the whole process."""
    for variable in ("LOW_SPEED_TIME", "CONNECT_TIMEOUT"):
        os.environ.setdefault(f"TENSORSTORE_CURL_{variable}_SECONDS", str(max(1, round(seconds))))
    os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES", "1")


class _CredentialsFile:
    """The credentials as an unnamed file in memory: the engine takes them by path or environment only.

    The environment would hand them to every child process, also to those that parse users' files.
    """

    def __init__(self, settings: ObjectStoreSettings) -> None:
        text = (
            f"[default]\naws_access_key_id = {settings.s3_access_key_id}\n"
            f"aws_secret_access_key = {settings.s3_secret_access_key.get_secret_value()}\n"
        )
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("s3", os.MFD_CLOEXEC)
            path = f"/proc/self/fd/{descriptor}"
        else:
            descriptor, path = tempfile.mkstemp(prefix="s3-")  # readable by its owner only
            weakref.finalize(self, os.unlink, path)
        os.write(descriptor, text.encode())
        weakref.finalize(self, os.close, descriptor)
        self.spec = {
            "type": "profile",
            "profile": "default",
            "credentials_file": path,
            "config_file": os.devnull,
        }
