"""What every writer gets: voxels to fetch part by part, and what surrounds them in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from biosegment.storage.layout import DEFAULT_CHUNK
from biosegment.volume import BlockGrid, Index, Region, VoxelSize
from biosegment_datastore.reading import cut

Voxels = npt.NDArray[Any]
Progress = Callable[[int, int], None]
"""Called with slices done and slices in all."""

RUN_BYTES = 96 << 20
"""What is fetched at once of a file that is written from its first voxel to its last."""

BLOCK = Index(64, 512, 512)
"""What is fetched at once of a file that is written in chunks; a whole number of the default chunks."""


class ExportSource(Protocol):
    """What is exported: voxels of a box, and their type in the file."""

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, region: Region) -> Voxels: ...


@dataclass(frozen=True, slots=True)
class ExportClass:
    """What a value of a label file means."""

    value: int
    name: str
    color_rgb: int

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, 0..255."""
        return self.color_rgb >> 16 & 255, self.color_rgb >> 8 & 255, self.color_rgb & 255

    @property
    def unit_rgb(self) -> tuple[float, float, float]:
        """Red, green and blue, 0..1, in five decimals: enough to get the same byte back."""
        red, green, blue = (round(part / 255, 5) for part in self.rgb)
        return red, green, blue


@dataclass(frozen=True, slots=True)
class ExportFrame:
    """What surrounds the voxels in the file.

    Attributes:
        region: In voxels of the source.
        voxel_size: Of the source.
        origin_nm: Centre of the first exported voxel, zyx, seen from the centre of the volume's first voxel.
        name: Of the image.
        description: For people.
        is_labels: Values are names (classes, instance ids): they are never averaged.
        classes: By value; empty for images and instances.
    """

    region: Region
    voxel_size: VoxelSize
    origin_nm: tuple[float, float, float]
    name: str
    description: str
    is_labels: bool = False
    classes: tuple[ExportClass, ...] = ()

    @property
    def shape(self) -> Index:
        return self.region.shape

    def named_values(self) -> tuple[ExportClass, ...]:
        """Every value from 1 to the last class, for formats whose names go by their place in a list."""
        known = {each.value: each for each in self.classes}
        last = max(known, default=0)
        return tuple(
            known.get(value, ExportClass(value, f"unused {value}", 0x808080)) for value in range(1, last + 1)
        )


def runs(source: ExportSource, frame: ExportFrame, progress: Progress) -> Iterator[Voxels]:
    """The voxels in C order, native byte order, in parts of bounded size."""
    depth = frame.shape.z
    for part in cut(frame.region, source.dtype.itemsize, DEFAULT_CHUNK, RUN_BYTES):
        voxels = np.ascontiguousarray(source.read(part))
        # Before it is written: who knows how many voxels to expect never asks for what follows the last part.
        progress(part.stop.z - frame.region.start.z, depth)
        yield voxels


def little_endian(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The same type as files hold it, whatever this machine is."""
    return dtype.newbyteorder("<")


def block_edges(shape: Index, block: Index = BLOCK) -> Index:
    """`block`, no larger than the array."""
    return Index(*(min(edge, size) for edge, size in zip(block, shape, strict=True)))


def slices_done(grid: BlockGrid, number: int) -> int:
    """Complete slices after block `number` of a grid that is worked through in order."""
    is_last_of_row = (number + 1) % (grid.counts.y * grid.counts.x) == 0
    return grid[number].stop.z if is_last_of_row else grid[number].start.z
