from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import tifffile
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.scale import imagej_voxel_size, ome_voxel_size
from biosegment_datastore.formats.source import ACCEPTED_LABELS, SourceOptions

from biosegment.errors import InvalidArgument, NotFound
from biosegment.volume import VoxelSize

SHAPE = (7, 33, 47)


def noise(dtype="uint8", shape=SHAPE):
    values = np.random.default_rng(0).integers(-100 if np.dtype(dtype).kind == "i" else 0, 120, shape)
    return values.astype(dtype)


def assert_reads(path, expected, **options):
    with open_source(path, SourceOptions(**options)) as source:
        assert source.shape == expected.shape
        assert source.dtype == expected.dtype
        assert source.dtype.isnative
        depth = len(expected)
        assert np.array_equal(source.read_slab(0, depth), expected)
        assert np.array_equal(source.read_slab(2, 5), expected[2:5])
        assert np.array_equal(source.read_slab(depth - 1, depth), expected[-1:])


def refused(path, **options):
    with pytest.raises(InvalidArgument) as error, open_source(path, SourceOptions(**options)) as source:
        source.read_slab(0, source.shape.z)
    assert path.name in error.value.message
    return error.value.reason


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True, "rowsperstrip": 5},
        {"compression": "lzw", "tile": (16, 32)},
        {"compression": "zstd", "ome": True},
        {"imagej": True},
    ],
    ids=str,
)
def test_stacks_of_every_kind_are_read(tmp_path, dtype, byteorder, options):
    if options.get("imagej") and (dtype not in ("uint8", "uint16", "float32") or byteorder == "<"):
        return  # ImageJ has no such files
    data = noise(dtype)
    axes = {"metadata": {"axes": "ZYX"}} if "ome" in options or "imagej" in options else {}
    tifffile.imwrite(
        tmp_path / "a.tif", data, byteorder=byteorder, photometric="minisblack", **axes, **options
    )
    assert_reads(tmp_path / "a.tif", data)


def test_pages_that_were_appended_one_by_one_are_one_stack(tmp_path):
    data = noise()
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in data:
            writer.write(plane, contiguous=False)
    assert_reads(tmp_path / "a.tif", data)


def test_an_imagej_stack_with_one_directory_for_all_planes_is_read(tmp_path):
    # ImageJ writes stacks beyond 4 GB like this.
    data = noise(">u2")
    tifffile.imwrite(tmp_path / "all.tif", data, imagej=True, metadata={"axes": "ZYX"})
    raw = bytearray((tmp_path / "all.tif").read_bytes())
    first = struct.unpack(">I", raw[4:8])[0]
    count = struct.unpack(">H", raw[first : first + 2])[0]
    raw[first + 2 + 12 * count : first + 6 + 12 * count] = bytes(4)
    (tmp_path / "a.tif").write_bytes(raw)
    assert_reads(tmp_path / "a.tif", data.astype("u2"))


def test_the_file_is_told_by_its_content_and_not_by_its_name(tmp_path):
    tifffile.imwrite(tmp_path / "stack.dat", noise(), photometric="minisblack")
    with open_source(tmp_path / "stack.dat") as source:
        assert source.shape == SHAPE
    (tmp_path / "text.tif").write_text("no image at all")
    with pytest.raises(InvalidArgument) as error:
        open_source(tmp_path / "text.tif")
    assert error.value.reason == "UNKNOWN_FORMAT"
    with pytest.raises(NotFound) as missing:
        open_source(tmp_path / "none.tif")
    assert missing.value.reason == "FILE_NOT_FOUND"


