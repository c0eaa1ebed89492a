"""One import of labels, in the worker process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.storage.objects import open_blocking_objects
from biosegment.volume import Index, Region
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.source import SourceOptions
from biosegment_datastore.imports.label_import import LabelFile, Placement, write_blocks, write_layer
from biosegment_datastore.imports.label_value import ClassValues, InstanceIds, ValueMeaning


def run_label_import(task: dict[str, Any], progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Copy labels into the object storage, as an array or as label blocks.

    Args:
        task: `store`, `path`, `options` (of the source), `volume_shape`, `offset` (or None), `extent` (start and stop,
            or None), `meaning` (see `ClassValues`; None for instances), `scope` (classes, or None for a layer),
            `prefix` (of the array or of the blocks).
        progress: Called with slices done and slices in all.

    Returns:
        format, start, stop, and data_type, chunk, shard, counts of a layer or blocks of annotations.

    Raises:
        InvalidArgument: What is wrong with the file or with what was said about it.
        ResourceExhausted: DISK_FULL.
    """
    store = ObjectStoreSettings.model_validate(task["store"])
    shape, path = Index(*task["volume_shape"]), Path(task["path"])
    offset = Index(*task["offset"]) if task["offset"] else None
    extent = Region(*(Index(*corner) for corner in task["extent"])) if task["extent"] else None
    options = SourceOptions.read(task["options"])
    with open_source(path, options) as source:
        placement = Placement.of(path.name, source.shape, shape, offset, extent)
        file = LabelFile(source, path.name, _meaning(task["meaning"]), placement, options.scratch_dir)
        answer = {
            "format": source.format,
            "start": list(placement.region.start),
            "stop": list(placement.region.stop),
        }
        if task["scope"] is None:
            layer = write_layer(file, shape, Arrays(store), task["prefix"], progress)
            return {
                **answer,
                "data_type": layer.data_type,
                "chunk": list(layer.layout.chunk),
                "shard": list(layer.layout.shard),
                "counts": {str(value): count for value, count in layer.counts.items()},
            }
        blocks = write_blocks(
            file, task["scope"], shape, open_blocking_objects(store), task["prefix"], progress
        )
    return {
        **answer,
        "blocks": [
            [each.annotation_id, *map(list, (each.region.start, each.region.stop)), each.sha256, each.counts]
            for each in blocks
        ],
    }


def _meaning(written: dict[str, Any] | None) -> ValueMeaning:
    if written is None:
        return InstanceIds()
    values = {int(value): int(meaning) for value, meaning in written["values"].items()}
    return ClassValues(values, written["zero"], written["other"])
