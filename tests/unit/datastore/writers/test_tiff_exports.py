from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from biosegment_datastore.formats.writers import ometiff, target, tiff
from PIL import Image, ImageSequence

from biosegment.volume import Index
from tests.unit.datastore.writers.exported import (
    IMAGE_TYPES,
    INSTANCES_FRAME,
    LABELS_FRAME,
    cut_out,
    image,
    labels,
    written,
)


@pytest.mark.parametrize("key", ["ome_tiff", "tiff"])
@pytest.mark.parametrize("dtype", [*IMAGE_TYPES, "int8"])
def test_other_libraries_read_the_same_voxels(tmp_path, key, dtype):
    array = image(dtype)
    path = written(tmp_path, key, array)
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, cut_out(array))
    if dtype in ("uint8", "uint16", "float32"):
        with Image.open(path) as file:
            pages = np.stack([np.asarray(page) for page in ImageSequence.Iterator(file)])
        np.testing.assert_array_equal(pages, cut_out(array))


@pytest.mark.parametrize("key", ["ome_tiff", "tiff"])
def test_ids_of_32_bits_stay_as_they_are(tmp_path, key):
    array = labels("uint32")
    path = written(tmp_path, key, array, INSTANCES_FRAME)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), cut_out(array))


def test_an_ome_tiff_names_voxel_size_classes_and_colours(tmp_path):
    with tifffile.TiffFile(written(tmp_path, "ome_tiff", labels(), LABELS_FRAME)) as file:
        xml = file.ome_metadata or ""
    for text in (
        'PhysicalSizeZ="30.0"',
        'PhysicalSizeY="4.6"',
        'PhysicalSizeX="5.2"',
        'PhysicalSizeXUnit="nm"',
        '<M K="2">mitochondria</M>',
        '<M K="4">Membran, außen</M>',
        '<M K="2">#ff8000</M>',
    ):
        assert text in xml


def test_imagej_finds_spacing_origin_and_colours(tmp_path):
    with tifffile.TiffFile(written(tmp_path, "tiff", labels(), LABELS_FRAME)) as file:
        found = file.imagej_metadata or {}
        resolution = [file.pages.first.tags[name].value for name in ("XResolution", "YResolution")]
    assert (found["slices"], found["spacing"], found["unit"]) == (37, 0.03, "um")
    assert (found["zorigin"], found["yorigin"], found["xorigin"]) == (-2, -3, -5)
    assert [above / below for above, below in resolution] == pytest.approx([1 / 0.0052, 1 / 0.0046], rel=1e-6)
    assert "class 4: Membran, außen" in found["Info"]
    table = np.asarray(found["LUTs"]).reshape(3, 256)
    assert (table[:, 2].tolist(), table[:, 4].tolist(), table[:, 3].tolist()) == (
        [255, 128, 0],
        [0, 128, 255],
        [0, 0, 0],
    )


def test_what_imagej_cannot_hold_is_plain_tiff_with_a_resolution(tmp_path):
    with tifffile.TiffFile(written(tmp_path, "tiff", image("int16"))) as file:
        assert not file.is_imagej
        assert len(file.series) == 1
        page = file.pages.first
        above, below = page.tags["XResolution"].value
        assert (above / below, page.tags["ResolutionUnit"].value.name) == (
            pytest.approx(1e4 / 0.0052),
            "CENTIMETER",
        )
        assert "0.03 x 0.0046 x 0.0052 um" in page.description


@pytest.mark.parametrize("key", ["ome_tiff", "tiff"])
def test_large_stacks_are_bigtiff_and_large_planes_cut_into_strips(tmp_path, monkeypatch, key):
    for module in (ometiff, tiff):
        monkeypatch.setattr(module, "BIG_TIFF_BYTES", 1 << 20)
        monkeypatch.setattr(module, "MAX_PLANE_BYTES", 1 << 15)
    array = image("uint16")
    path = written(tmp_path, key, array)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
        assert file.pages.first.rowsperstrip == 128
        assert len(file.pages.first.dataoffsets) == 2
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), cut_out(array))


@pytest.mark.parametrize(
    "key", ["ome_tiff", "tiff", "ome_zarr", "hdf5", "mrc", "nrrd", "nifti", "ims", "amiramesh"]
)
def test_fetching_in_small_parts_makes_the_same_file(tmp_path, monkeypatch, key):
    array = image("uint16")
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = written(tmp_path / "whole", key, array)
    monkeypatch.setattr(target, "RUN_BYTES", 1 << 18)
    monkeypatch.setattr(target.block_edges, "__defaults__", (Index(16, 128, 128),))
    parts = written(tmp_path / "parts", key, array)
    assert _content(parts) == _content(whole)


def _content(path):
    if path.suffix == ".tif":
        return tifffile.imread(path).tobytes()
    if path.suffix in (".h5", ".ims"):
        import h5py

        names: list[str] = []
        with h5py.File(path) as file:
            file.visit(names.append)
            arrays = [name for name in names if isinstance(file[name], h5py.Dataset)]
            return {name: file[name][()].tobytes() for name in arrays}
    return path.read_bytes()
