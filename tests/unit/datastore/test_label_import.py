from __future__ import annotations

import numpy as np
import pytest
from biosegment_datastore.annotations.annotation import decode_labels_block
from biosegment_datastore.formats.array import ArraySource
from biosegment_datastore.formats.selection import select
from biosegment_datastore.formats.source import ACCEPTED_LABELS, SourceOptions
from biosegment_datastore.imports.label_import import LabelFile, Placement, write_blocks, write_layer
from biosegment_datastore.imports.label_value import ClassValues, InstanceIds
from biosegment_datastore.imports.layout import DEFAULT_MEMORY, ImportMemory

from biosegment.errors import InvalidArgument
from biosegment.volume import Index, Region

# Not even sixteen planes of the volumes in these tests fit: they are imported in parts.
LITTLE = ImportMemory(slab_bytes=1 << 12, most_slab_bytes=1 << 12, piece_bytes=1 << 12)
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


def nothing(done, total):
    pass


@pytest.fixture
def file_of(tmp_path):
    def make(stored, volume=None, offset=None, extent=None, meaning=MEANING, planes=5, memory=DEFAULT_MEMORY):
        source = source_of(stored, planes)
        place = Placement.of("a.tif", source.shape, Index(*(volume or source.shape)), offset, extent)
        return LabelFile(source, "a.tif", meaning, place, tmp_path, memory)

    return make


def meant(stored):
    """What `MEANING` makes of values below 3."""
    return np.where(stored > 0, stored + 1, 0)


@pytest.mark.parametrize("memory", [DEFAULT_MEMORY, LITTLE], ids=["much", "little"])
@pytest.mark.parametrize("planes", [1, 5, 64])
@pytest.mark.parametrize(
    ("offset", "extent"),
    [
        (None, None),
        (None, Region(Index(3, 4, 5), Index(61, 20, 30))),
        (Index(7, 2, 9), None),
        (Index(7, 2, 9), Region(Index(8, 3, 9), Index(40, 20, 30))),
    ],
)
def test_a_layer_holds_what_was_placed_and_nothing_else(arrays, file_of, memory, planes, offset, extent):
    volume = (90, 31, 47)
    stored = labels(volume if offset is None else (50, 20, 30))
    file = file_of(stored, volume, offset, extent, planes=planes, memory=memory)
    region = file.placement.region
    expected, mask = np.zeros(volume, np.uint8), np.zeros(volume, bool)
    expected[Region.of_shape(stored.shape, offset or (0, 0, 0)).slices] = meant(stored)
    mask[region.slices] = True
    expected[~mask] = 0
    seen = []
    made = write_layer(file, Index(*volume), arrays, "l/1", lambda done, total: seen.append((done, total)))
    assert (arrays.open("l/1").read(Region.of_shape(volume)) == expected).all()
    inside = expected[region.slices]
    counts = {value: int((inside == value).sum()) for value in range(4) if (inside == value).any()}
    assert (made.data_type, made.counts) == ("uint8", counts)
    assert seen[-1] == (region.shape.z, region.shape.z)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("memory", [DEFAULT_MEMORY, LITTLE], ids=["much", "little"])
def test_parts_of_wide_volumes_end_at_the_borders_of_shards(arrays, objects, file_of, memory):
    volume = Index(20, 300, 4500)
    stored = np.zeros((13, 280, 4400), np.uint16)
    stored[4:12, 100:270, 2000:4300:7] = 1
    offset = Index(7, 3, 5)
    expected = np.zeros(volume, np.uint8)
    expected[Region.of_shape(stored.shape, offset).slices] = meant(stored)
    write_layer(file_of(stored, volume, offset, memory=memory), volume, arrays, "l/1", nothing)
    assert (arrays.open("l/1").read(Region.of_shape(volume)) == expected).all()
    file = file_of(stored, volume, offset, memory=memory)
    assert (
        joined(objects, volume, write_blocks(file, (2, 3), volume, objects, "p", nothing)) == expected
    ).all()


