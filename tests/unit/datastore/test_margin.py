"""What tilting and aligning filled up does not count in the statistics of a slice, however the slice comes."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import tifffile
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.imports import intensity, margin
from biosegment_datastore.imports.importing import import_volume
from biosegment_datastore.imports.intensity import IntensityGatherer
from biosegment_datastore.imports.layout import ImportMemory
from biosegment_datastore.imports.target import ImportTarget
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from biosegment.errors import InvalidArgument
from biosegment.volume import Index, VoxelSize

PIECES = ImportMemory(most_slab_bytes=1, piece_bytes=1, keep_every_bytes=1)


def blocks(volume, rows=(), columns=()):
    """The volume cut below `rows` and right of `columns`, in the order in which pieces come."""
    ys = sorted({0, *rows, volume.shape[1]})
    xs = sorted({0, *columns, volume.shape[2]})
    for top, bottom in itertools.pairwise(ys):
        for left, right in itertools.pairwise(xs):
            yield volume[:, top:bottom, left:right], top, left


def gathered(volume, rows=(), columns=(), put_away=False):
    gatherer = IntensityGatherer(Index(*volume.shape))
    for block, y, x in blocks(volume, rows, columns):
        gatherer.add(0, block, y, x)
        if put_away:
            state = json.loads(json.dumps(gatherer.state()))
            gatherer = IntensityGatherer(Index(*volume.shape))
            gatherer.restore(state)
    return gatherer.result()


def without_margin(plane, fewest):
    """The voxels that count, by the definition, voxel by voxel."""
    outside = np.zeros(plane.shape, bool)
    for value in {plane[y, x] for y in (0, -1) for x in (0, -1)}:
        of_value = np.zeros(plane.shape, bool)
        for row, found in zip(plane, of_value, strict=True):
            for order in (range(len(row)), reversed(range(len(row)))):
                for x in order:
                    if row[x] != value:
                        break
                    found[x] = True
        if of_value.sum() >= max(fewest, 0.01 * plane.size):
            outside |= of_value
    rest = plane[~outside].astype(np.float64)
    return rest if len(rest) >= fewest and np.ptp(rest) > 0 else plane.astype(np.float64)


def tissue(shape, dtype="uint8", mean=130, std=30):
    return np.random.default_rng(0).normal(mean, std, shape).round().astype(dtype)


def tilted(shape, dtype="uint8", fill=0, **grey):
    """Tissue in a parallelogram: rows begin ever further to the right, and the first and last ones are empty."""
    volume = tissue(shape, dtype, **grey)
    for y in range(shape[1]):
        begin = y * shape[2] // (2 * shape[1])
        volume[:, y, :begin] = volume[:, y, begin + shape[2] // 2 :] = fill
    volume[:, : shape[1] // 10] = volume[:, -shape[1] // 8 :] = fill
    return volume


@settings(max_examples=150, deadline=None)
@given(
    st.data(),
    st.sampled_from(["uint8", "int16", "float32"]),
    st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 25)),
    st.lists(st.integers(0, 12), max_size=3),
    st.lists(st.integers(0, 25), max_size=3),
    st.booleans(),
)
def test_the_moments_are_those_of_what_lies_inside_of_the_margin(data, dtype, shape, rows, columns, put_away):
    volume = data.draw(arrays.arrays(dtype, shape, elements=st.integers(0, 2), fill=st.just(0)))
    rows, columns = (
        [min(cut, size) for cut in cuts] for cuts, size in ((rows, shape[1]), (columns, shape[2]))
    )
    with pytest.MonkeyPatch.context() as patch:
        for module in (margin, intensity):
            patch.setattr(module, "FEWEST", 1)
        found = gathered(volume, rows, columns, put_away)
    for z, plane in enumerate(volume):
        counts = without_margin(plane, 1)
        assert found.mean[z] == pytest.approx(counts.mean(), abs=1e-6)
        assert found.std[z] == pytest.approx(counts.std(), abs=1e-6)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("side", ["left", "right", "top", "bottom", "both"])
@pytest.mark.parametrize("fill", [0, 255, 130])
def test_filling_up_a_slice_does_not_change_its_statistics(share, side, fill):
    inside = tissue((2, 200, 220)).clip(1, 254)
    height, width = inside.shape[1:]
    more = int((height if side in ("top", "bottom") else width) * share / (1 - share))
    pad = {
        "left": [(0, 0), (more, 0)],
        "right": [(0, 0), (0, more)],
        "top": [(more, 0), (0, 0)],
        "bottom": [(0, more), (0, 0)],
        "both": [(0, 0), (more // 2, more - more // 2)],
    }[side]
    found = gathered(np.pad(inside, [(0, 0), *pad], constant_values=fill))
    # Voxels of the fill's value at the very border of the tissue go with it.
    assert found.mean == pytest.approx(inside.mean(axis=(1, 2)), abs=0.05)
    assert found.std == pytest.approx(inside.std(axis=(1, 2)), abs=0.05)


def test_two_sides_may_be_filled_with_different_values():
    inside = tissue((1, 100, 120)).clip(1, 254)
    volume = np.pad(inside, [(0, 0), (0, 0), (90, 0)])
    volume = np.pad(volume, [(0, 0), (0, 0), (0, 200)], constant_values=255)
    found = gathered(volume)
    assert found.mean == pytest.approx(inside.mean(axis=(1, 2)), rel=1e-6)
    assert found.std == pytest.approx(inside.std(axis=(1, 2)), rel=1e-4)


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize(
    ("dtype", "mean", "std"), [("uint16", 60000, 3), ("float32", 1e4, 0.5), ("int16", -900, 20)]
)
def test_a_small_spread_far_from_the_fill_does_not_drown(dtype, mean, std, pieces):
    volume = tilted((2, 300, 400), dtype, mean=mean, std=std)
    found = gathered(volume, *([[90, 200], [150, 310]] if pieces else []))
    for z, plane in enumerate(volume):
        inside = plane[plane != 0].astype(np.float64)
        assert found.mean[z] == pytest.approx(inside.mean(), rel=1e-6)
        assert found.std[z] == pytest.approx(inside.std(), rel=1e-4)


@pytest.mark.parametrize("put_away", [False, True])
def test_a_slice_in_pieces_has_the_statistics_of_the_whole_one(put_away):
    volume = tilted((3, 300, 400))
    volume[1] = 0
    whole = gathered(volume)
    assert whole.mean[0] == pytest.approx(volume[0][volume[0] != 0].mean(), abs=0.05)
    for rows, columns in [
        ([128, 256], []),
        ([], [10, 390]),
        ([128, 256], [100, 200, 300]),
        ([1, 299], [1, 399]),
    ]:
        found = gathered(volume, rows, columns, put_away)
        assert found.mean == pytest.approx(whole.mean, rel=1e-9)
        assert found.std == pytest.approx(whole.std, rel=1e-6)


def test_an_ordinary_slice_counts_every_voxel_to_the_last_bit(monkeypatch):
    volume = tissue((5, 300, 310))
    volume[2, :40, :3] = 0  # 120 voxels in a corner
    volume[3, 100:200, 100:200] = volume[3, 0, 0]  # a hole that touches no border
    found = gathered(volume)
    monkeypatch.setattr(intensity, "suspects", lambda block: np.zeros(len(block), bool))
    counted = gathered(volume)
    assert np.array_equal(found.mean, counted.mean)
    assert np.array_equal(found.std, counted.std)
    assert found.mean == pytest.approx(volume.mean(axis=(1, 2)), rel=1e-6)


@pytest.mark.parametrize("case", ["empty", "dust", "mask"])
def test_where_nothing_that_varies_would_be_left_every_voxel_counts(case):
    plane = np.zeros((300, 310), np.uint8)
    if case == "dust":
        plane[100:110, 100:110] = np.arange(100).reshape(10, 10) + 1
    elif case == "mask":
        plane[100:200, 100:200] = 255
    found = gathered(plane[None])
    assert found.mean[0] == pytest.approx(plane.mean(), rel=1e-6)
    assert found.std[0] == pytest.approx(plane.std(), rel=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("columns", [[], [100]])
def test_a_margin_of_no_number_is_refused(value, columns):
    volume = tissue((1, 200, 220), "float32")
    volume[:, :, :80] = value
    with pytest.raises(InvalidArgument) as caught:
        with np.errstate(invalid="ignore"):
            gathered(volume, [], columns)
    assert caught.value.reason == "NOT_FINITE"


def test_a_slice_that_an_earlier_release_began_counts_every_voxel():
    volume = tilted((1, 200, 220))
    first = IntensityGatherer(Index(*volume.shape))
    first.add(0, volume[:, :100])
    state = first.state()
    del state["ends"]
    second = IntensityGatherer(Index(*volume.shape))
    second.restore(state)
    second.add(0, volume[:, 100:], 100)
    assert second.result().mean == pytest.approx(volume.mean(axis=(1, 2)), rel=1e-6)


@pytest.mark.parametrize("memory", [ImportMemory(), PIECES], ids=["slabs", "pieces"])
def test_an_import_leaves_the_margin_out(tmp_path, arrays, objects, memory):
    volume = tilted((3, 300, 4400))  # wider than a piece
    tifffile.imwrite(tmp_path / "a.tif", volume, photometric="minisblack")
    target = ImportTarget(arrays, objects, "volumes/v.ome.zarr", memory=memory)
    with open_source(tmp_path / "a.tif") as source:
        found = import_volume(source, VoxelSize(5, 5, 5), target).statistics
    inside = [plane[plane != 0] for plane in volume]
    assert found.mean == pytest.approx([each.mean() for each in inside], rel=1e-5)
    assert found.std == pytest.approx([each.std() for each in inside], rel=1e-4)
    assert found.minimum == 0
