"""The gateway in front of a real datastore: a file goes in through it, and comes out as OME-Zarr over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest
import zarr
from biosegment_gateway.gateway import open_gateway

from biosegment.client.instances import Instances
from biosegment.client.volumes import Volumes
from biosegment.errors import NotFound
from biosegment.rpc.channel import CallPolicy, connect
from biosegment.volume import Index, Region
from tests.rpc.datastore_server import Caller, running_datastore
from tests.rpc.gateway.conftest import MakeSettings


@pytest.mark.parametrize("shape", [(9, 140, 300)])
async def test_a_volume_goes_in_through_the_gateway_and_out_over_http(
    keys: Path, tmp_path: Path, make_settings: MakeSettings, shape
):
    image = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    nowhere = "127.0.0.1:1"
    async with running_datastore(tmp_path, keys) as datastore:
        addresses = {"datastore": datastore.address, "sampler": nowhere, "trainer": nowhere}
        settings = make_settings(addresses).model_copy(
            update={"object_store_url": datastore.settings.object_store_url}
        )
        async with open_gateway(settings) as gateway:
            token = (tmp_path / "admin-token").read_text().strip()
            channel = connect(gateway.grpc_address, credentials=lambda: token, policy=CallPolicy(attempts=1))
            async with channel, httpx.AsyncClient(base_url=f"http://{gateway.http_address}") as web:
                admin = Caller(channel)
                project = await admin.create_project("em")
                path = datastore.write_tiff("stack.tif", image)
                volume = await admin.import_volume(project.name, path, "brain")
                assert np.array_equal(await admin.read(volume.name), image)
                region = Region(Index(2, 10, 20), Index(5, 90, 290))
                assert np.array_equal(await admin.read(volume.name, region), image[2:5, 10:90, 20:290])
                with pytest.raises(NotFound):
                    await admin.read("projects/em/volumes/none")
                objects = await Volumes(channel).write_layer(
                    volume.name, np.ones(shape, np.uint32), kind="instances"
                )
                made = await Instances(channel).reassign(
                    objects.name, np.ones(region.shape, bool), region=region
                )
                assert await Instances(channel).list(objects.name) == [made]
                assert (await Volumes(channel).read(objects.name, region, with_edits=True) == 2).all()

                headers = {"authorization": f"Bearer {token}"}
                body = (await web.get("/api/projects/em/volumes", headers=headers)).json()
                assert body["volumes"][0]["name"] == volume.name
                url = f"http://{gateway.http_address}/zarr/t/{token}/{volume.name}"
                group = await asyncio.to_thread(zarr.open_group, url, mode="r", zarr_format=3)
                got = await asyncio.to_thread(lambda: group["0"][:])
                assert np.array_equal(got, image)
