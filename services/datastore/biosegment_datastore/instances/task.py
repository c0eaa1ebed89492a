"""Listing the objects of a layer, in the worker process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.storage.objects import open_blocking_objects
from biosegment.volume import Region
from biosegment_datastore.instances.catalogue import catalogue_of, slabs

_READ_BYTES = 32 << 20


def run_catalogue(task: dict[str, Any], progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Store the catalogue of a layer.

    Args:
        task: `store`, `array` (key of the layer's array) and `key`, where the catalogue is stored.
        progress: Called with voxels done and voxels in all.

    Returns:
        count, largest.
    """
    store = ObjectStoreSettings.model_validate(task["store"])
    array = Arrays(store).open(task["array"], immutable=True)
    z, y, x = array.shape
    total, seen = z * y * x, 0

    def done(part: Region) -> None:
        nonlocal seen
        seen += part.size
        progress(seen, total)

    parts = slabs(array.shape, array.dtype.itemsize, array.layout.shard, _READ_BYTES)
    found = catalogue_of(parts, array.read, done)
    open_blocking_objects(store).put(task["key"], found.encode())
    return {"count": int(found.ids.size), "largest": found.largest}
