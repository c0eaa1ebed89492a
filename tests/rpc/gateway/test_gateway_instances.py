"""Objects as their edits made them, as Zarr over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tensorstore as ts
import zarr

from biosegment.client.instances import Instances
from biosegment.client.volumes import Volumes
from tests.rpc.gateway.conftest import MakeSettings
from tests.rpc.gateway.pair import open_pair

SHAPE = (18, 150, 140)


@dataclass(frozen=True, slots=True)
class Scene:
    """A layer of instances behind a gateway."""

    objects: Any
    layer: str
    url: str
    web: httpx.AsyncClient
    instances: Instances
    volumes: Volumes

    @property
    def path(self) -> str:
        return f"/zarr/{self.layer}"


@pytest.fixture(params=["uint32", "uint64"])
async def scene(
    request: pytest.FixtureRequest, keys: Path, tmp_path: Path, make_settings: MakeSettings
) -> AsyncIterator[Scene]:
    objects = np.zeros(SHAPE, request.param)
    objects[:, 10:60, 10:60] = 5
    objects[:, 60:100, 10:60] = 7
    objects[17, 140:, 130:] = 70_000
    async with open_pair(tmp_path, keys, make_settings) as pair:
        project = (await pair.admin.create_project("em")).name
        raw = pair.datastore.write_tiff("raw.tif", np.zeros(SHAPE, np.uint8))
        volume = await pair.admin.import_volume(project, raw, "brain")
        volumes = Volumes(pair.channel)
        layer = (await volumes.write_layer(volume.name, objects, kind="instances")).name
        url = f"http://{pair.gateway.http_address}/zarr/t/{pair.token}/{layer}"
        yield Scene(objects, layer, url, pair.web, Instances(pair.channel), volumes)


async def test_viewers_see_the_objects_as_they_are_now_before_and_after_each_edit(scene: Scene) -> None:
    def read() -> tuple[Any, Any]:
        spec = {"driver": "zarr3", "kvstore": {"driver": "http", "base_url": f"{scene.url}/"}}
        return zarr.open_array(scene.url, mode="r", zarr_format=3)[:], ts.open(
            spec, read=True
        ).result().read().result()

    # An array that a viewer opened before the first edit goes on showing what is there.
    opened: Any = await asyncio.to_thread(zarr.open_array, scene.url, mode="r", zarr_format=3)

    async def check(expected: Any) -> None:
        for seen in (*await asyncio.to_thread(read), await asyncio.to_thread(lambda: opened[:])):
            assert seen.dtype == scene.objects.dtype
            np.testing.assert_array_equal(seen, expected)

    await check(scene.objects)
    merged = await scene.instances.merge(scene.layer, [5, 7])
    await check(np.where(scene.objects == 7, 5, scene.objects))
    await scene.instances.delete(scene.layer, [70_000])
    await check(np.where(scene.objects > 0, 5, 0) * (scene.objects < 70_000))
    await scene.instances.revert(merged.name)
    await check(scene.objects * (scene.objects < 70_000))


async def test_entity_tags_change_where_an_edit_changes_something(scene: Scene) -> None:
    near, far = f"{scene.path}/c/0/0/0", f"{scene.path}/c/1/1/1"
    before = {path: (await scene.web.get(path)).headers["etag"] for path in (near, far)}
    assert (await scene.web.get(near, headers={"if-none-match": before[near]})).status_code == 304
    edit = await scene.instances.merge(scene.layer, [5, 7])
    changed = await scene.web.get(near, headers={"if-none-match": before[near]})
    assert changed.status_code == 200
    assert changed.headers["etag"] != before[near]
    assert (await scene.web.get(far, headers={"if-none-match": before[far]})).status_code == 304
    await scene.instances.revert(edit.name)
    assert (await scene.web.get(near, headers={"if-none-match": before[near]})).status_code == 304


@pytest.mark.parametrize(
    "path", ["0/zarr.json", "c/9/0/0", "c/0/0", "0/c/0/0/0", "c/0/0/0/0", "c/-1/0/0", ""]
)
async def test_nothing_else_is_there(scene: Scene, path: str) -> None:
    assert (await scene.web.get(f"{scene.path}/{path}")).status_code == 404


async def test_a_deleted_layer_is_gone(scene: Scene) -> None:
    assert (await scene.web.get(f"{scene.path}/c/0/0/0")).status_code == 200
    await scene.volumes.delete_layer(scene.layer)
    assert (await scene.web.get(f"{scene.path}/c/0/0/0")).status_code == 404
