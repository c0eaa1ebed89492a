"""What MONAI Label calls an image: a volume, or a part of one that is too big to be sent whole, and its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Final

from biosegment.errors import NotFound
from biosegment.volume import Index, Region

_PART: Final = re.compile(r"(.+)_z(\d{1,9})-(\d{1,9})_y(\d{1,9})-(\d{1,9})_x(\d{1,9})-(\d{1,9})")
_MAX_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class ImageName:
    """`{base}`, or `{base}_z{start}-{stop}_y{start}-{stop}_x{start}-{stop}`.

    Attributes:
        base: Id of the volume, or the name that a client uploaded it under.
        region: Voxels of level 0; None for the whole volume.
    """

    base: str
    region: Region | None = None

    @classmethod
    def parse(cls, name: str) -> ImageName:
        """Read a name; NotFound IMAGE_NOT_FOUND for one that no image can have."""
        if not name or len(name) > _MAX_NAME or not name.isprintable() or "/" in name:
            raise no_image(name)
        found = _PART.fullmatch(name)
        if found is None:
            return cls(name)
        z0, z1, y0, y1, x0, x1 = map(int, found.groups()[1:])
        if not (z0 < z1 and y0 < y1 and x0 < x1):
            raise no_image(name)
        return cls(found[1], Region(Index(z0, y0, x0), Index(z1, y1, x1)))

    def __str__(self) -> str:
        if self.region is None:
            return self.base
        ranges = zip("zyx", self.region.start, self.region.stop, strict=True)
        return f"{self.base}_" + "_".join(f"{axis}{low}-{high}" for axis, low, high in ranges)


def no_image(name: str) -> NotFound:
    """NotFound IMAGE_NOT_FOUND."""
    return NotFound("IMAGE_NOT_FOUND", f"there is no image {name[:_MAX_NAME]!r} in this project")


def parts(base: str, shape: Index, largest: Index) -> Iterator[ImageName]:
    """The images that a volume is offered as, in order.

    A volume that is not larger than `largest` along any axis is one image; others are cut into parts of nearly equal
    size, so that no thin slice is left at the end.

    Args:
        base: Of the names.
        shape: Of the volume.
        largest: Voxels of a part.
    """
    if all(size <= most for size, most in zip(shape, largest, strict=True)):
        yield ImageName(base)
        return
    cuts = [list(pairwise(_edges(size, most))) for size, most in zip(shape, largest, strict=True)]
    for (z0, z1), (y0, y1), (x0, x1) in product(*cuts):
        yield ImageName(base, Region(Index(z0, y0, x0), Index(z1, y1, x1)))


def part_at(base: str, shape: Index, largest: Index, position: Index) -> ImageName:
    """That one of `parts` which holds a voxel."""
    if all(size <= most for size, most in zip(shape, largest, strict=True)):
        return ImageName(base)
    start, stop = [], []
    for size, most, at in zip(shape, largest, position, strict=True):
        low, high = next(cut for cut in pairwise(_edges(size, most)) if cut[0] <= at < cut[1])
        start.append(low)
        stop.append(high)
    return ImageName(base, Region(Index(*start), Index(*stop)))


def _edges(size: int, most: int) -> list[int]:
    count = -(-size // most)
    return [number * size // count for number in range(count + 1)]
