"""Objects of a layer of instances are corrected, and read and exported as they then are."""

from __future__ import annotations

import asyncio
import io
import itertools
import uuid
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from biosegment_datastore.instances.history import Histories
from biosegment_datastore.sql.instance import SqlInstances
from biosegment_datastore.sql.layer import SqlLayers

from biosegment.api.datastore.v1alpha1 import datastore_pb2, instance_pb2, project_pb2
from biosegment.api.datastore.v1alpha1.instance_pb2_grpc import InstanceEditServiceStub
from biosegment.client.instances import Instances
from biosegment.client.resources import InstanceEdit
from biosegment.client.volumes import Volumes
from biosegment.errors import (
    AlreadyExists,
    BiosegmentError,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from biosegment.ids import new_id
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Region
from tests.rpc.datastore.test_datastore_exports import exported, predict, segmentation
from tests.rpc.datastore_server import Caller, RunningDatastore, running_datastore
from tests.unit.datastore.instances.reference import Plain, applied, said

MITOCHONDRIA, MEMBRANE = 2, 3


@pytest.fixture
def objects(image: Any) -> Any:
    """(6, 70, 90) uint32: 5 and 7 touch, 9 and 300 lie apart; 5 is a bar through all slices."""
    ids = np.zeros(image.shape, np.uint32)
    ids[:, 10:20, 10:40] = 5
    ids[:, 20:30, 10:40] = 7
    ids[2:4, 40:60, 50:80] = 9
    ids[0, 0:4, 0:4] = 300
    return ids


@pytest.fixture
async def layer(ada: Caller, volume: Any, objects: Any) -> str:
    """Of no class and from nowhere."""
    return (await Volumes(ada.channel).write_layer(volume.name, objects, kind="instances")).name


@pytest.fixture
def client(ada: Caller) -> Instances:
    return Instances(ada.channel)


async def now(caller: Caller, layer: str, region: Region | None = None, as_of: datetime | None = None) -> Any:
    return await Volumes(caller.channel).read(layer, region, with_edits=True, as_of=as_of)


def plain(edit: InstanceEdit, labels: Any = None) -> Plain:
    """An edit for the reference."""
    parts = dict(enumerate(edit.new_instances, 1)) if edit.kind == "split" else {}
    return Plain(edit.kind, list(edit.instances), edit.into, parts, edit.class_value, edit.region, labels)


def half(region: Region) -> Any:
    """1 in the right half of a region."""
    labels = np.zeros(region.shape, np.uint8)
    labels[:, :, region.shape.x // 2 :] = 1
    return labels


FIVE = Region.of_shape((6, 10, 30), (0, 10, 10))
RIGHT = Region.of_shape((6, 10, 15), (0, 10, 25))
"""The half of 5 that is split off."""


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


async def test_the_objects_of_a_moment_are_read_and_exported(
    ada: Caller, project: Any, client: Instances, layer: str, objects: Any
) -> None:
    deleted = await client.delete(layer, [9])
    await client.revert(deleted.name)
    await client.merge(layer, [5, 7])
    first, _, last = await client.list(layer)
    with pytest.raises(InvalidArgument) as caught:
        await now(ada, layer, as_of=datetime.now(UTC) + timedelta(hours=1))
    assert caught.value.reason == "BAD_AS_OF"
    assert first.create_time is not None
    assert last.create_time is not None
    without_nine = np.where(objects == 9, 0, objects)
    np.testing.assert_array_equal(await now(ada, layer, as_of=first.create_time), without_nine)
    before = last.create_time - timedelta(microseconds=1)
    np.testing.assert_array_equal(await now(ada, layer, as_of=before), objects)
    merged = np.where(objects == 7, 5, objects)
    np.testing.assert_array_equal(await now(ada, layer), merged)
    for options, expected in (
        ({}, merged),
        ({"without_edits": True}, objects),
        ({"as_of": first.create_time}, without_nine),
    ):
        np.testing.assert_array_equal(await exported_objects(ada, project, layer, **options), expected)


async def exported_objects(caller: Caller, project: Any, layer: str, **options: Any) -> Any:
    _, data = await exported(caller, project, source=layer, **options)
    return tifffile.imread(io.BytesIO(data))


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


VOXEL = Region.of_shape((1, 1, 1), (0, 10, 10))
ONE = np.ones((1, 1, 1), np.uint8)
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


async def test_a_repeated_request_is_one_edit(
    datastore: RunningDatastore, client: Instances, layer: str
) -> None:
    one, two = str(uuid.uuid4()), str(uuid.uuid4())
    made = await client.split(layer, 5, parts=half(FIVE), region=FIVE, request_id=one)
    assert await client.split(layer, 5, parts=half(FIVE), region=FIVE, request_id=one) == made
    with pytest.raises(AlreadyExists) as caught:
        await client.delete(layer, [9], request_id=one)
    assert caught.value.reason == "REQUEST_ID_REUSED"
    both = await asyncio.gather(*(client.delete(layer, [9], request_id=two) for _ in range(3)))
    assert both[0] == both[1] == both[2]
    assert await client.list(layer) == [made, both[0]]
    assert len(await datastore.parts.objects.list("projects/em/edits/")) == 1


async def test_two_who_saw_the_same_do_not_undo_each_other(
    datastore: RunningDatastore, ada: Caller, client: Instances, layer: str
) -> None:
    await join(ada, "bob", project_pb2.ROLE_ANNOTATOR)
    bob = Instances(datastore.as_user("bob").channel)
    seen = (await client.at(layer, (0, 12, 12))).sequence
    hers = await client.merge(layer, [5, 7], base_sequence=seen)
    for call in (
        bob.delete(layer, [7], base_sequence=seen),
        bob.merge(layer, [9, 5], base_sequence=seen),
        bob.split(layer, 5, parts=half(FIVE), region=FIVE, base_sequence=seen),
        bob.reassign(layer, ONE, region=VOXEL, instance=9, base_sequence=seen),
    ):
        with pytest.raises(Conflict) as caught:
            await call
        assert (caught.value.reason, caught.value.metadata["edit"]) == ("BASE_OUTDATED", hers.name)
    # What she did not touch is free, and after another look so is the rest.
    his = await bob.delete(layer, [9], base_sequence=seen)
    await bob.split(layer, 5, parts=half(FIVE), region=FIVE, base_sequence=hers.sequence)
    # Background has no id: there the place counts.
    where = Region.of_shape((1, 2, 2), (0, 60, 60))
    mine = await client.reassign(layer, np.ones(where.shape, bool), region=where, base_sequence=his.sequence)
    beside = where.shifted((0, 1, 1))
    with pytest.raises(Conflict) as caught:
        await bob.reassign(layer, np.ones(where.shape, bool), region=beside, base_sequence=his.sequence)
    assert caught.value.metadata["edit"] == mine.name
    far = where.shifted((0, 5, 0))
    await bob.reassign(layer, np.ones(where.shape, bool), region=far, base_sequence=his.sequence)
    # Voxels of an object that is gone since are background now; she saw them as the object's.
    gone = await client.delete(layer, [300])
    corner = Region.of_shape((1, 2, 2))
    with pytest.raises(Conflict) as caught:
        await bob.reassign(layer, np.ones(corner.shape, bool), region=corner, base_sequence=gone.sequence - 1)
    assert caught.value.metadata["edit"] == gone.name
    await bob.reassign(layer, np.ones(corner.shape, bool), region=corner, base_sequence=gone.sequence)
    # A revert is a change, too.
    await client.revert(hers.name)
    with pytest.raises(Conflict):
        await bob.delete(layer, [7], base_sequence=mine.sequence)


async def test_who_takes_back_an_inner_edit_changes_what_was_made_of_its_objects_since(
    ada: Caller, client: Instances, layer: str, objects: Any
) -> None:
    inner = await client.merge(layer, [7, 9], into=9)
    await client.merge(layer, [5, 9], into=5)
    split = await client.split(layer, 5, seeds=[[(0, 12, 12)], [(0, 28, 38)]])
    last = await client.merge(layer, [300, *split.new_instances], into=300)
    await client.revert(inner.name)
    for instance in (5, 7, 9, 300):
        with pytest.raises(Conflict) as caught:
            await client.delete(layer, [instance], base_sequence=last.sequence)
        assert caught.value.metadata["sequence"] == "5"
        assert (await client.list(layer, instance=instance))[-1].reverts == inner.name
    # A part of an object that was taken apart lies below voxels that come back.
    joined = await client.merge(layer, [300, 7], into=300)
    where = Region.of_shape((1, 1, 1), (0, 29, 39))
    moved = await client.reassign(layer, ONE, region=where, instance=5)
    apart = await client.revert(joined.name)
    assert apart.reverted
    seen = (await client.list(layer))[-1].sequence
    await client.revert(moved.name)
    assert (await now(ada, layer, where)).item() == 7
    with pytest.raises(Conflict):
        await client.delete(layer, [7], base_sequence=seen)
    assert (await now(ada, layer) == 7).sum() == (objects == 7).sum()


async def test_edits_of_very_many_objects_come_in_short_pages(
    ada: Caller, client: Instances, layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [
        await client.merge(layer, [5, 7]),
        await client.delete(layer, [5]),
        await client.delete(layer, [9]),
    ]
    stub = InstanceEditServiceStub(ada.channel)
    for most, sizes in ((1, [1, 1, 1]), (3, [2, 1]), (4, [3])):
        monkeypatch.setattr("biosegment_datastore.sql.instance._PAGE_IDS", most)
        request = instance_pb2.ListInstanceEditsRequest(parent=layer, page_size=1000)
        found: list[int] = []
        while not found or request.page_token:
            page = await stub.ListInstanceEdits(request)
            found.append(len(page.edits))
            request.page_token = page.next_page_token
        assert found == sizes
        assert await client.list(layer) == made


async def test_callers_at_the_same_time_compose_the_edits_once(
    datastore: RunningDatastore, client: Instances, layer: str
) -> None:
    await client.merge(layer, [5, 7])
    database = datastore.parts.database
    found = await SqlLayers(database).get(*layer.split("/")[1::2])
    histories = Histories(SqlInstances(database))
    first = await asyncio.gather(*(histories.of(found) for _ in range(4)))
    assert all(each is first[0] for each in first)
    await client.delete(layer, [5])
    assert first[0].sequence == 1
    later = await asyncio.gather(*(histories.of(found) for _ in range(4)))
    assert all(each is later[0] for each in later)
    assert later[0].sequence == 2


async def test_the_largest_ids_can_be_edited_and_leave_no_new_ones(
    ada: Caller, client: Instances, volume: Any, image: Any
) -> None:
    largest = (1 << 63) - 2
    ids = np.zeros(image.shape, np.uint64)
    ids[0, 0, :2] = 1, largest
    volumes = Volumes(ada.channel)
    layer = (await volumes.write_layer(volume.name, ids, kind="instances")).name
    assert (await client.merge(layer, [largest, 1])).into == largest
    with pytest.raises(ResourceExhausted) as full:
        await client.reassign(layer, ONE, region=Region.of_shape((1, 1, 1)))
    assert full.value.reason == "NO_IDS_LEFT"
    ids[0, 0, 1] = largest + 1
    beyond = (await volumes.write_layer(volume.name, ids, kind="instances")).name
    with pytest.raises(FailedPrecondition) as caught:
        await client.delete(beyond, [1])
    assert caught.value.reason == "INSTANCE_IDS_TOO_LARGE"


async def test_many_edit_at_once_and_none_is_lost(
    ada: Caller, client: Instances, volume: Any, image: Any
) -> None:
    ids = np.arange(1, image.size + 1, dtype=np.uint32).reshape(image.shape)
    layer = (await Volumes(ada.channel).write_layer(volume.name, ids, kind="instances")).name
    made = await asyncio.gather(
        *(client.merge(layer, [10 * each + 1, 10 * each + 2]) for each in range(12)),
        *(
            client.reassign(layer, np.ones((1, 1, 2), bool), region=Region.of_shape((1, 1, 2), (3, each, 4)))
            for each in range(12)
        ),
    )
    assert sorted(each.sequence for each in made) == list(range(1, 25))
    new = [each.new_instances[0] for each in made if each.new_instances]
    assert sorted(new) == list(range(image.size + 1, image.size + 13))
    edits = [
        plain(each, np.ones((1, 1, 2), np.uint8)) for each in sorted(made, key=lambda each: each.sequence)
    ]
    np.testing.assert_array_equal(await now(ada, layer), applied(ids, edits))


async def join(caller: Caller, user: str, role: int) -> None:
    member = project_pb2.Member(name=f"projects/em/members/{user}", role=role)
    await caller.datastore.SetMember(datastore_pb2.SetMemberRequest(member=member))


async def test_annotators_edit_viewers_look_and_reviewers_take_back_what_others_did(
    datastore: RunningDatastore, ada: Caller, client: Instances, layer: str
) -> None:
    for user, role in (
        ("bob", project_pb2.ROLE_ANNOTATOR),
        ("eve", project_pb2.ROLE_VIEWER),
        ("rae", project_pb2.ROLE_REVIEWER),
    ):
        await join(ada, user, role)
    bob, eve, rae, mallory = (
        Instances(datastore.as_user(user).channel) for user in ("bob", "eve", "rae", "mallory")
    )
    hers = await client.delete(layer, [300])
    his = await bob.merge(layer, [5, 7])
    assert await eve.list(layer) == [hers, his]
    assert (await eve.at(layer, (0, 25, 12))).instance == 5
    for call in (eve.merge(layer, [5, 9]), eve.revert(his.name), bob.revert(hers.name)):
        with pytest.raises(PermissionDenied):
            await call
    # Who is no member does not even learn that there is such a layer.
    hidden: list[Coroutine[Any, Any, object]] = [
        mallory.list(layer),
        mallory.at(layer, (0, 0, 0)),
        mallory.get(his.name),
        mallory.delete(layer, [9]),
    ]
    for each in hidden:
        with pytest.raises(NotFound):
            await each
    assert (await bob.revert(his.name)).reverted
    with pytest.raises(FailedPrecondition) as caught:
        await bob.revert(his.name)
    assert caught.value.reason == "ALREADY_REVERTED"
    assert (await rae.revert(hers.name)).author == "ada"
    records = await client.list(layer)
    assert [(each.kind, each.author) for each in records[2:]] == [("revert", "bob"), ("revert", "rae")]
    with pytest.raises(FailedPrecondition) as caught:
        await rae.revert(records[-1].name)
    assert caught.value.reason == "IS_REVERT"


@pytest.fixture
async def found(datastore: RunningDatastore, ada: Caller, volume: Any, objects: Any) -> tuple[str, Any, str]:
    """A prediction, its labels, and the layer of mitochondria that were found in it."""
    labels = np.where(objects > 0, MITOCHONDRIA, 1).astype(np.uint8)
    labels[5] = np.where(labels[5] == 1, MEMBRANE, labels[5])
    prediction = (await predict(datastore, volume, labels, "prediction")).name
    made = await Volumes(ada.channel).write_layer(
        volume.name, objects, kind="instances", class_value=MITOCHONDRIA, source_layer=prediction
    )
    assert (made.source_layer, made.class_value) == (prediction, MITOCHONDRIA)
    return prediction, labels, made.name


async def test_a_segmentation_is_the_prediction_the_annotations_and_then_the_edits_of_objects(
    ada: Caller, project: Any, volume: Any, client: Instances, objects: Any, found: tuple[str, Any, str]
) -> None:
    _, labels, layer = found
    painted = Region.of_shape((1, 30, 30), (3, 35, 45))
    annotation = np.full(painted.shape, MEMBRANE, np.uint8)
    annotation[0, :10] = MITOCHONDRIA
    await ada.commit(volume.name, painted, annotation)
    below = labels.copy()
    below[painted.slices] = annotation
    without = np.where(below == 1, 0, below)
    np.testing.assert_array_equal(await segmentation(ada, project, volume), without)
    edits: list[Plain] = []

    async def check(box: Region | None = None) -> None:
        spoken = said(objects, edits, MITOCHONDRIA)
        # 'None of the class' says nothing about another class.
        spoken = np.where((spoken == 1) & (below >= 2) & (below != MITOCHONDRIA), 0, spoken)
        expected = np.where(spoken == 0, below, spoken)
        expected = np.where(expected == 1, 0, expected)
        options = {} if box is None else {"region": region_to_proto(box)}
        got = await segmentation(ada, project, volume, **options)
        np.testing.assert_array_equal(got, expected if box is None else expected[box.slices])

    edits.append(plain(await client.merge(layer, [5, 7])))
    # The annotation painted over a part of 9; where it says another class, the deletion changes nothing.
    edits.append(plain(await client.delete(layer, [9])))
    await check()
    moved = await client.reclassify(layer, [300], MEMBRANE)
    assert (moved.kind, moved.instances, moved.class_value) == ("reclassify", (300,), MEMBRANE)
    edits.append(plain(moved))
    await check(Region.of_shape((3, 41, 37), (2, 17, 33)))
    assert (await client.at(layer, (0, 1, 1))).instance == 0
    where = Region.of_shape((2, 6, 6), (4, 50, 50))
    grown = await client.reassign(layer, np.ones(where.shape, bool), region=where, instance=5)
    edits.append(plain(grown, np.ones(where.shape, np.uint8)))
    await check()
    split = await client.split(layer, 5, parts=half(FIVE), region=FIVE)
    edits.append(plain(split, await client.labels(split.name)))
    edits.append(plain(await client.delete(layer, list(split.new_instances))))
    await check()
    assert said(objects, edits, MITOCHONDRIA)[FIVE.slices].any()
    # Taken back, and of another moment.
    last = edits.pop()
    assert last.kind == "delete"
    record = (await client.list(layer))[-1]
    await client.revert(record.name)
    await check()
    assert moved.create_time is not None
    await expect_as_of(ada, project, volume, moved.create_time, objects, below, edits[:3])
    for given, reason in ((MITOCHONDRIA, "NOTHING_CHANGES"), (77, "UNKNOWN_CLASS")):
        with pytest.raises(InvalidArgument) as caught:
            await client.reclassify(layer, [5], given)
        assert caught.value.reason == reason


async def expect_as_of(
    ada: Caller, project: Any, volume: Any, moment: datetime, objects: Any, below: Any, edits: list[Plain]
) -> None:
    spoken = said(objects, edits, MITOCHONDRIA)
    spoken = np.where((spoken == 1) & (below == MEMBRANE), 0, spoken)
    expected = np.where(spoken == 0, below, spoken)
    then = await segmentation(ada, project, volume, as_of=moment)
    np.testing.assert_array_equal(then, np.where(expected == 1, 0, expected))


async def test_edits_of_objects_from_elsewhere_leave_a_segmentation_alone(
    datastore: RunningDatastore,
    ada: Caller,
    project: Any,
    volume: Any,
    client: Instances,
    found: tuple[str, Any, str],
    layer: str,
) -> None:
    prediction, labels, of_prediction = found
    expected = np.where(labels == 1, 0, labels)
    await client.delete(layer, [5, 7])
    np.testing.assert_array_equal(await segmentation(ada, project, volume), expected)
    # A later prediction has other objects.
    other = np.full_like(labels, MEMBRANE)
    await predict(datastore, volume, other, "later")
    await client.delete(of_prediction, [5, 7])
    np.testing.assert_array_equal(await segmentation(ada, project, volume), other)
    got = await segmentation(ada, project, volume, prediction=prediction)
    changed = (await ada.read(of_prediction) == 5) | (await ada.read(of_prediction) == 7)
    np.testing.assert_array_equal(got, np.where(changed, 0, expected))


async def test_edits_go_with_their_layer_and_blocks_that_nobody_knows_are_collected(
    datastore: RunningDatastore, ada: Caller, client: Instances, layer: str, volume: Any, objects: Any
) -> None:
    await client.split(layer, 5, parts=half(FIVE), region=FIVE)
    other = (await Volumes(ada.channel).write_layer(volume.name, objects, kind="instances")).name
    await client.split(other, 5, parts=half(FIVE), region=FIVE)
    store = datastore.parts.objects
    first, second = await store.list("projects/em/edits/")
    # As a process leaves it that dies between the block and its row, an hour ago and just now.
    old = f"{first.rpartition('/')[0]}/00000000000000000000000000"
    young = f"{first.rpartition('/')[0]}/{new_id()}"
    for key in (old, young):
        await store.put(key, b"block")
    assert await datastore.parts.collector.remove_orphans() == 1
    assert set(await store.list("projects/em/edits/")) == {first, second, young}
    admin = datastore.as_user("root", is_admin=True)
    request = datastore_pb2.CollectGarbageRequest()
    assert (await admin.datastore.CollectGarbage(request)).objects == 0
    with pytest.raises(FailedPrecondition) as caught:
        await Volumes(ada.channel).delete_layer(layer)
    assert caught.value.reason == "LAYER_HAS_EDITS"
    assert len(await client.list(layer)) == 1
    await Volumes(ada.channel).delete_layer(layer, force=True)
    await datastore.parts.collector.collect()
    assert await store.list("projects/em/edits/") in ([first], [second])
    with pytest.raises(NotFound):
        await client.list(layer)
    np.testing.assert_array_equal(
        await now(ada, other), applied(objects, [plain((await client.list(other))[0], half(RIGHT) | 1)])
    )
    with pytest.raises(FailedPrecondition) as caught:
        await Volumes(ada.channel).delete(volume.name)
    assert caught.value.reason == "VOLUME_HAS_EDITS"
    await Volumes(ada.channel).delete(volume.name, force=True)
    await datastore.parts.collector.collect()
    assert await store.list("projects/em/edits/") == []
    assert await store.list("projects/em/layers/") == []


async def test_edits_outlive_the_process_and_a_lost_list_of_objects_is_made_anew(
    tmp_path: Path, keys: Path, image: Any, objects: Any
) -> None:
    async with running_datastore(tmp_path, keys) as first:
        ada = first.as_user("ada")
        project = await ada.create_project("em")
        volume = await ada.import_volume(project.name, first.write_tiff("stack.tif", image), "brain")
        layer = (await Volumes(ada.channel).write_layer(volume.name, objects, kind="instances")).name
        client = Instances(ada.channel)
        split = await client.split(layer, 5, parts=half(FIVE), region=FIVE)
        expected = await now(ada, layer)
        (lost,) = [key for key in await first.parts.objects.list("projects/em/layers/") if "catalogue" in key]
        await first.parts.objects.delete(lost)
    async with running_datastore(tmp_path, keys) as second:
        ada = second.as_user("ada")
        client = Instances(ada.channel)
        assert await client.list(layer) == [split]
        np.testing.assert_array_equal(await now(ada, layer), expected)
        again = await client.split(layer, 7, seeds=[[(0, 22, 12)], [(0, 22, 38)]])
        assert again.new_instances == (302,)
        with pytest.raises(NotFound):
            await client.delete(layer, [6])