def test_the_source_is_not_modified(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(), compression="zlib", photometric="minisblack")
    before, changed = (tmp_path / "a.tif").read_bytes(), (tmp_path / "a.tif").stat().st_mtime_ns
    assert_reads(tmp_path / "a.tif", noise())
    assert (tmp_path / "a.tif").read_bytes() == before
    assert (tmp_path / "a.tif").stat().st_mtime_ns == changed


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "lzw"}], ids=str)
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.95, 0.999])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, options, kept):
    tifffile.imwrite(tmp_path / "all.tif", noise(shape=(9, 64, 64)), photometric="minisblack", **options)
    raw = (tmp_path / "all.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(raw[: int(len(raw) * kept)])
    assert refused(tmp_path / "a.tif") == "TRUNCATED_FILE"


def test_a_truncated_series_of_single_pages_is_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "all.tif") as writer:
        for plane in noise():
            writer.write(plane, contiguous=False, metadata=None, compression="zlib")
    raw = (tmp_path / "all.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(raw[: len(raw) // 2])
    assert refused(tmp_path / "a.tif") == "TRUNCATED_FILE"


def test_damaged_voxels_are_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", noise(shape=(4, 64, 64)), compression="zlib", photometric="minisblack"
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offset = file.pages[2].dataoffsets[0]
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    raw[offset : offset + 60] = bytes(60)
    (tmp_path / "a.tif").write_bytes(raw)
    assert refused(tmp_path / "a.tif") == "UNREADABLE_FILE"


def test_a_header_with_nothing_behind_it_and_a_circle_of_directories_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0")
    assert refused(path) == "TRUNCATED_FILE"
    path.write_bytes(b"II*\0" + bytes(4))
    assert refused(path) == "UNREADABLE_FILE"
    path.write_bytes(b"II*\0" + struct.pack("<IHI", 8, 0, 8))
    assert refused(path) == "UNREADABLE_FILE"


def test_a_file_that_lies_about_its_shape_is_refused_before_anything_is_allocated(tmp_path):
    path = tmp_path / "a.tif"
    packed = zlib.compress(bytes(100))
    entries = [(256, 3, 1, 64), (257, 4, 1, 2**31 - 1), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, 2**31 - 1), (279, 4, 1, len(packed))]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<I", 8) + directory + bytes(4)
    path.write_bytes(head.ljust(200, b"\0") + packed)
    assert refused(path) in ("IMAGE_TOO_LARGE", "NOT_A_VOLUME")


@pytest.mark.parametrize(
    ("data", "options", "reason"),
    [
        (np.zeros((20, 30), np.uint8), {"photometric": "minisblack"}, "NOT_A_VOLUME"),
        (np.zeros((20, 30, 3), np.uint8), {"photometric": "rgb"}, "NOT_A_VOLUME"),
        (np.zeros((4, 20, 30, 3), np.uint8), {"photometric": "rgb"}, "CHANNEL_MISSING"),
        (np.zeros((2, 4, 20, 30), np.uint8), {"ome": True, "metadata": {"axes": "CZYX"}}, "CHANNEL_MISSING"),
        (np.zeros((2, 4, 20, 30), np.uint8), {"photometric": "minisblack"}, "BAD_AXES"),
        (np.zeros((4, 20, 30), np.uint32), {"photometric": "minisblack"}, "BAD_DTYPE"),
        (np.zeros((4, 20, 30), np.float64), {"photometric": "minisblack"}, "BAD_DTYPE"),
        (np.zeros((4, 20, 30), np.complex64), {"photometric": "minisblack"}, "BAD_DTYPE"),
    ],
)
def test_what_is_no_grey_volume_is_refused(tmp_path, data, options, reason):
    tifffile.imwrite(tmp_path / "a.tif", data, **options)
    assert refused(tmp_path / "a.tif") == reason


def test_an_ome_tiff_without_some_of_its_planes_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", noise(), compression="zlib", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        xml = file.ome_metadata.replace('SizeZ="7"', 'SizeZ="9"')
    tifffile.imwrite(tmp_path / "b.ome.tif", noise(), compression="zlib", description=xml, metadata=None)
    assert refused(tmp_path / "b.ome.tif") in ("TRUNCATED_FILE", "UNREADABLE_FILE")


