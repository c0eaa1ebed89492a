"""Meshes: closed, looking outwards, as large as the object, where it is; and the files that hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from biosegment_trainer.objects.mesh import affordable_cell, object_mesh, wanted_cell
from biosegment_trainer.objects.mesh_file import PRECOMPUTED_INFO, glb, mesh_files, ply, precomputed, stl
from biosegment_trainer.request import MeshFormat

from biosegment.volume import Index, Region, VoxelSize
from tests.unit.trainer.objects.mesh_reader import (
    euler_characteristic,
    read_glb,
    read_ply,
    read_precomputed,
    read_stl,
    require_closed,
    signed_volume,
)
from tests.unit.trainer.objects.shape import ONE, Reader, ellipsoid, grid_of

SIZE = VoxelSize(30, 10, 8)


def mesh_of(ids: Any, voxel_size: VoxelSize, object_id: int = 1, cell: Index = ONE, grid: Any = None) -> Any:
    found = np.argwhere(ids == object_id)
    box = Region(Index(*map(int, found.min(0))), Index(*map(int, found.max(0) + 1)))
    return object_mesh(Reader(ids).read, object_id, box, grid or grid_of(ids.shape, voxel_size), cell)


@pytest.mark.parametrize("voxel_size", [VoxelSize(5, 5, 5), SIZE, VoxelSize(40, 8, 8)], ids=str)
@pytest.mark.parametrize("cell", [ONE, Index(2, 2, 2), Index(1, 3, 2)], ids=str)
def test_a_ball_is_closed_without_handles_and_as_large_as_its_voxels(voxel_size: VoxelSize, cell: Index):
    radius = 9 * max(voxel_size) if max(voxel_size) < 20 else 5 * max(voxel_size)
    ids = np.pad(ellipsoid([radius] * 3, voxel_size, np.random.default_rng(1)), 3) * 5
    mesh = mesh_of(ids, voxel_size, 5, cell)
    require_closed(mesh.faces)
    assert euler_characteristic(mesh.faces) == 2
    voxels_nm3 = (ids == 5).sum() * np.prod([*voxel_size])
    assert signed_volume(mesh.vertices, mesh.faces) == pytest.approx(voxels_nm3, rel=0.05)
    middle = np.argwhere(ids == 5).mean(0) * [*voxel_size]
    box = np.stack([mesh.vertices.min(0), mesh.vertices.max(0)])
    np.testing.assert_allclose(box.mean(0)[::-1], middle, atol=1.1 * max(voxel_size) * max(cell))


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7])
def test_whatever_the_object_its_surface_is_closed(share: float):
    rng = np.random.default_rng(2)
    ids = (rng.random((9, 11, 13)) < share).astype(np.uint32)
    mesh = mesh_of(ids, SIZE)
    require_closed(mesh.faces)
    assert signed_volume(mesh.vertices, mesh.faces) > 0


def test_a_box_at_the_border_is_closed_there_and_its_faces_lie_half_a_voxel_out():
    ids = np.zeros((4, 6, 8), np.uint32)
    ids[0:2, 1:4, 3:8] = 1
    mesh = mesh_of(ids, SIZE)
    require_closed(mesh.faces)
    np.testing.assert_allclose(mesh.vertices.min(0), [2.5 * 8, 0.5 * 10, -0.5 * 30], atol=0.05)
    np.testing.assert_allclose(mesh.vertices.max(0), [7.5 * 8, 3.5 * 10, 1.5 * 30], atol=0.05)


def test_another_object_beside_it_does_not_show():
    ids = np.zeros((5, 8, 8), np.uint32)
    ids[1:4, 2:6, 2:6] = 1
    alone = mesh_of(ids, SIZE)
    ids[:, :2] = 2
    beside = mesh_of(ids, SIZE)
    np.testing.assert_array_equal(alone.vertices, beside.vertices)
    np.testing.assert_array_equal(alone.faces, beside.faces)


def test_a_coarser_layer_lies_where_its_volume_does():
    fine = np.pad(ellipsoid([80] * 3, VoxelSize(8, 8, 8), np.random.default_rng(3)), 2)
    fine = fine[: fine.shape[0] // 2 * 2, : fine.shape[1] // 2 * 2, : fine.shape[2] // 2 * 2]
    z, y, x = (size // 2 for size in fine.shape)
    coarse = (fine.reshape(z, 2, y, 2, x, 2).mean((1, 3, 5)) >= 0.5).astype(np.uint32)
    grid = grid_of(coarse.shape, VoxelSize(8, 8, 8), Index(2, 2, 2))
    one, two = mesh_of(fine, VoxelSize(8, 8, 8)), mesh_of(coarse, VoxelSize(8, 8, 8), grid=grid)
    for found, expected in (
        (two.vertices.min(0), one.vertices.min(0)),
        (two.vertices.max(0), one.vertices.max(0)),
    ):
        np.testing.assert_allclose(found, expected, atol=8.1)


def test_what_is_thinner_than_a_cell_is_not_lost():
    ids = np.zeros((12, 12, 12), np.uint32)
    ids[5, 2:9, 3:10] = 1
    mesh = mesh_of(ids, SIZE, cell=Index(6, 6, 6))
    require_closed(mesh.faces)
    assert signed_volume(mesh.vertices, mesh.faces) > 0
    single = np.zeros((3, 3, 3), np.uint32)
    single[1, 1, 1] = 1
    require_closed(mesh_of(single, SIZE).faces)


def test_a_large_object_is_read_in_parts_and_made_coarser(monkeypatch: pytest.MonkeyPatch):
    size = VoxelSize(40, 10, 10)
    ids = np.pad(ellipsoid([400] * 3, size, np.random.default_rng(5)), 1)
    box = Region(Index(0, 0, 0), Index(*ids.shape))
    assert wanted_cell(size, 0) == ONE
    assert wanted_cell(size, 42) == (1, 4, 4)
    cell = affordable_cell(box, size, ONE, 20_000)
    # The short edges first, so that cells become cubes.
    assert cell == (1, 2, 2) or cell == (1, 4, 4) or cell == (2, 4, 4)
    assert np.prod([-(-a // b) for a, b in zip(ids.shape, cell, strict=True)]) <= 20_000
    assert affordable_cell(Region(Index(0, 0, 0), Index(1, 1, 999)), size, ONE, 1)[2] >= 999
    whole = mesh_of(ids, size, cell=cell)
    monkeypatch.setattr("biosegment_trainer.objects.mesh._READ_VOXELS", 3000)
    parts: list[int] = []

    class Counting(Reader):
        def read(self, region: Region) -> Any:
            parts.append(region.size)
            return super().read(region)

    found = np.argwhere(ids)
    box = Region(Index(*map(int, found.min(0))), Index(*map(int, found.max(0) + 1)))
    in_parts = object_mesh(Counting(ids).read, 1, box, grid_of(ids.shape, size), cell)
    assert len(parts) > 5
    assert max(parts) <= 3000
    np.testing.assert_array_equal(in_parts.vertices, whole.vertices)


def test_every_format_holds_the_mesh():
    ids = np.pad(ellipsoid([60, 90, 120], SIZE, np.random.default_rng(4)), 1)
    mesh = mesh_of(ids, SIZE)
    places, faces, normals = read_stl(stl(mesh))
    require_closed(faces)
    volume = signed_volume(mesh.vertices, mesh.faces)
    assert signed_volume(places, faces) == pytest.approx(volume, rel=1e-5)
    outwards = places[faces].mean(1) - places.mean(0)
    assert ((normals * outwards).sum(1) > 0).mean() > 0.98
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    files = {name.partition("/")[2]: data for name, data in mesh_files(mesh, 12, MeshFormat.PRECOMPUTED)}
    read = (
        read_ply(ply(mesh)),
        read_glb(glb(mesh)),
        read_precomputed({**files, "info": PRECOMPUTED_INFO}, 12),
    )
    for places, faces in read:
        np.testing.assert_array_equal(places, mesh.vertices)
        np.testing.assert_array_equal(faces, mesh.faces)
    assert len(precomputed(mesh)) == 4 + 12 * len(mesh.vertices) + 12 * len(mesh.faces)
    names = [name for each in MeshFormat for name, _ in mesh_files(mesh, 12, each)]
    assert names == ["stl/12.stl", "ply/12.ply", "glb/12.glb", "precomputed/12:0", "precomputed/12:0:mesh"]
