"""Image and label files: as other programs read them, and as broken ones are refused."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK
from biosegment_gateway.monailabel.file_reader import NamedSegment, read_file, read_geometry
from biosegment_gateway.monailabel.file_writer import EXTENSIONS, Segment, write_file
from biosegment_gateway.monailabel.geometry import Geometry

from biosegment.errors import InvalidArgument, ResourceExhausted
from biosegment.volume import Region, VoxelSize

GEOMETRY = Geometry.of_region(VoxelSize(30.0, 8.0, 4.0), "mm", Region((2, 10, 20), (6, 15, 26)))
MOST = 10_000


def voxels(dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(1).integers(0, 100, (4, 5, 6)).astype(dtype)


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32"])
def test_what_is_written_is_read_by_us_and_by_others(tmp_path: Path, extension: str, dtype: str) -> None:
    path, image = tmp_path / f"image{extension}", voxels(dtype)
    write_file(path, image, GEOMETRY, "mm", extension, [Segment(1, "mitochondria")])
    found = read_file(path, path.name, MOST)
    assert found.voxels.dtype == image.dtype
    assert (found.voxels == image).all()
    assert found.unit == "mm"
    assert np.allclose(found.geometry.lps, GEOMETRY.lps, rtol=1e-6)
    assert np.allclose(read_geometry(path, path.name)[0].lps, found.geometry.lps)
    # 3D Slicer reads files with ITK.
    by_itk = SimpleITK.ReadImage(str(path))
    assert (SimpleITK.GetArrayFromImage(by_itk) == image).all()
    assert by_itk.GetSpacing() == pytest.approx((4e-6, 8e-6, 30e-6))
    assert by_itk.GetOrigin() == pytest.approx((20 * 4e-6, 10 * 8e-6, 2 * 30e-6))
    assert by_itk.GetDirection() == pytest.approx((1, 0, 0, 0, 1, 0, 0, 0, 1))
    if "nii" in extension:
        assert (np.asanyarray(nibabel.load(path).dataobj).T == image).all()
    else:
        assert (nrrd.read(str(path))[0].T == image).all()


def test_the_same_voxels_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.nrrd", "b.nrrd", "a.nii.gz", "b.nii.gz"):
        write_file(tmp_path / name, voxels(), GEOMETRY, "mm", name[1:])
    assert (tmp_path / "a.nrrd").read_bytes() == (tmp_path / "b.nrrd").read_bytes()
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_what_itk_writes_is_read(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(voxels("int16"))
    image.SetSpacing((0.5, 1.5, 2.5))
    image.SetOrigin((-3, 4, 5))
    for name in ("x.nrrd", "x.nii.gz", "x.nii", "y.nrrd"):
        SimpleITK.WriteImage(image, str(tmp_path / name), useCompression=name != "y.nrrd")
        found = read_file(tmp_path / name, name, MOST)
        assert (found.voxels == voxels("int16")).all()
        assert np.allclose(found.geometry.lps @ [1, 1, 1, 1], [-2.5, 5.5, 7.5, 1])


def test_segments_that_overlap_lie_in_layers(tmp_path: Path) -> None:
    layers = np.zeros((2, 4, 5, 6), np.uint8)
    layers[0, 1, 1, 1], layers[1, 1, 1, 1] = 1, 1
    header = {
        "space": "left-posterior-superior",
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": [[np.nan] * 3, [1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "space origin": [0, 0, 0],
        "Segment0_Name": "nucleus",
        "Segment0_LabelValue": "1",
        "Segment0_Layer": "0",
        "Segment1_Name": "mito, big",
        "Segment1_LabelValue": "1",
        "Segment1_Layer": "1",
    }
    path = tmp_path / "s.seg.nrrd"
    nrrd.write(str(path), layers.transpose(0, 3, 2, 1), header)
    found = read_file(path, path.name, MOST)
    assert found.voxels.shape == layers.shape
    assert (found.voxels == layers).all()
    assert found.segments == (NamedSegment("nucleus", 1, 0), NamedSegment("mito, big", 1, 1))
    assert np.allclose(found.geometry.lps, np.eye(4))


def test_no_more_is_unpacked_than_is_allowed(tmp_path: Path) -> None:
    bomb = zlib.compressobj(9, wbits=31)
    packed = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(64)) + bomb.flush()
    head = "NRRD0005\ntype: unsigned char\ndimension: 3\nsizes: {0} {0} {0}\nencoding: gzip\n\n"
    small, large = tmp_path / "small.nrrd", tmp_path / "large.nrrd"
    small.write_bytes(head.format(10).encode() + packed)
    assert read_file(small, small.name, MOST).voxels.shape == (10, 10, 10)
    large.write_bytes(head.format(4000).encode() + packed)
    with pytest.raises(ResourceExhausted) as caught:
        read_file(large, large.name, MOST)
    assert caught.value.reason == "FILE_TOO_LARGE"


def test_broken_files_say_what_is_wrong(tmp_path: Path) -> None:
    write_file(tmp_path / "good.nrrd", voxels(), GEOMETRY, "mm", ".nrrd")
    write_file(tmp_path / "good.nii.gz", voxels(), GEOMETRY, "mm", ".nii.gz")
    good, nifti = (tmp_path / "good.nrrd").read_bytes(), (tmp_path / "good.nii.gz").read_bytes()
    wrong = {
        "empty.nrrd": b"",
        "text.nrrd": b"hello, this is no image",
        "cut.nrrd": good[:-20],
        "detached.nrrd": good.replace(b"encoding: gzip", b"encoding: gzip\ndata file: /etc/passwd"),
        "skipped.nrrd": good.replace(b"encoding: gzip", b"encoding: gzip\nbyte skip: 7"),
        "flat.nrrd": good.replace(b"dimension: 3", b"dimension: 2").replace(b"sizes: 6 5 4", b"sizes: 6 20"),
        "coded.nrrd": good.replace(b"encoding: gzip", b"encoding: bzip2"),
        "typed.nrrd": good.replace(b"unsigned char", b"block"),
        "empty.nii.gz": b"",
        "text.nii": b"no image either" * 100,
        "cut.nii.gz": nifti[:-30],
        "headless.nii": gzip.decompress(nifti)[:200],
        "image.tiff": b"II*\0",
        "image": b"",
    }
    for name, data in wrong.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InvalidArgument) as caught:
            read_file(tmp_path / name, name, MOST)
        assert caught.value.reason in ("BAD_FILE", "UNKNOWN_EXTENSION"), name
        assert name in caught.value.message
