from __future__ import annotations

import os
import subprocess

import numpy as np
import ome_zarr_models
import pytest
import tifffile
import zarr
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.imports.importing import import_volume
from biosegment_datastore.imports.layout import import_layout
from biosegment_datastore.imports.target import ImportTarget
from biosegment_datastore.pyramid import downsample
from ome_zarr_models.v05 import Image

from biosegment.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.storage.layout import ArrayLayout
from biosegment.storage.multiscale import read_voxel_size
from biosegment.storage.objects import open_blocking_objects
from biosegment.volume import Index, Region, VoxelSize

NANOMETRES = VoxelSize(5, 5, 5)


def stack(path, shape=(37, 301, 290), dtype="uint8", **options):
    data = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    tifffile.imwrite(path, data, photometric="minisblack", **options)
    return data


def run(path, arrays, objects, voxel_size=NANOMETRES, **options):
    with open_source(path) as source:
        inside = {name: options.pop(name) for name in ("name", "levels") if name in options}
        target = ImportTarget(arrays, objects, "volumes/v.ome.zarr", **options)
        return import_volume(source, voxel_size, target, **inside)


def level(arrays, number):
    array = arrays.open(f"volumes/v.ome.zarr/{number}")
    return array, array.read(Region.of_shape(array.shape))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_every_level_holds_what_halving_the_whole_volume_gives(tmp_path, arrays, objects, dtype):
    data = stack(tmp_path / "a.tif", dtype=dtype, compression="zlib")
    imported = run(tmp_path / "a.tif", arrays, objects)
    assert [one.shape for one in imported.levels] == [(37, 301, 290), (19, 151, 145)]
    _, voxels = level(arrays, 0)
    assert np.array_equal(voxels, data)
    assert np.array_equal(level(arrays, 1)[1], downsample(data, Index(2, 2, 2)))


