"""No room for the file, or for its parts: refused by name, and nothing stays; in the worker process, as it runs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from biosegment_datastore.formats.writers.catalogue import FORMATS
from biosegment_datastore.worker_process import WorkerLimits, run_task, store_values

from biosegment.errors import ResourceExhausted
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.volume import Region

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system"),
]

SHAPE = (24, 256, 600)
VOXELS = np.random.default_rng(1).integers(0, 255, SHAPE, dtype=np.uint8)
"""3.7 MB that do not compress."""


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def store_at(folder: Path) -> ObjectStoreSettings:
    return ObjectStoreSettings.model_validate({"object_store_url": f"file://{folder}"})


def export_task(store: ObjectStoreSettings, scratch: Path, key: str, suffix: str = "") -> dict[str, Any]:
    return {
        "kind": "export",
        "format": key,
        "store": store_values(store),
        "scratch_dir": str(scratch),
        "prefix": "projects/p/artifacts/a",
        "array": "volume/0",
        "referenced": None,
        "roots": [],
        "annotations": [],
        "edits": [],
        "segmentation": False,
        "start": [0, 0, 0],
        "stop": list(SHAPE),
        "voxel_size_nm": [30.0, 4.0, 4.0],
        "origin_nm": [0.0, 0.0, 0.0],
        "name": "noise",
        "description": "",
        "is_labels": True,
        "classes": [],
    }


async def no_progress(done: int, total: int) -> None:
    pass


LIMITS = WorkerLimits(4 << 30, 60.0)


@pytest.mark.parametrize("key", [each.key for each in FORMATS])
@pytest.mark.parametrize("room_bytes", [64 << 10, 1500 << 10])
async def test_a_file_for_which_there_is_no_room_leaves_nothing(
    tmp_path: Path, key: str, room_bytes: int
) -> None:
    objects = tmp_path / "objects"
    objects.mkdir()
    store = store_at(objects)
    Arrays(store).create("volume/0", SHAPE, np.uint8).write(Region.of_shape(SHAPE), VOXELS)
    before = sorted(path for path in objects.rglob("*") if path.is_file())
    with small_disk(tmp_path / "scratch", room_bytes) as scratch:
        with pytest.raises(ResourceExhausted) as raised:
            await run_task(export_task(store, scratch, key), LIMITS, no_progress)
        assert list(scratch.iterdir()) == []
    assert (raised.value.reason, "space" in raised.value.message) == ("DISK_FULL", True)
    assert sorted(path for path in objects.rglob("*") if path.is_file()) == before


async def test_a_store_without_room_for_the_parts_is_told_alike(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with small_disk(tmp_path / "objects", 6 << 20) as objects:
        store = store_at(objects)
        Arrays(store).create("volume/0", SHAPE, np.uint8).write(Region.of_shape(SHAPE), VOXELS)
        with pytest.raises(ResourceExhausted) as raised:
            await run_task(export_task(store, scratch, "mrc"), LIMITS, no_progress)
    assert raised.value.reason == "DISK_FULL"
    assert list(scratch.iterdir()) == []