def joined(objects, volume, blocks, prefix="p"):
    """The labels of all blocks, none of which lies upon another, or has an empty border."""
    together = np.zeros(volume, np.uint8)
    for each in blocks:
        stored = objects.get(f"{prefix}/{each.annotation_id}")
        part = decode_labels_block(stored, each.sha256, each.region, "x")
        assert all(np.asarray(part.any(axis=axes))[[0, -1]].all() for axes in ((1, 2), (0, 2), (0, 1)))
        assert each.region.size <= 1 << 22
        assert not together[each.region.slices].any()
        together[each.region.slices] = part
        assert sum(each.counts.values()) == np.count_nonzero(part)
    return together


def test_a_layer_of_instances_keeps_its_ids(arrays, file_of):
    stored = labels((9, 20, 30), 1 << 40, "uint64")
    made = write_layer(file_of(stored, meaning=InstanceIds()), Index(9, 20, 30), arrays, "l/1", nothing)
    assert (made.data_type, made.counts) == ("uint64", {})
    assert (arrays.open("l/1").read(Region.of_shape(stored.shape)) == stored).all()


def test_only_the_planes_of_the_extent_are_read_each_once(arrays, file_of):
    array = Watched(labels((40, 8, 9)))
    file = file_of(array, extent=Region(Index(11, 0, 0), Index(30, 8, 9)), planes=8)
    write_layer(file, Index(40, 8, 9), arrays, "l/1", nothing)
    assert array.asked == [(11, 16), (16, 24), (24, 30)]


def test_blocks_hold_every_annotated_voxel_once_and_no_empty_region(objects, file_of):
    volume = Index(70, 300, 520)
    stored = np.zeros(volume, np.uint8)
    stored[3:6, 10:40, 500:520] = 1
    stored[60:69, 250:262, 100:300] = 2
    made = write_blocks(file_of(stored), (2, 3), volume, objects, "p", nothing)
    assert (joined(objects, volume, made) == meant(stored)).all()
    # The first object lies on both sides of x 512, the second of z 64, y 256 and x 256; one block has some of both.
    assert len(made) == 2 + 2 * 2 * 2 - 1
    assert len(objects.list("p/")) == len(made)


def test_background_makes_records_where_zero_means_background(objects, file_of):
    volume = Index(5, 20, 30)
    stored = np.zeros(volume, np.uint8)
    file = file_of(stored, meaning=ClassValues({1: 2}, 1))
    (block,) = write_blocks(file, (2,), volume, objects, "p", nothing)
    assert (block.region, block.counts) == (Region.of_shape(volume), {1: 5 * 20 * 30})
    with pytest.raises(InvalidArgument) as caught:
        write_blocks(file_of(stored), (2,), volume, objects, "q", nothing)
    assert caught.value.reason == "NOTHING_ANNOTATED"


@pytest.mark.parametrize("memory", [DEFAULT_MEMORY, LITTLE], ids=["much", "little"])
def test_values_without_meaning_are_told_from_the_whole_file(arrays, file_of, memory):
    volume = Index(40, 18, 29)
    stored = labels(volume)
    stored[2, 1, 1], stored[38, 3, 3] = 9, 7
    with pytest.raises(InvalidArgument, match="values 7, 9,") as caught:
        write_layer(file_of(stored, memory=memory), volume, arrays, "l/1", nothing)
    assert caught.value.reason == "UNMAPPED_VALUES"
    part = Region(Index(3, 0, 0), Index(38, 18, 29))
    assert write_layer(file_of(stored, extent=part, memory=memory), volume, arrays, "l/2", nothing)


@pytest.mark.parametrize(
    ("shape", "offset", "extent", "reason"),
    [
        ((9, 8, 7), None, None, "SHAPES_DIFFER"),
        ((9, 8, 7), Index(2, 0, 0), None, "LABELS_OUT_OF_BOUNDS"),
        ((9, 8, 7), Index(0, 0, 0), Region(Index(0, 0, 0), Index(10, 8, 7)), "EXTENT_OUT_OF_BOUNDS"),
        ((9, 8, 7), Index(1, 1, 0), Region(Index(1, 0, 0), Index(5, 5, 5)), "EXTENT_OUT_OF_BOUNDS"),
    ],
)
def test_labels_that_do_not_fit_are_refused(shape, offset, extent, reason):
    with pytest.raises(InvalidArgument) as caught:
        Placement.of("a.tif", Index(*shape), Index(10, 9, 8), offset, extent)
    assert caught.value.reason == reason
