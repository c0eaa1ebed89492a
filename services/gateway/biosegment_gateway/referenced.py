"""Volumes that are references, shown as OME-Zarr 0.5: made when it is asked for, from regions that the datastore reads.

Nothing of the source's files is passed on, only voxels: plain chunks of one size, whatever the source's are, and the
metadata of a plain image. So nothing outside of the image can be asked for.
"""

from __future__ import annotations

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

_NUMBER: Final = "(0|[1-9][0-9]{0,8})"
_METADATA: Final = re.compile(rf"(?:{_NUMBER}/)?zarr\.json")
_PLACE: Final = re.compile(rf"{_NUMBER}/c/{_NUMBER}/{_NUMBER}/{_NUMBER}")


@dataclass(frozen=True, slots=True)
class ReferencedImage:
    """What is known of such a volume.

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


class Regions(Protocol):
    """Who reads regions in the name of users."""

    async def read_region(
        self, principal: Principal, name: str, level: int, region: Region
    ) -> NDArray[np.generic]:
        """Voxels (z, y, x) of a region of a level."""


async def make_object(principal: Principal, image: ReferencedImage, path: str, regions: Regions) -> bytes:
    """The object below the image's address.

    Args:
        principal: In whose name voxels are read.
        image: The image.
        path: `zarr.json`, `{level}/zarr.json` or `{level}/c/{z}/{y}/{x}`.
        regions: Where the voxels come from.

    Raises:
        NotFound: OBJECT_NOT_FOUND: no OME-Zarr of this image has such an object.
        Unavailable: SOURCE_GONE.
        FailedPrecondition: SOURCE_CHANGED, REFERENCE_NOT_ALLOWED.
    """
    if found := _METADATA.fullmatch(path):
        if found[1] is None:
            whole = multiscale_metadata(image.display_name, image.levels, image.voxel_size, method="")
            return json.dumps(whole, indent=1).encode()
        return json.dumps(_array_metadata(_level(image, path, int(found[1])), image.data_type)).encode()
    if found := _PLACE.fullmatch(path):
        number, z, y, x = map(int, found.groups())
        return await _chunk(principal, image, path, number, Index(z, y, x), regions)
    raise _absent(image, path)


async def _chunk(
    principal: Principal, image: ReferencedImage, path: str, number: int, place: Index, regions: Regions
) -> bytes:
    shape = _level(image, path, number).shape
    size = _chunk_shape(shape)
    start = Index(*(each * edge for each, edge in zip(place, size, strict=True)))
    if any(low >= end for low, end in zip(start, shape, strict=True)):
        raise _absent(image, path)
    stop = Index(*(min(low + edge, end) for low, edge, end in zip(start, size, shape, strict=True)))
    voxels = await regions.read_region(principal, image.name, number, Region(start, stop))
    little = np.ascontiguousarray(voxels, voxels.dtype.newbyteorder("<"))
    if little.shape == tuple(size):
        return little.tobytes()
    # Chunks at the border are whole ones too.
    padded = np.zeros(size, little.dtype)
    padded[tuple(slice(0, edge) for edge in little.shape)] = little
    return padded.tobytes()


def _chunk_shape(shape: Index) -> Index:
    return Index(*(min(edge, size) for edge, size in zip(_CHUNK, shape, strict=True)))


def _array_metadata(level: Level, data_type: str) -> dict[str, object]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(level.shape),
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(_chunk_shape(level.shape))}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {},
        "dimension_names": ["z", "y", "x"],
    }


def _level(image: ReferencedImage, path: str, number: int) -> Level:
    if number >= len(image.levels):
        raise _absent(image, path)
    return image.levels[number]


def _absent(image: ReferencedImage, path: str) -> NotFound:
    return NotFound("OBJECT_NOT_FOUND", f"{image.name} has no object {path[:200]!r}")
