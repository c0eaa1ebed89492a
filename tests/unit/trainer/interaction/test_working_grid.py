from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from biosegment_trainer.interaction.working_grid import GridAxis, Level, WorkingGrid, choose_level, make_grid

from biosegment.volume import Index, Region, VoxelSize

SIZES = (
    VoxelSize(30, 10, 10),
    VoxelSize(5, 5, 5),
    VoxelSize(50, 4, 4),
    VoxelSize(12, 8, 8),
    VoxelSize(7, 3.3, 3.3),
)


def pyramid(shape: Index) -> list[Level]:
    factors = [Index(1, 1, 1), Index(1, 2, 2), Index(2, 4, 4)]
    return [
        Level(Index(*(-(-edge // by) for edge, by in zip(shape, factor, strict=True))), factor)
        for factor in factors
    ]


def grids() -> list[tuple[str, object]]:
    """Boxes that begin and end anywhere, in every plane, at every level."""
    rng = np.random.default_rng(5)
    found = []
    for number in range(60):
        shape = Index(*(int(edge) for edge in rng.integers(3, 60, 3)))
        start = [int(rng.integers(0, edge)) for edge in shape]
        stop = [int(rng.integers(low + 1, edge + 1)) for low, edge in zip(start, shape, strict=True)]
        box = Region(Index(*start), Index(*stop))
        level = pyramid(shape)[number % 3]
        nm = None if number % 4 == 0 else 10.0
        found.append((f"{box} of {level}", make_grid(box, level, SIZES[number % 5], number % 3, nm)))
    return found


@pytest.mark.parametrize(("name", "grid"), grids())
def test_every_voxel_has_a_pixel_and_every_pixel_a_value(name, grid):
    for axis in grid.axes:
        pixels = axis.all_pixels()
        assert (np.diff(pixels) >= 0).all()
        assert pixels[0] >= 0
        assert pixels[-1] < axis.pixels
        assert np.allclose(sum(weight for _, weight in axis.taps()), 1, atol=1e-5)
    flat = grid.image(np.full(grid.level_region.shape, 3.5, np.float32))
    assert flat.shape == tuple(grid.shape)
    assert np.allclose(flat, 3.5)
    shares = grid.shares(np.ones(grid.box.shape, np.uint8))
    assert shares.shape == tuple(grid.shape)
    assert np.allclose(shares, 1)


@pytest.mark.parametrize(("name", "grid"), grids())
def test_what_changes_in_a_box_of_pixels_lies_in_its_voxels(name, grid):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, grid.shape).astype(np.uint8)
    whole = grid.at_voxels(pixels).copy()
    assert whole.shape == tuple(grid.box.shape)
    start = [int(rng.integers(0, edge)) for edge in grid.shape]
    stop = [int(rng.integers(low + 1, edge + 1)) for low, edge in zip(start, grid.shape, strict=True)]
    box = Region(Index(*start), Index(*stop))
    pixels[box.slices] += 1
    differs = grid.at_voxels(pixels) != whole
    part = grid.voxels_of(box)
    if part is None:
        assert not differs.any()
        return
    assert differs[part.slices].all()
    differs[part.slices] = False
    assert not differs.any()
    assert (grid.at_voxels(pixels, part) == grid.at_voxels(pixels)[part.slices]).all()


@pytest.mark.parametrize(("name", "grid"), grids())
def test_a_mask_of_whole_pixels_comes_back_as_it_was(name, grid):
    mask = np.random.default_rng(2).random(grid.shape) < 0.5
    assert (grid.at_voxels(grid.shares(grid.at_voxels(mask)) >= 0.5) == grid.at_voxels(mask)).all()


def test_a_voxel_lies_in_the_pixel_of_its_position():
    grid = make_grid(
        Region((3, 5, 7), (9, 25, 40)), Level(Index(10, 30, 50), Index(1, 1, 1)), SIZES[1], 0, 10.0
    )
    mask = np.zeros(grid.box.shape, np.uint8)
    mask[2, 6, 11] = 1
    assert grid.shares(mask)[grid.position_of(Index(5, 11, 18))] > 0


def test_pixels_of_a_plane_are_square_and_slices_stay_single():
    level = Level(Index(40, 200, 200), Index(1, 1, 1))
    box = Region.of_shape((20, 100, 100))
    cases = {
        (VoxelSize(30, 10, 10), 0): (30, 10, 10),
        (VoxelSize(30, 10, 10), 1): (10, 10, 10),
        (VoxelSize(30, 10, 10), 2): (10, 10, 10),
        (VoxelSize(50, 4, 4), 0): (50, 8, 8),
        (VoxelSize(50, 4, 4), 1): (8, 4, 8),
        (VoxelSize(5, 5, 5), 2): (10, 10, 5),
    }
    for (size, through), edges in cases.items():
        grid = make_grid(box, level, size, through, 10.0)
        assert tuple(grid.pixel_size(size)) == pytest.approx(edges), (size, through)
        lengths = zip(grid.shape, grid.pixel_size(size), size, box.shape, strict=True)
        assert all(abs(n * pixel - m * edge) < pixel + 1e-6 for n, pixel, edge, m in lengths)


def test_the_level_is_the_coarsest_that_pixels_are_means_of():
    levels = pyramid(Index(40, 800, 800))
    assert choose_level(levels, VoxelSize(30, 5, 5), 10, 0) == 1
    assert choose_level(levels, VoxelSize(30, 2.5, 2.5), 10, 0) == 1  # level 2 joins slices
    assert choose_level(levels, VoxelSize(30, 10, 10), 10, 0) == 0
    assert choose_level(levels, VoxelSize(5, 5, 5), 10, 1) == 0  # level 1 joins slices of y


def test_pixels_that_cover_parts_of_voxels_are_their_means():
    axis = GridAxis(0, 20, 1, 20, 2.5)
    grid = WorkingGrid(GridAxis(0, 1, 1, 1, 1.0), GridAxis(0, 1, 1, 1, 1.0), axis)
    values = np.random.default_rng(6).random((1, 1, 20), np.float32)
    expected = values.repeat(2, 2).reshape(8, 5).mean(1)
    assert np.allclose(grid.image(values)[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("nm", [5, 30])
def test_a_long_edge_takes_no_more_memory_than_its_voxels(nm):
    shape = Index(1, 1, 1 << 13)
    one = GridAxis(0, 1, 1, 1, 1.0)
    grid = WorkingGrid(one, one, GridAxis(0, shape.x, 1, shape.x, 10 / nm))
    voxels = np.ones(shape, np.float32)
    tracemalloc.start()
    try:
        assert grid.image(voxels).shape == tuple(grid.shape)
        assert tracemalloc.get_traced_memory()[1] < 200 * voxels.nbytes
    finally:
        tracemalloc.stop()


def test_a_ramp_is_interpolated_between_slices_and_averaged_within_them():
    level = Level(Index(6, 8, 8), Index(1, 1, 1))
    z, _, x = np.mgrid[:6, :8, :8].astype(np.float32)
    fine = make_grid(Region.of_shape((6, 8, 8)), level, VoxelSize(30, 10, 10), 1, 10.0)
    between = fine.image(z)[:, 0, 0]
    assert between.shape == (18,)
    assert np.allclose(np.diff(between)[1:-1], 1 / 3, atol=1e-5)
    coarse = make_grid(Region.of_shape((6, 8, 8)), level, VoxelSize(30, 5, 5), 0, 10.0)
    assert np.allclose(coarse.image(x)[0, 0], [0.5, 2.5, 4.5, 6.5])
