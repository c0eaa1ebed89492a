from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tifffile
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.source import SourceOptions
from biosegment_datastore.imports.importing import import_volume
from biosegment_datastore.imports.layout import ImportMemory
from biosegment_datastore.imports.progress import load_progress, progress_key, source_identity
from biosegment_datastore.imports.target import ImportTarget

from biosegment.storage.arrays import Arrays
from biosegment.volume import Region, VoxelSize

PREFIX = "volumes/v.ome.zarr"
SLABS = ImportMemory()
PIECES = ImportMemory(most_slab_bytes=1, piece_bytes=1, keep_every_bytes=1)

# Imports in a process of its own, and kills that at the given call of `progress`.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.imports.layout import ImportMemory
from biosegment_datastore.imports.progress import source_identity
from biosegment_datastore.imports.target import ImportTarget
from biosegment_datastore.imports.importing import import_volume
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.storage.objects import open_blocking_objects
from biosegment.volume import VoxelSize

path, url, last, size, *memory = sys.argv[1:]
calls = 0
def progress(done, total):
    global calls
    calls += 1
    if calls == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
settings = ObjectStoreSettings(object_store_url=url)
target = ImportTarget(Arrays(settings, sync=False), open_blocking_objects(settings), "volumes/v.ome.zarr",
                      source_identity(Path(path)), progress, memory=ImportMemory(*map(int, memory)))
with open_source(Path(path)) as source:
    import_volume(source, VoxelSize(*map(float, size.split(","))), target)
