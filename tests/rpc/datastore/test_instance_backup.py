"""Edits of objects come back from a backup; without the layer that they are of, they are left out with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biosegment.backup.manifest import load_manifest
from biosegment.backup.place import Installation, open_target
from biosegment.backup.restoration import restore
from biosegment.backup.snapshot import make_snapshot
from biosegment.client.instances import Instances
from biosegment.client.resources import InstanceEdit
from biosegment.client.volumes import Volumes
from biosegment.errors import NotFound
from biosegment.volume import Region
from tests.rpc.datastore_server import Caller, running_datastore
from tests.unit.backup.small import Small

WHERE = Region.of_shape((1, 4, 4), (2, 30, 30))


def urls(place: Installation) -> dict[str, Any]:
    return {
        "database_url": place.databases["datastore"],
        "object_store_url": place.store.object_store_url,
    }


async def edited(caller: Caller, volume: str, objects: Any) -> tuple[str, list[InstanceEdit]]:
    """A layer and what was done to it."""
    client = Instances(caller.channel)
    layer = (await Volumes(caller.channel).write_layer(volume, objects, kind="instances")).name
    merged = await client.merge(layer, [1, 2])
    await client.reassign(layer, np.ones(WHERE.shape, bool), region=WHERE)
    await client.split(layer, 3, seeds=[[(0, 10, 45)], [(5, 69, 45)]])
    await client.revert(merged.name)
    return layer, await client.list(layer)


@pytest.mark.parametrize("with_volumes", [True, False])
async def test_edits_are_restored_with_their_layer(
    tmp_path: Path, keys: Path, image: Any, with_volumes: bool
) -> None:
    objects = np.repeat(np.arange(90, dtype=np.uint32) // 22 + 1, 70).reshape(90, 70).T[None].repeat(6, 0)
    platform = Small.at(tmp_path / "platform")
    target = open_target(str(tmp_path / "target"), must_exist=False)
    async with running_datastore(tmp_path, keys, **urls(platform.installation)) as datastore:
        ada = datastore.as_user("ada")
        project = await ada.create_project("em")
        volume = await ada.import_volume(project.name, datastore.write_tiff("stack.tif", image), "brain")
        layer, history = await edited(ada, volume.name, np.ascontiguousarray(objects))
        assert [each.reverted for each in history] == [True, False, False, False]
        expected = await Volumes(ada.channel).read(layer, with_edits=True)
        assert len(platform.objects.list("projects/em/edits/")) == 2
        assert (
            make_snapshot(platform.installation, target, with_volumes=with_volumes).manifest.missing_count
            == 0
        )
        # Later than the backup.
        await Instances(ada.channel).delete(layer, [1])
    place = Installation.embedded(tmp_path / "place")
    done = restore(target, load_manifest(target), place)
    async with running_datastore(tmp_path / "again", keys, **urls(place)) as datastore:
        ada = datastore.as_user("ada")
        client, volumes = Instances(ada.channel), Volumes(ada.channel)
        if not with_volumes:
            assert done.layers_left_out == (layer,)
            with pytest.raises(NotFound):
                await client.list(layer)
            return
        assert await client.list(layer) == history
        np.testing.assert_array_equal(await volumes.read(layer, with_edits=True), expected)
        # New ids go on from where they were.
        again = await client.reassign(layer, np.ones(WHERE.shape, bool), region=WHERE)
        assert again.new_instances[0] > max(new for each in history for new in each.new_instances)
