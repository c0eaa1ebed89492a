"""From a label file to a layer, or to the label blocks of annotations, slab by slab.

The planes of the file are read once, in order, and gathered into rows: as many planes as the shards of the layer, or
the blocks of annotations, are deep. A row is written as a whole, or, where its planes are too large for the memory, in
parts of whole shards: no shard is written twice. Nothing of it is visible before the caller says so in the database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from biosegment.errors import InvalidArgument
from biosegment.ids import new_id
from biosegment.storage.arrays import Arrays, Pending
from biosegment.storage.layout import ArrayLayout
from biosegment.storage.objects import BlockingObjects
from biosegment.volume import BlockGrid, Index, Region
from biosegment_datastore.annotations.annotation import count_labels, encode_block
from biosegment_datastore.formats.source import VolumeSource, Voxels
from biosegment_datastore.imports.label_value import UnknownValues, ValueMeaning, count_values
from biosegment_datastore.imports.layout import DEFAULT_MEMORY, ImportMemory, import_layout
from biosegment_datastore.imports.pieces import needs_whole_planes
from biosegment_datastore.spool import SpooledPlanes

BLOCK_EDGES = Index(64, 256, 256)
FLAT_BLOCK_EDGES = Index(16, 512, 512)
"""Of label blocks, and of those in volumes whose planes are large: four million voxels, whose borders are borders of
default shards, or of chunks along z."""

_WRITERS = 4

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a file lies in a volume.

    Attributes:
        region: What is imported, in voxels of the volume.
        origin: Where the file's first voxel lies.
    """

    region: Region
    origin: Index

    def in_file(self, region: Region) -> Region:
        """A part of what is imported, in voxels of the file."""
        z, y, x = self.origin
        return region.shifted((-z, -y, -x))

    @classmethod
    def of(
        cls, name: str, shape: Index, volume_shape: Index, offset: Index | None, extent: Region | None
    ) -> Placement:
        """Lay a file upon a volume.

        Args:
            name: Of the file, for messages.
            shape: Of the file.
            volume_shape: Of the volume.
            offset: Where the file's first voxel lies; None: the shapes must be equal.
            extent: What is imported; None: all of the file.

        Raises:
            InvalidArgument: SHAPES_DIFFER, LABELS_OUT_OF_BOUNDS, EXTENT_OUT_OF_BOUNDS.
        """
        if offset is None and shape != volume_shape:
            raise InvalidArgument(
                "SHAPES_DIFFER",
                f"{name!r} has the shape {tuple(shape)} (zyx), the volume {tuple(volume_shape)}: say with `offset` "
                "where its first voxel lies, or with `axes` how its axes lie",
            )
        origin = offset or Index(0, 0, 0)
        placed = Region.of_shape(shape, origin)
        if extent is None:
            if any(stop > size for stop, size in zip(placed.stop, volume_shape, strict=True)):
                raise InvalidArgument(
                    "LABELS_OUT_OF_BOUNDS",
                    f"{name!r} would fill {placed}, beyond the volume's {tuple(volume_shape)} (zyx): correct `offset`, "
                    "or give the `extent` that is to be imported",
                )
            return cls(placed, origin)
        if not placed.contains(extent):
            raise InvalidArgument(
                "EXTENT_OUT_OF_BOUNDS",
                f"the extent {extent} leaves {placed}, which {name!r} fills: correct `extent` or `offset`",
            )
        return cls(extent, origin)


@dataclass(frozen=True, slots=True)
class WrittenLayer:
    """What was written as a layer; `counts` are voxels by class value, empty for instances."""

    data_type: str
    layout: ArrayLayout
    counts: dict[int, int]


@dataclass(frozen=True, slots=True)
class WrittenBlock:
    """One label block: the last part of its key is the id of the annotation that it is for."""

    annotation_id: str
    region: Region
    sha256: str
    counts: dict[int, int]


@dataclass(frozen=True, slots=True)
class LabelFile:
    """What is imported.

    Attributes:
        source: The open file.
        name: Of the file, for messages.
        meaning: Of its values.
        placement: Where it lies.
        scratch_dir: Local folder for planes that are too large for the memory.
        memory: What may be kept.
    """

    source: VolumeSource
    name: str
    meaning: ValueMeaning
    placement: Placement
    scratch_dir: Path
    memory: ImportMemory = DEFAULT_MEMORY

    @property
    def data_type(self) -> np.dtype[Any]:
        """Of the labels that are written."""
        return self.meaning.data_type(self.source.dtype)


