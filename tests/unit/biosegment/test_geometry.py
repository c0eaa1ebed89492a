from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biosegment.errors import InvalidArgument
from biosegment.volume import Index, Region, VoxelSize

SIDE = 9
WHOLE = Region.of_shape((2 * SIDE, 2 * SIDE, 2 * SIDE))


@st.composite
def regions(draw: st.DrawFn) -> Region:
    start = [draw(st.integers(0, SIDE)) for _ in range(3)]
    shape = [draw(st.integers(1, SIDE)) for _ in range(3)]
    return Region.of_shape((shape[0], shape[1], shape[2]), (start[0], start[1], start[2]))


def _mask(region: Region) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    mask = np.zeros(WHOLE.shape, bool)
    mask[region.slices] = True
    return mask


@given(regions())
def test_shape_size_and_slices_agree_with_numpy(region: Region) -> None:
    assert _mask(region)[region.slices].shape == region.shape
    assert _mask(region).sum() == region.size


@given(regions(), regions())
def test_intersection_is_what_both_masks_have(a: Region, b: Region) -> None:
    both = _mask(a) & _mask(b)
    common = a.intersection(b)
    assert a.overlaps(b) is bool(both.any())
    assert (_mask(common) if common else np.zeros_like(both)).tolist() == both.tolist()
    assert b.intersection(a) == common


@given(regions(), regions())
def test_containing_is_having_all_voxels_of_the_other(a: Region, b: Region) -> None:
    assert a.contains(b) is bool(_mask(a)[_mask(b)].all())


@given(regions(), st.tuples(*[st.integers(0, 5)] * 3))
def test_shifting_there_and_back_changes_nothing(region: Region, offset: tuple[int, int, int]) -> None:
    z, y, x = offset
    moved = region.shifted(offset)
    assert moved.shape == region.shape
    assert moved.shifted((-z, -y, -x)) == region


@given(st.data())
def test_a_region_in_the_frame_of_another_selects_the_same_voxels(data: st.DataObject) -> None:
    outer = data.draw(regions())
    start = Index(*(data.draw(st.integers(a, b - 1)) for a, b in zip(outer.start, outer.stop, strict=True)))
    stop = Index(*(data.draw(st.integers(a + 1, b)) for a, b in zip(start, outer.stop, strict=True)))
    inner = Region(start, stop)
    array = np.arange(WHOLE.size).reshape(WHOLE.shape)
    np.testing.assert_array_equal(array[outer.slices][inner.relative_to(outer).slices], array[inner.slices])


@given(regions(), st.tuples(*[st.integers(0, 30)] * 3))
def test_padding_grows_the_region_and_stays_within(region: Region, margin: tuple[int, int, int]) -> None:
    padded = region.padded(margin, WHOLE)
    assert padded.contains(region)
    assert WHOLE.contains(padded)
    for axis in range(3):
        assert region.start[axis] - padded.start[axis] == min(margin[axis], region.start[axis])


@pytest.mark.parametrize(
    ("start", "stop"), [((0, 0, 0), (0, 1, 1)), ((1, 1, 1), (2, 2, 1)), ((-1, 0, 0), (1, 1, 1))]
)
def test_an_empty_or_negative_region_is_refused(
    start: tuple[int, int, int], stop: tuple[int, int, int]
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Region(Index(*start), Index(*stop))
    assert caught.value.reason == "BAD_REGION"
    assert f"{start[0]}:{stop[0]}" in caught.value.message


@given(regions())
def test_a_region_fits_a_shape_when_numpy_would_not_cut_it(region: Region) -> None:
    shape = (SIDE, SIDE, SIDE)
    if np.zeros(shape)[region.slices].shape == region.shape:
        region.require_within(shape, "volume v")
    else:
        with pytest.raises(InvalidArgument, match="volume v"):
            region.require_within(shape, "volume v")


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_a_voxel_size_is_a_positive_length(value: float) -> None:
    with pytest.raises(InvalidArgument, match="along y"):
        VoxelSize(1.0, value, 1.0)


def test_downsampling_makes_voxels_larger() -> None:
    assert VoxelSize(40, 4, 4).scaled(Index(1, 2, 4)) == VoxelSize(40, 8, 16)
    assert list(VoxelSize(40, 4, 5)) == [40, 4, 5]
