"""Interactive segmentation: what one click or stroke gave, and a whole session with its undo."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment.api.trainer.v1alpha1 import segmentation_pb2
from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.ids import new_id
from biosegment.rpc.geometry import region_from_proto, voxel_size_from_proto
from biosegment.volume import BACKGROUND, NOT_ANNOTATED, Region, VoxelSize

Mask = NDArray[np.uint8]
Click = tuple[tuple[int, int, int], bool]
"""z, y, x in voxels of level 0, and whether it belongs to the class."""

_ACROSS: Final = {"xy": 0, "xz": 1, "yz": 2}
_MOST_CLICKS: Final = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Segmented:
    """What one request gave.

    Attributes:
        mask: uint8 0/1 (z, y, x) over `region`.
        region: That was asked for; voxels of level 0.
        changed: The only part of it that may differ from the mask before; None when nothing may.
        level: Level of the pyramid that was read.
        voxel_size: Of the pixels that were worked at, nm.
        model: `models/{m}`; '' when none was needed.
        probability: uint8 0..255 (z, y, x) over `region`; None when it was not asked for.
    """

    mask: Mask = field(repr=False)
    region: Region
    changed: Region | None
    level: int
    voxel_size: VoxelSize
    model: str
    probability: Mask | None = field(default=None, repr=False)

    @classmethod
    def from_proto(cls, message: segmentation_pb2.SegmentResponse, region: Region) -> Segmented:
        return cls(
            _unpacked(message.mask, region),
            region,
            region_from_proto(message.changed) if message.HasField("changed") else None,
            message.level,
            voxel_size_from_proto(message.voxel_size),
            message.model,
            _unpacked(message.probability, region) if message.probability else None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    mask: Mask
    strokes: Mask
    clicks: tuple[Click, ...] = ()


class SegmentationSession:
    """One person at one region: a mask that follows clicks and strokes, each of which is one step to undo.

    `client.segmentation.begin` makes it; `click`, `scribble` and `commit` of that group go on with it. Undo and redo
    ask nobody.

    Attributes:
        volume: `projects/{p}/volumes/{v}`.
        region: Voxels of level 0.
        class_value: That is segmented.
        plane: `xy`, `xz`, `yz` or `3d`.
        model: `models/{m}`; '' for the shipped one.
        base_layer: That the first mask was taken from; '' for none.
        base_sequence: Number of the last annotation record of the region that was seen.
        name: Names the session to the server, which serves its newest request alone.
    """

    def __init__(
        self,
        volume: str,
        region: Region,
        class_value: int,
        *,
        plane: str = "xy",
        mask: Mask | None = None,
        model: str = "",
        base_layer: str = "",
        base_sequence: int | None = None,
    ) -> None:
        self.volume = volume
        self.region = region
        self.class_value = class_value
        self.plane = plane
        self.model = model
        self.base_layer = base_layer
        self.base_sequence = base_sequence
        self.name = new_id()
        first = np.zeros(region.shape, np.uint8) if mask is None else require_mask(mask, region)
        self._steps = [_Step(first, np.zeros(region.shape, np.uint8))]
        self._now = 0
        self._committed = first

    @property
    def mask(self) -> Mask:
        """As it is now: uint8 0/1 (z, y, x); do not write to it."""
        return self._steps[self._now].mask

    @property
    def strokes(self) -> Mask:
        """All strokes that count now: uint8 (z, y, x), 0 none, 1 background, 2 and up classes."""
        return self._steps[self._now].strokes

    @property
    def undo_count(self) -> int:
        """Steps that can be undone."""
        return self._now

    @property
    def redo_count(self) -> int:
        """Steps that were undone and can be done again."""
        return len(self._steps) - 1 - self._now

    def clicks_with(self, position: tuple[int, int, int], positive: bool) -> list[Click]:
        """What to ask for a click: it comes with the earlier ones, in a plane with those in its slice.

        By itself it might undo them. Strokes answer slices anew, and forget the clicks.
        """
        axis, earlier = _ACROSS.get(self.plane), self._steps[self._now].clicks
        if axis is not None:
            earlier = tuple(each for each in earlier if each[0][axis] == position[axis])
        return [*earlier[1 - _MOST_CLICKS :], (position, positive)]

    def undo(self) -> Mask:
        """Take the last click or stroke back; FailedPrecondition NOTHING_TO_UNDO."""
        if not self.undo_count:
            raise FailedPrecondition("NOTHING_TO_UNDO", "there is no click or stroke to take back")
        self._now -= 1
        return self.mask

    def redo(self) -> Mask:
        """Do again what was undone last; FailedPrecondition NOTHING_TO_REDO."""
        if not self.redo_count:
            raise FailedPrecondition(
                "NOTHING_TO_REDO", "no click or stroke was taken back, or another came since"
            )
        self._now += 1
        return self.mask

    def step(self, mask: Mask, strokes: Mask | None = None, click: Click | None = None) -> None:
        """Go on with a new mask; what was undone before is gone.

        Args:
            mask: uint8 0/1 (z, y, x).
            strokes: All that count from now on; those of before when None.
            click: That made it, if one did.
        """
        del self._steps[self._now + 1 :]
        clicks = (*self._steps[self._now].clicks, click) if click is not None else ()
        self._steps.append(_Step(mask, self.strokes if strokes is None else strokes, clicks))
        self._now += 1

    def labels(self, *, complete: bool) -> Mask:
        """The mask as labels of an annotation, uint8 (z, y, x).

        Args:
            complete: Somebody looked at the whole region: what is not in the mask is background. Otherwise only what
                was taken out of the first mask is, and nothing is said of the rest.
        """
        rest = np.uint8(BACKGROUND if complete else NOT_ANNOTATED)
        labels = np.where(self._committed > self.mask, np.uint8(BACKGROUND), rest)
        labels[self.mask > 0] = self.class_value
        return labels

    def committed(self, sequence: int) -> None:
        """Note that the present mask was stored as a record of this number."""
        self._committed = self.mask
        self.base_sequence = sequence


def require_mask(mask: Mask, region: Region) -> Mask:
    """The mask, C-contiguous; InvalidArgument BAD_MASK unless it is uint8 or bool of the region's shape, 0 and 1."""
    if tuple(mask.shape) != tuple(region.shape) or mask.dtype not in (np.uint8, np.bool_) or mask.max() > 1:
        raise InvalidArgument(
            "BAD_MASK",
            f"the mask is {mask.dtype} {tuple(mask.shape)} up to {mask.max()}; for {region} it is uint8 "
            f"{tuple(region.shape)} of 0 and 1",
        )
    return np.ascontiguousarray(mask, np.uint8)


def packed(array: Mask) -> bytes:
    """As the wire wants it."""
    return zlib.compress(np.ascontiguousarray(array, np.uint8).tobytes(), 1)


def _unpacked(data: bytes, region: Region) -> Mask:
    return np.frombuffer(zlib.decompress(data), np.uint8).reshape(region.shape)
