"""Where the voxels of a layer lie."""

from __future__ import annotations

from dataclasses import dataclass

from biosegment.volume import Index, Region, VoxelSize


@dataclass(frozen=True, slots=True)
class ObjectGrid:
    """A layer's voxels in their volume.

    Attributes:
        volume_shape: Of the volume, level 0.
        voxel_size: Of level 0.
        shape: Of the layer, in its own voxels.
        downsampling: Voxels of level 0 in one voxel of the layer.
        region: Part of the volume that the layer speaks of, level 0; objects are cut at its border.
    """

    volume_shape: Index
    voxel_size: VoxelSize
    shape: Index
    downsampling: Index
    region: Region

    @property
    def layer_voxel_size(self) -> VoxelSize:
        return self.voxel_size.scaled(self.downsampling)

    @property
    def layer_region(self) -> Region:
        """The voxels of the layer that lie in `region`."""
        start = Index(*(low // f for low, f in zip(self.region.start, self.downsampling, strict=True)))
        stop = Index(*(-(-high // f) for high, f in zip(self.region.stop, self.downsampling, strict=True)))
        return Region(start, stop)

    def at_level_0(self, region: Region) -> Region:
        """The voxels of the volume under a region of the layer."""
        start = Index(*(low * f for low, f in zip(region.start, self.downsampling, strict=True)))
        stop = (high * f for high, f in zip(region.stop, self.downsampling, strict=True))
        return Region(start, Index(*map(min, stop, self.volume_shape)))

    @property
    def first_centre_nm(self) -> tuple[float, float, float]:
        """Centre of the layer's first voxel, zyx, from that of the volume's."""
        z, y, x = (edge * (f - 1) / 2 for edge, f in zip(self.voxel_size, self.downsampling, strict=True))
        return z, y, x
