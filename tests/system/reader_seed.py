"""Sound files of every format, small: what the mutated ones are made of."""

from __future__ import annotations

import bz2
import gzip
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import nibabel
import nrrd
import numpy as np
import tifffile
from PIL import Image

from tests.unit.datastore.formats import (
    amira_file,
    test_bigdataviewer,
    test_imaris,
    test_mib,
    test_n5,
    test_omezarr,
    test_precomputed,
    test_webknossos,
)
from tests.unit.datastore.formats.dm_file import Writer, thumbnails
from tests.unit.datastore.formats.reading import noise

SHAPE = (5, 24, 31)
MakeSeed = Callable[[Path], Path]
"""Writes into an empty folder and returns what in it a person would import."""


def tiff(**options) -> MakeSeed:
    def make(folder: Path) -> Path:
        tifffile.imwrite(folder / "a.tif", noise("u2", SHAPE), photometric="minisblack", **options)
        return folder / "a.tif"

    return make


def hdf5(**options) -> MakeSeed:
    def make(folder: Path) -> Path:
        with h5py.File(folder / "a.h5", "w") as file:
            made = file.create_dataset("volumes/raw", data=noise("i2", SHAPE), **options)
            made.attrs["resolution"] = [50.0, 5.0, 4.6]
        return folder / "a.h5"

    return make


def mib(folder: Path) -> Path:
    return test_mib.write(folder / "a.model", np.ascontiguousarray(noise("u1", SHAPE).transpose(1, 2, 0)))


def mrc(pack: Callable[[bytes], bytes] = bytes, dtype: str = "i2") -> MakeSeed:
    def make(folder: Path) -> Path:
        with mrcfile.new(folder / "a.mrc", noise(dtype, SHAPE)) as file:
            file.voxel_size = (46, 50, 500)
        (folder / "a.mrc").write_bytes(pack((folder / "a.mrc").read_bytes()))
        return folder / "a.mrc"

    return make


def nrrd_file(encoding: str, detached: bool = False) -> MakeSeed:
    def make(folder: Path) -> Path:
        header: dict[str, Any] = {
            "encoding": encoding,
            "space directions": np.diag([4.6, 5, 50]),
            "space units": ["nm"] * 3,
        }
        path = folder / ("a.nhdr" if detached else "a.nrrd")
        header |= {"space dimension": 3, "kinds": ["domain"] * 3}
        nrrd.write(str(path), noise("u2", SHAPE), header, detached_header=detached, index_order="C")
        return path

    return make


def nifti(kind: type, name: str) -> MakeSeed:
    def make(folder: Path) -> Path:
        nibabel.save(kind(noise("i2", SHAPE).T, np.eye(4), dtype="i2"), folder / name)
        return (folder / name).with_suffix(".hdr") if name.endswith(".img") else folder / name

    return make


def dm(version: int) -> MakeSeed:
    def make(folder: Path) -> Path:
        writer = Writer(version)
        calibrations = [(4.6, "nm"), (5.0, "nm"), (0.05, "µm")]
        images = (
            writer.image(np.zeros((9, 9), "i4"), data_type=23),
            writer.image(noise("i2", SHAPE), calibrations),
        )
        return writer.write(folder / "a.dm", *images, more=[thumbnails(writer)])

    return make


def amira(**options) -> MakeSeed:
    return lambda folder: amira_file.write(folder / "a.am", noise("u1", SHAPE), shape=SHAPE, **options)


def omezarr(version: str, zipped: bool = False) -> MakeSeed:
    def make(folder: Path) -> Path:
        test_omezarr.write(folder / "a.zarr", noise("u2", SHAPE), version=version)
        return (
            Path(shutil.make_archive(str(folder / "a"), "zip", folder / "a.zarr"))
            if zipped
            else folder / "a.zarr"
        )

    return make


def n5(folder: Path) -> Path:
    return test_n5.write(folder / "a.n5", "volumes/raw", noise("u1", SHAPE), resolution=[4.6, 5, 50])


def precomputed(**scale) -> MakeSeed:
    def make(folder: Path) -> Path:
        test_precomputed.write(folder / "a", test_precomputed.noise("uint8"), **scale)
        return folder / "a"

    return make


def webknossos(zarr_format: int) -> MakeSeed:
    def make(folder: Path) -> Path:
        folder = folder / "a"
        folder.mkdir()
        layer = test_webknossos.layer(folder, "color", test_webknossos.noise(), zarr_format)
        return test_webknossos.write(folder, layer)

    return make


def slices(suffix: str, zipped: bool = False) -> MakeSeed:
    def make(folder: Path) -> Path:
        (folder / "slices").mkdir()
        for number, plane in enumerate(noise("u1", SHAPE)):
            Image.fromarray(plane).save(folder / f"slices/slice{number}.{suffix}")
        if not zipped:
            return folder / "slices"
        with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted((folder / "slices").iterdir()):
                archive.write(path, path.name)
        shutil.rmtree(folder / "slices")
        return folder / "a.zip"

    return make


SEEDS: dict[str, tuple[MakeSeed, ...]] = {
    "tiff": (
        tiff(),
        tiff(bigtiff=True),
        tiff(compression="zlib", predictor=True),
        tiff(compression="lzw", tile=(16, 16)),
        tiff(compression="zstd", ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 4.6}),
        tiff(imagej=True, metadata={"axes": "ZYX", "spacing": 0.05, "unit": "um"}),
        tiff(compression="jpeg2000"),
    ),
    "hdf5": (
        hdf5(),
        hdf5(chunks=(2, 8, 8), compression="gzip", shuffle=True),
        hdf5(chunks=(2, 8, 8), compression="lzf", fletcher32=True),
        lambda folder: test_imaris.write(folder / "a.ims"),
        lambda folder: test_bigdataviewer.write(folder / "a.h5"),
        mib,
    ),
    "nrrd": (*(nrrd_file(one) for one in ("raw", "gzip", "bzip2", "ASCII")), nrrd_file("raw", detached=True)),
    "nifti": (
        nifti(nibabel.Nifti1Image, "a.nii"),
        nifti(nibabel.Nifti2Image, "a.nii"),
        nifti(nibabel.Nifti1Image, "a.nii.gz"),
        nifti(nibabel.Nifti1Pair, "a.img"),
    ),
    "dm": (dm(3), dm(4)),
    "amira": (amira(), amira(codec="HxZip"), amira(codec="HxByteRLE"), amira(order="text")),
    "mrc": (mrc(), mrc(dtype=">f4"), mrc(dtype="i1"), mrc(gzip.compress), mrc(bz2.compress)),
    "omezarr": (omezarr("0.4"), omezarr("0.5"), omezarr("0.5", zipped=True)),
    "n5": (n5,),
    "precomputed": (
        precomputed(),
        precomputed(encoding="jpeg"),
        precomputed(
            sharding={
                "@type": "neuroglancer_uint64_sharded_v1",
                **{"preshift_bits": 1, "minishard_bits": 1, "shard_bits": 1, "hash": "identity"},
            }
        ),
    ),
    "webknossos": (webknossos(2), webknossos(3)),
    "slices": (
        slices("png"),
        slices("tif"),
        slices("jpg"),
        slices("png", zipped=True),
        slices("jpg", zipped=True),
    ),
}
"""By the reader that they are for."""
