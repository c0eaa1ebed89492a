"""The gateway in front of a real datastore: a file goes in through it, and comes out as OME-Zarr over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import zarr

from biosegment.client.instances import Instances
from biosegment.client.volumes import Volumes
from biosegment.errors import NotFound
from biosegment.volume import Index, Region
from tests.rpc.gateway.conftest import MakeSettings
from tests.rpc.gateway.pair import open_pair


@pytest.mark.parametrize("shape", [(9, 140, 300)])
async def test_a_volume_goes_in_through_the_gateway_and_out_over_http(
    keys: Path, tmp_path: Path, make_settings: MakeSettings, shape
):
    image = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    async with open_pair(tmp_path, keys, make_settings) as pair:
        project = await pair.admin.create_project("em")
        path = pair.datastore.write_tiff("stack.tif", image)
        volume = await pair.admin.import_volume(project.name, path, "brain")
        assert np.array_equal(await pair.admin.read(volume.name), image)
        region = Region(Index(2, 10, 20), Index(5, 90, 290))
        assert np.array_equal(await pair.admin.read(volume.name, region), image[2:5, 10:90, 20:290])
        with pytest.raises(NotFound):
            await pair.admin.read("projects/em/volumes/none")
        objects = await Volumes(pair.channel).write_layer(
            volume.name, np.ones(shape, np.uint32), kind="instances"
        )
        made = await Instances(pair.channel).reassign(
            objects.name, np.ones(region.shape, bool), region=region
        )
        assert await Instances(pair.channel).list(objects.name) == [made]
        assert (await Volumes(pair.channel).read(objects.name, region, with_edits=True) == 2).all()

        body = (
            await pair.web.post("/api/DatastoreService/ListVolumes", json={"parent": "projects/em"})
        ).json()
        assert body["volumes"][0]["name"] == volume.name
        url = f"http://{pair.gateway.http_address}/zarr/t/{pair.token}/{volume.name}"
        group = await asyncio.to_thread(zarr.open_group, url, mode="r", zarr_format=3)
        got = await asyncio.to_thread(lambda: group["0"][:])
        assert np.array_equal(got, image)
