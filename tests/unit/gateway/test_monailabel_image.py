"""Names of images, parts of volumes, and where voxels lie in space."""

from __future__ import annotations

import numpy as np
import pytest
from biosegment_gateway.monailabel.geometry import Geometry, placed
from biosegment_gateway.monailabel.image import ImageName, part_at, parts
from hypothesis import given, settings
from hypothesis import strategies as st

from biosegment.errors import InvalidArgument, NotFound
from biosegment.volume import Index, Region, VoxelSize

SIZES = st.integers(1, 200)
PARTS = st.integers(16, 220)
VOXEL_SIZE = VoxelSize(30.0, 8.0, 4.0)


@settings(deadline=None, max_examples=50)
@given(st.tuples(SIZES, SIZES, SIZES), st.tuples(PARTS, PARTS, PARTS))
def test_parts_cover_a_volume_once_and_none_is_thin(shape: tuple, largest: tuple) -> None:
    found = list(parts("brain", Index(*shape), Index(*largest)))
    # As few as there can be.
    assert len(found) == np.prod([-(-size // most) for size, most in zip(shape, largest, strict=True)])
    if found == [ImageName("brain")]:
        assert all(size <= most for size, most in zip(shape, largest, strict=True))
        return
    regions = [name.region for name in found]
    assert sum(region.size for region in regions) == np.prod(shape)
    for axis in range(3):
        edges = {region.shape[axis] for region in regions}
        assert max(edges) <= largest[axis]
        assert max(edges) - min(edges) <= 1  # no thin part is left at the end
    for name in found[:: max(1, len(found) // 7)]:
        assert ImageName.parse(str(name)) == name
        assert part_at("brain", Index(*shape), Index(*largest), name.region.start) == name


@pytest.mark.parametrize(
    "name", ["", "a/b", "../x", "b_z3-3_y0-1_x0-1", "b_z5-2_y0-1_x0-1", "x" * 201, "line\nbreak"]
)
def test_what_can_be_no_image(name: str) -> None:
    with pytest.raises(NotFound) as caught:
        ImageName.parse(name)
    assert caught.value.reason == "IMAGE_NOT_FOUND"


def test_names_that_look_like_parts_in_parts_of_them() -> None:
    whole = ImageName("scan_z0-8_y0-8_x0-8", Region((0, 0, 0), (4, 8, 8)))
    assert ImageName.parse(str(whole)) == whole


def test_geometry_of_a_part_is_where_it_lies_in_the_volume() -> None:
    region = Region((2, 10, 20), (5, 30, 60))
    in_mm = Geometry.of_region(VOXEL_SIZE, "mm", region)
    assert in_mm.lps @ [0, 0, 0, 1] == pytest.approx([20 * 4e-6, 10 * 8e-6, 2 * 30e-6, 1])
    assert in_mm.lps @ [1, 1, 1, 1] == pytest.approx([21 * 4e-6, 11 * 8e-6, 3 * 30e-6, 1])
    assert np.allclose(in_mm.ras[:2], -in_mm.lps[:2])
    assert np.allclose(in_mm.ras[2:], in_mm.lps[2:])
    for unit in ("mm", "um", "nm"):
        found = Geometry.of_region(VOXEL_SIZE, unit, region)
        assert tuple(found.voxel_size(unit)) == pytest.approx(tuple(VOXEL_SIZE))
        whole = Geometry.of_region(VOXEL_SIZE, unit)
        assert np.allclose(whole.part(region).lps, found.lps)


IMAGE = Geometry.of_region(VOXEL_SIZE, "mm", Region((2, 10, 20), (6, 15, 26)))
SHAPE = Index(4, 5, 6)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_a_label_finds_its_place_however_its_axes_lie(order: tuple, flips: tuple) -> None:
    labels = np.arange(1, 121, dtype=np.uint8).reshape(SHAPE)
    ijk = labels.transpose(2, 1, 0)
    turned = np.flip(ijk.transpose(order), flips)
    # Index in the file to index in the image.
    move = np.eye(4)
    move[:3, :3] = 0
    for axis, into in enumerate(order):
        sign = -1 if axis in flips else 1
        move[into, axis] = sign
        move[into, 3] = turned.shape[axis] - 1 if sign < 0 else 0
    found = placed(turned.transpose(2, 1, 0), Geometry(IMAGE.lps @ move), SHAPE, IMAGE)
    assert (found == labels).all()


def test_a_cropped_label_is_put_back() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 2:4, 1:5] = 7
    crop = Region((1, 1, 1), (4, 5, 6))
    found = placed(labels[crop.slices], IMAGE.part(crop), SHAPE, IMAGE)
    assert (found == labels).all()
    larger = np.zeros((6, 5, 6), np.uint8)  # two slices before the image's first, with nothing in them
    larger[2:] = labels
    before = Geometry(IMAGE.lps.copy())
    before.lps[2, 3] -= 2 * 30e-6
    assert (placed(larger, before, SHAPE, IMAGE) == labels).all()
    larger[0, 0, 0] = 1
    with pytest.raises(InvalidArgument, match="outside of the image"):
        placed(larger, before, SHAPE, IMAGE)


def test_labels_of_another_grid_are_refused() -> None:
    labels = np.ones(SHAPE, np.uint8)
    shifted = Geometry(IMAGE.lps.copy())
    shifted.lps[0, 3] += 0.5 * 4e-6  # half a voxel
    coarser = Geometry.of_region(VoxelSize(30.0, 16.0, 8.0), "mm")
    other_unit = Geometry.of_region(VOXEL_SIZE, "um", Region((2, 10, 20), (6, 15, 26)))
    flat = Geometry(np.diag([4e-6, 8e-6, 0.0, 1.0]))
    for wrong in (shifted, coarser, other_unit, flat):
        with pytest.raises(InvalidArgument) as caught:
            placed(labels, wrong, SHAPE, IMAGE)
        assert caught.value.reason == "GEOMETRY_MISMATCH"
    with pytest.raises(InvalidArgument, match="4 x 4 x 4"):
        placed(np.ones((4, 4, 4), np.uint8), None, SHAPE, IMAGE)
    assert (placed(labels, None, SHAPE, IMAGE) == labels).all()
