from __future__ import annotations

import numpy as np
import pytest
from biosegment_datastore.annotation import decode_labels_block
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.selection import select
from biosegment_datastore.formats.source import ACCEPTED_LABELS, SourceOptions
from biosegment_datastore.label_import import (
    BLOCK_VOXELS,
    ROW_BYTES,
    Placement,
    block_edges,
    layer_layout,
    write_blocks,
    write_layer,
)
from biosegment_datastore.label_value import ClassValues, InstanceIds

from biosegment.errors import InvalidArgument
from biosegment.volume import Index, Region

MEANING = ClassValues({1: 2, 2: 3}, 0)


class Watched:
    """An array that knows which planes were asked for."""

    def __init__(self, array):
        self.array, self.dtype, self.asked = array, array.dtype, []

    def __getitem__(self, index):
        self.asked.append((index[0].start, index[0].stop))
        return self.array[index]


def source_of(array, planes=5):
    options = SourceOptions(accepted=ACCEPTED_LABELS)
    watched = array if isinstance(array, Watched) else Watched(array)
    shape = watched.array.shape
    return ArraySource(
        "a.tif", "test", watched, select("a.tif", "zyx", shape, options), None, options, planes
    )


def labels(shape, top=3, dtype="uint8"):
    return np.random.default_rng(2).integers(0, top, shape).astype(dtype)


def place(shape, volume, offset=None, extent=None):
    return Placement.of("a.tif", Index(*shape), Index(*volume), offset, extent)


def nothing(done, total):
    pass


@pytest.mark.parametrize("planes", [1, 5, 16, 64])
@pytest.mark.parametrize(
    ("offset", "extent"),
    [
        (None, None),
        (None, Region(Index(3, 4, 5), Index(61, 20, 30))),
        (Index(7, 2, 9), None),
        (Index(7, 2, 9), Region(Index(8, 3, 9), Index(40, 20, 30))),
    ],
)
def test_a_layer_holds_what_was_placed_and_nothing_else(arrays, planes, offset, extent):
    volume = (90, 31, 47)
    stored = labels(volume if offset is None else (50, 20, 30))
    placement = place(stored.shape, volume, offset, extent)
    expected = np.zeros(volume, np.uint8)
    whole = Region.of_shape(stored.shape, offset or (0, 0, 0))
    expected[whole.slices] = np.where(stored > 0, stored + 1, 0)
    mask = np.zeros(volume, bool)
    mask[placement.region.slices] = True
    expected[~mask] = 0
    seen = []
    made = write_layer(
        source_of(stored, planes),
        "a.tif",
        MEANING,
        placement,
        Index(*volume),
        arrays,
        "l/1",
        lambda done, total: seen.append((done, total)),
    )
    assert (arrays.open("l/1").read(Region.of_shape(volume)) == expected).all()
    assert made.data_type == "uint8"
    inside = expected[placement.region.slices]
    assert made.counts == {v: int((inside == v).sum()) for v in range(4) if (inside == v).any()}
    depth = placement.region.shape.z
    assert seen[-1] == (depth, depth)


def test_rows_of_a_layer_end_at_the_borders_of_its_shards(arrays, monkeypatch):
    monkeypatch.setattr("biosegment_datastore.label_import.ROW_BYTES", 31 * 47 * 16)
    volume, offset = (90, 31, 47), Index(7, 2, 9)
    stored = labels((50, 20, 30))
    made = write_layer(
        source_of(stored),
        "a.tif",
        MEANING,
        place(stored.shape, volume, offset),
        Index(*volume),
        arrays,
        "l/1",
        nothing,
    )
    assert made.layout.shard[0] == 16
    read = arrays.open("l/1").read(Region.of_shape(stored.shape, offset))
    assert (read == np.where(stored > 0, stored + 1, 0)).all()


def test_a_layer_of_instances_keeps_its_ids(arrays):
    stored = labels((9, 20, 30), 1 << 40, "uint64")
    made = write_layer(
        source_of(stored),
        "a.tif",
        InstanceIds(),
        place(stored.shape, stored.shape),
        Index(*stored.shape),
        arrays,
        "l/1",
        nothing,
    )
    assert (made.data_type, made.counts) == ("uint64", {})
    assert (arrays.open("l/1").read(Region.of_shape(stored.shape)) == stored).all()


def test_only_the_planes_of_the_extent_are_read_each_once():
    array = Watched(labels((40, 8, 9)))
    source = source_of(array, planes=8)
    placement = place((40, 8, 9), (40, 8, 9), None, Region(Index(11, 0, 0), Index(30, 8, 9)))
    from biosegment_datastore.label_import import _slabs

    assert [z for z, _ in _slabs(source, placement)] == [11, 16, 24]
    assert array.asked == [(11, 16), (16, 24), (24, 30)]


