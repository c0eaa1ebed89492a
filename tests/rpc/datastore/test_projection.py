from __future__ import annotations

import asyncio

import numpy as np
from biosegment_datastore.sql.projection import SqlProjections

from biosegment.database import Database
from biosegment.storage.arrays import Arrays
from biosegment.volume import Region

REGION = Region((1, 2, 3), (2, 10, 11))  # type: ignore[arg-type]


async def test_what_a_writer_spoils_after_it_lost_its_claim_is_applied_again(datastore) -> None:
    ada = datastore.as_user("ada")
    await ada.create_project("em")
    path = datastore.write_tiff("raw.tif", np.zeros((3, 20, 30), np.uint8))
    volume = await ada.import_volume("projects/em", path, "v")
    labels = np.full(REGION.shape, 2)
    await ada.commit(volume.name, REGION, labels)
    layer = f"{volume.name}/layers/annotations"
    assert (await _settled(datastore, ada, layer) == labels).all()

    database = Database.open(datastore.settings.database_url)
    projections = SqlProjections(database)
    try:
        present = await projections.find("em", "v")
        assert present is not None
        assert await projections.claim("em", "v", "stalled", 0.0) is not None
        assert await projections.claim("em", "v", "next", 60.0) is not None
        # The stalled one writes late, over what is there, and then learns that it may not.
        uri = (await ada.datastore.GetLayer(_request(layer))).layer.uri
        key = uri.removeprefix(datastore.settings.object_store_url + "/")
        Arrays(datastore.settings).open(key).write(REGION, np.zeros(REGION.shape, np.uint8))
        before, after = present.applied_sequence - 1, present.applied_sequence
        assert await projections.applied("em", "v", "stalled", before, after) is None
        await projections.rewind("em", "v", before)
        # The one that took over has not seen this, so its word no longer counts either.
        assert await projections.applied("em", "v", "next", after, after) is None
        await projections.release("em", "v", "next")
    finally:
        await database.close()
    async with asyncio.timeout(60):
        while not (await ada.read(layer, REGION) == labels).all():
            await asyncio.sleep(0.1)


def _request(name: str):
    from biosegment.api.datastore.v1alpha1 import datastore_pb2

    return datastore_pb2.GetLayerRequest(name=name)


async def _settled(datastore, ada, layer: str):
    async with asyncio.timeout(30):
        while (await ada.datastore.GetLayer(_request(layer))).layer.projected_sequence < 1:
            await asyncio.sleep(0.05)
    return await ada.read(layer, REGION)
