from __future__ import annotations

import json

import numpy as np
import pytest
import tensorstore as ts
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.source import SourceOptions

from biosegment.errors import InvalidArgument
from biosegment.volume import VoxelSize

SHAPE = (7, 21, 34)


def noise(dtype="uint8", shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(0, 120, shape).astype(dtype)


def write(folder, path, data, **attributes):
    """`data` is C order, slowest first; N5 names its axes the other way round."""
    spec = {
        "driver": "n5",
        "kvstore": {"driver": "file", "path": f"{folder / path}/"},
        "metadata": {
            "dimensions": data.shape[::-1],
            "blockSize": [8] * data.ndim,
            "dataType": data.dtype.name,
            "compression": {"type": "gzip"},
            **attributes,
        },
    }
    ts.open(spec, create=True).result().write(data.transpose()).result()
    describe(folder, "", n5="2.5.1")
    return folder


def describe(folder, path, **attributes):
    place = folder / path / "attributes.json"
    present = json.loads(place.read_text()) if place.exists() else {}
    place.write_text(json.dumps({**present, **attributes}))


def refused(folder, **options):
    with pytest.raises(InvalidArgument) as error, open_source(folder, SourceOptions(**options)) as source:
        source.read_slab(0, source.shape.z)
    return error.value.reason


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32"])
def test_the_only_array_is_read_with_its_axes_turned(tmp_path, dtype):
    data = noise(dtype)
    with open_source(write(tmp_path / "a.n5", "volumes/raw", data)) as source:
        assert source.format == "N5"
        assert source.shape == SHAPE
        assert source.dtype == dtype
        assert source.voxel_size is None
        assert np.array_equal(source.read_slab(0, 7), data)
        assert np.array_equal(source.read_slab(2, 5), data[2:5])


def test_the_folder_may_be_the_array_itself(tmp_path):
    write(tmp_path / "a.n5", "raw", noise(), resolution=[4, 5, 50])
    with open_source(tmp_path / "a.n5" / "raw") as source:
        assert source.voxel_size == VoxelSize(50, 5, 4)
        assert np.array_equal(source.read_slab(0, 7), noise())


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"resolution": [4.0, 5.0, 50.0]}, VoxelSize(50, 5, 4)),
        ({"resolution": [0.004, 0.005, 0.05], "units": ["um", "um", "um"]}, VoxelSize(50, 5, 4)),
        ({"pixelResolution": {"dimensions": [0.004, 0.005, 0.05], "unit": "um"}}, VoxelSize(50, 5, 4)),
        (
            {"transform": {"axes": ["z", "y", "x"], "scale": [50, 5, 4], "units": ["nm"] * 3}},
            VoxelSize(50, 5, 4),
        ),
        ({"pixelResolution": {"dimensions": [1, 1, 1], "unit": "pixel"}}, None),
    ],
    ids=str,
)
def test_voxel_sizes_of_several_programs_are_read(tmp_path, attributes, expected):
    with open_source(write(tmp_path / "a.n5", "raw", noise(), **attributes)) as source:
        assert source.voxel_size == expected


def test_the_finest_level_of_the_only_pyramid_is_taken_and_another_by_name(tmp_path):
    folder = write(tmp_path / "a.n5", "em/s0", noise())
    write(folder, "em/s1", noise()[:, ::2, ::2], downsamplingFactors=[2, 2, 1])
    describe(folder, "em", pixelResolution={"dimensions": [4, 5, 50], "unit": "nm"})
    with open_source(folder) as source:
        assert source.shape == SHAPE
        assert source.voxel_size == VoxelSize(50, 5, 4)
    with open_source(folder, SourceOptions(dataset="em/s1")) as source:
        assert source.shape == (7, 11, 17)
        assert source.voxel_size == VoxelSize(50, 10, 8)


def test_paintera_data_sets_and_several_of_them(tmp_path):
    folder = write(tmp_path / "a.n5", "raw/data/s0", noise())
    describe(folder, "raw/data", multiScale=True, resolution=[4, 5, 50])
    describe(folder, "raw", painteraData={"type": "raw"})
    write(folder, "other", noise(seed=1))
    assert refused(folder) == "DATASET_MISSING"
    with open_source(folder, SourceOptions(dataset="raw")) as source:
        assert source.voxel_size == VoxelSize(50, 5, 4)
        assert np.array_equal(source.read_slab(0, 7), noise())
    with pytest.raises(InvalidArgument, match="'other'") as error:
        open_source(folder, SourceOptions(dataset="none"))
    assert error.value.reason == "NO_DATASET"


def test_channels_need_their_axes(tmp_path):
    data = noise(shape=(2, *SHAPE))
    folder = write(tmp_path / "a.n5", "raw", data)
    assert refused(folder, channel=1) == "BAD_AXES"
    with open_source(folder, SourceOptions(axes="czyx", channel=1)) as source:
        assert np.array_equal(source.read_slab(0, 7), data[1])
    describe(folder, "raw", axes=["x", "y", "z", "c"])
    with open_source(folder, SourceOptions(channel=1)) as source:
        assert np.array_equal(source.read_slab(0, 7), data[1])


def test_what_is_damaged_or_leads_out_is_refused(tmp_path):
    write(tmp_path / "secret.n5", "raw", noise())
    folder = write(tmp_path / "a.n5", "raw", noise())
    assert refused(folder, dataset="../secret.n5/raw") == "UNREADABLE_FILE"
    (folder / "link").symlink_to(tmp_path / "secret.n5" / "raw")
    assert refused(folder, dataset="link") == "UNREADABLE_FILE"
    block = next(path for path in (folder / "raw").rglob("*") if path.name.isdigit() and path.is_file())
    content = block.read_bytes()
    block.write_bytes(content[: len(content) // 2])
    assert refused(folder, dataset="raw") == "UNREADABLE_FILE"
    block.unlink()
    block.symlink_to(tmp_path / "secret.n5" / "raw" / "attributes.json")
    assert refused(folder, dataset="raw") == "UNREADABLE_FILE"
    (folder / "attributes.json").write_text("{")
    assert refused(folder) == "UNREADABLE_FILE"
