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
    """Objects that were found in a prediction, and their edits that hold.

    Attributes:
        array: The layer of instances.
        downsampling: Voxels of level 0 per voxel of the layer.
        class_value: That the objects are of.
        composition: The edits.
    """

    array: Array
    downsampling: Index
    class_value: int
    composition: Composition

    @classmethod
    def read(cls, entry: Sequence[Any], arrays: Arrays) -> EditedObjects:
        """From the key of the layer, its downsampling, the class of its objects and the steps of the edits, as JSON."""
        key, factor, class_value, steps = entry
        composition = Composition([Step.read(step) for step in steps])
        return cls(arrays.open(key, immutable=True), Index(*factor), class_value, composition)

    def said(self, region: Region, blocks: LabelBlocks) -> tuple[Labels, Labels]:
        """What the edits say of the class of each voxel of level 0, and what follows for the prediction around them.

        Args:
            region: In voxels of level 0.
            blocks: Where the blocks of edits are.

        Returns:
            Labels of the region's shape, as `Composition.classes` gives them. The second ones are about voxels that no
            object of the layer holds, and only when these were predicted to be of its class: annotations
            there know better.
        """
        whole = Region.of_shape(self._shape)
        touched = Region(
            Index(*(low // f for low, f in zip(region.start, self.downsampling, strict=True))),
            Index(*(-(-high // f) for high, f in zip(region.stop, self.downsampling, strict=True))),
        )
        is_coarse = self.downsampling != (1, 1, 1)
        part = touched.padded((1, 1, 1), whole) if is_coarse else touched
        stored = self.array.read(part)
        said = self.composition.classes(stored, part, self.class_value, blocks.get)
        beyond = np.zeros_like(said)
        if is_coarse:
            # Labels are interpolated between the voxels of a coarser layer, and reach a little beyond its objects.
            held = self.composition.ids(stored, part, blocks.get) != 0
            beyond = np.where((stored == 0) & ~_grown(held), _grown(said), np.uint8(NOT_ANNOTATED))
        return self._enlarged(said, part, region), self._enlarged(beyond, part, region)

    @property
    def _shape(self) -> Index:
        return Index(*self.array.shape)

    def _enlarged(self, coarse: Labels, part: Region, region: Region) -> Labels:
        """The values of the layer's voxels `part` at each voxel of `region`, level 0."""
        if self.downsampling == (1, 1, 1):
            return coarse
        places = (
            np.arange(low, high) // factor - first
            for low, high, factor, first in zip(
                region.start, region.stop, self.downsampling, part.start, strict=True
            )
        )
        return coarse[np.ix_(*places)]


def _grown(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The largest value among each voxel and its 26 neighbours."""
    for axis in range(3):
        before, after = np.moveaxis(values, axis, 0), values.copy()
        along = np.moveaxis(after, axis, 0)
        np.maximum(along[1:], before[:-1], out=along[1:])
        np.maximum(along[:-1], before[1:], out=along[:-1])
        values = after
    return values


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
        edits = [(each.class_value, *each.said(region, self._blocks)) for each in self._objects]
        for class_value, _, beyond in edits:
            overlay(labels, np.where(labels == class_value, beyond, NOT_ANNOTATED), (class_value,))
        touching = (self._starts < region.stop).all(axis=1) & (self._stops > region.start).all(axis=1)
        for number in np.flatnonzero(touching).tolist():
            each = self._overlays[number]
            shared = each.region.intersection(region)
            assert shared is not None
            block = self._blocks.get(each.key, each.sha256, each.region)
            part = block[shared.relative_to(each.region).slices]
            overlay(labels[shared.relative_to(region).slices], part, each.scope)
        for class_value, said, _ in edits:
            overlay(labels, said, (class_value,))
        labels[labels == BACKGROUND] = NOT_ANNOTATED
        return labels
