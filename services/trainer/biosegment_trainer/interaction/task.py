"""What the process that segments is told and what it answers: plain values that travel through a pipe or Ray."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biosegment.settings import ObjectStoreSettings
from biosegment.volume import Index, Region
from biosegment_trainer.interaction.working_grid import WorkingGrid
from biosegment_trainer.registry.model import ModelClass


class Plane(enum.Enum):
    """The axes of an array (zyx) in the order in which a network sees them: slices first, then the plane."""

    VOLUME = "3d"
    XY = "xy"
    XZ = "xz"
    YZ = "yz"

    @property
    def order(self) -> tuple[int, int, int]:
        return {Plane.XZ: (1, 0, 2), Plane.YZ: (2, 0, 1)}.get(self, (0, 1, 2))

    @property
    def through(self) -> int:
        """The axis across the plane: 0 z, 1 y, 2 x."""
        return self.order[0]


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """A model whose bundle lies below `key` in the object storage; `classes` as the project sees them."""

    model_id: str
    key: str
    classes: tuple[ModelClass, ...] = ()


@dataclass(frozen=True, slots=True)
class ClickedVoxel:
    """A click on a voxel of level 0."""

    position: Index
    positive: bool


@dataclass(frozen=True, slots=True, eq=False)
class SegmentTask:
    """One request, with the voxels.

    Attributes:
        image_key: Names the image and the box, for what is kept from one request to the next.
        voxels: (z, y, x) of the level, of the box of `surroundings`; any real type.
        mean: Of the slices of `voxels`, float64 (z,).
        std: As `mean`.
        grid: Of the region that is answered for.
        surroundings: Of the region, or of more where strokes want to see more; the pixels of `grid` are among its own.
        plane: Of the prompts.
        class_value: Wanted class.
        clicks: In order.
        scribbles: uint8 class values over the region; None for none.
        previous: uint8 0/1 over the region; None for none.
        draft: Strokes answer for all slices.
        with_probability: Answer with the probability too.
        model: That refines by clicks; None without clicks.
        shallow: Whose first layers strokes use; None for none.
    """

    image_key: str
    voxels: NDArray[Any]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    grid: WorkingGrid
    surroundings: WorkingGrid
    plane: Plane
    class_value: int
    clicks: tuple[ClickedVoxel, ...]
    scribbles: NDArray[np.uint8] | None
    previous: NDArray[np.uint8] | None
    draft: bool
    with_probability: bool
    model: ModelPlace | None
    shallow: ModelPlace | None

    @property
    def region(self) -> Region:
        """That is answered for, voxels of level 0."""
        return self.grid.box

    @property
    def margin(self) -> Index:
        """Pixels of the surroundings before the region's first."""
        pairs = zip(self.grid.axes, self.surroundings.axes, strict=True)
        return Index(*(round((one.low - other.low) / one.ratio) for one, other in pairs))


@dataclass(frozen=True, slots=True, eq=False)
class LabelTask:
    """A region to label by a model that segments, with the voxels.

    Attributes:
        voxels: (z, y, x) of level 0: the region and what the network sees around it; any real type.
        mean: Of the slices of `voxels`, float64 (z,).
        std: As `mean`.
        region: That is answered for, in the frame of `voxels`.
        factor: Voxels per working pixel in y and x.
        model: That segments.
    """

    voxels: NDArray[Any]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    region: Region
    factor: int
    model: ModelPlace


@dataclass(frozen=True, slots=True)
class SegmentAnswer:
    """What came out.

    Attributes:
        mask: uint8 0/1 over the region, a zlib stream; of a `LabelTask` class values.
        probability: uint8 0..255 over the region, a zlib stream; empty when it was not asked for.
        changed: The only part, voxels of level 0, that may differ from the mask before; None for none.
    """

    mask: bytes = field(repr=False)
    probability: bytes = field(repr=False)
    changed: Region | None


@dataclass(frozen=True, slots=True)
class SegmenterConfig:
    """What a process that segments is started with.

    Attributes:
        store: Where bundles are read from.
        threads: Of the network and the classifier.
        device: As of `torch.device`; '' takes CUDA where there is one.
    """

    store: ObjectStoreSettings
    threads: int
    device: str = ""
