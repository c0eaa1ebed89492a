"""Objects whose measures are known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from biosegment_trainer.objects.grid import ObjectGrid
from biosegment_trainer.objects.sums import ObjectSums
from biosegment_trainer.objects.worker import ObjectBlocks

from biosegment.volume import Index, Region, VoxelSize

ONE = Index(1, 1, 1)
LARGE = Index(32, 1024, 1024)


@dataclass
class Reader:
    """An array as a worker reads it."""

    array: Any

    def read(self, region: Region) -> Any:
        region.require_within(self.array.shape, "the array")
        return self.array[region.slices]


def grid_of(
    shape: Any, voxel_size: VoxelSize, downsampling: Index = ONE, region: Region | None = None
) -> Any:
    volume_shape = Index(*(size * each for size, each in zip(shape, downsampling, strict=True)))
    whole = Region(Index(0, 0, 0), volume_shape)
    return ObjectGrid(volume_shape, voxel_size, Index(*shape), downsampling, region or whole)


def measured(ids: Any, image: Any, grid: ObjectGrid, block: Index = LARGE) -> ObjectSums:
    """The sums of a whole array, in blocks."""
    with ThreadPoolExecutor(2) as threads:
        sums = ObjectBlocks(Reader(ids), Reader(image), grid, block).measure(threads)
    assert sums is not None
    return sums


def rotation(rng: Any) -> Any:
    """Any turn of space: an orthonormal matrix."""
    found, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return found


def ellipsoid(radii_nm: Any, voxel_size: VoxelSize, rng: Any, turn: Any = None) -> Any:
    """uint32 (z, y, x), 1 inside; its middle lies anywhere within a voxel, its axes along the columns of `turn`."""
    edges = np.array([*voxel_size])
    reach = np.ceil(max(radii_nm) / edges).astype(int) + 2
    places = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), -1) * edges
    places = places + rng.uniform(-0.5, 0.5, 3) * edges
    along = places @ (np.eye(3) if turn is None else turn)
    return ((along / np.array(radii_nm)) ** 2).sum(-1).__le__(1).astype(np.uint32)


def ellipsoid_area(radii: Any) -> float:
    """By summing over a fine grid of its parameters."""
    steps = 400
    theta = ((np.arange(steps) + 0.5) * np.pi / steps)[:, None]
    phi = ((np.arange(2 * steps) + 0.5) * np.pi / steps)[None]
    a, b, c = radii
    normal = np.sqrt(
        (b * c * np.sin(theta) * np.cos(phi)) ** 2
        + (a * c * np.sin(theta) * np.sin(phi)) ** 2
        + (a * b * np.cos(theta)) ** 2
    )
    return float((normal * np.sin(theta)).sum() * (np.pi / steps) ** 2)
