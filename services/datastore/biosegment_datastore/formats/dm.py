"""Gatan DigitalMicrograph images: DM3 and DM4."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np

from biosegment.errors import InvalidArgument
from biosegment.volume import VoxelSize
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.compressed import truncated
from biosegment_datastore.formats.dm_tag import Blob, Tags, read_tags, read_text
from biosegment_datastore.formats.raw import Opening, RawArray, open_with, require_shape
from biosegment_datastore.formats.scale import nanometres, voxel_size_of
from biosegment_datastore.formats.source import SourceOptions, unreadable

# By the image's own number for its type of data.
_TYPES: Final = {
    **{1: "i2", 2: "f4", 6: "u1", 7: "i4", 9: "i1", 10: "u2", 11: "u4", 12: "f8", 14: "u1"},
    **{39: "i8", 40: "u8"},
}
_REFUSED: Final = {3: "complex", 5: "packed complex", 8: "RGB", 13: "complex", 23: "RGB"}
_MAX_AXES: Final = 8


def recognises(path: Path, head: bytes) -> bool:
    """Whether it begins as DM3 or DM4: version, size, byte order, then the root group."""
    for version, width in ((3, 4), (4, 8)):
        order = head[4 + width : 8 + width]
        if head[:4] == bytes((0, 0, 0, version)) and order in (bytes(4), bytes((0, 0, 0, 1))):
            return all(flag in (0, 1) for flag in head[8 + width : 10 + width])
    return False


def open_source(path: Path, options: SourceOptions) -> ArraySource:
    """Open the largest image of a DigitalMicrograph file that is no thumbnail.

    Raises:
        InvalidArgument: TRUNCATED_FILE, UNREADABLE_FILE, NOT_A_VOLUME, BAD_DTYPE, IMAGE_TOO_LARGE or BAD_AXES.
    """
    return open_with(_open, path, options)


def _open(opening: Opening) -> ArraySource:
    tags, order = read_tags(opening.name, opening.file, opening.path.stat().st_size)
    image = _largest_image(opening.name, tags)
    sizes = [_number(size) for size in _entries(image.get("Dimensions"))]
    if not 1 <= len(sizes) <= _MAX_AXES:
        raise unreadable(opening.name, f"its image has {len(sizes)} axes")
    require_shape(opening.name, sizes)
    code = _number(image.get("DataType"))
    if code not in _TYPES:
        raise InvalidArgument(
            "BAD_DTYPE",
            f"{opening.name!r} has {_REFUSED.get(code, f'type {code}')} voxels: convert them to grey values",
        )
    stored = np.dtype(_TYPES[code]).newbyteorder("<" if order == "<" else ">")
    data = image["Data"]
    needed = math.prod(sizes) * stored.itemsize
    if data.size < needed:
        raise truncated(opening.name, f"its image has {data.size} of {needed} bytes")
    array = RawArray(opening.name, opening.file, data.offset, sizes[::-1], stored)
    voxel_size = _voxel_size(opening, image, order) if len(sizes) == 3 else None
    # Most stacks have three axes; what a fourth one means the file does not say.
    axes = {2: "yx", 3: "zyx"}.get(len(sizes), "")
    return opening.source(f"DM{tags['version']}", axes, array, voxel_size)


def _largest_image(name: str, tags: Tags) -> Tags:
    listed = _entries(tags.get("ImageList"))
    # Thumbnails of small images are larger than the images.
    thumbnails = [one.get("ImageIndex") for one in _entries(tags.get("Thumbnails")) if isinstance(one, dict)]
    images = [
        one["ImageData"] for number, one in enumerate(listed) if number not in thumbnails and _has_data(one)
    ]
    if not images:
        raise unreadable(name, "it holds no image")
    return max(reversed(images), key=lambda image: image["Data"].size)


def _has_data(one: Any) -> bool:
    data = one.get("ImageData") if isinstance(one, dict) else None
    return isinstance(data, dict) and isinstance(data.get("Data"), Blob)


def _entries(group: Any) -> list[Any]:
    """Values of a group without names, in order."""
    return list(group.values()) if isinstance(group, dict) else []


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{value!r} where a whole number should be")
    return value


def _voxel_size(opening: Opening, image: Tags, order: str) -> VoxelSize | None:
    """Of an image with three axes, each of which has a scale and a unit of its own."""
    calibrations = image.get("Calibrations")
    along = _entries(calibrations.get("Dimension")) if isinstance(calibrations, dict) else []
    edges = []
    for axis in along:
        scale, unit = (axis.get(key) if isinstance(axis, dict) else None for key in ("Scale", "Units"))
        if isinstance(scale, float) and isinstance(unit, Blob):
            # Single precision: what is beyond seven digits is noise.
            edges.append(nanometres(f"{scale:.7g}", read_text(opening.name, opening.file, unit, order)))
    return voxel_size_of(*reversed(edges)) if len(edges) == 3 else None
