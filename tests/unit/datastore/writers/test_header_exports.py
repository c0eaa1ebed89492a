"""MRC, NRRD, NIfTI and AmiraMesh: a header, and voxels in a row."""

from __future__ import annotations

import json

import mrcfile
import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from biosegment_datastore.formats.writers import nifti

from tests.unit.datastore.writers.exported import (
    FRAME,
    IMAGE_TYPES,
    INSTANCES_FRAME,
    LABELS_FRAME,
    cut_out,
    image,
    labels,
    written,
)

XYZ_NM = (5.2, 4.6, 30.0)
ORIGIN_XYZ_NM = (26.0, 13.8, 60.0)


@pytest.mark.parametrize("dtype", [*IMAGE_TYPES, "int8"])
def test_an_mrc_file_is_valid_and_the_same_to_mrcfile(tmp_path, dtype, capsys):
    array = image(dtype)
    path = written(tmp_path, "mrc", array)
    assert mrcfile.validate(str(path)), capsys.readouterr()
    with mrcfile.open(path) as file:
        # Bytes without a sign have no mode of their own.
        assert file.data.dtype.name == {"uint8": "uint16"}.get(dtype, dtype)
        np.testing.assert_array_equal(file.data, cut_out(array))
        assert file.is_volume()
        assert file.voxel_size.tolist() == pytest.approx([edge * 10 for edge in XYZ_NM])
        assert file.header.origin.tolist() == pytest.approx([edge * 10 for edge in ORIGIN_XYZ_NM])
        part = cut_out(array).astype(np.float64)
        assert file.header.dmin == pytest.approx(part.min())
        assert file.header.dmax == pytest.approx(part.max())
        assert float(file.header.dmean) == pytest.approx(part.mean(), rel=1e-5, abs=1e-3)
        assert float(file.header.rms) == pytest.approx(part.std(), rel=1e-5)
        assert file.get_labels() == ["brain: projects/em/volumes/brain, a part of it"]


@pytest.mark.parametrize("dtype", IMAGE_TYPES)
def test_an_mrc_file_is_the_same_to_itk(tmp_path, dtype):
    array = image(dtype)
    found = sitk.ReadImage(str(written(tmp_path, "mrc", array)))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), cut_out(array))
    assert found.GetSpacing() == pytest.approx([edge * 10 for edge in XYZ_NM])
    assert found.GetOrigin() == pytest.approx([edge * 10 for edge in ORIGIN_XYZ_NM])


@pytest.mark.parametrize("dtype", [*IMAGE_TYPES, "int8"])
def test_an_nrrd_file_is_the_same_to_pynrrd_and_itk(tmp_path, dtype):
    array = image(dtype)
    path = written(tmp_path, "nrrd", array)
    voxels, header = nrrd.read(str(path), index_order="C")
    assert voxels.dtype == array.dtype
    np.testing.assert_array_equal(voxels, cut_out(array))
    assert header["space directions"].tolist() == np.diag(XYZ_NM).tolist()
    assert (header["space units"], header["space origin"].tolist()) == (["nm"] * 3, list(ORIGIN_XYZ_NM))
    found = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), cut_out(array))
    assert found.GetSpacing() == pytest.approx(XYZ_NM)
    assert found.GetOrigin() == pytest.approx(ORIGIN_XYZ_NM)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
@pytest.mark.parametrize("key", ["nrrd", "nifti"])
def test_instance_ids_stay_as_they_are(tmp_path, key, dtype):
    array = labels(dtype)
    path = written(tmp_path, key, array, INSTANCES_FRAME)
    assert path.name in ("brain.nrrd", "brain.nii.gz")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), cut_out(array))


def test_class_labels_are_a_segmentation_for_slicer(tmp_path):
    array = labels()
    path = written(tmp_path, "nrrd", array, LABELS_FRAME)
    assert path.name == "brain.seg.nrrd"
    voxels, header = nrrd.read(str(path), index_order="C")
    np.testing.assert_array_equal(voxels, cut_out(array))
    expected = {
        "Segment0_ID": "Segment_2",
        "Segment0_Name": "mitochondria",
        "Segment0_LabelValue": "2",
        "Segment0_Layer": "0",
        "Segment0_Color": "1 0.50196 0",
        "Segment0_Extent": "0 301 0 130 0 36",
        "Segment1_ID": "Segment_4",
        "Segment1_LabelValue": "4",
        "Segmentation_MasterRepresentation": "Binary labelmap",
    }
    assert {key: header[key] for key in expected} == expected
    found = sitk.ReadImage(str(path))
    assert found.GetMetaData("Segment1_Name") == "Membran, außen"
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), cut_out(array))