def test_levels_are_right_when_the_volume_takes_several_rows_of_shards(tmp_path, arrays, objects):
    data = stack(tmp_path / "a.tif", shape=(531, 20, 300))
    imported = run(tmp_path / "a.tif", arrays, objects)
    expected = data
    for number, one in enumerate(imported.levels):
        if number:
            before = imported.levels[number - 1].downsampling
            step = Index(*(b // a for a, b in zip(before, one.downsampling, strict=True)))
            expected = downsample(expected, step)
        assert np.array_equal(level(arrays, number)[1], expected)
    assert len(imported.levels) == 3


def test_no_shard_is_written_twice(tmp_path, arrays, objects, monkeypatch):
    stack(tmp_path / "a.tif", shape=(531, 20, 300))
    from biosegment.storage.arrays import Array

    written, start_write = [], Array.start_write

    def spy(self, region, data):
        written.append((self.name, region[0].start, region[0].stop, self.layout.shard[0], self.shape[0]))
        return start_write(self, region, data)

    monkeypatch.setattr(Array, "start_write", spy)
    run(tmp_path / "a.tif", arrays, objects)
    for _, start, stop, depth, end in written:
        assert start % depth == 0
        assert stop % depth == 0 or stop == end
    assert len({entry[:2] for entry in written}) == len(written) == 3 + 2 + 1


def test_the_image_is_valid_ome_zarr_and_opens_in_zarr_python(tmp_path, arrays, objects):
    data = stack(tmp_path / "a.tif")
    run(tmp_path / "a.tif", arrays, objects, VoxelSize(50, 4.6, 4.5), name="cortex")
    group = zarr.open_group(tmp_path / "store" / "volumes" / "v.ome.zarr", mode="r")
    multiscale = Image.from_zarr(group).ome_attributes.multiscales[0]
    assert multiscale.name == "cortex"
    assert [(axis.name, axis.type, axis.unit) for axis in multiscale.axes] == [
        (axis, "space", "nanometer") for axis in "zyx"
    ]
    scale, translation = multiscale.datasets[1].coordinateTransformations
    assert scale.scale == [50, 9.2, 9]
    assert translation.translation == [0, 2.3, 2.25]
    assert np.array_equal(group["0"][...], data)
    assert read_voxel_size(objects, "volumes/v.ome.zarr") == VoxelSize(50, 4.6, 4.5)
    assert ome_zarr_models.open_ome_zarr(group).ome_attributes.version == "0.5"


def test_an_imported_image_can_be_imported_again(tmp_path, arrays, objects):
    data = stack(tmp_path / "a.tif")
    run(tmp_path / "a.tif", arrays, objects)
    with open_source(tmp_path / "store" / "volumes" / "v.ome.zarr") as source:
        assert source.voxel_size == NANOMETRES
        import_volume(source, None, ImportTarget(arrays, objects, "volumes/again.ome.zarr"))
    array = arrays.open("volumes/again.ome.zarr/0")
    assert np.array_equal(array.read(Region.of_shape(array.shape)), data)


def test_intensity_statistics_are_those_of_every_slice(tmp_path, arrays, objects):
    data = stack(tmp_path / "a.tif", dtype="uint16", shape=(9, 80, 70))
    data[4] = 60000
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack")
    statistics = run(tmp_path / "a.tif", arrays, objects).statistics
    assert statistics.mean == pytest.approx(data.mean(axis=(1, 2)), rel=1e-6)
    assert statistics.std == pytest.approx(data.std(axis=(1, 2)), rel=1e-4, abs=1e-6)
    assert (statistics.minimum, statistics.maximum) == (data.min(), 60000)


def test_progress_counts_the_slices_to_the_end(tmp_path, arrays, objects):
    stack(tmp_path / "a.tif", shape=(40, 20, 20))
    seen = []
    run(tmp_path / "a.tif", arrays, objects, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(16, 40), (32, 40), (40, 40)]


def test_a_voxel_size_must_come_from_the_file_or_the_caller(tmp_path, arrays, objects):
    stack(tmp_path / "a.tif")
    with pytest.raises(InvalidArgument) as error:
        run(tmp_path / "a.tif", arrays, objects, voxel_size=None)
    assert error.value.reason == "VOXEL_SIZE_UNKNOWN"
    assert objects.list("") == []


def test_a_cancelled_import_is_no_image_and_stops_reading(tmp_path, arrays, objects):
    stack(tmp_path / "a.tif", shape=(64, 20, 20))
    seen = []
    with pytest.raises(FailedPrecondition) as error:
        run(
            tmp_path / "a.tif",
            arrays,
            objects,
            progress=lambda done, total: seen.append(done),
            should_stop=lambda: len(seen) == 2,
        )
    assert error.value.reason == "IMPORT_CANCELLED"
    assert seen == [16, 32]
    assert not objects.exists("volumes/v.ome.zarr/zarr.json")


def test_damage_in_the_middle_of_the_file_ends_the_import_without_an_image(tmp_path, arrays, objects):
    path = tmp_path / "a.tif"
    stack(path, shape=(600, 16, 300), compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset = file.pages[500].dataoffsets[0]
    raw = bytearray(path.read_bytes())
    raw[offset : offset + 60] = bytes(60)
    path.write_bytes(raw)
    with pytest.raises(InvalidArgument) as error:
        run(path, arrays, objects)
    assert error.value.reason == "UNREADABLE_FILE"
    assert "slice 500" in error.value.message
    assert not objects.exists("volumes/v.ome.zarr/zarr.json")
    objects.delete_prefix("volumes/v.ome.zarr/")
    assert objects.list("") == []


def test_not_a_number_is_refused(tmp_path, arrays, objects):
    data = stack(tmp_path / "a.tif", dtype="float32")
    data[20, 3, 3] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack")
    with pytest.raises(InvalidArgument, match="slice 20") as error:
        run(tmp_path / "a.tif", arrays, objects)
    assert error.value.reason == "NOT_FINITE"


def test_wide_volumes_get_flatter_shards_so_that_a_row_of_them_fits_into_memory():
    assert import_layout(Index(165, 768, 1024), 1) == ArrayLayout((176, 256, 256), (16, 128, 128))
    for shape in (Index(4000, 4000, 4000), Index(9000, 20000, 3000), Index(300, 2000, 9000)):
        layout = import_layout(shape, 1)
        assert layout.shard[0] * shape.y * shape.x <= 192 << 20 or layout.shard[0] == 16
        assert layout.shard[0] % 2 == 0
        assert np.prod(layout.shard) <= 2 * 256**3
    assert import_layout(Index(4000, 4500, 4500), 1).shard == (16, 1024, 1024)
    assert import_layout(Index(4000, 30000, 30000), 1).shard == (16, 256, 4096)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_disk_ends_the_import_and_what_was_written_can_be_removed(tmp_path):
    stack(tmp_path / "a.tif")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], check=True)
    try:
        place = ObjectStoreSettings(object_store_url=f"file://{disk}/store")
        objects = open_blocking_objects(place)
        with pytest.raises(ResourceExhausted) as error:
            run(tmp_path / "a.tif", Arrays(place), objects)
        assert error.value.reason == "DISK_FULL"
        assert not objects.exists("volumes/v.ome.zarr/zarr.json")
        objects.delete_prefix("volumes/v.ome.zarr/")
        assert objects.list("") == []
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
