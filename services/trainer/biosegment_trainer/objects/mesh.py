"""The surface of an object as triangles.

Marching cubes in T. Lewiner's variant, whose surfaces have no holes: Efficient implementation of marching cubes' cases
with topological guarantees, Journal of Graphics Tools 8 (2003) 1-15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from biosegment.volume import Index, Region, VoxelSize
from biosegment_trainer.objects.grid import ObjectGrid

_LEVEL: Final = 0.4999
"""Just under a half: at a half exactly, which of two diagonal pairs of corners are joined would be a matter of
rounding, and neighbouring cells might disagree."""
_READ_VOXELS: Final = 64 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """Triangles.

    Attributes:
        vertices: (n, 3) float32, x, y, z in nm from the centre of the volume's first voxel.
        faces: (m, 3) int32; seen from outside their corners go round counterclockwise.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]


def wanted_cell(voxel_size: VoxelSize, cell_nm: float) -> Index:
    """Voxels per cell of the grid on which meshes are made, along z, y and x: `cell_nm` wide, at least a voxel."""
    return Index(*(max(1, round(cell_nm / edge)) for edge in voxel_size))


def affordable_cell(box: Region, voxel_size: VoxelSize, cell: Index, most_cells: int) -> Index:
    """`cell`, made longer along the axes where it is shortest until a box has no more than `most_cells`."""
    edges, factor = [*voxel_size], [*cell]
    while np.prod([-(-size // each) for size, each in zip(box.shape, factor, strict=True)]) > most_cells:
        axes = [axis for axis in range(3) if factor[axis] < box.shape[axis]]
        factor[min(axes, key=lambda axis: factor[axis] * edges[axis])] *= 2
    return Index(*factor)


def object_mesh(
    read: Callable[[Region], NDArray[Any]], object_id: int, box: Region, grid: ObjectGrid, cell: Index
) -> Mesh:
    """The closed surface of an object.

    Args:
        read: Ids (z, y, x) of a region of the layer.
        object_id: Its id.
        box: Its bounding box, in voxels of the layer.
        grid: Of the layer.
        cell: Voxels of the layer per cell, z, y, x. Cells count as far as they are filled.
    """
    counts = [-(-size // each) for size, each in zip(box.shape, cell, strict=True)]
    filled = np.zeros([count + 2 for count in counts], np.float32)
    for part in _parts(box, cell):
        mask = read(part) == object_id
        at = [(low - first) // each for low, first, each in zip(part.start, box.start, cell, strict=True)]
        means = _means(mask, cell)
        filled[tuple(slice(a + 1, a + 1 + n) for a, n in zip(at, means.shape, strict=True))] = means
    # What is thinner than half of a cell everywhere is drawn around where there is most of it.
    level = min(_LEVEL, 0.5 * float(filled.max()))
    points, faces, _, _ = marching_cubes(filled, level, method="lewiner", allow_degenerate=False)
    # Cells, of which the first is outside of the box, to voxels of the layer, to nm.
    factor = np.array(cell)
    voxels = (points.astype(np.float64) - 1) * factor + (factor - 1) / 2 + np.array(box.start)
    places = voxels * [*grid.layer_voxel_size] + grid.first_centre_nm
    # They look inwards in zyx; to xyz is a reflection, which turns them over.
    return Mesh(places[:, ::-1].astype(np.float32), faces.astype(np.int32))


def _parts(box: Region, factor: Index) -> Iterator[Region]:
    """Slices of a box, whole cells each, so that a large one never is in memory as it is."""
    _, height, width = box.shape
    columns = max(1, min(-(-width // factor.x), _READ_VOXELS // (factor.z * factor.y * factor.x))) * factor.x
    rows = max(1, min(-(-height // factor.y), _READ_VOXELS // (factor.z * factor.y * columns))) * factor.y
    depth = max(1, _READ_VOXELS // (rows * columns * factor.z)) * factor.z
    for z in range(box.start.z, box.stop.z, depth):
        for y in range(box.start.y, box.stop.y, rows):
            for x in range(box.start.x, box.stop.x, columns):
                stop = Index(*map(min, (z + depth, y + rows, x + columns), box.stop))
                yield Region(Index(z, y, x), stop)


def _means(mask: NDArray[np.bool_], factor: Index) -> NDArray[np.float32]:
    """How much of each cell is filled; what lies beyond the mask is not."""
    if factor == (1, 1, 1):
        return mask.astype(np.float32)
    beyond = [(0, -size % each) for size, each in zip(mask.shape, factor, strict=True)]
    z, y, x = np.pad(mask, beyond).shape
    cells = np.pad(mask, beyond).reshape(
        z // factor.z, factor.z, y // factor.y, factor.y, x // factor.x, factor.x
    )
    means: NDArray[np.float32] = cells.mean(axis=(1, 3, 5), dtype=np.float32)
    return means
