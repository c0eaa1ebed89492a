"""Registering somebody's OME-Zarr as a volume, in the worker process: one pass over its voxels, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from biosegment.errors import BiosegmentError, InvalidArgument
from biosegment.storage.folder import folder_of_url
from biosegment.storage.multiscale import Level
from biosegment.volume import Index, VoxelSize
from biosegment_datastore.formats.omezarr import DAMAGED, open_source
from biosegment_datastore.formats.omezarr_metadata import Multiscale, below, multiscale_of, node_at
from biosegment_datastore.formats.selection import Selection, select
from biosegment_datastore.formats.source import SourceOptions, check_image, unreadable
from biosegment_datastore.formats.tensors import Folder, Tensors, open_tensors
from biosegment_datastore.imports.intensity import IntensityGatherer
from biosegment_datastore.reference import Reference

MAX_CHUNK_BYTES = 128 << 20
"""Of a referenced array: who reads a slice decodes whole chunks, several of them at a time."""


def run_reference(task: dict[str, Any], progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Look at an image and gather its grey values.

    Args:
        task: `store` (object store settings), `path`, `name`, `voxel_size_nm` (zyx or None), `options` (of the source).
        progress: Called with slices done and slices in all.

    Returns:
        As `run_import`, and `reference`.

    Raises:
        InvalidArgument: NOT_REFERABLE, VOXEL_SIZE_MISSING, or what is wrong with the image.
    """
    path, options = Path(task["path"]), SourceOptions.read(task["options"])
    _require_foreign(path, task["store"]["object_store_url"])
    try:
        folder, image = _image(path, options.dataset.strip("/"))
    except BiosegmentError:
        raise
    except DAMAGED as error:
        raise unreadable(path.name, f"its OME-Zarr metadata is damaged ({type(error).__name__})") from error
    given = VoxelSize(*task["voxel_size_nm"]) if task["voxel_size_nm"] else None
    voxel_size = given or image.voxel_size(image.levels[0])
    if voxel_size is None:
        raise InvalidArgument(
            "VOXEL_SIZE_MISSING",
            f"{path.name!r} does not say how large its voxels are; import it again with voxel_size (z, y, x in "
            "nanometres)",
        )
    levels, reference, dtype = _levels(folder, image, options)
    with open_source(path, replace(options, dataset=f"{image.key}/{image.levels[0].path}")) as source:
        gatherer = IntensityGatherer(source.shape)
        for start in range(0, source.shape.z, source.slab_planes):
            stop = min(start + source.slab_planes, source.shape.z)
            gatherer.add(start, source.read_slab(start, stop))
            progress(stop, source.shape.z)
        name = source.format
    found = gatherer.result()
    return {
        "format": name,
        "shape": list(levels[0].shape),
        "data_type": dtype.name,
        "voxel_size_nm": list(voxel_size),
        "levels": [asdict(level) for level in levels],
        "mean": [float(value) for value in found.mean],
        "std": [float(value) for value in found.std],
        "minimum": found.minimum,
        "maximum": found.maximum,
        "display_window": [found.display_low, found.display_high],
        "reference": reference.written(),
    }


def _require_foreign(path: Path, store_url: str) -> None:
    if store_url.startswith("file://"):
        own = folder_of_url(store_url).resolve()
        if path.is_relative_to(own) or own.is_relative_to(path):
            raise _not_referable(path.name, "it is a part of the platform's own object storage")


def _image(path: Path, wanted: str) -> tuple[Folder, Multiscale]:
    """The image that is meant, and the folder that its key is below."""
    if not path.is_dir():
        raise _not_referable(path.name, "it is a file, not an OME-Zarr folder")
    folder = Folder(path)
    node = node_at(folder, wanted)
    image = multiscale_of(node) if node is not None else None
    if image is None and node is not None and not node.is_array:
        images = [multiscale_of(each) for each in below(folder, wanted)]
        image = images[0] if len(images) == 1 else None
        if len(images) > 1:
            names = ", ".join(repr(each.key) for each in images if each is not None)
            raise InvalidArgument(
                "DATASET_MISSING",
                f"{path.name!r} holds several images: say which with `dataset`; it has {names}",
            )
    if image is None:
        raise _not_referable(path.name, f"there is no OME-Zarr image at {wanted!r} in it")
    return folder, image


def _levels(
    folder: Folder, image: Multiscale, options: SourceOptions
) -> tuple[tuple[Level, ...], Reference, np.dtype[Any]]:
    group = Folder(folder.place(image.key))
    first: tuple[Tensors, Selection] | None = None
    levels: list[Level] = []
    formats: set[int] = set()
    for number, level in enumerate(image.levels):
        node = node_at(group, level.path)
        if node is None or not node.is_array:
            raise unreadable(folder.name, f"its array {level.path!r} is missing")
        formats.add(node.zarr_format)
        tensors = open_tensors(group, level.path, "zarr3" if node.zarr_format == 3 else "zarr")
        selection = select(folder.name, image.axes if not options.axes else "", tensors.shape, options)
        first = first or (tensors, selection)
        _require_alike(folder.name, tensors, selection, *first)
        factor = _factor(folder.name, image, number, selection, first[1])
        levels.append(Level(level.path, selection.shape, factor))
    assert first is not None
    if len(formats) != 1:
        raise _not_referable(folder.name, "its levels are arrays of different versions of Zarr")
    check_image(folder.name, levels[0].shape, first[0].dtype, options.accepted)
    reference = Reference(folder.place(image.key), formats.pop(), first[1].fixed, first[1].order)
    return tuple(levels), reference, first[0].dtype


def _require_alike(
    name: str, tensors: Tensors, selection: Selection, finest: Tensors, first: Selection
) -> None:
    if tensors.dtype != finest.dtype or (selection.fixed, selection.order) != (first.fixed, first.order):
        raise _not_referable(name, "its levels differ in their voxels or axes")
    if int(np.prod(tensors.chunks, dtype=float)) * tensors.dtype.itemsize > MAX_CHUNK_BYTES:
        raise _not_referable(
            name, f"its chunks {tensors.chunks} are larger than {MAX_CHUNK_BYTES >> 20} MiB each"
        )


def _factor(name: str, image: Multiscale, number: int, selection: Selection, finest: Selection) -> Index:
    """Voxels of level 0 per voxel, from the scales, or from the shapes when there are none."""
    scale, unit = image.levels[number].scale, image.levels[0].scale
    factors = []
    for axis, size, whole in zip(selection.order, selection.shape, finest.shape, strict=True):
        ratio = scale[axis] / unit[axis] if scale and unit and unit[axis] > 0 else whole / size
        factor = max(1, round(ratio))
        told = scale is not None and unit is not None
        # Writers round the size of a level up, down, or to the nearest.
        if (told and abs(ratio - factor) > 0.01 * factor) or abs(size * factor - whole) >= factor:
            raise _not_referable(
                name,
                f"level {image.levels[number].path!r} of {tuple(selection.shape)} voxels is not level 0 of "
                f"{tuple(finest.shape)} (zyx) divided by whole numbers",
            )
        factors.append(factor)
    return Index(*factors)


def _not_referable(name: str, why: str) -> InvalidArgument:
    return InvalidArgument(
        "NOT_REFERABLE", f"{name!r} cannot be used where it is: {why}; import a copy, without `reference`"
    )
