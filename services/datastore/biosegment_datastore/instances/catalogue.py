"""The objects that a layer was written with: ids, how many voxels each has, and where they lie.

It is made once, before a layer's first edit, by going through the layer slab by slab, and kept beside the layer:
without it nobody could tell a wrong id from a right one, or know which ids are free.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.errors import FailedPrecondition, Internal
from biosegment.volume import Index, Region

MAX_ID = (1 << 63) - 2
"""Databases have signed numbers, and keep the one after the largest id, too."""
_GATHERED_ROWS = 1 << 20


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The objects of a layer.

    Attributes:
        ids: (n) uint64, ascending; 0, which is nothing, is not among them.
        counts: (n) int64, voxels.
        starts: (n, 3) int32, zyx, first voxel of the smallest box, in voxels of the layer.
        stops: (n, 3) int32, zyx, the first one outside of it.
    """

    ids: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int32]
    stops: npt.NDArray[np.int32]

    @property
    def largest(self) -> int:
        """Largest id; 0 when there are no objects."""
        return int(self.ids[-1]) if self.ids.size else 0

    def place(self, instance: int) -> Region | None:
        """Smallest box that holds an object; None when there is no such object."""
        row = self._row(instance)
        return (
            None
            if row is None
            else Region(Index(*self.starts[row].tolist()), Index(*self.stops[row].tolist()))
        )

    def __contains__(self, instance: int) -> bool:
        return self._row(instance) is not None

    def _row(self, instance: int) -> int | None:
        if not 0 < instance <= MAX_ID:
            return None
        row = int(np.searchsorted(self.ids, np.uint64(instance)))
        return row if row < self.ids.size and int(self.ids[row]) == instance else None

    def encode(self) -> bytes:
        """As it is stored: a NumPy archive."""
        file = io.BytesIO()
        np.savez_compressed(file, ids=self.ids, counts=self.counts, starts=self.starts, stops=self.stops)
        return file.getvalue()

    @classmethod
    def decode(cls, data: bytes) -> Catalogue:
        """Raises Internal CATALOGUE_CORRUPT."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return cls(arrays["ids"], arrays["counts"], arrays["starts"], arrays["stops"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise Internal("CATALOGUE_CORRUPT", "the list of a layer's objects is damaged") from error


def catalogue_of(
    parts: Iterable[Region], read: Callable[[Region], npt.NDArray[Any]], done: Callable[[Region], None]
) -> Catalogue:
    """Go through a layer.

    Args:
        parts: Boxes that cover it, each voxel once, in voxels of the layer.
        read: Returns the ids of a box, unsigned integers.
        done: Called after each box.

    Raises:
        FailedPrecondition: INSTANCE_IDS_TOO_LARGE.
    """
    return _reduced(_gathered(parts, read, done))


def _gathered(
    parts: Iterable[Region], read: Callable[[Region], npt.NDArray[Any]], done: Callable[[Region], None]
) -> list[Catalogue]:
    found: list[Catalogue] = []
    waiting = 0
    for part in parts:
        here = _objects(read(part), part)
        if here.largest > MAX_ID:
            raise FailedPrecondition(
                "INSTANCE_IDS_TOO_LARGE",
                f"the layer holds object {here.largest}; objects up to {MAX_ID} can be edited: number them anew",
            )
        found.append(here)
        waiting += here.ids.size
        if waiting > _GATHERED_ROWS:
            found = [_reduced(found)]
            waiting = 0
        done(part)
    return found


def _objects(voxels: npt.NDArray[Any], region: Region) -> Catalogue:
    flat = voxels.reshape(-1)
    places = np.flatnonzero(flat)
    ids = flat[places]
    order = np.argsort(ids, kind="stable")
    ids, places = ids[order], places[order]
    firsts = np.flatnonzero(np.diff(ids, prepend=ids[:1] - ids.dtype.type(1))) if ids.size else places[:0]
    corners = np.empty((2, firsts.size, 3), np.int32)
    for axis, positions in enumerate(np.unravel_index(places, voxels.shape)):
        if firsts.size:
            corners[0, :, axis] = np.minimum.reduceat(positions, firsts) + region.start[axis]
            corners[1, :, axis] = np.maximum.reduceat(positions, firsts) + region.start[axis] + 1
    counts = np.diff(firsts, append=ids.size).astype(np.int64)
    return Catalogue(ids[firsts].astype(np.uint64), counts, corners[0], corners[1])


def _reduced(parts: list[Catalogue]) -> Catalogue:
    """One catalogue of several; an object that is in more than one becomes one."""
    if not parts:
        return Catalogue(
            np.zeros(0, np.uint64),
            np.zeros(0, np.int64),
            np.zeros((0, 3), np.int32),
            np.zeros((0, 3), np.int32),
        )
    ids = np.concatenate([each.ids for each in parts])
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    if not ids.size:
        return parts[0]
    firsts = np.flatnonzero(np.diff(ids, prepend=ids[:1] - np.uint64(1)))
    return Catalogue(
        ids[firsts],
        np.add.reduceat(np.concatenate([each.counts for each in parts])[order], firsts),
        np.minimum.reduceat(np.concatenate([each.starts for each in parts])[order], firsts, axis=0),
        np.maximum.reduceat(np.concatenate([each.stops for each in parts])[order], firsts, axis=0),
    )


def slabs(
    shape: tuple[int, ...], itemsize: int, shard: tuple[int, ...], limit_bytes: int
) -> Iterator[Region]:
    """Cover an array with boxes that begin on its shards, so that none is read twice unless it is larger."""
    z, y, x = shape
    deep, high, wide = shard
    while deep * high * wide * itemsize > limit_bytes and deep > 1:
        deep = -(-deep // 2)
    for z0 in range(0, z, deep):
        for y0 in range(0, y, high):
            for x0 in range(0, x, wide):
                stop = Index(min(z0 + deep, z), min(y0 + high, y), min(x0 + wide, x))
                yield Region(Index(z0, y0, x0), stop)
