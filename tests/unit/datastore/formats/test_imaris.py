from __future__ import annotations

import h5py
import numpy as np
import pytest
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.source import SourceOptions
from imaris_ims_file_reader.ims import ims

from biosegment.errors import InvalidArgument
from biosegment.volume import VoxelSize

SHAPE = (11, 29, 17)


def characters(value):
    return np.array(list(str(value)), "S1")


def noise(seed, dtype="uint8"):
    return np.random.default_rng(seed).integers(0, 250, SHAPE).astype(dtype)


def write(path, times=1, channels=1, dtype="uint8", unit="um", size=SHAPE, extent=(0.55, 0.29, 0.085)):
    """As Imaris does: arrays padded to whole chunks, attributes as arrays of characters."""
    padded = (16, 32, 32)
    with h5py.File(path, "w") as file:
        for name, value in (
            ("ImarisDataSet", "ImarisDataSet"),
            ("ImarisVersion", "5.5.0"),
            ("DataSetInfoDirectoryName", "DataSetInfo"),
            ("ThumbnailDirectoryName", "Thumbnail"),
            ("DataSetDirectoryName", "DataSet"),
        ):
            file.attrs[name] = characters(value)
        file.attrs["NumberOfDataSets"] = np.array([1], np.uint32)
        info = file.create_group("DataSetInfo/Image")
        for axis, edge, count in zip((2, 1, 0), extent, size, strict=True):
            info.attrs["XYZ"[axis]] = characters(count)
            info.attrs[f"ExtMin{axis}"] = characters(1.0)
            info.attrs[f"ExtMax{axis}"] = characters(1.0 + edge)
        info.attrs["Unit"] = characters(unit)
        for time in range(times):
            for channel in range(channels):
                place = f"DataSet/ResolutionLevel 0/TimePoint {time}/Channel {channel}"
                data = np.pad(noise(time * 100 + channel, dtype), [(0, 5), (0, 3), (0, 15)])
                group = file.create_group(place)
                group.create_dataset("Data", padded, dtype, data, chunks=(8, 16, 16), compression="gzip")
                for letter, count in zip("ZYX", SHAPE, strict=True):
                    group.attrs[f"ImageSize{letter}"] = characters(count)
                group.attrs["HistogramMin"] = characters(0)
                group.attrs["HistogramMax"] = characters(255)
    return path


def refused(path, **options):
    with pytest.raises(InvalidArgument) as error:
        open_source(path, SourceOptions(**options))
    return error.value.reason


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_file_is_read_without_its_padding(tmp_path, dtype):
    path = write(tmp_path / "a.ims", dtype=dtype)
    with open_source(path) as source:
        assert source.format == "Imaris"
        assert source.shape == SHAPE
        assert source.dtype == dtype
        assert source.voxel_size == VoxelSize(50, 10, 5)
        assert np.array_equal(source.read_slab(0, 11), noise(0, dtype))
        assert np.array_equal(source.read_slab(7, 10), noise(0, dtype)[7:10])


def test_channel_and_time_point_are_chosen(tmp_path):
    path = write(tmp_path / "a.ims", times=12, channels=2)
    with open_source(path, SourceOptions(channel=1, time_point=10)) as source:
        assert np.array_equal(source.read_slab(0, 11), noise(1001))
    assert refused(path, time_point=0) == "CHANNEL_MISSING"
    assert refused(path, channel=0) == "TIME_POINT_MISSING"
    assert refused(path, channel=2, time_point=0) == "BAD_CHANNEL"


def test_another_reader_sees_the_same(tmp_path):
    path = write(tmp_path / "a.ims", channels=2)
    with open_source(path, SourceOptions(channel=1)) as source:
        ours, voxel_size = source.read_slab(0, 11), tuple(source.voxel_size)
    theirs = ims(str(path), squeeze_output=True)
    try:
        assert np.array_equal(theirs[0, 1], ours)
        assert [edge * 1000 for edge in theirs.resolution] == pytest.approx(voxel_size)
    finally:
        theirs.close()


def test_a_single_plane_and_other_units(tmp_path):
    path = write(tmp_path / "a.ims", times=3, unit="nm", size=(1, 29, 17), extent=(50, 290, 170))
    with open_source(path, SourceOptions(time_point=2)) as source:
        assert source.shape == (1, 29, 17)
        assert source.voxel_size == VoxelSize(50, 10, 10)
        assert np.array_equal(source.read_slab(0, 1), noise(200)[:1])


def test_a_file_that_lies_about_its_size_is_refused(tmp_path):
    assert refused(write(tmp_path / "large.ims", size=(17, 29, 17))) == "UNREADABLE_FILE"
    assert refused(write(tmp_path / "none.ims", size=(0, 29, 17))) == "UNREADABLE_FILE"
