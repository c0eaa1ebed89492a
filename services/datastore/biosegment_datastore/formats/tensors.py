"""Folders and zip files of chunks (Zarr, N5, precomputed ...), read through tensorstore and never beyond their root."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np

from biosegment.errors import InvalidArgument, ResourceExhausted
from biosegment_datastore.formats.selection import Selection
from biosegment_datastore.formats.source import Voxels, unreadable
from biosegment_datastore.scratch import scratch_folder

_MAX_JSON_BYTES = 16 << 20
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError)

# Nothing is cached: every chunk is read once.
_CONTEXT = {"cache_pool": {"total_bytes_limit": 0}}


class Container(Protocol):
    """Somebody's tree of metadata and chunks. Keys are relative, with '/' between the parts; '' is the root."""

    @property
    def name(self) -> str: ...

    def json(self, key: str) -> dict[str, Any] | None:
        """The JSON object at a key; None when there is none.

        Raises:
            ValueError: It is no JSON object, or too large.
            InvalidArgument: UNREADABLE_FILE when the key leads out of the root.
        """

    def folders(self, key: str) -> Sequence[str]:
        """Names of the folders in a folder, sorted."""

    def kvstore(self, key: str) -> dict[str, Any]:
        """Tensorstore's description of the place below a key; errors as of `json`."""

    def require_sound(self, key: str) -> None:
        """Look at everything below a key.

        Raises:
            InvalidArgument: UNREADABLE_FILE when something there leads out of the root.
            ResourceExhausted: DISK_FULL when there is no room for it.
        """

    def close(self) -> None:
        """Remove what was unpacked."""


