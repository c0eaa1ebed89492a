"""OME-TIFF out, slab by slab."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tifffile

from biosegment.storage.arrays import Array
from biosegment.storage.objects import BlockingObjects
from biosegment.volume import BACKGROUND, NOT_ANNOTATED, Index, Region, VoxelSize
from biosegment_datastore.annotation import Labels, decode_labels_block, overlay

_SLAB_BYTES = 64 << 20
_SLAB_PLANES = 16
"""One inner chunk of the default layout."""
_BIG_TIFF_BYTES = 3 << 30


class ExportSource(Protocol):
    """What is exported: voxels of a box, and their type in the file."""

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, region: Region) -> npt.NDArray[Any]: ...


@dataclass(frozen=True, slots=True)
class ExportFrame:
    """What surrounds the voxels in the file.

    Attributes:
        region: In voxels of the source.
        voxel_size: Of the source.
        name: Of the image.
        description: For people.
        classes: Class value to name, for labels.
    """

    region: Region
    voxel_size: VoxelSize
    name: str
    description: str
    classes: dict[int, str]


@dataclass(frozen=True, slots=True)
class ArraySource:
    """A volume or layer as it is; half precision becomes single, which OME knows."""

    array: Array

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32) if self.array.dtype == np.float16 else self.array.dtype

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
    """A prediction, overlaid by the annotations that hold, in order; background is 0.

    Args:
        prediction: Labels at level 0; None for annotations alone.
        overlays: In the order of records.
        objects: Where their label blocks are.
    """

    def __init__(
        self, prediction: Array | None, overlays: Sequence[Overlay], objects: BlockingObjects
    ) -> None:
        self._prediction = prediction
        self._overlays = overlays
        self._objects = objects
        self.dtype = np.dtype(np.uint8)

    def read(self, region: Region) -> npt.NDArray[Any]:
        if self._prediction is None:
            labels: Labels = np.zeros(region.shape, np.uint8)
        else:
            labels = np.array(self._prediction.read(region))
        for each in self._overlays:
            shared = each.region.intersection(region)
            if shared is not None:
                block = decode_labels_block(self._objects.get(each.key), each.sha256, each.region, each.key)
                part = block[shared.relative_to(each.region).slices]
                overlay(labels[shared.relative_to(region).slices], part, each.scope)
        labels[labels == BACKGROUND] = NOT_ANNOTATED
        return labels


def write_ome_tiff(
    path: Path, source: ExportSource, frame: ExportFrame, progress: Callable[[int, int], None]
) -> None:
    """Write an OME-TIFF with zlib compression, BigTIFF when it may need it; memory is bounded by a slab.

    Args:
        path: New file.
        source: The voxels.
        frame: Region and metadata.
        progress: Called with slices done and slices in all.

    Raises:
        OSError: The disk is full, among others.
    """
    shape = frame.region.shape
    metadata: dict[str, Any] = {
        "axes": "ZYX",
        "Name": frame.name,
        "Description": frame.description,
    }
    for axis, size in zip("ZYX", frame.voxel_size, strict=True):
        metadata[f"PhysicalSize{axis}"] = size
        metadata[f"PhysicalSize{axis}Unit"] = "nm"
    if frame.classes:
        classes = {str(value): name for value, name in sorted(frame.classes.items())}
        metadata["MapAnnotation"] = {"Namespace": "biosegment/classes", **classes}
    size_bytes = frame.region.size * source.dtype.itemsize
    with tifffile.TiffWriter(path, bigtiff=size_bytes > _BIG_TIFF_BYTES, ome=True) as writer:
        writer.write(
            _planes(source, frame.region, progress),
            shape=tuple(shape),
            dtype=source.dtype,
            compression="zlib",
            photometric="minisblack",
            maxworkers=2,
            metadata=metadata,
        )


def _planes(
    source: ExportSource, region: Region, progress: Callable[[int, int], None]
) -> Iterator[npt.NDArray[Any]]:
    depth, height, width = region.shape
    step = max(1, min(_SLAB_PLANES, _SLAB_BYTES // (height * width * source.dtype.itemsize)))
    start = region.start.z
    while start < region.stop.z:
        stop = min(start + step, region.stop.z)
        if step == _SLAB_PLANES and stop < region.stop.z:
            stop -= stop % _SLAB_PLANES
        slab = source.read(
            Region(Index(start, region.start.y, region.start.x), Index(stop, region.stop.y, region.stop.x))
        )
        yield from slab
        start = stop
        progress(start - region.start.z, depth)
