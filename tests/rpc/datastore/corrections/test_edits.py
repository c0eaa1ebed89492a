"""Objects of a layer of instances are corrected."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from biosegment.client.instances import Instances
from biosegment.client.volumes import Volumes
from biosegment.errors import (
    BiosegmentError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from biosegment.volume import Region
from tests.rpc.datastore.corrections.corrected import FIVE, ONE, RIGHT, VOXEL, half, now, plain
from tests.rpc.datastore_server import Caller, RunningDatastore
from tests.unit.datastore.instances.reference import applied


async def test_objects_are_merged_split_deleted_and_moved_and_the_layer_stays(
    ada: Caller, client: Instances, layer: str, objects: Any
) -> None:
    merged = await client.merge(layer, [7, 9], into=9, comment="one and the same")
    assert (merged.sequence, merged.kind, merged.instances, merged.into) == (1, "merge", (9, 7), 9)
    assert (merged.author, merged.comment, merged.reverted) == ("ada", "one and the same", False)
    split = await client.split(layer, 5, parts=half(FIVE), region=FIVE)
    assert (split.new_instances, split.region) == ((301,), RIGHT)
    deleted = await client.delete(layer, [300])
    mask = np.zeros((1, 5, 5), bool)
    mask[0, 2:, 2:] = True
    where = Region.of_shape(mask.shape, (0, 60, 0))
    grown = await client.reassign(layer, mask, region=where, instance=5)
    fresh = await client.reassign(layer, mask, region=where.shifted((1, 0, 0)))
    assert (grown.instances, grown.into, grown.new_instances) == ((0,), 5, ())
    assert (fresh.instances, fresh.into, fresh.new_instances) == ((0,), 302, (302,))
    edits = [
        plain(merged),
        plain(split, await client.labels(split.name)),
        plain(deleted),
        plain(grown, await client.labels(grown.name)),
        plain(fresh, await client.labels(fresh.name)),
    ]
    expected = applied(objects, edits)
    assert {0, 5, 9, 301, 302} == set(np.unique(expected).tolist())
    np.testing.assert_array_equal(await now(ada, layer), expected)
    part = Region.of_shape((2, 33, 31), (1, 11, 7))
    np.testing.assert_array_equal(await now(ada, layer, part), expected[part.slices])
    # What the layer was written with is read as before.
    np.testing.assert_array_equal(await ada.read(layer), objects)
    at = await client.at(layer, (0, 12, 30))
    assert (at.instance, at.stored_instance, at.sequence) == (301, 5, 5)
    assert await client.list(layer) == [merged, split, deleted, grown, fresh]
    assert await client.list(layer, instance=5) == [split, grown]
    assert await client.list(layer, instance=301) == [split]
    assert await client.list(layer, after_sequence=3) == [grown, fresh]
    assert await client.get(split.name) == split
    with pytest.raises(InvalidArgument) as caught:
        await client.labels(merged.name)
    assert caught.value.reason == "NO_BLOCK"


async def test_whatever_is_taken_back_in_whatever_order_the_rest_holds(
    ada: Caller, client: Instances, layer: str, objects: Any
) -> None:
    both = Region.of_shape((6, 20, 30), (0, 10, 10))
    new = 300
    # Each is taken back first and last; all sets of edits that are left are composed in the tests without servers.
    for order in list(itertools.permutations(range(4)))[::3]:
        seen = len(await client.list(layer))
        merged = await client.merge(layer, [5, 7])
        split = await client.split(layer, 5, parts=half(both), region=both)
        # New objects never get an id that another one had.
        new += 1
        assert split.new_instances == (new,)
        made = [merged, split, await client.delete(layer, [5]), await client.merge(layer, [9, new])]
        block = await client.labels(split.name)
        edits = [plain(each, block) for each in made]
        np.testing.assert_array_equal(await now(ada, layer), applied(objects, edits))
        kept = list(range(4))
        for number in order:
            assert (await client.revert(made[number].name)).reverted
            kept.remove(number)
            expected = applied(objects, [edits[each] for each in kept])
            np.testing.assert_array_equal(await now(ada, layer), expected)
        history = await client.list(layer, after_sequence=seen)
        assert [each.kind for each in history] == ["merge", "split", "delete", "merge"] + ["revert"] * 4
        assert [each.reverts for each in history[4:]] == [made[number].name for number in order]
        assert [each.reverted for each in history] == [True] * 4 + [False] * 4
    np.testing.assert_array_equal(await now(ada, layer), objects)


async def test_a_layer_tells_when_its_objects_were_last_edited(
    ada: Caller, client: Instances, layer: str, volume: Any, objects: Any
) -> None:
    volumes = Volumes(ada.channel)
    other = (await volumes.write_layer(volume.name, objects, kind="instances")).name
    assert (await volumes.layer(layer)).edit_time is None
    made = [await client.merge(layer, [5, 7]), await client.delete(layer, [9])]
    assert (await volumes.layer(layer)).edit_time == made[1].create_time
    await client.revert(made[0].name)
    (*_, revert) = await client.list(layer)
    assert revert.create_time is not None
    assert made[1].create_time is not None
    assert revert.create_time > made[1].create_time
    listed = {each.name: each.edit_time for each in await volumes.layers(volume.name)}
    assert (listed[layer], listed[other]) == (revert.create_time, None)


async def test_a_split_by_seeds_follows_the_object_and_finds_its_extent(
    ada: Caller, client: Instances, layer: str, objects: Any
) -> None:
    # 9 becomes a part of 5 far away from it, so that the object lies in two places.
    await client.merge(layer, [5, 7, 9])
    split = await client.split(layer, 5, seeds=[[(0, 12, 12)], [(0, 28, 12), (0, 28, 38)], [(3, 50, 60)]])
    assert split.new_instances == (301, 302)
    found = await now(ada, layer)
    assert set(np.unique(found[:, 10:20, 10:40]).tolist()) == {5, 301}
    assert (found[:, 10:19, 10:20] == 5).all()
    assert (found[:, 26:30, 10:40] == 301).all()
    assert (found[objects == 9] == 302).all()
    assert (found != 0).sum() == (objects != 0).sum()
    where = Region.of_shape((6, 10, 10), (0, 10, 10))
    inner = await client.split(layer, 5, seeds=[[(0, 12, 12)], [(5, 12, 12)]], region=where)
    assert inner.region is not None
    assert where.contains(inner.region)
    assert (await now(ada, layer))[5, 12, 12] == 303


WIDE = Region.of_shape((1, 1, 40), (0, 10, 5))


REFUSED: list[tuple[str, dict[str, Any], type[BiosegmentError], str]] = [
    ("merge", {"instances": [5]}, InvalidArgument, "BAD_EDIT"),
    ("merge", {"instances": [5, 5]}, InvalidArgument, "BAD_EDIT"),
    ("merge", {"instances": [5, 0]}, InvalidArgument, "BAD_EDIT"),
    ("merge", {"instances": [5, 7], "into": 9}, InvalidArgument, "BAD_EDIT"),
    ("merge", {"instances": [5, 6]}, NotFound, "INSTANCE_NOT_FOUND"),
    ("merge", {"instances": [5, 1 << 63]}, InvalidArgument, "BAD_EDIT"),
    ("merge", {"instances": list(range(1, 10_002))}, InvalidArgument, "BAD_EDIT"),
    ("delete", {"instances": []}, InvalidArgument, "BAD_EDIT"),
    ("delete", {"instances": [301]}, NotFound, "INSTANCE_NOT_FOUND"),
    ("delete", {"instances": [5], "comment": "x" * 10_001}, InvalidArgument, "BAD_TEXT"),
    ("split", {"instance": 5}, InvalidArgument, "BAD_EDIT"),
    ("split", {"instance": 0, "parts": ONE, "region": VOXEL}, InvalidArgument, "BAD_EDIT"),
    ("split", {"instance": 6, "parts": ONE, "region": VOXEL}, NotFound, "INSTANCE_NOT_FOUND"),
    ("split", {"instance": 7, "parts": ONE, "region": VOXEL}, InvalidArgument, "PARTS_NOT_OF_OBJECT"),
    ("split", {"instance": 5, "parts": ONE, "region": FIVE}, InvalidArgument, "LABELS_WRONG_SIZE"),
    ("split", {"instance": 5, "parts": ONE * 0, "region": VOXEL}, InvalidArgument, "PART_EMPTY"),
    ("split", {"instance": 5, "parts": ONE * 2, "region": VOXEL}, InvalidArgument, "PART_EMPTY"),
    (
        "split",
        {"instance": 5, "parts": np.ones(WIDE.shape, np.uint8), "region": WIDE},
        InvalidArgument,
        "PARTS_NOT_OF_OBJECT",
    ),
    (
        "split",
        {"instance": 5, "parts": np.ones(FIVE.shape, np.uint8), "region": FIVE},
        FailedPrecondition,
        "SPLIT_LEAVES_NOTHING",
    ),
    (
        "split",
        {"instance": 5, "parts": ONE, "region": VOXEL.shifted((6, 0, 0))},
        InvalidArgument,
        "REGION_OUT_OF_BOUNDS",
    ),
    ("split", {"instance": 5, "seeds": [[(0, 10, 10)]]}, InvalidArgument, "BAD_EDIT"),
    ("split", {"instance": 5, "seeds": [[(0, 10, 10)], []]}, InvalidArgument, "BAD_EDIT"),
    ("split", {"instance": 5, "seeds": [[(0, 10, 10)], [(0, 10, 10)]]}, InvalidArgument, "BAD_SEED"),
    ("split", {"instance": 5, "seeds": [[(0, 10, 10)], [(0, 60, 10)]]}, InvalidArgument, "BAD_SEED"),
    ("split", {"instance": 5, "seeds": [[(0, 10, 10)], [(0, 25, 10)]]}, InvalidArgument, "BAD_SEED"),
    ("split", {"instance": 5, "seeds": [[(0, 10, 10)], [(-1, 0, 0)]]}, InvalidArgument, "BAD_POSITION"),
    ("reassign", {"mask": ONE * 0, "region": VOXEL}, InvalidArgument, "NOTHING_CHANGES"),
    ("reassign", {"mask": ONE, "region": VOXEL, "instance": 5}, InvalidArgument, "NOTHING_CHANGES"),
    ("reassign", {"mask": ONE * 2, "region": VOXEL}, InvalidArgument, "BAD_EDIT"),
    ("reassign", {"mask": ONE, "region": VOXEL, "instance": 6}, NotFound, "INSTANCE_NOT_FOUND"),
    ("reassign", {"mask": ONE, "region": FIVE}, InvalidArgument, "LABELS_WRONG_SIZE"),
    ("reclassify", {"instances": [5], "class_value": 3}, FailedPrecondition, "LAYER_HAS_NO_CLASS"),
]


async def test_edits_that_make_no_sense_are_refused_and_leave_nothing(
    datastore: RunningDatastore, client: Instances, layer: str
) -> None:
    for method, given, kind, reason in REFUSED:
        places = {
            "merge": ["instances"],
            "delete": ["instances"],
            "split": ["instance"],
            "reassign": ["mask"],
        }
        first = places.get(method, ["instances", "class_value"])
        rest = {name: value for name, value in given.items() if name not in first}
        with pytest.raises(kind) as caught:
            await getattr(client, method)(layer, *(given[name] for name in first), **rest)
        assert caught.value.reason == reason, (method, given, caught.value.message)
    assert await client.list(layer) == []
    assert await datastore.parts.objects.list("projects/em/edits/") == []


async def test_objects_that_are_gone_are_named_with_the_edit_that_took_them(
    client: Instances, layer: str
) -> None:
    merged = await client.merge(layer, [5, 7])
    for call in (
        client.delete(layer, [7]),
        client.merge(layer, [9, 7]),
        client.reassign(layer, ONE, region=Region.of_shape((1, 1, 1)), instance=7),
    ):
        with pytest.raises(FailedPrecondition) as caught:
            await call
        assert (caught.value.reason, caught.value.metadata["edit"]) == ("INSTANCE_GONE", merged.name)
        assert "part of object 5" in caught.value.message
    split = await client.split(layer, 5, parts=half(FIVE), region=FIVE)
    await client.revert(split.name)
    with pytest.raises(FailedPrecondition) as caught:
        await client.delete(layer, list(split.new_instances))
    assert caught.value.metadata["edit"] == split.name
    await client.revert(merged.name)
    assert (await client.delete(layer, [7])).instances == (7,)


async def test_layers_without_objects_have_no_edits(ada: Caller, client: Instances, volume: Any) -> None:
    labels = await Volumes(ada.channel).write_layer(volume.name, np.ones((6, 70, 90), np.uint8))
    with pytest.raises(InvalidArgument) as caught:
        await client.merge(labels.name, [1, 2])
    assert caught.value.reason == "NOT_INSTANCES"
    for name in (labels.name, volume.name):
        with pytest.raises(InvalidArgument) as caught:
            await now(ada, name)
        assert caught.value.reason == "NOT_INSTANCES"
    with pytest.raises(NotFound):
        await client.merge(f"{volume.name}/layers/none", [1, 2])
    for name in (labels.name, volume.name):
        with pytest.raises(InvalidArgument) as caught:
            await Volumes(ada.channel).read(name, as_of=datetime.now(UTC))
        assert caught.value.reason == "BAD_AS_OF"