def write_layer(
    file: LabelFile, volume_shape: Index, arrays: Arrays, key: str, progress: Progress
) -> WrittenLayer:
    """Write the array of a layer at `key`, where nothing is.

    Raises:
        InvalidArgument: UNMAPPED_VALUES, NEGATIVE_IDS, and what the source raises.
        ResourceExhausted: DISK_FULL.
        Unavailable: OBJECT_STORE_UNAVAILABLE.
    """
    data_type = file.data_type
    layout = import_layout(volume_shape, data_type.itemsize, file.memory)
    array = arrays.create(key, tuple(volume_shape), data_type, layout=layout)
    counts = np.zeros(256, np.int64)
    pending: Pending | None = None
    try:
        for region, labels in _pieces(file, Index(*layout.shard), progress):
            if data_type == np.uint8:
                counts += count_values(labels)
            if pending is not None:
                pending.result()
            pending = array.start_write(region, labels)
    finally:
        # Also after a failure: the caller is about to remove what this write makes.
        if pending is not None:
            pending.result()
    return WrittenLayer(data_type.name, layout, {int(n): int(counts[n]) for n in np.flatnonzero(counts)})


def write_blocks(
    file: LabelFile,
    scope: Collection[int],
    volume_shape: Index,
    objects: BlockingObjects,
    prefix: str,
    progress: Progress,
) -> list[WrittenBlock]:
    """Write label blocks below `prefix`; where nothing was annotated there is no block.

    Raises:
        InvalidArgument: UNMAPPED_VALUES, NOTHING_ANNOTATED, and what the source raises.
        ResourceExhausted: DISK_FULL.
        Unavailable: OBJECT_STORE_UNAVAILABLE.
    """
    edges = BLOCK_EDGES if _fits(file, BLOCK_EDGES.z) else FLAT_BLOCK_EDGES
    grid = BlockGrid(volume_shape, edges)
    written: list[WrittenBlock] = []
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="blocks") as writers:

        def write(region: Region, labels: Voxels) -> WrittenBlock:
            annotation_id = new_id()
            objects.put(f"{prefix}/{annotation_id}", encode_block(labels))
            sha256 = hashlib.sha256(labels.tobytes()).hexdigest()
            return WrittenBlock(annotation_id, region, sha256, count_labels(labels, scope))

        for region, labels in _pieces(file, edges, progress):
            under_way: list[Future[WrittenBlock]] = []
            for number in grid.overlapping(region):
                part = grid[number].intersection(region)
                assert part is not None
                tight = _annotated(part, labels[part.relative_to(region).slices])
                if tight is not None:
                    block = np.ascontiguousarray(labels[tight.relative_to(region).slices])
                    under_way.append(writers.submit(write, tight, block))
            written += [each.result() for each in under_way]
    if not written:
        raise InvalidArgument(
            "NOTHING_ANNOTATED",
            f"nothing in {file.placement.region} of {file.name!r} is annotated: all of it means 0",
        )
    return written


def _annotated(region: Region, labels: Voxels) -> Region | None:
    """The smallest box around what is annotated in a region; None when nothing is."""
    start, stop = [], []
    for axis, low in enumerate(region.start):
        others = tuple(number for number in range(3) if number != axis)
        held = np.flatnonzero(labels.any(axis=others))
        if not len(held):
            return None
        start.append(low + int(held[0]))
        stop.append(low + int(held[-1]) + 1)
    return Region(Index(*start), Index(*stop))


def _pieces(file: LabelFile, edges: Index, progress: Progress) -> Iterator[tuple[Region, Voxels]]:
    """Labels in pieces of whole cells of a grid of the volume, as far as they were placed.

    When a value has no meaning, the file is read on, only to tell all such values.
    """
    unknown = UnknownValues()
    yield from (_rows if _fits(file, edges.z) else _boxes)(file, edges, unknown, progress)
    unknown.require_none(file.name, file.meaning)


