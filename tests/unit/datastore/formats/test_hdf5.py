from __future__ import annotations

import json
import zlib

import h5py
import numpy as np
import pytest
from biosegment_datastore.formats import chunk_row
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.source import ACCEPTED_LABELS, SourceOptions

from biosegment.errors import InvalidArgument, ResourceExhausted
from biosegment.volume import VoxelSize

SHAPE = (19, 45, 33)


def noise(dtype="uint8", shape=SHAPE):
    values = np.random.default_rng(0).integers(-100 if np.dtype(dtype).kind == "i" else 0, 120, shape)
    return values.astype(dtype)


def assert_reads(path, expected, **options):
    with open_source(path, SourceOptions(**options)) as source:
        assert source.shape == expected.shape
        assert source.dtype == expected.dtype
        assert source.dtype.isnative
        depth, step = len(expected), source.slab_planes
        slabs = [source.read_slab(z, min(z + step, depth)) for z in range(0, depth, step)]
        assert np.array_equal(np.concatenate(slabs), expected)
        assert np.array_equal(source.read_slab(2, 5), expected[2:5])
        return source.voxel_size


def refused(path, **options):
    with pytest.raises(InvalidArgument) as error, open_source(path, SourceOptions(**options)) as source:
        source.read_slab(0, source.shape.z)
    assert path.name in error.value.message
    return error.value.reason


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32", ">u2", ">f4"])
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"chunks": (8, 16, 16), "compression": "gzip"},
        {"chunks": (4, 45, 33), "compression": "lzf", "shuffle": True, "fletcher32": True},
        {"compression": "gzip", "scaleoffset": None},
    ],
    ids=str,
)
def test_the_only_volume_of_a_file_is_read(tmp_path, dtype, layout):
    data = noise(dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/note"] = "text"
        file["volumes/table"] = np.arange(6).reshape(2, 3)
        file.create_dataset("volumes/raw", data=data, **layout)
    assert assert_reads(tmp_path / "a.h5", data.astype(data.dtype.newbyteorder("="))) is None


def test_a_real_file_of_ilastik_is_read(shared):
    path = shared / "data/formats/3d.h5"
    with h5py.File(path, locking=False) as file:
        expected = file["data"][...]
    assert expected.shape == (50, 60, 55)
    assert_reads(path, expected)


def axistags(keys, resolution=0.0):
    axes = [{"key": key, "typeFlags": 2, "resolution": resolution, "description": ""} for key in keys]
    return json.dumps({"axes": axes})


def test_the_axes_of_ilastik_are_followed(tmp_path):
    data = noise(shape=(3, 9, 7, 5, 2))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["exported_data"] = data
        file["exported_data"].attrs["axistags"] = axistags("txyzc", 4.0)
        file["exported_data"].attrs["axis_units"] = json.dumps({"x": "nm", "y": "nm", "z": "nm"})
    expected = data[2, ..., 1].transpose(2, 1, 0)
    assert assert_reads(tmp_path / "a.h5", expected, time_point=2, channel=1) == VoxelSize(4, 4, 4)
    assert refused(tmp_path / "a.h5", time_point=2) == "CHANNEL_MISSING"
    assert refused(tmp_path / "a.h5", channel=0) == "TIME_POINT_MISSING"
    assert refused(tmp_path / "a.h5", channel=2, time_point=0) == "BAD_CHANNEL"


def test_axes_of_one_are_left_out_and_axes_that_nobody_names_are_asked_for(tmp_path):
    data = noise(shape=(1, 6, 7, 5, 1))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = data
    assert_reads(tmp_path / "a.h5", data[0, ..., 0])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"] = noise(shape=(2, 6, 7, 5))
    assert refused(tmp_path / "b.h5") == "BAD_AXES"
    assert_reads(tmp_path / "b.h5", noise(shape=(2, 6, 7, 5))[1], axes="czyx", channel=1)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"element_size_um": [0.05, 0.0046, 0.004]}, VoxelSize(50, 4.6, 4)),
        ({"resolution": [40, 4, 8], "offset": [0, 0, 0]}, VoxelSize(40, 4, 8)),
        ({"voxel_size": [40.0, 4.0, 8.0], "units": ["nm", "nm", "nm"]}, VoxelSize(40, 4, 8)),
        ({"resolution": [0.04, 0.004, 0.008], "units": "um"}, VoxelSize(40, 4, 8)),
        ({"element_size_um": [0.05, 0.0046]}, None),
        ({"element_size_um": [0.05, 0.0046, 0.0]}, None),
        ({"resolution": "fine"}, None),
    ],
    ids=str,
)
def test_the_voxel_size_is_in_the_attributes_that_programs_write(tmp_path, attributes, expected):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = noise()
        file["raw"].attrs.update(attributes)
    assert assert_reads(tmp_path / "a.h5", noise()) == expected


