"""Arrays of volumes that are references, opened on the server's disk."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from biosegment.errors import BiosegmentError, FailedPrecondition, Unavailable
from biosegment.storage.arrays import Array
from biosegment.volume import Region
from biosegment_datastore.formats.selection import Selection
from biosegment_datastore.formats.tensors import Folder, open_view
from biosegment_datastore.reference import Reference, ReferencedLevel

_CAPACITY = 256


class ReferenceArrays:
    """Opens the levels of referenced images; every opening looks again whether it is allowed and still there.

    Args:
        roots: Folders below which files may be read.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._open: OrderedDict[ReferencedLevel, tuple[tuple[int, int], Array]] = OrderedDict()

    async def get(self, level: ReferencedLevel) -> Array:
        """The array of a level, z, y and x only.

        Raises:
            Unavailable: SOURCE_GONE.
            FailedPrecondition: REFERENCE_NOT_ALLOWED, SOURCE_CHANGED.
        """
        return await asyncio.to_thread(self.open, level)

    def open(self, level: ReferencedLevel) -> Array:
        """Like `get`, blocking."""
        require_allowed(level.reference, self._roots)
        state = _state(level)
        known = self._open.get(level)
        if known is None or known[0] != state:
            known = (state, _array(level))
            self._open[level] = known
            while len(self._open) > _CAPACITY:
                self._open.popitem(last=False)
        return known[1]


class _ReferencedArray(Array):
    """Looks at the files of the chunks before it reads them: whoever may write to an import root could make them links
    to any file that this service can read, and ask for its bytes as voxels.
    """

    def __init__(self, level: ReferencedLevel, selection: Selection, view: Any) -> None:
        super().__init__(f"{level.reference.uri}/{level.path}", view)
        self._level, self._selection = level, selection
        metadata = view.spec().to_json()["metadata"]
        if level.reference.zarr_format == 2:
            self._grid = tuple(metadata["chunks"])
            self._prefix, self._separator = "", metadata.get("dimension_separator", ".")
        else:
            self._grid = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
            naming = metadata["chunk_key_encoding"]
            is_default = naming["name"] == "default"
            self._separator = naming.get("configuration", {}).get("separator", "/" if is_default else ".")
            self._prefix = f"c{self._separator}" if is_default else ""

    def _at(self, region: Region | tuple[slice, ...]) -> Any:
        part = super()._at(region)
        folder = Folder(self._level.reference.path)
        for key in self._chunks(region.slices if isinstance(region, Region) else region):
            try:
                folder.place(f"{self._level.path}/{key}")
            except BiosegmentError as error:
                raise _changed(self._level) from error
        return part

    def _chunks(self, region: tuple[slice, ...]) -> Iterator[str]:
        """Keys of the chunks that hold a region, zyx, below the array."""
        bounds = [part.indices(size)[:2] for part, size in zip(region, self.shape, strict=True)]
        ranges = []
        for axis, (number, edge) in enumerate(zip(self._selection.fixed, self._grid, strict=True)):
            start, stop = (
                (number, number + 1) if number is not None else bounds[self._selection.order.index(axis)]
            )
            ranges.append(range(start // edge, -(-stop // edge)))
        for place in itertools.product(*ranges):
            yield self._prefix + self._separator.join(map(str, place))


def require_allowed(reference: Reference, roots: Sequence[Path]) -> None:
    """Look again at what was looked at when the volume was made: roots may be taken away, and links put in between.

    Raises:
        FailedPrecondition: REFERENCE_NOT_ALLOWED.
    """
    path = reference.path
    if path.resolve() != path or not any(path.is_relative_to(root) for root in roots):
        raise FailedPrecondition(
            "REFERENCE_NOT_ALLOWED",
            f"{str(path)!r} is not, or not directly, below one of the datastore's import roots any more: add its root "
            "to the settings again, or import a copy",
        )


def _state(level: ReferencedLevel) -> tuple[int, int]:
    """What changes when the array's metadata do. Asked first, for chunks that are missing would read as zeros."""
    name = "zarr.json" if level.reference.zarr_format == 3 else ".zarray"
    try:
        status = os.stat(Folder(level.reference.path).place(level.path) / name)
    except (OSError, BiosegmentError) as error:
        raise Unavailable(
            "SOURCE_GONE",
            f"{level.volume} refers to {level.reference.uri}, whose level {level.path!r} is not there now: bring it "
            "back, or delete the volume",
        ) from error
    return status.st_mtime_ns, status.st_size


def _array(level: ReferencedLevel) -> Array:
    driver = "zarr3" if level.reference.zarr_format == 3 else "zarr"
    selection = Selection(level.reference.fixed, level.reference.order, level.shape)
    try:
        view: Any = open_view(Folder(level.reference.path), level.path, driver, selection)
        found = _ReferencedArray(level, selection, view)
        same = found.shape == tuple(level.shape) and found.dtype.name == level.data_type
    except (BiosegmentError, IndexError, ValueError) as error:
        raise _changed(level) from error
    if not same:
        raise _changed(level)
    return found


def _changed(level: ReferencedLevel) -> FailedPrecondition:
    return FailedPrecondition(
        "SOURCE_CHANGED",
        f"{level.volume} refers to {level.reference.uri}, which is not the image any more that it was: import it again",
    )
