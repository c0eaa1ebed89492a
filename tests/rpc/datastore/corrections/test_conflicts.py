"""Several people correct objects, and repeat themselves."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest
from biosegment_datastore.instances.history import Histories
from biosegment_datastore.sql.instance import SqlInstances
from biosegment_datastore.sql.layer import SqlLayers

from biosegment.api.datastore.v1alpha1 import datastore_pb2, instance_pb2, project_pb2
from biosegment.api.datastore.v1alpha1.instance_pb2_grpc import InstanceEditServiceStub
from biosegment.client.instances import Instances
from biosegment.client.volumes import Volumes
from biosegment.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from biosegment.volume import Region
from tests.rpc.datastore.corrections.corrected import FIVE, ONE, VOXEL, half, now, plain
from tests.rpc.datastore_server import Caller, RunningDatastore
from tests.unit.datastore.instances.reference import applied


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
