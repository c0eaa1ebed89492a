"""What exports fetch their voxels from: a stored array, or a segmentation put together as it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.storage.arrays import Array, Arrays
from biosegment.volume import BACKGROUND, NOT_ANNOTATED, Index, Region
from biosegment_datastore.annotations.annotation import Labels, overlay
from biosegment_datastore.instances.composition import Composition
from biosegment_datastore.instances.edit import Step
from biosegment_datastore.instances.reading import EditedArray
from biosegment_datastore.label_blocks import LabelBlocks


def exported_dtype(data_type: str) -> np.dtype[Any]:
    """Type in the file: half precision becomes single, exactly, because hardly a format knows it."""
    return np.dtype(np.float32) if data_type == "float16" else np.dtype(data_type)


@dataclass(frozen=True, slots=True)
class StoredSource:
    """A volume or layer as it is, or a layer of instances as its edits made it."""

    array: Array | EditedArray

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


@dataclass(frozen=True, slots=True)
class EditedObjects:
    """Objects that were found in a prediction, and their edits that hold."""

    array: Array
    class_value: int
    composition: Composition

    @classmethod
    def read(cls, entry: Sequence[Any], arrays: Arrays) -> EditedObjects:
        """From the key of the layer, the class of its objects and the steps of the edits, as JSON."""
        key, class_value, steps = entry
        return cls(
            arrays.open(key, immutable=True), class_value, Composition([Step.read(step) for step in steps])
        )


class SegmentationSource:
    """A prediction, overlaid by the annotations that hold and then by the edits of its objects; background is 0.

    Args:
        prediction: Labels at level 0; None for annotations alone.
        overlays: As they lie upon each other: classes in the order of records, then instances.
        objects: Of layers that were made from the prediction; an edit of a later one lies upon those before.
        blocks: Where the blocks of annotations and edits are.
    """

    def __init__(
        self,
        prediction: Array | None,
        overlays: Sequence[Overlay],
        blocks: LabelBlocks,
        objects: Sequence[EditedObjects] = (),
    ) -> None:
        self._prediction = prediction
        self._overlays = overlays
        self._objects = objects
        self._blocks = blocks
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
            block = self._blocks.get(each.key, each.sha256, each.region)
            part = block[shared.relative_to(each.region).slices]
            overlay(labels[shared.relative_to(region).slices], part, each.scope)
        for found in self._objects:
            said = found.composition.classes(
                found.array.read(region), region, found.class_value, self._blocks.get
            )
            overlay(labels, said, (found.class_value,))
        labels[labels == BACKGROUND] = NOT_ANNOTATED
        return labels
