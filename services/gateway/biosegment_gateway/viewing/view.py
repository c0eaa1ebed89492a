"""Volumes that are references, and objects as their edits made them, shown as Zarr: made when it is asked for.

Voxels come from regions that the datastore reads, in plain chunks of one size, whatever those of the source are, and
the metadata is that of a plain image or array. So nothing outside of the image can be asked for.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from biosegment.auth import Principal
from biosegment.errors import NotFound
from biosegment.storage.multiscale import Level, multiscale_metadata
from biosegment.volume import Index, Region, VoxelSize

_CHUNK: Final = Index(16, 128, 128)
"""At most 2 MiB for any type of voxels, as the pieces of stored objects."""
_BYTES: Final = {"name": "bytes", "configuration": {"endian": "little"}}
_GZIP: Final = {"name": "gzip", "configuration": {"level": 1}}
"""Ids become a fiftieth of their size, which grey values do not."""

_NUMBER: Final = "(0|[1-9][0-9]{0,8})"
_METADATA: Final = re.compile(rf"(?:{_NUMBER}/)?zarr\.json")
_PLACE: Final = re.compile(rf"(?:{_NUMBER}/)?c/{_NUMBER}/{_NUMBER}/{_NUMBER}")


@dataclass(frozen=True, slots=True)
class ReferencedImage:
    """What is known of a volume that is a reference: a group with an array for each level.

    Attributes:
        name: Resource name.
        display_name: For people.
        voxel_size: Of level 0.
        levels: Finest first; their paths are their numbers.
        data_type: NumPy name.
    """

    name: str
    display_name: str
    voxel_size: VoxelSize
    levels: tuple[Level, ...]
    data_type: str


@dataclass(frozen=True, slots=True)
class MadeArray:
    """What is known of an array of a layer whose chunks are made: a coarser level than the stored one.

    Attributes:
        name: Resource name.
        shape: (z, y, x).
        data_type: NumPy name.
    """

    name: str
    shape: Index
    data_type: str


@dataclass(frozen=True, slots=True)
class EditedLayer(MadeArray):
    """What is known of a layer of instances, which shows the objects with the edits that hold."""


View = ReferencedImage | MadeArray


class Regions(Protocol):
    """Who reads regions in the name of users."""

    async def read_region(
        self, principal: Principal, name: str, level: int, region: Region, *, with_edits: bool
    ) -> NDArray[np.generic]:
        """Voxels (z, y, x) of a region of a level; `with_edits` for layers of instances."""


async def make_object(principal: Principal, view: View, path: str, regions: Regions) -> bytes:
    """The object below the view's address.

    Args:
        principal: In whose name voxels are read.
        view: The image or layer.
        path: `zarr.json` or `c/{z}/{y}/{x}`, of a volume's levels with their number and `/` before.
        regions: Where the voxels come from.

    Raises:
        NotFound: OBJECT_NOT_FOUND: no Zarr of this image or layer has such an object.
        Unavailable: SOURCE_GONE.
        FailedPrecondition: SOURCE_CHANGED, REFERENCE_NOT_ALLOWED.
    """
    if found := _METADATA.fullmatch(path):
        if isinstance(view, ReferencedImage) and found[1] is None:
            whole = multiscale_metadata(view.display_name, view.levels, view.voxel_size, method="")
            return json.dumps(whole, indent=1).encode()
        return json.dumps(_array_metadata(view, _shape(view, path, found[1]))).encode()
    if found := _PLACE.fullmatch(path):
        shape = _shape(view, path, found[1])
        chunk = await _chunk(
            principal, view, path, int(found[1] or 0), shape, Index(*map(int, found.groups()[1:])), regions
        )
        if isinstance(view, ReferencedImage):
            return chunk
        # Without the time, so that the same objects are the same bytes.
        return await asyncio.to_thread(gzip.compress, chunk, 1, mtime=0)
    raise _absent(view, path)


async def _chunk(
    principal: Principal, view: View, path: str, number: int, shape: Index, place: Index, regions: Regions
) -> bytes:
    size = _chunk_shape(shape)
    start = Index(*(each * edge for each, edge in zip(place, size, strict=True)))
    if any(low >= end for low, end in zip(start, shape, strict=True)):
        raise _absent(view, path)
    stop = Index(*(min(low + edge, end) for low, edge, end in zip(start, size, shape, strict=True)))
    with_edits = isinstance(view, EditedLayer)
    voxels = await regions.read_region(
        principal, view.name, number, Region(start, stop), with_edits=with_edits
    )
    little = np.ascontiguousarray(voxels, voxels.dtype.newbyteorder("<"))
    if little.shape == tuple(size):
        return little.tobytes()
    # Chunks at the border are whole ones too.
    padded = np.zeros(size, little.dtype)
    padded[tuple(slice(0, edge) for edge in little.shape)] = little
    return padded.tobytes()


def _chunk_shape(shape: Index) -> Index:
    return Index(*(min(edge, size) for edge, size in zip(_CHUNK, shape, strict=True)))


def _array_metadata(view: View, shape: Index) -> dict[str, object]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": view.data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(_chunk_shape(shape))}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [_BYTES, _GZIP] if isinstance(view, MadeArray) else [_BYTES],
        "attributes": {},
        "dimension_names": ["z", "y", "x"],
    }


def _shape(view: View, path: str, number: str | None) -> Index:
    """Of a volume's level, or of a layer, which has no levels."""
    if isinstance(view, MadeArray) and number is None:
        return view.shape
    if isinstance(view, ReferencedImage) and number is not None and int(number) < len(view.levels):
        return view.levels[int(number)].shape
    raise _absent(view, path)


def _absent(view: View, path: str) -> NotFound:
    return NotFound("OBJECT_NOT_FOUND", f"{view.name} has no object {path[:200]!r}")
