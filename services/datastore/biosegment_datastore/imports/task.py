"""One import, in the worker process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from biosegment.errors import InvalidArgument
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.storage.objects import open_blocking_objects
from biosegment.volume import VoxelSize
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.source import SourceOptions, VolumeSource
from biosegment_datastore.imports.importing import import_volume
from biosegment_datastore.imports.progress import source_identity
from biosegment_datastore.imports.reference_task import run_reference
from biosegment_datastore.imports.target import ImportTarget


def run_import(
    task: dict[str, Any], progress: Callable[[int, int], None], log: Callable[[str], None]
) -> dict[str, Any]:
    """Copy a file into the object storage, or only look at it when the volume is to be a reference.

    Args:
        task: `store` (object store settings), `path`, `prefix`, `name`, `voxel_size_nm` (zyx or None), `options` (of
            the source), `reference`.
        progress: Called with slices done and slices in all.
        log: Told lines for people.

    Returns:
        shape, data_type, voxel_size_nm, levels, mean, std, minimum, maximum, display_window, format.

    Raises:
        InvalidArgument: VOXEL_SIZE_MISSING, or what is wrong with the file.
        ResourceExhausted: DISK_FULL.
    """
    if task["reference"]:
        return run_reference(task, progress)
    store = ObjectStoreSettings.model_validate(task["store"])
    given = VoxelSize(*task["voxel_size_nm"]) if task["voxel_size_nm"] else None
    options = SourceOptions.read(task["options"])
    with open_source(Path(task["path"]), options) as source:
        voxel_size = given or source.voxel_size
        if voxel_size is None:
            raise InvalidArgument(
                "VOXEL_SIZE_MISSING",
                f"{Path(task['path']).name!r} does not say how large its voxels are; import it again with voxel_size "
                "(z, y, x in nanometres)",
            )
        target = ImportTarget(
            Arrays(store, sync=False),
            open_blocking_objects(store),
            task["prefix"],
            _identity(task, source, voxel_size),
            progress,
            log=log,
            scratch_dir=options.scratch_dir,
        )
        made = import_volume(source, voxel_size, target, name=task["name"])
        return {
            "format": source.format,
            "shape": list(made.shape),
            "data_type": made.dtype,
            "voxel_size_nm": list(made.voxel_size),
            "levels": [asdict(level) for level in made.levels],
            "mean": [float(value) for value in made.statistics.mean],
            "std": [float(value) for value in made.statistics.std],
            "minimum": made.statistics.minimum,
            "maximum": made.statistics.maximum,
            "display_window": [made.statistics.display_low, made.statistics.display_high],
        }


def _identity(task: dict[str, Any], source: VolumeSource, voxel_size: VoxelSize) -> str:
    """Of the file and of what is asked for; an upload is unpacked anew by every attempt, and stays the same."""
    asked = {**task["options"], "scratch_dir": ""}
    more = (source.format, tuple(source.shape), source.dtype.name, tuple(voxel_size), asked, task["upload"])
    return source_identity(None if task["upload"] else Path(task["path"]), *more)
