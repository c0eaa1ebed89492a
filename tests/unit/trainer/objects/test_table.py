"""The table: areas, shapes and units against what is known of spheres, ellipsoids and boxes."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from biosegment_trainer.objects.table import csv_bytes, object_table, parquet_bytes

from biosegment.volume import Index, Region, VoxelSize
from tests.unit.trainer.objects.shape import ellipsoid, ellipsoid_area, grid_of, measured, rotation

VOXELS = [VoxelSize(5, 5, 5), VoxelSize(30, 10, 10), VoxelSize(40, 8, 8), VoxelSize(6, 9, 12)]


def table_of(ids: Any, voxel_size: VoxelSize, image: Any = None, **options: Any) -> dict[str, Any]:
    """Columns of a table by name."""
    grid = grid_of(ids.shape, voxel_size, **options)
    if image is None:
        image = np.zeros(grid.volume_shape, np.uint8)
    return object_table(measured(ids, image, grid), grid, 2, "mitochondria").to_pydict()


def row(ids: Any, voxel_size: VoxelSize, **options: Any) -> dict[str, Any]:
    return {name: values[0] for name, values in table_of(ids, voxel_size, **options).items()}


@pytest.mark.parametrize("voxel_size", VOXELS, ids=str)
def test_spheres_have_the_surface_and_the_volume_of_spheres(voxel_size: VoxelSize):
    rng = np.random.default_rng(0)
    for times in (6, 10) if max(voxel_size) < 40 else (6,):
        radius = times * max(voxel_size)
        found = row(np.pad(ellipsoid([radius] * 3, voxel_size, rng), 1), voxel_size)
        assert found["surface_um2"] == pytest.approx(4 * np.pi * radius**2 / 1e6, rel=0.02)
        assert found["volume_um3"] == pytest.approx(4 / 3 * np.pi * radius**3 / 1e9, rel=0.02)
        assert found["equivalent_diameter_nm"] == pytest.approx(2 * radius, rel=0.01)
        assert found["length_nm"] == pytest.approx(2 * radius, rel=0.02)
        assert found["elongation"] == pytest.approx(1, abs=0.02)
        assert found["flatness"] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("voxel_size", VOXELS, ids=str)
def test_ellipsoids_in_any_direction_have_their_surface_their_axes_and_their_direction(voxel_size: VoxelSize):
    rng = np.random.default_rng(4)
    unit = 5 * max(voxel_size)
    for radii in (np.array([3, 1.5, 1]), np.array([2, 2, 1])):
        turn = rotation(rng)
        found = row(np.pad(ellipsoid(radii * unit, voxel_size, rng, turn), 1), voxel_size)
        assert found["surface_um2"] == pytest.approx(ellipsoid_area(radii * unit) / 1e6, rel=0.06)
        a, b, c = radii
        assert found["elongation"] == pytest.approx(a / b, rel=0.04)
        assert found["flatness"] == pytest.approx(b / c, rel=0.04)
        assert found["length_nm"] == pytest.approx(2 * a * unit, rel=0.03)
        if a > b:
            axis = np.array([found[f"axis_{name}"] for name in "zyx"])
            assert abs(axis @ turn[:, 0]) > 0.999
            assert np.linalg.norm(axis) == pytest.approx(1)
            assert axis[np.abs(axis).argmax()] > 0


def test_counting_faces_would_be_wrong_by_a_half():
    """What the estimate is for; the faces are counted from the same sums."""
    size = VoxelSize(5, 5, 5)
    ids = np.pad(ellipsoid([60] * 3, size, np.random.default_rng(0)), 1)
    sums = measured(ids, np.zeros_like(ids, np.uint8), grid_of(ids.shape, size))
    faces_um2 = sums.exposed[0, :3].sum() * 25 / 1e6
    true_um2 = 4 * np.pi * 60**2 / 1e6
    assert faces_um2 / true_um2 == pytest.approx(1.5, rel=0.02)
    assert row(ids, size)["surface_um2"] / true_um2 == pytest.approx(1, rel=0.02)


def test_a_box_is_where_it_is_and_touches_what_it_touches():
    ids = np.zeros((10, 20, 30), np.uint32)
    ids[2:5, 4:10, 8:20] = 7
    ids[0:2, 15:18, 0:3] = 9
    ids[6:10, 10:12, 5:7] = 11
    size = VoxelSize(30, 8, 4)
    found = table_of(ids, size)
    assert found["id"] == [7, 9, 11]
    assert found["class_value"] == [2, 2, 2]
    assert found["class_name"] == ["mitochondria"] * 3
    assert found["touches_border"] == [False, True, True]
    assert found["voxels"] == [3 * 6 * 12, 2 * 3 * 3, 4 * 2 * 2]
    assert found["volume_um3"][0] == pytest.approx(216 * 960 / 1e9)
    assert [found[f"bbox_start_{n}_voxels"][0] for n in "zyx"] == [2, 4, 8]
    assert [found[f"bbox_stop_{n}_voxels"][0] for n in "zyx"] == [5, 10, 20]
    assert [found[f"centroid_{n}_voxels"][0] for n in "zyx"] == [3, 6.5, 13.5]
    assert [found[f"centroid_{n}_nm"][0] for n in "zyx"] == [90, 52, 54]
    # A box of edges 90, 48 and 48 nm.
    assert found["elongation"][0] == pytest.approx(90 / 48)
    assert found["flatness"][0] == pytest.approx(1)
    assert [found[f"axis_{n}"][0] for n in "zyx"] == pytest.approx([1, 0, 0])
    assert found["length_nm"][0] == pytest.approx(2 * np.sqrt(5 * 90**2 / 12))
    # The worst that the estimate of a surface does: faces along the axes.
    faces_nm2 = 2 * (90 * 48 + 90 * 48 + 48 * 48)
    assert faces_nm2 * 0.7 < found["surface_um2"][0] * 1e6 < faces_nm2


def test_an_object_that_is_cut_at_the_border_of_what_was_computed_touches_it():
    ids = np.zeros((4, 10, 10), np.uint32)
    ids[1:3, 2:5, 2:8] = 3
    part = Region(Index(0, 0, 0), Index(4, 10, 8))
    assert row(ids, VOXELS[0])["touches_border"] is False
    assert row(ids, VOXELS[0], region=part)["touches_border"] is True


def test_values_are_those_of_the_image_under_the_object():
    rng = np.random.default_rng(5)
    ids = np.zeros((4, 9, 9), np.uint32)
    ids[1:3, 2:7, 1:8] = 70_000
    image = rng.integers(40_000, 40_010, ids.shape, np.uint16)
    image[0] = 0
    found = row(ids, VOXELS[1], image=image)
    values = image[ids > 0].astype(float)
    assert found["intensity_mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert found["intensity_std"] == pytest.approx(values.std(), rel=1e-9)
    assert (found["intensity_min"], found["intensity_max"]) == (values.min(), values.max())


def test_a_coarser_layer_is_measured_in_its_own_voxels_and_placed_in_those_of_the_volume():
    rng = np.random.default_rng(6)
    ids = np.zeros((4, 6, 8), np.uint32)
    ids[1:3, 2:5, 3:8] = 4
    grid = grid_of(ids.shape, VoxelSize(30, 8, 8), Index(1, 2, 3))
    # The last voxels of the layer cover less: the volume ends within them.
    grid = type(grid)(
        Index(4, 11, 22), grid.voxel_size, grid.shape, grid.downsampling, Region.of_shape((4, 11, 22))
    )
    image = rng.integers(0, 255, grid.volume_shape, np.uint8)
    table = object_table(measured(ids, image, grid, Index(2, 3, 5)), grid, 0, "").to_pydict()
    found = {name: values[0] for name, values in table.items()}
    assert found["volume_um3"] == pytest.approx(30 * 30 * 16 * 24 / 1e9)
    assert [found[f"bbox_start_{n}_voxels"] for n in "zyx"] == [1, 4, 9]
    assert [found[f"bbox_stop_{n}_voxels"] for n in "zyx"] == [3, 10, 22]
    assert [found[f"centroid_{n}_voxels"] for n in "zyx"] == [1.5, 6.5, 16]
    assert [found[f"centroid_{n}_nm"] for n in "zyx"] == [45, 52, 128]
    assert found["touches_border"] is True
    means = [
        image[z, 2 * y : 2 * y + 2, 3 * x : 3 * x + 3].mean()
        for z in (1, 2)
        for y in (2, 3, 4)
        for x in range(3, 8)
    ]
    assert found["intensity_mean"] == pytest.approx(np.mean(means))
    assert found["intensity_std"] == pytest.approx(np.std(means))


def test_the_files_say_the_same_and_name_their_units():
    rng = np.random.default_rng(7)
    ids = rng.integers(0, 30, (5, 12, 14)).astype(np.uint64)
    ids[ids > 0] += 2**40
    grid = grid_of(ids.shape, VOXELS[3])
    table = object_table(measured(ids, rng.normal(size=ids.shape), grid), grid, 3, 'tubules, "long"')
    rows = [*csv.DictReader(io.StringIO(csv_bytes(table).decode()))]
    parquet = pa.parquet.read_table(io.BytesIO(parquet_bytes(table)))
    assert parquet.equals(table)
    assert [*rows[0]] == parquet.column_names
    for said, row_of in zip(rows, parquet.to_pylist(), strict=True):
        for name, value in row_of.items():
            expected = {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
            assert type(value)(said[name]) == value if not isinstance(value, bool) else said[name] == expected
    assert rows[0]["class_name"] == 'tubules, "long"'
    assert rows[0]["id"] == str(2**40 + 1)
    units = {"nm", "um2", "um3", "voxels"}
    bare = {name for name in parquet.column_names if name.rpartition("_")[2] not in units}
    assert bare == {
        "id", "class_value", "class_name", "elongation", "flatness", "axis_z", "axis_y", "axis_x", "touches_border",
        "intensity_mean", "intensity_std", "intensity_min", "intensity_max",
    }  # fmt: skip