@pytest.mark.parametrize("dtype", [*IMAGE_TYPES, "int8"])
def test_a_nifti_file_is_the_same_to_nibabel_and_itk(tmp_path, dtype):
    array = image(dtype)
    path = written(tmp_path, "nifti", array)
    found = nibabel.load(path)
    assert found.get_data_dtype() == array.dtype
    np.testing.assert_array_equal(np.asarray(found.dataobj).T, cut_out(array))
    assert found.header.get_xyzt_units()[0] == "micron"
    assert found.header.get_zooms() == pytest.approx([edge / 1000 for edge in XYZ_NM])
    expected = np.diag([-0.0052, -0.0046, 0.03, 1])
    expected[:3, 3] = -0.026, -0.0138, 0.06
    np.testing.assert_allclose(found.affine, expected, rtol=1e-6)
    itk = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(itk), cut_out(array))
    # In mm, and lying as our NRRD files do.
    assert itk.GetSpacing() == pytest.approx([edge * 1e-6 for edge in XYZ_NM])
    assert itk.GetOrigin() == pytest.approx([offset * 1e-6 for offset in ORIGIN_XYZ_NM])
    assert itk.GetDirection()[::4] == pytest.approx((1, 1, 1))


def test_a_nifti_file_of_labels_tells_their_classes(tmp_path):
    array = labels()
    found = nibabel.load(written(tmp_path, "nifti", array, LABELS_FRAME))
    np.testing.assert_array_equal(np.asarray(found.dataobj).T, cut_out(array))
    assert found.header["intent_code"] == 1002
    (comment,) = found.header.extensions
    assert json.loads(comment.text)["classes"] == [
        {"value": 2, "name": "mitochondria", "color": "#ff8000"},
        {"value": 4, "name": "Membran, außen", "color": "#0080ff"},
    ]


def test_an_axis_too_long_for_nifti_1_makes_nifti_2(tmp_path, monkeypatch):
    monkeypatch.setattr(nifti, "_LONGEST", 300)
    array = labels()
    path = written(tmp_path, "nifti", array, LABELS_FRAME)
    found = nibabel.load(path)
    assert isinstance(found, nibabel.Nifti2Image)
    np.testing.assert_array_equal(np.asarray(found.dataobj).T, cut_out(array))


def test_an_amira_lattice_has_box_and_materials_in_order_of_value(tmp_path):
    array = labels()
    head, _, data = written(tmp_path, "amiramesh", array, LABELS_FRAME).read_bytes().partition(b"\n@1\n")
    text = head.decode("ascii")
    assert "define Lattice 302 131 37\n" in text
    assert "BoundingBox 26 1591.2 13.8 611.8 60 1140,\n" in text
    assert "Lattice { byte Labels } @1" in text
    names = [line.split()[0] for line in text.split("Materials {")[1].splitlines() if line.endswith("{")]
    assert names[:5] == ["Exterior", "unused_1", "mitochondria", "unused_3", "Membran__au_en"]
    assert "Color 1 0.50196 0\n" in text
    assert data == cut_out(array).tobytes() + b"\n"


def test_an_amira_lattice_of_grey_values_has_no_materials(tmp_path):
    array = image("int16")
    head, _, data = written(tmp_path, "amiramesh", array).read_bytes().partition(b"\n@1\n")
    assert b"Lattice { short Data } @1" in head
    assert b"Materials" not in head
    assert data == cut_out(array).astype("<i2").tobytes() + b"\n"


def test_a_name_cannot_break_out_of_a_header(tmp_path):
    import dataclasses

    nasty = dataclasses.replace(
        LABELS_FRAME,
        name='a"b\n@1\n# x',
        description="one\ntwo\\three",
        classes=(dataclasses.replace(LABELS_FRAME.classes[0], name="x\nSegment0_Name:=y {} \\n"),),
    )
    array = labels()
    (tmp_path / "nrrd").mkdir()
    voxels, header = nrrd.read(str(written(tmp_path / "nrrd", "nrrd", array, nasty)), index_order="C")
    np.testing.assert_array_equal(voxels, cut_out(array))
    assert header["Segment0_LabelValue"] == "2"
    head, _, data = written(tmp_path, "amiramesh", array, nasty).read_bytes().partition(b"\n@1\n")
    assert data == cut_out(array).tobytes() + b"\n"
    assert head.count(b"{") == head.count(b"}")
    assert FRAME.description not in head.decode()
