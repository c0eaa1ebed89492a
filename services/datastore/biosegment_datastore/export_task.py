"""One export, in the worker process."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.storage.objects import BlockingObjects, open_blocking_objects
from biosegment.volume import Index, Region, VoxelSize
from biosegment_datastore.export import ArraySource, ExportFrame, Overlay, SegmentationSource, write_ome_tiff
from biosegment_datastore.parts import PART_BYTES, part_key


def run_export(task: dict[str, Any], progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Write an array or a segmentation as OME-TIFF into the parts of an artifact.

    Args:
        task: `store`, `scratch_dir`, `prefix`, `array` (key or ''), `annotations`, `segmentation`, and the frame:
            `start`, `stop`, `voxel_size_nm`, `name`, `description`, `classes`.
        progress: Called with slices done and slices in all.

    Returns:
        size_bytes, sha256.

    Raises:
        ResourceExhausted: DISK_FULL.
    """
    store = ObjectStoreSettings.model_validate(task["store"])
    arrays, objects = Arrays(store), open_blocking_objects(store)
    region = Region(Index(*task["start"]), Index(*task["stop"]))
    array = arrays.open(task["array"], immutable=True) if task["array"] else None
    source: ArraySource | SegmentationSource
    if task["segmentation"]:
        overlays = [Overlay.read(entry) for entry in task["annotations"]]
        source = SegmentationSource(array, overlays, objects)
    else:
        assert array is not None
        source = ArraySource(array)
    frame = ExportFrame(
        region=region,
        voxel_size=VoxelSize(*task["voxel_size_nm"]),
        name=task["name"],
        description=task["description"],
        classes={int(value): name for value, name in task["classes"].items()},
    )
    with tempfile.TemporaryDirectory(prefix="export-", dir=task["scratch_dir"]) as folder:
        path = Path(folder) / "export.ome.tif"
        write_ome_tiff(path, source, frame, progress)
        return _store(path, objects, task["prefix"])


def _store(path: Path, objects: BlockingObjects, prefix: str) -> dict[str, Any]:
    digest, offset = hashlib.sha256(), 0
    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            objects.put(part_key(prefix, offset), part)
            digest.update(part)
            offset += len(part)
    return {"size_bytes": offset, "sha256": digest.hexdigest()}
