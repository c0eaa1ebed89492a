"""One export, in the worker process."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biosegment.errors import ResourceExhausted
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Array, Arrays
from biosegment.storage.objects import BlockingObjects, open_blocking_objects
from biosegment.storage.parts import PART_BYTES, PartWriter
from biosegment.volume import Index, Region, VoxelSize
from biosegment_datastore.exports.source import EditedObjects, Overlay, SegmentationSource, StoredSource
from biosegment_datastore.formats.writers.catalogue import BY_KEY
from biosegment_datastore.formats.writers.target import ExportClass, ExportFrame, ExportSource
from biosegment_datastore.instances.composition import Composition
from biosegment_datastore.instances.edit import Step
from biosegment_datastore.instances.reading import EditedArray
from biosegment_datastore.label_blocks import LabelBlocks
from biosegment_datastore.reference import ReferencedLevel
from biosegment_datastore.reference_array import ReferenceArrays
from biosegment_datastore.scratch import scratch_folder

_ROOM_BYTES = 64 << 10
"""A write that fails with less than this left has failed for it."""


def run_export(task: dict[str, Any], progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Write an array or a segmentation as a file into the parts of an artifact.

    Args:
        task: `store`, `scratch_dir`, `prefix`, `format` (key of the catalogue), `array` (key or ''), `referenced`
            (level of a volume that is not ours, or None) and the import `roots` that it must be below, `annotations`,
            `segmentation`, `edits` (steps upon a layer of instances), `objects` (of the prediction, as
            `EditedObjects.read`), and the frame: `start`, `stop`, `voxel_size_nm`, `origin_nm`, `name`,
            `description`, `is_labels`, `classes` (value, name, colour).
        progress: Called with slices done and slices in all.

    Returns:
        size_bytes, sha256.

    Raises:
        ResourceExhausted: DISK_FULL.
    """
    store = ObjectStoreSettings.model_validate(task["store"])
    arrays, objects = Arrays(store), open_blocking_objects(store)
    array, blocks = _array(task, arrays), LabelBlocks(objects)
    source: ExportSource
    if task["segmentation"]:
        overlays = [Overlay.read(entry) for entry in task["annotations"]]
        edited = [EditedObjects.read(entry, arrays) for entry in task["objects"]]
        source = SegmentationSource(array, overlays, blocks, edited)
    else:
        assert array is not None
        steps = [Step.read(entry) for entry in task["edits"]]
        source = StoredSource(EditedArray(array, Composition(steps), blocks) if steps else array)
    z_nm, y_nm, x_nm = task["origin_nm"]
    frame = ExportFrame(
        region=Region(Index(*task["start"]), Index(*task["stop"])),
        voxel_size=VoxelSize(*task["voxel_size_nm"]),
        origin_nm=(z_nm, y_nm, x_nm),
        name=task["name"],
        description=task["description"],
        is_labels=task["is_labels"],
        classes=tuple(ExportClass(*entry) for entry in task["classes"]),
    )
    with scratch_folder(Path(task["scratch_dir"]), "export") as folder:
        path = Path(folder) / "export"
        with _disk_full_told(Path(folder)):
            BY_KEY[task["format"]].writer()(path, source, frame, progress)
        return _store(path, objects, task["prefix"])


def _array(task: dict[str, Any], arrays: Arrays) -> Array | None:
    if task["referenced"] is not None:
        roots = [Path(root) for root in task["roots"]]
        return ReferenceArrays(roots).open(ReferencedLevel.read(task["referenced"]))
    return arrays.open(task["array"], immutable=True) if task["array"] else None


@contextmanager
def _disk_full_told(folder: Path) -> Iterator[None]:
    """HDF5 tells of a full disk in words, and NumPy not at all: only how many values were not written."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if not _tells_of_full_disk(error) and shutil.disk_usage(folder).free > _ROOM_BYTES:
            raise
        raise ResourceExhausted(
            "DISK_FULL", "no space left in the scratch folder for the exported file; make room and try again"
        ) from error


def _tells_of_full_disk(error: BaseException | None) -> bool:
    # What is raised on closing the file comes with what was raised before.
    while error is not None:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _store(path: Path, objects: BlockingObjects, prefix: str) -> dict[str, Any]:
    stored = PartWriter(objects, prefix)
    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            stored.write(part)
    return {"sha256": stored.finish(), "size_bytes": stored.size_bytes}