class Folder:
    """A `Container` on disk."""

    def __init__(self, path: Path) -> None:
        self._root = path.resolve()
        self.name = path.name

    def place(self, key: str) -> Path:
        """Where a key is, symbolic links resolved; InvalidArgument UNREADABLE_FILE when that is not below the root."""
        try:
            place = self._root.joinpath(*_parts(self.name, key)).resolve()
        except (OSError, RuntimeError) as error:
            raise unreadable(self.name, f"{key!r} in it cannot be found") from error
        if not place.is_relative_to(self._root):
            raise _leads_out(self.name, key)
        return place

    def json(self, key: str) -> dict[str, Any] | None:
        place = self.place(key)
        if not place.is_file():
            return None
        with place.open("rb") as file:
            return _parsed(key, file.read(_MAX_JSON_BYTES + 1))

    def folders(self, key: str) -> Sequence[str]:
        place = self.place(key)
        if not place.is_dir():
            return ()
        with os.scandir(place) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))

    def kvstore(self, key: str) -> dict[str, Any]:
        return {"driver": "file", "path": f"{self.place(key)}/"}

    def require_sound(self, key: str) -> None:
        queue = [self.place(key)]
        if not queue[0].is_dir():
            raise unreadable(self.name, f"its folder {key!r} is missing")
        while queue:
            with os.scandir(queue.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(self._root):
                        raise _leads_out(self.name, os.path.relpath(entry.path, self._root))
                    if entry.is_dir(follow_symlinks=False):
                        queue.append(Path(entry.path))

    def close(self) -> None:
        """Nothing was unpacked."""


class Zip:
    """A `Container` in a zip file, which may hold everything in one folder.

    Arrays are unpacked to the scratch folder when they are opened: tensorstore's own reader of zip files stands still
    when it reads several chunks of a shard (0.1.86).

    Args:
        path: Of the zip file.
        scratch_dir: Where arrays are unpacked, until `close`.
    """

    def __init__(self, path: Path, scratch_dir: Path) -> None:
        self._path, self.name, self._scratch_dir = path.resolve(), path.name, scratch_dir
        self._unpacked: dict[str, Path] = {}
        self._resources = ExitStack()
        try:
            with zipfile.ZipFile(path) as file:
                self._entries = {entry.filename: entry for entry in file.infolist() if not entry.is_dir()}
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise unreadable(path.name, f"its list of files is damaged ({error})") from error
        tops = {name.partition("/")[0] for name in self._entries if "/" in name}
        in_folder = len(tops) == 1 and all("/" in name for name in self._entries)
        self._top = f"{next(iter(tops))}/" if in_folder else ""

    def holds(self, key: str) -> bool:
        """Whether there is a file at a key."""
        return self._top + key in self._entries

    def json(self, key: str) -> dict[str, Any] | None:
        name = self._top + "/".join(_parts(self.name, key))
        if name not in self._entries:
            return None
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(name) as file:
                return _parsed(key, file.read(_MAX_JSON_BYTES + 1))
        except _BAD_ZIP as error:
            raise ValueError(f"{key} does not unpack ({error})") from error

    def folders(self, key: str) -> Sequence[str]:
        top = self._folder(key)
        below = (name.removeprefix(top) for name in self._entries if name.startswith(top))
        return sorted({name.partition("/")[0] for name in below if "/" in name})

    def kvstore(self, key: str) -> dict[str, Any]:
        if key not in self._unpacked:
            self._unpacked[key] = self._resources.enter_context(scratch_folder(self._scratch_dir, "zarr"))
            self._unpack(self._folder(key), self._unpacked[key])
        return {"driver": "file", "path": f"{self._unpacked[key]}/"}

    def require_sound(self, key: str) -> None:
        top = self._folder(key)
        needed = sum(entry.file_size for name, entry in self._entries.items() if name.startswith(top))
        free = shutil.disk_usage(self._scratch_dir).free
        if needed > free:
            raise ResourceExhausted(
                "DISK_FULL",
                f"{self.name!r} unpacks to {needed} bytes, and the scratch folder has room for {free}: make room, or "
                "unpack it where it is and import the folder",
            )

    def close(self) -> None:
        self._unpacked.clear()
        self._resources.close()

    def _folder(self, key: str) -> str:
        return self._top + "".join(f"{part}/" for part in _parts(self.name, key))

    def _unpack(self, top: str, folder: Path) -> None:
        root = folder.resolve()
        try:
            with zipfile.ZipFile(self._path) as archive:
                for name, entry in self._entries.items():
                    if not name.startswith(top):
                        continue
                    place = root.joinpath(*_parts(self.name, name.removeprefix(top)))
                    place.parent.mkdir(parents=True, exist_ok=True)
                    # Not `extract`: that trusts names. What is longer than the archive says ends in an error.
                    with archive.open(entry) as source, place.open("xb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise unreadable(self.name, f"it does not unpack ({error.strerror})") from error
            raise ResourceExhausted(
                "DISK_FULL", f"no room to unpack {self.name!r} in the scratch folder; make room and try again"
            ) from error
        except _BAD_ZIP as error:
            raise unreadable(self.name, f"it does not unpack ({error})") from error


class Tensors:
    """An open array; indexed like NumPy's, gives arrays in native byte order.

    Attributes:
        shape: Along the axes of the file.
        chunks: What is decoded at once.
    """

    def __init__(self, name: str, store: Any, chunks: tuple[int, ...] | None = None) -> None:
        self._name, self._store = name, store
        self.dtype: np.dtype[Any] = np.dtype(store.dtype.numpy_dtype).newbyteorder("=")
        self.shape = tuple(int(size) for size in store.shape)
        layout = store.chunk_layout.read_chunk.shape
        self.chunks = chunks or tuple(
            int(chunk or size) for chunk, size in zip(layout or self.shape, self.shape, strict=True)
        )

    def __getitem__(self, index: Any) -> Voxels:
        try:
            voxels: Voxels = self._store[index].read(order="C").result()
        except ValueError as error:
            raise unreadable(self._name, f"voxels {index} do not decode ({status(error)})") from None
        return voxels

    def part(self, index: tuple[slice, ...]) -> Tensors:
        """A box of it, whose origin becomes 0."""
        import tensorstore as ts

        return Tensors(self._name, self._store[index][ts.d[:].translate_to[0]], self.chunks)


def open_tensors(
    container: Container, key: str, driver: str, axes: Sequence[int] | None = None, **spec: Any
) -> Tensors:
    """Open an array for reading.

    Args:
        container: Where it is.
        key: Of the array, or of what the driver calls its root.
        driver: Of tensorstore.
        axes: Order in which the array's axes are wanted; as they are by default. Their origin becomes 0.
        spec: More for the driver.

    Raises:
        InvalidArgument: UNREADABLE_FILE.
    """
    container.require_sound(key)
    store = _opened(container, key, driver, spec)
    return Tensors(container.name, store if axes is None else store.transpose(list(axes)))


def open_view(container: Container, key: str, driver: str, selection: Selection) -> Any:
    """Tensorstore's view of the zyx part of an array, its chunks not looked at; errors as of `open_tensors`."""
    store = _opened(container, key, driver, {})
    if len(store.shape) != len(selection.fixed):
        raise unreadable(container.name, f"its array {key!r} has {len(store.shape)} axes")
    picked = store[tuple(slice(None) if number is None else number for number in selection.fixed)]
    return picked.transpose(list(selection.transposition))


def _opened(container: Container, key: str, driver: str, spec: Mapping[str, Any]) -> Any:
    import tensorstore as ts

    whole = {"driver": driver, "kvstore": container.kvstore(key), "context": _CONTEXT, **spec}
    try:
        store = ts.open(whole, open=True, read=True).result()
    except ValueError as error:
        raise unreadable(container.name, f"its array {key!r} does not open ({status(error)})") from None
    return store[ts.d[:].translate_to[0]]


def status(error: ValueError) -> str:
    """The engine's status alone; its message holds paths of the server."""
    return str(error).partition(":")[0]


def _parts(name: str, key: str) -> tuple[str, ...]:
    parts = PurePosixPath(key).parts
    if key.startswith("/") or ".." in parts or "\0" in key or "\\" in key or "://" in key:
        raise _leads_out(name, key)
    return parts


def _leads_out(name: str, key: str) -> InvalidArgument:
    return InvalidArgument("UNREADABLE_FILE", f"{name!r} refers to {key!r}, outside of itself")


def _parsed(key: str, data: bytes) -> dict[str, Any]:
    if len(data) > _MAX_JSON_BYTES:
        raise ValueError(f"{key} is larger than {_MAX_JSON_BYTES} bytes")
    try:
        document = json.loads(data)
    except RecursionError as error:
        raise ValueError(f"{key} is nested without end") from error
    if not isinstance(document, dict):
        raise ValueError(f"{key} is no JSON object")
    return document
