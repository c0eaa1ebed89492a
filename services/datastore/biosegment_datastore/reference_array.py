"""Arrays of volumes that are references, opened on the server's disk."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from biosegment.errors import BiosegmentError, FailedPrecondition, Unavailable
from biosegment.storage.arrays import Array
from biosegment_datastore.formats.selection import Selection
from biosegment_datastore.formats.tensors import Folder, open_view
from biosegment_datastore.reference import Reference
from biosegment_datastore.volume import Level, Volume

_CAPACITY = 256


class ReferenceArrays:
    """Opens the levels of referenced images; every opening looks again whether it is allowed and still there.

    Args:
        roots: Folders below which files may be read.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._open: OrderedDict[tuple[Path, str], tuple[tuple[int, int], Array]] = OrderedDict()

    async def get(self, volume: Volume, level: Level) -> Array:
        """The array of a level, z, y and x only.

        Raises:
            Unavailable: SOURCE_GONE.
            FailedPrecondition: REFERENCE_NOT_ALLOWED, SOURCE_CHANGED.
        """
        return await asyncio.to_thread(self.open, volume, level)

    def open(self, volume: Volume, level: Level) -> Array:
        """Like `get`, blocking."""
        assert volume.reference is not None, volume.name
        require_allowed(volume.reference, self._roots)
        state = _state(volume, volume.reference, level)
        place = (volume.reference.path, f"{level.path} {volume.reference.fixed}")
        known = self._open.get(place)
        if known is None or known[0] != state:
            known = (state, _array(volume, volume.reference, level))
            self._open[place] = known
            while len(self._open) > _CAPACITY:
                self._open.popitem(last=False)
        return known[1]


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


def _state(volume: Volume, reference: Reference, level: Level) -> tuple[int, int]:
    """What changes when the array's metadata do. Asked first, for chunks that are missing would read as zeros."""
    name = "zarr.json" if reference.zarr_format == 3 else ".zarray"
    try:
        status = os.stat(Folder(reference.path).place(level.path) / name)
    except (OSError, BiosegmentError) as error:
        raise Unavailable(
            "SOURCE_GONE",
            f"{volume.name} refers to {reference.uri}, whose level {level.path!r} is not there now: bring it back, or "
            "delete the volume",
        ) from error
    return status.st_mtime_ns, status.st_size


def _array(volume: Volume, reference: Reference, level: Level) -> Array:
    driver = "zarr3" if reference.zarr_format == 3 else "zarr"
    selection = Selection(reference.fixed, reference.order, level.shape)
    try:
        view: Any = open_view(Folder(reference.path), level.path, driver, selection)
        found = Array(f"{reference.uri}/{level.path}", view)
        same = found.shape == tuple(level.shape) and found.dtype.name == volume.data_type
    except (BiosegmentError, IndexError, ValueError) as error:
        raise _changed(volume, reference) from error
    if not same:
        raise _changed(volume, reference)
    return found


def _changed(volume: Volume, reference: Reference) -> FailedPrecondition:
    return FailedPrecondition(
        "SOURCE_CHANGED",
        f"{volume.name} refers to {reference.uri}, which is not the image any more that it was: import it again",
    )
