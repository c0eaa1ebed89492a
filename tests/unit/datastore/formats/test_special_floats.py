"""Floats that are no numbers."""

from __future__ import annotations

from pathlib import Path

import h5py
import mrcfile
import nibabel
import nrrd
import numpy as np
import pytest
import tifffile
from biosegment_datastore.formats.detection import open_source

from tests.system.reader_seed import SHAPE
from tests.unit.datastore.formats import amira_file
from tests.unit.datastore.formats.dm_file import Writer

SPECIAL = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4e38], np.float32)


def float_tiff(path: Path, data: np.ndarray) -> None:
    tifffile.imwrite(path, data, photometric="minisblack")


def float_mrc(path: Path, data: np.ndarray) -> None:
    with mrcfile.new(path) as file, np.errstate(all="ignore"):
        file.set_data(np.zeros_like(data))
    raw = path.read_bytes()
    path.write_bytes(raw[:1024] + data.tobytes())


def float_hdf5(path: Path, data: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["raw"] = data


def float_nifti(path: Path, data: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(data.T, np.eye(4)), path.with_suffix(".nii"))
    path.with_suffix(".nii").rename(path)


def float_amira(path: Path, data: np.ndarray) -> None:
    amira_file.write(path, data, shape=data.shape)


@pytest.mark.parametrize(
    "write",
    [
        float_tiff,
        float_mrc,
        float_hdf5,
        float_nifti,
        float_amira,
        lambda path, data: nrrd.write(str(path), data, {"encoding": "raw"}, index_order="C"),
        lambda path, data: Writer(3).write(path, Writer(3).image(data)),
    ],
)
def test_floats_that_are_no_numbers_come_through_as_they_are(tmp_path, write):
    data = np.resize(SPECIAL, SHAPE).astype("f4")
    path = tmp_path / ("a.nrrd" if "<lambda>" in write.__name__ else "a.dat")
    write(path, data)
    with open_source(path) as source:
        assert source.read_slab(0, len(data)).tobytes() == data.tobytes()