"""


class Counting:
    """A source that notes which planes are read."""

    def __init__(self, source):
        self._source, self.read = source, []
        self.format, self.shape, self.dtype = source.format, source.shape, source.dtype
        self.voxel_size, self.slab_planes = source.voxel_size, source.slab_planes
        self.region_rows = source.region_rows

    def read_slab(self, start, stop):
        self.read += range(start, stop)
        return self._source.read_slab(start, stop)

    def read_into(self, region, out):
        self.read += range(region.start.z, region.stop.z)
        self._source.read_into(region, out)

    def close(self):
        self._source.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def killed_at(call, path, store_settings, size, memory):
    values = [memory.slab_bytes, memory.most_slab_bytes, memory.piece_bytes, memory.keep_every_bytes]
    command = [sys.executable, "-c", SCRIPT, str(path), store_settings.object_store_url, str(call)]
    command += [",".join(map(str, size)), *map(str, values)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == -9, done.stderr


def import_again(path, store_settings, objects, size, memory, prefix=PREFIX):
    lines: list[str] = []
    arrays = Arrays(store_settings, sync=False)
    target = ImportTarget(arrays, objects, prefix, source_identity(path), log=lines.append, memory=memory)
    with Counting(open_source(path, SourceOptions())) as source:
        made = import_volume(source, size, target, name="v")
    voxels = []
    for level in made.levels:
        array = arrays.open(f"{prefix}/{level.path}")
        voxels.append(array.read(Region.of_shape(array.shape)))
    return made, voxels, source.read, lines


def same(one, other):
    assert one[0].shape == other[0].shape
    for name in ("mean", "std"):
        assert np.array_equal(getattr(one[0].statistics, name), getattr(other[0].statistics, name))
    for name in ("minimum", "maximum", "display_low", "display_high"):
        assert getattr(one[0].statistics, name) == getattr(other[0].statistics, name)
    for mine, theirs in zip(one[1], other[1], strict=True):
        assert np.array_equal(mine, theirs)


@pytest.fixture(params=[(5.0, 5.0, 5.0), (40.0, 5.0, 5.0)], ids=["isotropic", "thick"])
def size(request):
    return VoxelSize(*request.param)


@pytest.fixture
def path(tmp_path):
    data = np.random.default_rng(0).integers(0, 65535, (1091, 33, 301)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack")
    return tmp_path / "a.tif"


@pytest.mark.parametrize("call", [48, 66, 68])
def test_after_a_kill_only_what_was_not_durable_is_read_again(path, store_settings, objects, size, call):
    unbroken = import_again(path, store_settings, objects, size, SLABS, "volumes/unbroken.ome.zarr")
    assert sorted(unbroken[2]) == list(range(1091))
    killed_at(call, path, store_settings, size, SLABS)
    kept = load_progress(objects, PREFIX)
    assert kept is not None
    assert kept.planes[0] >= 256
    again = import_again(path, store_settings, objects, size, SLABS)
    assert again[3] == [f"going on from slice {kept.planes[0]}"]
    assert again[2] == list(range(kept.planes[0], 1091))
    same(again, unbroken)


@pytest.mark.parametrize("part", [0.2, 0.6, 0.95])
def test_pieces_of_large_planes_go_on_too(tmp_path, store_settings, objects, size, part):
    data = np.random.default_rng(0).normal(1000, 300, (40, 500, 600)).astype(np.float32)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, data, photometric="minisblack", rowsperstrip=64)
    memory = PIECES
    unbroken = import_again(path, store_settings, objects, size, memory, "volumes/unbroken.ome.zarr")
    assert np.array_equal(unbroken[1][0], data)
    calls = []
    with open_source(path) as source:
        target = ImportTarget(
            Arrays(store_settings),
            objects,
            "volumes/calls",
            progress=lambda *a: calls.append(a),
            memory=memory,
        )
        import_volume(source, size, target)
    killed_at(int(part * len(calls)), path, store_settings, size, memory)
    again = import_again(path, store_settings, objects, size, memory)
    assert again[3][0].startswith("going on from slice ")
    assert len(again[2]) < len(unbroken[2])
    assert again[0].statistics.mean == pytest.approx(unbroken[0].statistics.mean, rel=1e-12)
    same(again, unbroken)


def test_a_source_that_changed_is_imported_from_the_start(path, store_settings, objects, size):
    killed_at(60, path, store_settings, size, SLABS)
    data = tifffile.imread(path) // 2
    tifffile.imwrite(path, data, photometric="minisblack")
    again = import_again(path, store_settings, objects, size, SLABS)
    assert again[3] == ["starting over: the source, or what is asked for, is not what it was"]
    assert np.array_equal(again[1][0], data)


def test_what_is_gone_from_the_store_is_written_again(path, store_settings, objects, size):
    killed_at(60, path, store_settings, size, SLABS)
    lost = next(key for key in objects.list(f"{PREFIX}/0/c/0/"))
    objects.delete(lost)
    again = import_again(path, store_settings, objects, size, SLABS)
    assert again[3] == ["starting over: a part of what was written is gone"]
    assert np.array_equal(again[1][0], tifffile.imread(path))


def test_what_a_kill_left_unreadable_does_not_stop_the_next_attempt(path, store_settings, objects, size):
    killed_at(60, path, store_settings, size, SLABS)
    objects.put(progress_key(PREFIX), b'{"version": 1, "planes"')
    again = import_again(path, store_settings, objects, size, SLABS)
    assert np.array_equal(again[1][0], tifffile.imread(path))


def test_an_import_that_was_complete_reads_nothing_again(path, store_settings, objects, size):
    first = import_again(path, store_settings, objects, size, SLABS)
    again = import_again(path, store_settings, objects, size, SLABS)
    assert again[2] == []
    same(again, first)


def test_the_identity_tells_files_times_sizes_and_options_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    found = {
        source_identity(tmp_path / "a"),
        source_identity(tmp_path / "b"),
        source_identity(tmp_path),
        source_identity(tmp_path / "a", {"channel": 1}),
    }
    assert len(found) == 4
    assert source_identity(tmp_path / "a") in found
    (tmp_path / "a").write_bytes(b"other")
    assert source_identity(tmp_path / "a") not in found
