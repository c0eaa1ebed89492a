from __future__ import annotations

from biosegment_datastore.annotations.cell import MAX_RANGES, cell_of, cell_ranges
from hypothesis import given
from hypothesis import strategies as st

from biosegment.volume import Index, Region

EXTENTS = (1, 2, 7, 16, 17, 128, 256, 257, 1000, 1024, 5000, 70_000, 1 << 20, 1 << 26)


@st.composite
def regions(draw: st.DrawFn) -> Region:
    start = [draw(st.integers(0, 40_000)) for _ in range(3)]
    shape = [draw(st.sampled_from(EXTENTS)) for _ in range(3)]
    return Region(Index(*start), Index(*(low + size for low, size in zip(start, shape, strict=True))))


@given(regions(), regions())
def test_what_overlaps_a_region_has_its_cell_in_the_ranges_of_the_region(
    first: Region, second: Region
) -> None:
    ranges = cell_ranges(second)
    assert ranges is None or len(ranges) <= MAX_RANGES
    if ranges is not None and first.intersection(second) is not None:
        assert any(low <= cell_of(first) <= high for low, high in ranges)


@given(regions(), st.tuples(*[st.integers(0, 1 << 40)] * 3))
def test_cells_fit_the_column_wherever_the_annotation_is(region: Region, shift: tuple[int, ...]) -> None:
    def moved(corner: Index) -> Index:
        return Index(*(place + by for place, by in zip(corner, shift, strict=True)))

    far = Region(moved(region.start), moved(region.stop))
    assert 0 <= cell_of(far) < 1 << 63
    ranges = cell_ranges(far)
    assert ranges is None or any(low <= cell_of(far) <= high for low, high in ranges)


def test_a_sample_needs_few_ranges_and_excludes_what_is_far() -> None:
    sample = Region.of_shape((1, 128, 128), (500, 3000, 4000))
    ranges = cell_ranges(sample)
    assert ranges is not None
    assert len(ranges) < 100
    for far in ((502, 3000, 4000), (500, 3300, 4000), (500, 3000, 4300)):
        cell = cell_of(Region.of_shape((1, 128, 128), far))
        assert not any(low <= cell <= high for low, high in ranges)
