"""From a label file to a layer, or to the label blocks of annotations, slab by slab.

The planes of the file are read once, in order, and gathered into rows: as many planes as the shards of the layer, or
the blocks of annotations, are deep. A row is written as a whole, so that no shard is written twice; memory is bounded
by two rows. Nothing of it is visible before the caller says so in the database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from biosegment.errors import InvalidArgument
from biosegment.ids import new_id
from biosegment.storage.arrays import Arrays, Pending
from biosegment.storage.layout import DEFAULT_CHUNK, DEFAULT_SHARD, ArrayLayout
from biosegment.storage.objects import BlockingObjects
from biosegment.volume import BlockGrid, Index, Region
from biosegment_datastore.annotation import count_labels, encode_block
from biosegment_datastore.formats.source import VolumeSource, Voxels
from biosegment_datastore.label_value import UnknownValues, ValueMeaning, count_values

ROW_BYTES = 192 << 20
"""Largest row; two of them and what is being encoded are in memory at the same time."""

BLOCK_VOXELS = 1 << 22
_BLOCK_DEPTH = 64
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


def write_layer(
    source: VolumeSource,
    name: str,
    meaning: ValueMeaning,
    placement: Placement,
    volume_shape: Index,
    arrays: Arrays,
    key: str,
    progress: Progress,
) -> WrittenLayer:
    """Write the array of a layer at `key`, where nothing is.

    Raises:
        InvalidArgument: UNMAPPED_VALUES, NEGATIVE_IDS, and what the source raises.
        ResourceExhausted: DISK_FULL.
        Unavailable: OBJECT_STORE_UNAVAILABLE.
    """
    data_type = meaning.data_type(source.dtype)
    layout = layer_layout(volume_shape, data_type.itemsize)
    array = arrays.create(key, tuple(volume_shape), data_type, layout=layout)
    counts = np.zeros(256, np.int64)
    pending: Pending | None = None
    try:
        for region, row in _rows(source, name, meaning, placement, layout.shard[0], progress):
            if data_type == np.uint8:
                counts += count_values(row)
            if pending is not None:
                pending.result()
            pending = array.start_write(region, row)
    finally:
        # Also after a failure: the caller is about to remove what this write makes.
        if pending is not None:
            pending.result()
    return WrittenLayer(data_type.name, layout, {int(n): int(counts[n]) for n in np.flatnonzero(counts)})


def write_blocks(
    source: VolumeSource,
    name: str,
    meaning: ValueMeaning,
    scope: Collection[int],
    placement: Placement,
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
    edges = block_edges(volume_shape)
    grid = BlockGrid(volume_shape, edges)
    written: list[WrittenBlock] = []
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="blocks") as writers:

        def write(region: Region, labels: Voxels) -> WrittenBlock:
            annotation_id = new_id()
            objects.put(f"{prefix}/{annotation_id}", encode_block(labels))
            sha256 = hashlib.sha256(labels.tobytes()).hexdigest()
            return WrittenBlock(annotation_id, region, sha256, count_labels(labels, scope))

        for region, row in _rows(source, name, meaning, placement, edges.z, progress):
            under_way: list[Future[WrittenBlock]] = []
            for number in grid.overlapping(region):
                part = grid[number].intersection(region)
                assert part is not None
                tight = _annotated(part, row[part.relative_to(region).slices])
                if tight is not None:
                    labels = np.ascontiguousarray(row[tight.relative_to(region).slices])
                    under_way.append(writers.submit(write, tight, labels))
            written += [each.result() for each in under_way]
    if not written:
        raise InvalidArgument(
            "NOTHING_ANNOTATED", f"nothing in {placement.region} of {name!r} is annotated: all of it means 0"
        )
    return written


def layer_layout(shape: Index, itemsize: int) -> ArrayLayout:
    """The default layout, flatter where a row of shards would not fit into the memory."""
    depth = DEFAULT_SHARD[0]
    while depth > 1 and depth * shape.y * shape.x * itemsize > ROW_BYTES:
        depth //= 2
    chunk = (min(depth, DEFAULT_CHUNK[0]), *DEFAULT_CHUNK[1:])
    return ArrayLayout((depth, *DEFAULT_SHARD[1:]), chunk).clamped(shape)


def block_edges(shape: Index) -> Index:
    """Blocks of at most `BLOCK_VOXELS` whose borders are borders of default shards; flatter in wide volumes."""
    depth, edge = _BLOCK_DEPTH, DEFAULT_SHARD[1]
    while depth > 1 and depth * shape.y * shape.x > ROW_BYTES:
        depth, edge = depth // 4, edge * 2
    assert depth * edge * edge <= BLOCK_VOXELS
    return Index(depth, edge, edge)


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


@dataclass(slots=True)
class _Row:
    """The planes of one row; begins and ends with the region or at a multiple of the depth."""

    region: Region
    planes: Voxels
    filled: int = field(default=0)


def _rows(
    source: VolumeSource,
    name: str,
    meaning: ValueMeaning,
    placement: Placement,
    depth: int,
    progress: Progress,
) -> Iterator[tuple[Region, Voxels]]:
    """Translated planes, row by row; when values have no meaning, the file is read on only to tell them all."""
    whole, data_type = placement.region, meaning.data_type(source.dtype)
    unknown = UnknownValues()
    row: _Row | None = None
    for z, slab in _slabs(source, placement):
        labels, strange = meaning.translated(slab)
        unknown.found.update(strange)
        if unknown.are_many:
            break
        progress(z + len(labels) - whole.start.z, whole.shape.z)
        while len(labels) and not unknown.found:
            row = row or _begun(whole, z, depth, data_type)
            taken = min(len(labels), len(row.planes) - row.filled)
            row.planes[row.filled : row.filled + taken] = labels[:taken]
            row.filled, labels, z = row.filled + taken, labels[taken:], z + taken
            if row.filled == len(row.planes):
                yield row.region, row.planes
                row = None
    unknown.require_none(name, meaning)


def _begun(whole: Region, z: int, depth: int, data_type: np.dtype[Any]) -> _Row:
    stop = min(whole.stop.z, (z // depth + 1) * depth)
    region = Region(Index(z, *whole.start[1:]), Index(stop, *whole.stop[1:]))
    return _Row(region, np.empty(region.shape, data_type))


def _slabs(source: VolumeSource, placement: Placement) -> Iterator[tuple[int, Voxels]]:
    """The planes of the placement with the z of the first; the next ones are read while the caller works on these."""
    inside = placement.region.shifted(tuple(-start for start in placement.origin))  # type: ignore[arg-type]
    step, (first, last) = source.slab_planes, (inside.start.z, inside.stop.z)
    # In whole steps of the file, whose chunks are then decoded once.
    starts = [first, *range(first - first % step + step, last, step)]
    bounds = list(zip(starts, [*starts[1:], last], strict=True))
    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        ahead = reader.submit(source.read_slab, *bounds[0])
        for number, (start, _) in enumerate(bounds):
            slab = ahead.result()
            if number + 1 < len(bounds):
                ahead = reader.submit(source.read_slab, *bounds[number + 1])
            _, y, x = inside.slices
            yield start + placement.origin.z, slab[:, y, x]