def test_one_of_several_volumes_must_be_named(tmp_path):
    ids = noise("uint64")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"] = noise()
        file["volumes/other"] = noise()[::-1]
        file["volumes/labels/ids"] = ids
    path = tmp_path / "a.h5"
    with pytest.raises(InvalidArgument, match=r"'volumes/raw' \(19, 45, 33\) uint8") as error:
        open_source(path)
    assert error.value.reason == "DATASET_MISSING"
    assert_reads(path, noise()[::-1], dataset="/volumes/other")
    assert_reads(path, ids, dataset="volumes/labels", accepted=ACCEPTED_LABELS)
    assert refused(path, dataset="volumes/none") == "NO_DATASET"
    assert refused(path, dataset="volumes/labels/ids") == "BAD_DTYPE"


def test_the_image_beside_labels_of_other_types_is_taken_as_cremi_files_have_it(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"] = noise()
        file["volumes/raw"].attrs["resolution"] = [40.0, 4.0, 4.0]
        file["volumes/labels/clefts"] = noise("uint64")
    assert assert_reads(tmp_path / "a.h5", noise()) == VoxelSize(40, 4, 4)


def test_what_is_no_volume_of_numbers_is_refused(tmp_path):
    for name, data in (
        ("text", np.array([[["a"]]], "S1")),
        ("compound", np.zeros((4, 4, 4), [("a", "u1"), ("b", "f4")])),
        ("flat", np.zeros((4, 4), np.uint8)),
    ):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            file["data"] = data
        assert refused(path) == "NO_DATASET"
        assert refused(path, dataset="data") in ("BAD_DTYPE", "NO_DATASET", "NOT_A_VOLUME", "BAD_AXES")
    with h5py.File(tmp_path / "double.h5", "w") as file:
        file["data"] = np.zeros((4, 4, 4))
    assert refused(tmp_path / "double.h5") == "BAD_DTYPE"


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["data"] = noise()
    (tmp_path / "secret.raw").write_bytes(noise().tobytes())
    return path


def lead_out(file, how, secret):
    if how == "link":
        file["data"] = h5py.ExternalLink(str(secret), "/data")
    elif how == "soft link":
        file["door"] = h5py.ExternalLink(str(secret), "/")
        file["data"] = h5py.SoftLink("/door/data")
    elif how == "storage":
        raw = [(str(secret.with_suffix(".raw")), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("data", SHAPE, np.uint8, external=raw)
    else:
        layout = h5py.VirtualLayout(SHAPE, np.uint8)
        layout[...] = h5py.VirtualSource(str(secret), "data", SHAPE)
        file.create_virtual_dataset("data", layout)


@pytest.mark.parametrize("how", ["link", "soft link", "storage", "virtual"])
def test_other_files_of_the_server_cannot_be_read_through_a_file(tmp_path, secret, how):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        lead_out(file, how, secret)
    with h5py.File(path) as file:
        assert np.array_equal(file["data"][...], noise())  # the library itself would follow
    assert refused(path, dataset="data") == "UNREADABLE_FILE"
    assert refused(path) in ("UNREADABLE_FILE", "NO_DATASET")


@pytest.mark.parametrize("how", ["link", "storage", "virtual"])
@pytest.mark.parametrize(
    "place", ["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data", "t00000/s00/0/cells", "mibModel"]
)
def test_nor_through_the_layouts_of_programs(tmp_path, secret, how, place):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        lead_out(file, how, secret)
        file.move("data", place)
        if place == "mibModel":
            file["modelVariable"] = np.frombuffer(b"mibModel", np.uint8).astype(np.uint16).reshape(-1, 1)
        if place.startswith("DataSet"):
            info = file.create_group("DataSetInfo/Image")
            for axis, size in zip("ZYX", SHAPE, strict=True):
                info.attrs[axis] = np.array(list(str(size)), "S1")
    assert refused(path) == "UNREADABLE_FILE"


def test_links_inside_of_a_file_are_followed_and_circles_end(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["volumes/raw"] = noise()
        file["alias"] = h5py.SoftLink("/volumes/raw")
        file["volumes/near"] = h5py.SoftLink("raw")
        file["round"] = h5py.SoftLink("/round")
        file["volumes/up"] = file["/"]
        file["gone"] = h5py.SoftLink("/none")
    for dataset in ("", "alias", "volumes/near", "volumes/up/volumes/raw"):
        assert_reads(path, noise(), dataset=dataset)
    assert refused(path, dataset="round") == "UNREADABLE_FILE"
    assert refused(path, dataset="gone") == "NO_DATASET"


def test_planes_that_are_too_large_are_refused_before_anything_is_allocated(tmp_path):
    with h5py.File(tmp_path / "wide.h5", "w") as file:
        file.create_dataset("data", (4, 2**20, 2**20), np.uint8, chunks=(1, 64, 64))
    assert refused(tmp_path / "wide.h5") == "IMAGE_TOO_LARGE"
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        file.create_dataset("data", (4096, 1024, 1024), np.uint8, chunks=(2048, 1024, 1024))
    assert refused(tmp_path / "deep.h5") == "IMAGE_TOO_LARGE"


def test_a_volume_of_terabytes_with_nothing_in_it_opens_at_once(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", (100_000, 4000, 4000), np.uint8, chunks=(8, 512, 512), fillvalue=7)
    with open_source(tmp_path / "a.h5") as source:
        assert (source.read_slab(99_998, 100_000) == 7).all()


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["data"] = noise()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert refused(path) in ("TRUNCATED_FILE", "UNREADABLE_FILE")


def test_a_damaged_chunk_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("data", data=noise(), chunks=(4, 45, 33), compression="gzip")
        place = dataset.id.get_chunk_info(2)
    data = bytearray(path.read_bytes())
    data[place.byte_offset : place.byte_offset + 40] = bytes(40)
    path.write_bytes(data)
    assert refused(path) == "UNREADABLE_FILE"


def test_a_compression_that_is_not_known_here_is_named(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4, 45, 33))
        plist.set_filter(32004, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple(SHAPE)
        dataset = h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_UINT8, space, plist)
        dataset.write_direct_chunk((0, 0, 0), zlib.compress(bytes(100)))
    with pytest.raises(InvalidArgument, match="32004"):
        open_source(path)


def test_the_file_is_closed_when_the_source_is_and_when_it_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["data"] = noise()
        file["more"] = noise()
    assert_reads(path, noise(), dataset="data")
    assert refused(path) == "DATASET_MISSING"
    assert refused(path, dataset="data", accepted=("float32",)) == "BAD_DTYPE"
    with h5py.File(path, "r+", locking=True) as file:
        file["third"] = 1


class Counting:
    """An array in chunks that counts how often each is decoded."""

    def __init__(self, data, chunks):
        self.data, self.chunks, self.dtype = data, chunks, data.dtype
        self.decoded = np.zeros(
            [-(-size // edge) for size, edge in zip(data.shape, chunks, strict=True)], int
        )

    def __getitem__(self, index):
        touched = tuple(
            slice(part.start // edge, -(-part.stop // edge))
            if isinstance(part, slice)
            else slice(part // edge, part // edge + 1)
            for part, edge in zip(index, self.chunks, strict=True)
        )
        self.decoded[touched] += 1
        return self.data[index]


@pytest.mark.parametrize("held_bytes", [10**9, 0], ids=["in memory", "in a scratch file"])
@pytest.mark.parametrize("slab_bytes", [3000, 10**9], ids=["narrow", "wide"])
def test_every_chunk_is_decoded_once_when_planes_are_read_in_order(
    tmp_path, monkeypatch, held_bytes, slab_bytes
):
    from biosegment_datastore.formats import source as source_module
    from biosegment_datastore.formats.selection import select

    monkeypatch.setattr(chunk_row, "HELD_BYTES", held_bytes)
    monkeypatch.setattr(chunk_row, "SLAB_BYTES", slab_bytes)
    monkeypatch.setattr(source_module, "SLAB_BYTES", slab_bytes)
    data = noise(">u2", (3, 45, 33, 19))
    array = Counting(data, (1, 16, 8, 7))
    options = SourceOptions(channel=1, scratch_dir=tmp_path)
    selection = select("a", "cxyz", data.shape, options)
    expected = data[1].transpose(2, 1, 0)
    with chunk_row.chunked_source("a", "test", array, selection, array.chunks, None, options) as source:
        assert source.shape == expected.shape
        step = source.slab_planes
        slabs = [source.read_slab(z, min(z + step, 19)) for z in range(0, 19, step)]
        assert np.array_equal(np.concatenate(slabs), expected)
    assert (array.decoded[1] == 1).all()
    assert not array.decoded[[0, 2]].any()
    assert not any(tmp_path.iterdir())


def test_a_full_scratch_folder_is_told(tmp_path, monkeypatch):
    import errno
    import tempfile

    from biosegment_datastore.formats.selection import select

    class Full:
        def __init__(self, file):
            self._file = file

        def tell(self):
            return 0

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            self._file.close()

    made = tempfile.TemporaryFile
    monkeypatch.setattr(chunk_row, "HELD_BYTES", 0)
    monkeypatch.setattr(chunk_row, "SLAB_BYTES", 1000)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **given: Full(made(**given)))
    selection = select("a", "zyx", SHAPE, SourceOptions())
    with (
        chunk_row.chunked_source("a", "test", noise(), selection, SHAPE, None, SourceOptions()) as source,
        pytest.raises(ResourceExhausted) as error,
    ):
        source.read_slab(0, 1)
    assert error.value.reason == "DISK_FULL"
