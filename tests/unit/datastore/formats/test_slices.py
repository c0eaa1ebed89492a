from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.slice_folder import natural_order
from biosegment_datastore.formats.source import ACCEPTED_LABELS, SourceOptions
from PIL import Image

from biosegment.errors import InvalidArgument

SHAPE = (12, 21, 33)


def noise(dtype="uint8", shape=SHAPE):
    return np.random.default_rng(0).integers(0, 60_000 if dtype != "uint8" else 250, shape).astype(dtype)


def encoded(plane, suffix):
    file = io.BytesIO()
    if suffix == ".tif":
        tifffile.imwrite(file, plane, photometric="minisblack", compression="zlib")
    else:
        Image.fromarray(plane).save(file, {".png": "PNG", ".jpg": "JPEG"}[suffix])
    return file.getvalue()


def write(folder: Path, data, suffix=".png", first=0, name="slice{}"):
    """The planes as `slice0.png`, `slice1.png` ... without leading zeros."""
    folder.mkdir(exist_ok=True, parents=True)
    for z, plane in enumerate(data, first):
        (folder / f"{name.format(z)}{suffix}").write_bytes(encoded(plane, suffix))
    return folder


def zipped(folder: Path, prefix="", **options):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", **options) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, prefix + file.name)
    return path


def read(path, **options):
    with open_source(path, SourceOptions(**options)) as source:
        return source.read_slab(0, source.shape.z)


def refusal(path, **options):
    with pytest.raises(InvalidArgument) as caught:
        read(path, **options)
    return caught.value


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("packed", ["", "stored", "deflated"])
def test_slices_are_read_exactly_and_in_natural_order(tmp_path, suffix, dtype, packed):
    data = noise(dtype)
    path = write(tmp_path / "stack", data, suffix)
    if packed:
        compression = zipfile.ZIP_STORED if packed == "stored" else zipfile.ZIP_DEFLATED
        path = zipped(path, "stack/", compression=compression)
    with open_source(path) as source:
        assert (tuple(source.shape), source.dtype.name, source.voxel_size) == (SHAPE, dtype, None)
        assert (source.read_slab(0, 12) == data).all()
        assert (source.read_slab(9, 11) == data[9:11]).all()


def test_float_tiff_slices_and_grey_jpeg_slices_are_read(tmp_path):
    data = noise("float32") / 7
    assert (read(write(tmp_path / "f", data, ".tif")) == data).all()
    smooth = np.tile(np.linspace(0, 250, 33, dtype=np.uint8), (12, 21, 1))
    back = read(write(tmp_path / "j", smooth, ".jpg"))
    assert np.abs(back.astype(int) - smooth).max() < 6


def test_natural_order_is_what_people_mean():
    names = ["b10.png", "b9.png", "a2.png", "B1.png", "a10.png", "x.png", "7.png", "07b.png"]
    assert natural_order(names) == [
        "7.png",
        "07b.png",
        "a2.png",
        "a10.png",
        "B1.png",
        "b9.png",
        "b10.png",
        "x.png",
    ]


def test_what_operating_systems_leave_behind_is_not_looked_at(tmp_path):
    data = noise()
    folder = write(tmp_path / "outer" / "stack", data)
    for name in ("Thumbs.db", ".DS_Store", "._slice0.png", "notes.txt", "acquisition.xml"):
        (folder / name).write_text("no image")
    (tmp_path / "outer" / ".DS_Store").write_text("x")
    assert (read(tmp_path / "outer") == data).all()
    path = zipped(folder, "outer/stack/")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/outer/stack/._slice0.png", b"no image")
    assert (read(path) == data).all()


def test_a_missing_slice_is_named(tmp_path):
    folder = write(tmp_path / "stack", noise())
    (folder / "slice7.png").unlink()
    error = refusal(folder)
    assert (error.reason, "slice 7 is missing" in error.message) == ("SLICE_MISSING", True)
    (folder / "slice8.png").unlink()
    assert "slices 7, 8 are missing" in refusal(folder).message
    (folder / "slice03.png").write_bytes((folder / "slice3.png").read_bytes())
    assert refusal(folder).reason == "SLICE_TWICE"


