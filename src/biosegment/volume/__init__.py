"""Value types of the voxel world: plain, frozen, no I/O. Axes are zyx, regions half-open."""

from biosegment.volume.geometry import Index, Region, VoxelSize
from biosegment.volume.grid import BlockGrid
from biosegment.volume.labels import BACKGROUND, FIRST_CLASS, NOT_ANNOTATED

__all__ = ["BACKGROUND", "FIRST_CLASS", "NOT_ANNOTATED", "BlockGrid", "Index", "Region", "VoxelSize"]