def test_the_voxel_size_is_read_from_ome_metadata_in_any_unit(tmp_path):
    for unit, size in (("nm", (50, 4.6, 5)), ("µm", (0.05, 0.0046, 0.005)), ("Å", (500, 46, 50))):
        z, y, x = size
        metadata = {"axes": "ZYX", "PhysicalSizeX": x, "PhysicalSizeY": y, "PhysicalSizeZ": z}
        metadata |= {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"}
        tifffile.imwrite(tmp_path / "a.ome.tif", noise(), metadata=metadata)
        with open_source(tmp_path / "a.ome.tif") as source:
            assert source.format == "OME-TIFF"
            assert source.voxel_size == VoxelSize(50, 4.6, 5)


def test_the_voxel_size_is_read_from_imagej_metadata(tmp_path):
    metadata = {"axes": "ZYX", "spacing": 0.05, "unit": "um"}
    tifffile.imwrite(tmp_path / "a.tif", noise(), imagej=True, resolution=(200, 250), metadata=metadata)
    with open_source(tmp_path / "a.tif") as source:
        assert source.format == "ImageJ TIFF"
        assert source.voxel_size == VoxelSize(50, 4, 5)


def test_a_voxel_size_that_is_not_told_along_every_axis_is_unknown(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(), photometric="minisblack", resolution=(72, 72))
    with open_source(tmp_path / "a.tif") as source:
        assert source.voxel_size is None
    assert ome_voxel_size('<OME><Image><Pixels PhysicalSizeX="1" PhysicalSizeY="1"/></Image></OME>') is None
    assert ome_voxel_size("<not xml") is None
    assert imagej_voxel_size({"unit": "pixel", "spacing": 1.0}, (1, 1), (1, 1)) is None
    assert imagej_voxel_size({"unit": "um"}, (1, 1), (1, 1)) is None
    assert imagej_voxel_size({"unit": "um", "spacing": 1.0}, (0, 1), (1, 1)) is None
    assert imagej_voxel_size({"unit": "um", "spacing": float("nan")}, (1, 1), (1, 1)) is None


def test_axes_may_have_units_of_their_own():
    metadata = {"unit": "um", "yunit": "mm", "zunit": "pm", "spacing": 30.0}
    assert imagej_voxel_size(metadata, (100_000, 6), (500, 2)) == VoxelSize(0.03, 60, 4)


@pytest.mark.parametrize("spacing_m", [0.11, 1e-12])
def test_a_voxel_size_that_no_microscope_has_counts_as_not_given(tmp_path, spacing_m):
    metadata = {"axes": "ZYX", "spacing": spacing_m, "unit": "m"}
    tifffile.imwrite(tmp_path / "a.tif", noise(), imagej=True, resolution=(1e9, 1e9), metadata=metadata)
    with open_source(tmp_path / "a.tif") as source:
        assert source.voxel_size is None


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}], ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_one_channel_and_time_point_are_taken_from_many(tmp_path, kind, dtype, options):
    axes = "TZCYX"
    data = noise(dtype, (3, 7, 2, 21, 33))
    if kind == "imagej" and options:
        options = {}  # ImageJ keeps hyperstacks uncompressed
    tifffile.imwrite(tmp_path / "a.tif", data, **{kind: True}, metadata={"axes": axes}, **options)
    assert_reads(tmp_path / "a.tif", data[2, :, 1], channel=1, time_point=2)
    assert refused(tmp_path / "a.tif", channel=1) == "TIME_POINT_MISSING"
    assert refused(tmp_path / "a.tif", time_point=0) == "CHANNEL_MISSING"
    assert refused(tmp_path / "a.tif", channel=2, time_point=0) == "BAD_CHANNEL"
    assert refused(tmp_path / "a.tif", channel=0, time_point=3) == "BAD_TIME_POINT"


def test_pages_of_other_channels_are_never_decoded(tmp_path):
    data = noise(shape=(2, 5, 21, 33))
    tifffile.imwrite(tmp_path / "a.tif", data, ome=True, compression="zlib", metadata={"axes": "CZYX"})
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        places = [page.dataoffsets[0] for page in file.pages]
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    for place in places[5:]:
        raw[place : place + 40] = bytes(40)
    (tmp_path / "a.tif").write_bytes(raw)
    assert_reads(tmp_path / "a.tif", data[0], channel=0)
    assert refused(tmp_path / "a.tif", channel=1) == "UNREADABLE_FILE"


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}], ids=str)
def test_a_sample_of_a_colour_stack_is_taken_on_request_only(tmp_path, planar, options):
    data = noise(shape=(6, 20, 30, 3))
    stored = data if planar == "contig" else data.transpose(0, 3, 1, 2)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, **options)
    with pytest.raises(InvalidArgument, match="colour") as caught:
        open_source(tmp_path / "a.tif")
    assert caught.value.reason == "CHANNEL_MISSING"
    assert_reads(tmp_path / "a.tif", data[..., 2], channel=2)


def test_axes_that_are_said_overrule_the_file(tmp_path):
    data = noise(shape=(6, 7, 20, 30))
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack")
    assert_reads(tmp_path / "a.tif", data[1], axes="czyx", channel=1)
    assert_reads(tmp_path / "a.tif", data[:, 4], axes="ztyx", time_point=4)
    assert_reads(tmp_path / "a.tif", data[2].transpose(0, 2, 1), axes="czxy", channel=2)
    assert refused(tmp_path / "a.tif", axes="zyx") == "BAD_AXES"
    assert refused(tmp_path / "a.tif", axes="cxyz", channel=0) == "BAD_AXES"
    tifffile.imwrite(tmp_path / "b.tif", data[0, 0], photometric="minisblack")
    with open_source(tmp_path / "b.tif", SourceOptions(axes="yx")) as source:
        assert np.array_equal(source.read_slab(0, 1), data[0, :1])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "uint32", "int32"])
def test_labels_of_many_types_are_read_where_labels_are_wanted(tmp_path, dtype):
    data = noise("uint8").astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", compression="zlib")
    assert_reads(tmp_path / "a.tif", data, accepted=ACCEPTED_LABELS)
    if dtype not in ("uint8", "uint16"):
        assert refused(tmp_path / "a.tif") == "BAD_DTYPE"
    else:
        tifffile.imwrite(tmp_path / "f.tif", data.astype("float32"), photometric="minisblack")
        assert refused(tmp_path / "f.tif", accepted=ACCEPTED_LABELS) == "BAD_DTYPE"
