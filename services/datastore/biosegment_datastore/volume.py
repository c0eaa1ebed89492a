"""Volumes: values and rules."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from biosegment.errors import InvalidArgument
from biosegment.volume import Index, Region, VoxelSize
from biosegment_datastore.project import check_text, make_etag
from biosegment_datastore.reference import Reference, ReferencedLevel


class VolumeField(enum.StrEnum):
    """What UpdateVolume may change."""

    DISPLAY_NAME = "display_name"
    VOXEL_SIZE = "voxel_size"
    DISPLAY_WINDOW = "display_window"


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a pyramid: shape in voxels, voxels of level 0 per voxel, path below the group."""

    shape: Index
    downsampling: Index
    path: str


@dataclass(frozen=True, slots=True)
class DisplayWindow:
    """Grey values shown black and white."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SliceStatistics:
    """Mean and standard deviation of every slice of level 0."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Volume:
    """One complete 3D image.

    Attributes:
        data_type: NumPy name.
        key: Prefix of its OME-Zarr group in the object storage.
        source: Name of the file it came from.
        creator: User id.
        reference: Where the voxels are when they are not ours; nothing is below `key` then.
    """

    project_id: str
    id: str
    display_name: str
    shape: Index
    data_type: str
    voxel_size: VoxelSize
    levels: tuple[Level, ...]
    key: str
    source: str
    display_window: DisplayWindow
    creator: str
    create_time_us: int
    update_time_us: int
    version: int = 1
    reference: Reference | None = None

    @property
    def name(self) -> str:
        return f"projects/{self.project_id}/volumes/{self.id}"

    @property
    def etag(self) -> str:
        return make_etag(self.create_time_us, self.version)

    @property
    def region(self) -> Region:
        return Region.of_shape(self.shape)

    def level(self, number: int) -> Level:
        """The level; InvalidArgument BAD_LEVEL when there is none of this number."""
        if not 0 <= number < len(self.levels):
            raise InvalidArgument(
                "BAD_LEVEL", f"{self.name} has levels 0 to {len(self.levels) - 1}, not {number}"
            )
        return self.levels[number]

    def referenced(self, level: Level) -> ReferencedLevel | None:
        """A level when the voxels are not ours; None when they are, below `key`."""
        if self.reference is None:
            return None
        return ReferencedLevel(self.name, self.reference, level.path, level.shape, self.data_type)

    def changed(self, wanted: Volume, fields: Sequence[VolumeField], now_us: int) -> Volume:
        """This volume with the `fields` of `wanted`; InvalidArgument when one is wrong."""
        changed = self
        if VolumeField.DISPLAY_NAME in fields:
            changed = replace(changed, display_name=check_text("display_name", wanted.display_name, 1, 200))
        if VolumeField.VOXEL_SIZE in fields:
            changed = replace(changed, voxel_size=wanted.voxel_size)
        if VolumeField.DISPLAY_WINDOW in fields:
            window = wanted.display_window
            if not (math.isfinite(window.low) and math.isfinite(window.high) and window.low < window.high):
                raise InvalidArgument(
                    "BAD_DISPLAY_WINDOW",
                    f"display window {window.low}..{window.high} needs low < high, both finite",
                )
            changed = replace(changed, display_window=window)
        return replace(changed, version=self.version + 1, update_time_us=now_us)