def test_series_in_steps_and_without_clear_numbers_are_complete(tmp_path):
    data = noise(shape=(4, 5, 6))
    for place, names in enumerate(
        (["a0", "a10", "a20", "a30"], ["p3", "p17", "p94", "p1000"], ["a", "b", "d", "e"])
    ):
        folder = tmp_path / str(place)
        folder.mkdir()
        for plane, name in zip(data, names, strict=True):
            (folder / f"{name}.png").write_bytes(encoded(plane, ".png"))
        assert (read(folder) == data).all()


def test_slices_that_differ_are_refused_with_the_first_that_does(tmp_path):
    folder = write(tmp_path / "stack", noise())
    (folder / "slice5.png").write_bytes(encoded(noise(shape=(21, 34)), ".png"))
    error = refusal(folder)
    assert (error.reason, "'slice5.png'" in error.message) == ("SLICES_DIFFER", True)
    assert refusal(zipped(folder)).reason == "SLICES_DIFFER"
    (folder / "slice5.png").write_bytes(encoded(noise("uint16", (21, 33)), ".png"))
    assert refusal(folder).reason == "SLICES_DIFFER"


def test_kinds_of_files_are_not_mixed_and_stacks_are_no_slices(tmp_path):
    folder = write(tmp_path / "stack", noise())
    (folder / "slice3.png").write_bytes(encoded(noise()[3], ".tif"))
    assert refusal(folder).reason == "MIXED_SLICES"
    stacks = tmp_path / "stacks"
    stacks.mkdir()
    tifffile.imwrite(stacks / "a.tif", noise(), photometric="minisblack")
    assert refusal(stacks).reason == "NOT_A_SLICE"
    (stacks / "a.tif").rename(stacks / "notes.txt")
    assert refusal(stacks).reason == "NOT_A_SLICE"
    (stacks / "notes.txt").write_text("nothing")
    assert refusal(stacks).reason == "UNKNOWN_FORMAT"


def test_colour_needs_a_chosen_sample(tmp_path):
    data = noise(shape=(3, 21, 33, 3))
    folder = write(tmp_path / "stack", data)
    error = refusal(folder)
    assert (error.reason, "colour" in error.message) == ("CHANNEL_MISSING", True)
    assert (read(folder, channel=1) == data[..., 1]).all()
    image = Image.fromarray(data[0, ..., 0]).convert("P")
    image.save(tmp_path / "stack" / "slice0.png")
    for name in ("slice1.png", "slice2.png"):
        (folder / name).unlink()
    assert refusal(folder).reason == "BAD_DTYPE"


@pytest.mark.parametrize("mode", ["1", "P", "L2", "L4", "L", "I;16"])
def test_label_values_in_png_are_the_files_own(tmp_path, mode):
    folder, rng = tmp_path / "labels", np.random.default_rng(3)
    folder.mkdir()
    top = {"1": 2, "L2": 4, "L4": 16, "I;16": 60_000}.get(mode, 200)
    labels = rng.integers(0, top, (3, 9, 13)).astype(np.uint16 if mode == "I;16" else np.uint8)
    for z, plane in enumerate(labels):
        if mode in ("L2", "L4"):
            (folder / f"{z}.png").write_bytes(_png(plane, int(mode[1])))
        elif mode == "P":
            image = Image.fromarray(plane, "L").copy()
            image.putpalette(list(rng.integers(0, 255, 768)))
            image.save(folder / f"{z}.png")
        else:
            Image.fromarray(plane.astype(bool) if mode == "1" else plane).save(folder / f"{z}.png")
    assert (read(folder, accepted=ACCEPTED_LABELS) == labels).all()


