"""Where an image tile lies: a square of a plane through one level of a volume or layer."""

from __future__ import annotations

import enum
import math
import re
from dataclasses import dataclass
from typing import Any, Final

from biosegment.errors import InvalidArgument, NotFound
from biosegment.volume import Index, Region
from biosegment_gateway.viewing.exhibit import Exhibit, Kind, ShownLevel

EDGE: Final = 256
"""Pixels along a tile; tiles at the right and lower border are as large as what is left."""

_MAX_SAMPLING: Final = 64
"""Voxels that are looked at for each one of a layer's coarser levels: nobody waits for a tile of more."""

_NUMBER: Final = "(0|[1-9][0-9]{0,8})"
_PLACE: Final = re.compile(rf"(xy|xz|yz)/{_NUMBER}/{_NUMBER}/{_NUMBER}/{_NUMBER}\.(png|jpg)")


class Plane(enum.StrEnum):
    """Two axes: the first one goes to the right, the second one down."""

    XY = "xy"
    XZ = "xz"
    YZ = "yz"

    @property
    def column_axis(self) -> int:
        """Number in zyx of the axis to the right."""
        return "zyx".index(self[0])

    @property
    def row_axis(self) -> int:
        """Number in zyx of the axis that goes down."""
        return "zyx".index(self[1])

    @property
    def normal_axis(self) -> int:
        """Number in zyx of the axis along which planes follow each other."""
        return 3 - self.column_axis - self.row_axis


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: `index` along the normal of its plane in voxels of its level, row and column in tiles."""

    plane: Plane
    level: int
    index: int
    row: int
    column: int

    def __str__(self) -> str:
        return f"{self.plane}/{self.level}/{self.index}/{self.row}/{self.column}"

    def region(self, exhibit: Exhibit) -> Region:
        """Its voxels, in the frame of its level.

        Raises:
            NotFound: TILE_OUTSIDE, with what there is.
            InvalidArgument: NO_TILES for layers with several values for each voxel.
        """
        require_tiles(exhibit)
        levels = _levels(exhibit)
        if self.level >= len(levels):
            raise self._outside(exhibit, f"it has levels 0 to {len(levels) - 1}")
        shape = levels[self.level].shape
        start, stop = [0, 0, 0], list(shape)
        for axis, number, edge in (
            (self.plane.normal_axis, self.index, 1),
            (self.plane.row_axis, self.row, EDGE),
            (self.plane.column_axis, self.column, EDGE),
        ):
            start[axis] = number * edge
            stop[axis] = min(start[axis] + edge, shape[axis])
        if any(low >= high for low, high in zip(start, stop, strict=True)):
            raise self._outside(exhibit, f"level {self.level} has {tuple(shape)} voxels (zyx)")
        return Region(Index(*start), Index(*stop))

    def _outside(self, exhibit: Exhibit, what: str) -> NotFound:
        return NotFound("TILE_OUTSIDE", f"{exhibit.name} has no tile {self}: {what}")


def parse_tile(name: str, path: str) -> tuple[Tile, str]:
    """The tile that a path means, and the format, `png` or `jpg`; NotFound NO_SUCH_TILE for other paths."""
    found = _PLACE.fullmatch(path)
    if found is None:
        raise NotFound(
            "NO_SUCH_TILE",
            f"{name} has no tile {path[:100]!r}: the path is "
            "{xy|xz|yz}/{level}/{index}/{row}/{column}.{png|jpg}, or info.json",
        )
    plane, *numbers, extension = found.groups()
    return Tile(Plane(plane), *(int(number) for number in numbers)), extension


def require_tiles(exhibit: Exhibit) -> None:
    """Raise InvalidArgument NO_TILES unless there is one value for each voxel."""
    if exhibit.channels != 1:
        raise InvalidArgument(
            "NO_TILES", f"{exhibit.name} has {exhibit.channels} values for each voxel; tiles show one"
        )


def describe(exhibit: Exhibit) -> dict[str, Any]:
    """What `info.json` says: shapes in voxels, sizes in nm, and for each plane how it is cut into tiles."""
    require_tiles(exhibit)
    window = None if exhibit.window is None else {"low": exhibit.window[0], "high": exhibit.window[1]}
    return {
        "name": exhibit.name,
        "displayName": exhibit.display_name,
        "kind": exhibit.kind.value,
        "dataType": exhibit.data_type,
        "tileSize": EDGE,
        "formats": ["jpg", "png"] if exhibit.kind is Kind.IMAGE else ["png"],
        "window": window,
        "levels": [_level(exhibit, number) for number in range(len(_levels(exhibit)))],
    }


def _levels(exhibit: Exhibit) -> list[ShownLevel]:
    return [level for level in exhibit.levels if math.prod(level.sampling) <= _MAX_SAMPLING]


def _level(exhibit: Exhibit, number: int) -> dict[str, Any]:
    level = exhibit.levels[number]
    size = tuple(exhibit.voxel_size.scaled(level.downsampling))
    return {
        "level": number,
        "shape": dict(zip("zyx", level.shape, strict=True)),
        "voxelSizeNm": dict(zip("zyx", size, strict=True)),
        "downsampling": dict(zip("zyx", level.downsampling, strict=True)),
        "planes": {plane.value: _plane(plane, level.shape, size) for plane in Plane},
    }


def _plane(plane: Plane, shape: Index, size: tuple[float, ...]) -> dict[str, Any]:
    """Pixels are voxels: where these are not cubes, a viewer has to stretch the tiles of xz and yz."""
    columns, rows = shape[plane.column_axis], shape[plane.row_axis]
    return {
        "count": shape[plane.normal_axis],
        "width": columns,
        "height": rows,
        "columns": -(-columns // EDGE),
        "rows": -(-rows // EDGE),
        "pixelWidthNm": size[plane.column_axis],
        "pixelHeightNm": size[plane.row_axis],
        "spacingNm": size[plane.normal_axis],
    }
