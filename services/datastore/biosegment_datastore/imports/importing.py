"""From somebody's file to our OME-Zarr, slab by slab.

Planes are read once, in order. Every level keeps the planes of its current row of shards in a buffer; a full
buffer is written, whole shards only. Planes are halved into the buffer of the next level as they come. So no
shard is ever written twice, and memory is bounded by the slab, however long the volume is. Reading, halving and
writing overlap. Volumes whose planes are too large for that are imported piece by piece. The metadata that makes the
image visible is written last.
"""

from __future__ import annotations

from dataclasses import dataclass

from biosegment.errors import InvalidArgument
from biosegment.storage.arrays import Array
from biosegment.storage.multiscale import Level, write_multiscale_metadata
from biosegment.volume import Index, VoxelSize
from biosegment_datastore.formats.source import VolumeSource
from biosegment_datastore.imports.intensity import IntensityGatherer, IntensityStatistics
from biosegment_datastore.imports.layout import fits_slabs, import_layout
from biosegment_datastore.imports.pieces import PieceImport
from biosegment_datastore.imports.progress import ImportProgress, count_shards, load_progress
from biosegment_datastore.imports.slabs import SlabImport
from biosegment_datastore.imports.target import ImportTarget
from biosegment_datastore.pyramid import plan_levels


@dataclass(frozen=True, slots=True)
class ImportedVolume:
    """What an import made."""

    shape: Index
    dtype: str
    voxel_size: VoxelSize
    levels: tuple[Level, ...]
    statistics: IntensityStatistics


def import_volume(
    source: VolumeSource,
    voxel_size: VoxelSize | None,
    target: ImportTarget,
    *,
    name: str = "",
    levels: tuple[Level, ...] | None = None,
) -> ImportedVolume:
    """Copy `source` to an OME-Zarr 0.5 image; blocks, and uses several threads.

    Until it returns, nothing at the prefix is an image, and then all of it is durable. When it raises, no write is
    under way any more, and the caller removes the prefix with `delete_prefix`. When the process dies, the next call
    with the same identity goes on from the last row of shards that was durable.

    Args:
        source: The open image.
        voxel_size: Overrules the file's own; needed when the file has none.
        target: Where to; nothing is there, or what an earlier call left.
        name: The image's name in its metadata.
        levels: The pyramid; planned from shape and voxel size by default.

    Raises:
        InvalidArgument: VOXEL_SIZE_UNKNOWN, NOT_FINITE, or what the source raises for damaged data.
        FailedPrecondition: IMPORT_CANCELLED.
        ResourceExhausted: DISK_FULL.
        Unavailable: OBJECT_STORE_UNAVAILABLE.
    """
    size = voxel_size or source.voxel_size
    if size is None:
        raise InvalidArgument(
            "VOXEL_SIZE_UNKNOWN", "the file does not tell its voxel size: give it in nanometres, z, y and x"
        )
    levels = plan_levels(source.shape, size) if levels is None else levels
    found = _found(source, target, levels)
    gatherer = IntensityGatherer(source.shape)
    if found is not None:
        gatherer.restore(found.statistics)
    arrays = tuple(_open(source, target, level, is_new=found is None) for level in levels)
    kind = SlabImport if fits_slabs(source.shape, source.dtype.itemsize, target.memory) else PieceImport
    kind(source, target, levels, arrays, gatherer, found).run()
    write_multiscale_metadata(target.objects, target.prefix, name or target.prefix, levels, size)
    return ImportedVolume(source.shape, source.dtype.name, size, levels, gatherer.result())


def _found(source: VolumeSource, target: ImportTarget, levels: tuple[Level, ...]) -> ImportProgress | None:
    """What an earlier attempt left, if it is of the same source and complete; otherwise it is removed."""
    found = load_progress(target.objects, target.prefix) if target.identity else None
    if found is not None and (found.identity != target.identity or len(found.planes) != len(levels)):
        target.log("starting over: the source, or what is asked for, is not what it was")
        found = None
    if found is not None and not _is_complete(source, target, levels, found):
        target.log("starting over: a part of what was written is gone")
        found = None
    if found is None:
        target.objects.delete_prefix(f"{target.prefix}/")
    return found


def _is_complete(
    source: VolumeSource, target: ImportTarget, levels: tuple[Level, ...], found: ImportProgress
) -> bool:
    """Whether as many shards are there as were counted; those of zeros never are."""
    for level, planes, shards in zip(levels, found.planes, found.shards, strict=True):
        key = f"{target.prefix}/{level.path}"
        depth = import_layout(level.shape, source.dtype.itemsize, target.memory).shard[0]
        if not target.objects.exists(f"{key}/zarr.json"):
            return False
        if count_shards(target.objects, key, 0, planes, depth) < shards:
            return False
    return True


def _open(source: VolumeSource, target: ImportTarget, level: Level, is_new: bool) -> Array:
    key = f"{target.prefix}/{level.path}"
    if not is_new:
        return target.arrays.open(key)
    layout = import_layout(level.shape, source.dtype.itemsize, target.memory)
    return target.arrays.create(key, level.shape, source.dtype, layout=layout)