def test_jpeg_labels_are_refused(tmp_path):
    folder = write(tmp_path / "labels", noise(), ".jpg")
    assert refusal(folder, accepted=ACCEPTED_LABELS).reason == "BAD_DTYPE"


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(plane, bits):
    """A grey PNG of 1, 2 or 4 bits per pixel."""
    height, width = plane.shape
    rows = b""
    for row in plane:
        spread = np.zeros(-(-width * bits // 8) * 8 // bits, np.uint8)
        spread[:width] = row
        packed = np.unpackbits(spread[:, None], axis=1)[:, 8 - bits :].reshape(-1)
        rows += b"\0" + np.packbits(packed).tobytes()
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + _chunk(b"IDAT", zlib.compress(rows))
        + _chunk(b"IEND", b"")
    )


def test_a_slice_that_claims_too_much_is_refused_before_it_is_decoded(tmp_path):
    head = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(bytes(100)))
    folder = tmp_path / "stack"
    folder.mkdir()
    (folder / "a.png").write_bytes(bomb)
    assert refusal(folder).reason == "IMAGE_TOO_LARGE"
    assert refusal(zipped(folder)).reason == "IMAGE_TOO_LARGE"


def test_an_archive_that_unpacks_to_far_more_than_its_images_need_is_refused(tmp_path):
    folder = write(tmp_path / "stack", noise())
    with (folder / "slice4.png").open("ab") as file:
        file.write(bytes(40 << 20))
    error = refusal(zipped(folder, compression=zipfile.ZIP_DEFLATED))
    assert (error.reason, "slice4" in error.message) == ("UNREADABLE_FILE", True)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("kept", [0, 3, 0.3, 0.8])
def test_a_truncated_slice_is_refused_by_name(tmp_path, suffix, kept):
    folder = write(tmp_path / "stack", noise(), suffix)
    path = folder / f"slice4{suffix}"
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(len(data) * kept)])
    for place in (folder, zipped(folder)):
        error = refusal(place)
        assert (error.reason, "slice4" in error.message) == ("UNREADABLE_FILE", True)


def test_a_damaged_archive_is_refused(tmp_path):
    path = zipped(write(tmp_path / "stack", noise()), compression=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    assert refusal(path).reason == "UNREADABLE_FILE"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        place = archive.getinfo("slice3.png").header_offset
    data[place + 60 : place + 90] = bytes(30)
    path.write_bytes(data)
    assert refusal(path).reason == "UNREADABLE_FILE"


@pytest.mark.parametrize(
    "name", ["../slice0.png", "/slice0.png", "a/../../slice0.png", "..\\slice0.png", "C:/a.png"]
)
def test_paths_that_leave_an_archive_are_refused(tmp_path, name):
    path = tmp_path / "stack.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, encoded(noise()[0], ".png"))
    assert refusal(path).reason == "UNSAFE_ARCHIVE"


def test_links_and_several_folders_in_an_archive_are_refused(tmp_path):
    path = tmp_path / "stack.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("slice0.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert refusal(path).reason == "UNSAFE_ARCHIVE"
    with zipfile.ZipFile(path, "w") as archive:
        for folder in "ab":
            archive.writestr(f"{folder}/slice0.png", encoded(noise()[0], ".png"))
    assert refusal(path).reason == "SEVERAL_FOLDERS"


def test_links_out_of_a_folder_are_refused_and_links_within_are_followed(tmp_path):
    data = noise()
    folder = write(tmp_path / "stack", data)
    (folder / "slice3.png").rename(folder / "third.png.kept")
    (folder / "slice3.png").symlink_to("third.png.kept")
    (folder / "third.png.kept").rename(folder / ".kept")
    (folder / "slice3.png").unlink()
    (folder / "slice3.png").symlink_to(".kept")
    assert (read(folder) == data).all()
    outside = tmp_path / "secret.png"
    outside.write_bytes(encoded(data[3], ".png"))
    (folder / "slice3.png").unlink()
    (folder / "slice3.png").symlink_to(outside)
    assert refusal(folder).reason == "UNSAFE_LINK"


def test_pipes_in_a_folder_are_not_opened(tmp_path):
    data = noise()
    folder = write(tmp_path / "stack", data)
    os.mkfifo(folder / "slice99.png")
    assert (read(folder) == data).all()