def _fits(file: LabelFile, depth: int) -> bool:
    """Whether so many whole planes fit into the memory."""
    _, height, width = file.placement.region.shape
    return depth * height * width * file.data_type.itemsize <= file.memory.most_slab_bytes


@dataclass(slots=True)
class _Row:
    """The planes of one row; begins and ends with the placement or at a border of the grid."""

    region: Region
    planes: Voxels
    filled: int = field(default=0)


def _rows(
    file: LabelFile, edges: Index, unknown: UnknownValues, progress: Progress
) -> Iterator[tuple[Region, Voxels]]:
    """Whole planes, a row of cells at a time."""
    whole = file.placement.region
    row: _Row | None = None
    for z, slab in _slabs(file):
        labels, strange = file.meaning.translated(slab)
        unknown.found.update(strange)
        if unknown.are_many:
            return
        progress(z + len(labels) - whole.start.z, whole.shape.z)
        while len(labels) and not unknown.found:
            row = row or _begun(whole, z, edges.z, file.data_type)
            taken = min(len(labels), len(row.planes) - row.filled)
            row.planes[row.filled : row.filled + taken] = labels[:taken]
            row.filled, labels, z = row.filled + taken, labels[taken:], z + taken
            if row.filled == len(row.planes):
                yield row.region, row.planes
                row = None


def _begun(whole: Region, z: int, depth: int, data_type: np.dtype[Any]) -> _Row:
    stop = min(whole.stop.z, _border(z, depth))
    region = Region(Index(z, *whole.start[1:]), Index(stop, *whole.stop[1:]))
    return _Row(region, np.empty(region.shape, data_type))


def _slabs(file: LabelFile) -> Iterator[tuple[int, Voxels]]:
    """The planes of the placement with the z of the first; the next ones are read while the caller works on these."""
    source, inside = file.source, file.placement.in_file(file.placement.region)
    step, (first, last) = source.slab_planes, (inside.start.z, inside.stop.z)
    # In whole steps of the file, whose chunks are then decoded once.
    starts = [first, *range(_border(first, step), last, step)]
    bounds = list(zip(starts, [*starts[1:], last], strict=True))
    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        ahead = reader.submit(source.read_slab, *bounds[0])
        for number, (start, _) in enumerate(bounds):
            slab = ahead.result()
            if number + 1 < len(bounds):
                ahead = reader.submit(source.read_slab, *bounds[number + 1])
            _, y, x = inside.slices
            yield start + file.placement.origin.z, slab[:, y, x]


def _boxes(
    file: LabelFile, edges: Index, unknown: UnknownValues, progress: Progress
) -> Iterator[tuple[Region, Voxels]]:
    """Parts of a row of cells whose planes are too large for the memory."""
    whole, item_bytes = file.placement.region, max(file.data_type.itemsize, file.source.dtype.itemsize)
    across = max(1, file.memory.piece_bytes // (edges.z * edges.y * item_bytes) // edges.x) * edges.x
    with SpooledPlanes(file.source, needs_whole_planes(file.source), file.scratch_dir) as planes:
        for region in _cut(whole, Index(edges.z, edges.y, across)):
            stored = np.empty(region.shape, file.source.dtype)
            planes.read_into(file.placement.in_file(region), stored)
            labels, strange = file.meaning.translated(stored)
            unknown.found.update(strange)
            if unknown.are_many:
                return
            progress(region.start.z - whole.start.z, whole.shape.z)
            if not unknown.found:
                yield region, labels
    progress(whole.shape.z, whole.shape.z)


def _cut(whole: Region, edges: Index) -> Iterator[Region]:
    """A region in the cells of a grid that begins at the volume's first voxel."""
    bounds = []
    for low, high, edge in zip(whole.start, whole.stop, edges, strict=True):
        starts = [low, *range(_border(low, edge), high, edge)]
        bounds.append(list(zip(starts, [*starts[1:], high], strict=True)))
    for z, y, x in product(*bounds):
        yield Region(Index(z[0], y[0], x[0]), Index(z[1], y[1], x[1]))


def _border(place: int, step: int) -> int:
    """The next multiple of `step` after a place."""
    return (place // step + 1) * step