def test_blocks_hold_every_annotated_voxel_once_and_no_empty_region(objects, monkeypatch):
    volume = Index(70, 300, 520)
    stored = np.zeros(volume, np.uint8)
    stored[3:6, 10:40, 500:520] = 1
    stored[60:69, 250:262, 100:300] = 2
    made = write_blocks(
        source_of(stored),
        "a.tif",
        MEANING,
        (2, 3),
        place(volume, volume),
        volume,
        objects,
        "p/annotations/j-1",
        nothing,
    )
    together = np.zeros(volume, np.uint8)
    for each in made:
        block = objects.get(f"p/annotations/j-1/{each.annotation_id}")
        part = decode_labels_block(block, each.sha256, each.region, "x")
        assert part.any(axis=(1, 2)).any()
        assert all(part.any(axis=axes)[[0, -1]].all() for axes in ((1, 2), (0, 2), (0, 1)))  # no empty border
        assert not together[each.region.slices].any()
        together[each.region.slices] = part
        assert sum(each.counts.values()) == np.count_nonzero(part)
    assert (together == np.where(stored > 0, stored + 1, 0)).all()
    # The first object lies on both sides of x 512, the second of z 64, y 256 and x 256; one block has some of both.
    assert len(made) == 2 + 2 * 2 * 2 - 1
    assert len(objects.list("p/annotations/j-1/")) == len(made)


def test_background_makes_records_where_zero_means_background(objects):
    volume = Index(5, 20, 30)
    meaning = ClassValues({1: 2}, 1)
    stored = np.zeros(volume, np.uint8)
    (block,) = write_blocks(
        source_of(stored), "a.tif", meaning, (2,), place(volume, volume), volume, objects, "p", nothing
    )
    assert (block.region, block.counts) == (Region.of_shape(volume), {1: 5 * 20 * 30})
    with pytest.raises(InvalidArgument) as caught:
        write_blocks(
            source_of(stored), "a.tif", MEANING, (2,), place(volume, volume), volume, objects, "q", nothing
        )
    assert caught.value.reason == "NOTHING_ANNOTATED"


def test_values_without_meaning_are_told_from_the_whole_file(arrays, objects):
    volume = Index(40, 8, 9)
    stored = labels(volume)
    stored[2, 1, 1], stored[38, 3, 3] = 9, 7
    with pytest.raises(InvalidArgument, match="values 7, 9,") as caught:
        write_layer(
            source_of(stored), "a.tif", MEANING, place(volume, volume), volume, arrays, "l/1", nothing
        )
    assert caught.value.reason == "UNMAPPED_VALUES"
    part = place(volume, volume, None, Region(Index(3, 0, 0), Index(38, 8, 9)))
    assert write_layer(source_of(stored), "a.tif", MEANING, part, volume, arrays, "l/2", nothing)


@pytest.mark.parametrize(
    ("shape", "offset", "extent", "reason"),
    [
        ((9, 8, 7), None, None, "SHAPES_DIFFER"),
        ((9, 8, 7), Index(2, 0, 0), None, "LABELS_OUT_OF_BOUNDS"),
        ((9, 8, 7), Index(0, 0, 0), Region(Index(0, 0, 0), Index(10, 8, 7)), "EXTENT_OUT_OF_BOUNDS"),
        ((9, 8, 7), Index(1, 1, 0), Region(Index(1, 0, 0), Index(5, 5, 5)), "EXTENT_OUT_OF_BOUNDS"),
    ],
)
def test_labels_that_do_not_fit_are_refused_with_both_shapes(shape, offset, extent, reason):
    with pytest.raises(InvalidArgument) as caught:
        place(shape, (10, 9, 8), offset, extent)
    assert caught.value.reason == reason


def test_memory_is_bounded_whatever_the_width():
    for edge in (100, 1000, 5000, 12_000, 20_000, 60_000):
        shape = Index(10_000, edge, edge)
        for itemsize in (1, 4, 8):
            depth = layer_layout(shape, itemsize).shard[0]
            assert depth == 1 or depth * edge * edge * itemsize <= ROW_BYTES
        blocks = block_edges(shape)
        assert blocks.z == 1 or blocks.z * edge * edge <= ROW_BYTES
        assert blocks.z * blocks.y * blocks.x <= BLOCK_VOXELS
        assert all(
            border % other == 0 or other % border == 0
            for border, other in zip(blocks, (256,) * 3, strict=True)
        )
