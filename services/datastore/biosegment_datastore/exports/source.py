"""What exports fetch their voxels from: a stored array, or a segmentation put together as it is read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.storage.arrays import Array
from biosegment.storage.objects import BlockingObjects
from biosegment.volume import BACKGROUND, NOT_ANNOTATED, Index, Region
from biosegment_datastore.annotations.annotation import Ids, Labels, decode_labels_block, overlay

_KEPT_BYTES = 128 << 20
"""Decoded label blocks that are kept, for annotations that more than one part of the export touches."""


def exported_dtype(data_type: str) -> np.dtype[Any]:
    """Type in the file: half precision becomes single, exactly, because hardly a format knows it."""
    return np.dtype(np.float32) if data_type == "float16" else np.dtype(data_type)


@dataclass(frozen=True, slots=True)
class StoredSource:
    """A volume or layer as it is."""

    array: Array

    @property
    def dtype(self) -> np.dtype[Any]:
        return exported_dtype(self.array.dtype.name)

    def read(self, region: Region) -> npt.NDArray[Any]:
        return self.array.read(region).astype(self.dtype, copy=False)


@dataclass(frozen=True, slots=True)
class Overlay:
    """An annotation that holds: where it lies, what it speaks of, and its label block."""

    region: Region
    scope: tuple[int, ...]
    key: str
    sha256: str

    @classmethod
    def read(cls, entry: Sequence[Any]) -> Overlay:
        """The opposite of `written`."""
        start, stop, scope, key, sha256 = entry
        return cls(Region(Index(*start), Index(*stop)), tuple(scope), key, sha256)

    def written(self) -> list[Any]:
        """As JSON."""
        return [list(self.region.start), list(self.region.stop), list(self.scope), self.key, self.sha256]


class SegmentationSource:
    """A prediction, overlaid by the annotations that hold; background is 0.

    Args:
        prediction: Labels at level 0; None for annotations alone.
        overlays: As they lie upon each other: classes in the order of records, then instances.
        objects: Where their label blocks are.
    """

    def __init__(
        self, prediction: Array | None, overlays: Sequence[Overlay], objects: BlockingObjects
    ) -> None:
        self._prediction = prediction
        self._overlays = overlays
        self._blocks = _Blocks(objects)
        # There may be a million of them, and every part of the export asks which of them it touches.
        self._starts = np.array([each.region.start for each in overlays], np.int64).reshape(-1, 3)
        self._stops = np.array([each.region.stop for each in overlays], np.int64).reshape(-1, 3)
        self.dtype = np.dtype(np.uint8)

    def read(self, region: Region) -> npt.NDArray[Any]:
        if self._prediction is None:
            labels: Labels = np.zeros(region.shape, np.uint8)
        else:
            labels = np.array(self._prediction.read(region))
        touching = (self._starts < region.stop).all(axis=1) & (self._stops > region.start).all(axis=1)
        for number in np.flatnonzero(touching).tolist():
            each = self._overlays[number]
            shared = each.region.intersection(region)
            assert shared is not None
            part = self._blocks.get(each)[shared.relative_to(each.region).slices]
            overlay(labels[shared.relative_to(region).slices], part, each.scope)
        labels[labels == BACKGROUND] = NOT_ANNOTATED
        return labels


class _Blocks:
    """Label blocks, the last used ones kept."""

    def __init__(self, objects: BlockingObjects) -> None:
        self._objects = objects
        self._kept: OrderedDict[str, Labels | Ids] = OrderedDict()
        self._kept_bytes = 0

    def get(self, each: Overlay) -> Labels | Ids:
        """Internal ANNOTATION_CORRUPT when it is not what the record says."""
        block = self._kept.get(each.key)
        if block is None:
            block = decode_labels_block(self._objects.get(each.key), each.sha256, each.region, each.key)
            self._kept[each.key] = block
            self._kept_bytes += block.nbytes
            while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
                self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        self._kept.move_to_end(each.key)
        return block
