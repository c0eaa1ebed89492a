"""What is wrong with files that labs bring, over all formats: how to make each, and why it is refused."""

from __future__ import annotations

import bz2
import gzip
import json
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import mrcfile
import nibabel
import nrrd
import numpy as np
import tifffile
import zarr
from PIL import Image

from tests.system.reader_seed import SEEDS, SHAPE, omezarr, precomputed, webknossos
from tests.unit.datastore.formats import amira_file, test_n5
from tests.unit.datastore.formats.dm_file import Writer
from tests.unit.datastore.formats.reading import noise

Make = Callable[[Path], Path]


def written(name: str, data: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def edited(make: Make, old: bytes, new: bytes, file: str = "") -> Make:
    """A sound file with some bytes replaced, which are in it; of a folder the file that is named."""

    def edit(folder: Path) -> Path:
        path = make(folder)
        place = path / file if file else path
        raw = place.read_bytes()
        assert old in raw
        place.write_bytes(raw.replace(old, new, 1))
        return path

    return edit


def mrc(**header) -> Make:
    def make(folder: Path) -> Path:
        with mrcfile.new(folder / "a.mrc", noise("i2", SHAPE)) as file:
            for name, value in header.items():
                file.header[name] = value
        return folder / "a.mrc"

    return make


def tiff(data: np.ndarray, **options) -> Make:
    def make(folder: Path) -> Path:
        tifffile.imwrite(folder / "a.tif", data, **options)
        return folder / "a.tif"

    return make


def hdf5(shape: tuple[int, ...], **options) -> Make:
    def make(folder: Path) -> Path:
        with h5py.File(folder / "a.h5", "w") as file:
            file.create_dataset("raw", shape, "u1", **options)
        return folder / "a.h5"

    return make


def slices(**planes: np.ndarray) -> Make:
    def make(folder: Path) -> Path:
        for name, plane in planes.items():
            Image.fromarray(plane).save(folder / f"{name}.png")
        return folder

    return make


def zipped(**members: bytes) -> Make:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return folder / "a.zip"

    return make


def packed(make: Make, pack: Callable[[bytes], bytes], more: int) -> Make:
    """Compressed as a whole, with more in it than the header says."""

    def bomb(folder: Path) -> Path:
        path = make(folder)
        path.write_bytes(pack(path.read_bytes() + bytes(more)))
        return path

    return bomb


def nifti(folder: Path) -> Path:
    nibabel.save(nibabel.Nifti1Image(noise("i2", SHAPE).T, np.eye(4), dtype="i2"), folder / "a.nii")
    return folder / "a.nii"


def nrrd_file(folder: Path) -> Path:
    nrrd.write(str(folder / "a.nrrd"), noise("u2", SHAPE), {"encoding": "raw"}, index_order="C")
    return folder / "a.nrrd"


def nrrd_bomb(folder: Path) -> Path:
    nrrd.write(
        str(folder / "a.nrrd"), np.zeros((50, 1000, 1000), "u1"), {"encoding": "gzip"}, index_order="C"
    )
    return edited(lambda _: folder / "a.nrrd", b"sizes: 1000 1000 50", b"sizes: 1000 1000 5")(folder)


def dm(folder: Path) -> Path:
    return Writer(4).write(folder / "a.dm4", Writer(4).image(noise("i2", SHAPE)))


def amira(folder: Path) -> Path:
    return amira_file.write(folder / "a.am", noise("u1", SHAPE), shape=SHAPE)


def amira_bomb(codec: str) -> Make:
    return lambda folder: amira_file.write(
        folder / "a.am", np.zeros((5, 500, 500), "u1"), codec=codec, shape=SHAPE
    )


def n5(folder: Path) -> Path:
    return test_n5.write(folder / "a.n5", "raw", noise("u1", SHAPE))


def zarr_bomb(folder: Path) -> Path:
    """A chunk that is a valid stream of far more bytes than a chunk has."""
    path = omezarr("0.4")(folder)
    shutil.rmtree(path / "0")
    array = zarr.create_array(
        path / "0", shape=SHAPE, chunks=SHAPE, dtype="u1", zarr_format=2, compressors=None
    )
    array[...] = noise("u1", SHAPE)
    described = json.loads((path / "0/.zarray").read_bytes())
    (path / "0/.zarray").write_text(json.dumps({**described, "compressor": {"id": "gzip", "level": 1}}))
    (path / "0/0.0.0").write_bytes(gzip.compress(bytes(200 << 20)))
    return path


def png_bomb(folder: Path) -> Path:
    """Slices of a few bytes that claim 4 gigapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 65535, 65535, 8, 0, 0, 0, 0)
    image = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )
    for number in range(3):
        (folder / f"{number}.png").write_bytes(image)
    return folder


def linked(folder: Path) -> Path:
    outside = Path(tempfile.mkdtemp(dir=folder)) / "secret.png"
    Image.fromarray(noise("u1", SHAPE)[0]).save(outside)
    (folder / "slices").mkdir()
    slices(a1=noise("u1", SHAPE)[0], a2=noise("u1", SHAPE)[1])(folder / "slices")
    (folder / "slices/a3.png").symlink_to(outside)
    return folder / "slices"


def linked_zarr(folder: Path) -> Path:
    path = omezarr("0.5")(folder)
    (path / "0/c").rename(folder / "elsewhere")
    (path / "0/c").symlink_to(folder / "elsewhere")
    return path


def without_array(folder: Path) -> Path:
    path = omezarr("0.5")(folder)
    shutil.rmtree(path / "0")
    return path


def laughs(folder: Path) -> Path:
    """An OME description whose entities grow without end."""
    path = tiff(noise("u1", SHAPE), ome=True, metadata={"axes": "ZYX"})(folder)
    entities = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(12))
    with tifffile.TiffFile(path) as file:
        body = file.ome_metadata.partition("?>")[2]
    text = f'<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a0 "ha">{entities}]>' + body.replace(
        "</OME>", "&a12;</OME>"
    )
    tifffile.imwrite(path, noise("u1", SHAPE), description=text, metadata=None)
    return path


PLANE = noise("u1", SHAPE)[0]
PNG = SEEDS["slices"][0]
GREY = {"photometric": "minisblack"}
NESTED = b'{"a":' * 100_000

CASES: dict[str, tuple[Make, tuple[str, ...]]] = {
    "empty": (written("a.tif", b""), ("UNREADABLE_FILE",)),
    "one byte": (written("a.mrc", b"M"), ("UNKNOWN_FORMAT",)),
    "text": (written("a.tif", b"these are no voxels\n" * 200), ("UNKNOWN_FORMAT",)),
    "zeros": (written("a.mrc", bytes(5000)), ("UNKNOWN_FORMAT",)),
    "a folder of nothing": (lambda folder: folder, ("UNKNOWN_FORMAT",)),
    "an archive of nothing": (zipped(), ("UNKNOWN_FORMAT", "UNREADABLE_FILE")),
    "no width: tiff": (
        edited(
            tiff(noise("u1", SHAPE), **GREY),
            struct.pack("<HHII", 256, 4, 1, 31),
            struct.pack("<HHII", 256, 4, 1, 0),
        ),
        ("UNREADABLE_FILE", "IMAGE_TOO_LARGE", "NOT_A_VOLUME"),
    ),
    "no width: mrc": (mrc(nx=0), ("UNREADABLE_FILE",)),
    "no width: nrrd": (edited(nrrd_file, b"sizes: 31", b"sizes: 0 "), ("UNREADABLE_FILE",)),
    "no width: nifti": (
        edited(nifti, struct.pack("<hh", 3, 31), struct.pack("<hh", 3, 0)),
        ("UNREADABLE_FILE",),
    ),
    "no width: dm": (edited(dm, struct.pack("<I", 31), bytes(4)), ("UNREADABLE_FILE",)),
    "no width: amira": (edited(amira, b"Lattice 31", b"Lattice 0 "), ("UNREADABLE_FILE",)),
    "no width: hdf5": (hdf5((3, 5, 0)), ("IMAGE_TOO_LARGE", "NO_DATASET", "UNREADABLE_FILE")),
    "no width: n5": (edited(n5, b"31", b"0", "raw/attributes.json"), ("IMAGE_TOO_LARGE", "UNREADABLE_FILE")),
    "no width: zarr": (
        edited(omezarr("0.5"), b"31\n", b"0\n", "0/zarr.json"),
        ("IMAGE_TOO_LARGE", "UNREADABLE_FILE"),
    ),
    "no width: precomputed": (
        edited(precomputed(), b"70", b"0", "info"),
        ("IMAGE_TOO_LARGE", "UNREADABLE_FILE"),
    ),
    "promises more: mrc": (mrc(nz=6), ("TRUNCATED_FILE",)),
    "promises far more: mrc": (
        mrc(nx=2**31 - 1, ny=2**31 - 1, nz=2**31 - 1),
        ("TRUNCATED_FILE", "UNKNOWN_FORMAT"),
    ),
    "promises more: nrrd": (edited(nrrd_file, b"sizes: 31", b"sizes: 32"), ("TRUNCATED_FILE",)),
    "promises more: nifti": (
        edited(nifti, struct.pack("<hh", 3, 31), struct.pack("<hh", 3, 32)),
        ("TRUNCATED_FILE",),
    ),
    "promises more: dm": (edited(dm, struct.pack("<I", 31), struct.pack("<I", 32)), ("TRUNCATED_FILE",)),
    "promises more: amira": (edited(amira, b"Lattice 31", b"Lattice 33"), ("TRUNCATED_FILE",)),
    "promises more: tiff": (
        edited(
            tiff(noise("u1", SHAPE), **GREY),
            struct.pack("<HHII", 257, 4, 1, 24),
            struct.pack("<HHII", 257, 4, 1, 2**30),
        ),
        ("TRUNCATED_FILE", "IMAGE_TOO_LARGE", "NOT_A_VOLUME"),
    ),
    "promises more: ome-tiff": (
        edited(tiff(noise("u1", SHAPE), ome=True, metadata={"axes": "ZYX"}), b'SizeZ="5"', b'SizeZ="9"'),
        ("TRUNCATED_FILE", "UNREADABLE_FILE"),
    ),
    "wrong byte order: tiff": (
        edited(tiff(noise("u2", SHAPE), **GREY), b"II*\0", b"MM\0*"),
        ("TRUNCATED_FILE", "UNREADABLE_FILE"),
    ),
    "wrong byte order: dm": (
        edited(dm, struct.pack(">I", 1) + b"\1\0", struct.pack(">I", 0) + b"\1\0"),
        ("BAD_DTYPE", "TRUNCATED_FILE", "UNREADABLE_FILE"),
    ),
    "bomb: mrc.gz": (packed(mrc(), gzip.compress, 50 << 20), ("UNREADABLE_FILE",)),
    "bomb: mrc.bz2": (packed(mrc(), bz2.compress, 50 << 20), ("UNREADABLE_FILE",)),
    "bomb: nii.gz": (packed(nifti, gzip.compress, 50 << 20), ("UNREADABLE_FILE",)),
    "bomb: nrrd": (nrrd_bomb, ("UNREADABLE_FILE",)),
    "bomb: amira zip": (amira_bomb("HxZip"), ("UNREADABLE_FILE",)),
    "bomb: amira runs": (amira_bomb("HxByteRLE"), ("UNREADABLE_FILE",)),
    "bomb: png": (png_bomb, ("UNREADABLE_FILE", "IMAGE_TOO_LARGE", "TRUNCATED_FILE")),
    "bomb: slice in a zip": (
        zipped(**{f"{n}.png": b"\x89PNG\r\n\x1a\n" + bytes(100 << 20) for n in (1, 2)}),
        ("UNREADABLE_FILE",),
    ),
    "bomb: zarr chunk": (zarr_bomb, ("UNREADABLE_FILE",)),
    "bomb: hdf5 chunk": (
        hdf5((2000, 2000, 2000), chunks=(1500, 1500, 1500), compression="gzip"),
        ("IMAGE_TOO_LARGE",),
    ),
    "bomb: ome entities": (laughs, ("READ", "UNREADABLE_FILE", "NOT_A_VOLUME")),
    "nested json: zarr": (edited(omezarr("0.5"), b"{", NESTED, "zarr.json"), ("UNREADABLE_FILE",)),
    "nested json: zarr 2": (edited(omezarr("0.4"), b"{", NESTED, ".zattrs"), ("UNREADABLE_FILE",)),
    "nested json: n5": (edited(n5, b"{", NESTED, "raw/attributes.json"), ("UNREADABLE_FILE",)),
    "nested json: precomputed": (
        edited(precomputed(), b"{", NESTED, "info"),
        ("UNREADABLE_FILE", "UNKNOWN_FORMAT"),
    ),
    "nested json: webknossos": (
        edited(webknossos(2), b"{", NESTED, "datasource-properties.json"),
        ("UNREADABLE_FILE",),
    ),
    "colours: tiff": (tiff(noise("u1", (*SHAPE, 3)), photometric="rgb"), ("CHANNEL_MISSING", "NOT_A_VOLUME")),
    "colours: png": (slices(a1=noise("u1", (9, 8, 3)), a2=noise("u1", (9, 8, 3))), ("CHANNEL_MISSING",)),
    "colours: one of two slices": (
        slices(a1=noise("u1", (9, 8)), a2=noise("u1", (9, 8, 3))),
        ("SLICES_DIFFER",),
    ),
    "slices of two sizes": (slices(a1=PLANE, a2=PLANE[:-1], a3=PLANE), ("SLICES_DIFFER",)),
    "slices of two types": (slices(a1=PLANE, a2=PLANE.astype("u2"), a3=PLANE), ("SLICES_DIFFER",)),
    "a missing slice": (slices(a1=PLANE, a2=PLANE, a4=PLANE, a5=PLANE), ("SLICES_MISSING", "SLICE_MISSING")),
    "a path out of an archive": (zipped(**{"../a1.png": b"x", "a2.png": b"x"}), ("UNSAFE_ARCHIVE",)),
    "an absolute path in an archive": (zipped(**{"/etc/a1.png": b"x", "a2.png": b"x"}), ("UNSAFE_ARCHIVE",)),
    "a link out of a folder of slices": (linked, ("UNSAFE_LINK",)),
    "a link out of a zarr": (linked_zarr, ("UNREADABLE_FILE",)),
    "a missing array": (
        without_array,
        ("UNREADABLE_FILE",),
    ),
    "doubles: tiff": (tiff(np.zeros(SHAPE), **GREY), ("BAD_DTYPE",)),
    "complex: tiff": (tiff(np.zeros(SHAPE, "c8"), **GREY), ("BAD_DTYPE",)),
    "wide integers: nrrd": (
        edited(nrrd_file, b"type: uint16", b"type: uint32"),
        ("BAD_DTYPE", "TRUNCATED_FILE"),
    ),
    "4-bit: mrc": (mrc(mode=101), ("BAD_DTYPE",)),
}
