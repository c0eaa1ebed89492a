"""How long edits of objects live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biosegment.api.datastore.v1alpha1 import datastore_pb2
from biosegment.client.instances import Instances
from biosegment.client.volumes import Volumes
from biosegment.errors import (
    FailedPrecondition,
    NotFound,
)
from biosegment.ids import new_id
from tests.rpc.datastore.corrections.corrected import FIVE, RIGHT, half, now, plain
from tests.rpc.datastore_server import Caller, RunningDatastore, running_datastore
from tests.unit.datastore.instances.reference import applied


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
