"""Volumes whose voxels stay in somebody's folder, as OME-Zarr over HTTP."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import ngff_zarr
import numpy as np
import PIL.Image
import pytest
import tensorstore as ts
import zarr

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.identity.v1alpha1 import identity_pb2
from biosegment.api.identity.v1alpha1.identity_pb2_grpc import IdentityServiceStub
from biosegment.api.job.v1alpha1 import job_pb2
from tests.rpc.gateway.conftest import MakeSettings
from tests.rpc.gateway.pair import Pair, open_pair

SHAPE = (21, 150, 133)


@dataclass(frozen=True, slots=True)
class Scene:
    """A referenced volume behind a gateway."""

    folder: Path
    levels: list[Any]
    volume: Any
    pair: Pair

    @property
    def web(self) -> httpx.AsyncClient:
        return self.pair.web

    @property
    def path(self) -> str:
        return f"/zarr/{self.volume.name}"


@pytest.fixture(params=["0.4", "0.5"])
async def scene(
    request: pytest.FixtureRequest, keys: Path, tmp_path: Path, make_settings: MakeSettings
) -> AsyncIterator[Scene]:
    async with open_pair(tmp_path, keys, make_settings) as pair:
        folder = pair.datastore.imports / "source.ome.zarr"
        levels = write(folder, image(1), request.param)
        project = (await pair.admin.create_project("em")).name
        spec = job_pb2.ImportVolumeSpec(volume_id="brain", uri=str(folder), reference=True)
        job = await pair.admin.finished(await pair.admin.create_job(project, import_volume=spec))
        assert job.state == job_pb2.Job.STATE_SUCCEEDED, job
        volume = (await pair.admin.datastore.GetVolume(pb.GetVolumeRequest(name=job.result.volume))).volume
        yield Scene(folder, levels, volume, pair)


def image(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 60_000, SHAPE).astype(np.uint16)


def write(folder: Path, data: Any, version: str) -> list[Any]:
    """An image as another library makes it; its levels as it reads them."""
    scale = {"z": 0.05, "y": 0.005, "x": 0.004}
    units = dict.fromkeys("zyx", "micrometer")
    picture = ngff_zarr.to_ngff_image(data, ["z", "y", "x"], scale, axes_units=units)
    multiscales = ngff_zarr.to_multiscales(
        picture, [{"z": 1, "y": 2, "x": 2}, {"z": 2, "y": 4, "x": 4}], chunks=48
    )
    ngff_zarr.to_ngff_zarr(str(folder), multiscales, version=version)
    group: Any = zarr.open_group(folder, mode="r")
    return [np.asarray(group[dataset.path]) for dataset in multiscales.metadata.datasets]


async def test_viewers_open_it_by_its_address_like_any_volume(scene: Scene):
    listed = (
        await scene.web.post("/api/DatastoreService/ListVolumes", json={"parent": "projects/em"})
    ).json()["volumes"]
    assert [each["name"] for each in listed] == [scene.volume.name]
    url = f"http://{scene.pair.gateway.http_address}/zarr/t/{scene.pair.token}/{scene.volume.name}"

    def read() -> tuple[Any, list[Any], Any]:
        group: Any = zarr.open_group(url, mode="r", zarr_format=3)
        metadata = group.attrs["ome"]
        paths = [each["path"] for each in metadata["multiscales"][0]["datasets"]]
        spec = {"driver": "zarr3", "kvstore": {"driver": "http", "base_url": f"{url}/1/"}}
        return metadata, [group[path][:] for path in paths], ts.open(spec, read=True).result().read().result()

    metadata, levels, second = await asyncio.to_thread(read)
    assert len(levels) == 3
    for seen, level in zip(levels, scene.levels, strict=True):
        np.testing.assert_array_equal(seen, level)
    np.testing.assert_array_equal(second, scene.levels[1])
    scales = [
        each["coordinateTransformations"][0]["scale"] for each in metadata["multiscales"][0]["datasets"]
    ]
    assert scales == [[50, 5, 4], [50, 10, 8], [100, 20, 16]]


async def test_ranges_and_heads_speak_of_the_same_bytes(scene: Scene):
    whole = await scene.web.get(f"{scene.path}/0/c/1/1/1")
    chunk = np.frombuffer(whole.content, "<u2").reshape(16, 128, 128)
    np.testing.assert_array_equal(chunk[:5, :22, :5], scene.levels[0][16:, 128:, 128:])
    assert not chunk[5:].any()
    head = await scene.web.head(f"{scene.path}/0/c/1/1/1")
    part = await scene.web.get(f"{scene.path}/0/c/1/1/1", headers={"range": "bytes=10-99"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
    assert (part.status_code, part.content) == (206, whole.content[10:100])
    assert head.headers["etag"] == part.headers["etag"] == whole.headers["etag"]


async def test_entity_tags_follow_what_somebody_writes_into_the_folder(scene: Scene):
    path = f"{scene.path}/0/c/0/0/0"
    etag = (await scene.web.get(path)).headers["etag"]
    assert (await scene.web.get(path, headers={"if-none-match": etag})).status_code == 304
    group: Any = zarr.open_group(scene.folder, mode="r+")
    group[scene.volume.levels[0].path][:] = image(2)
    changed = await scene.web.get(path, headers={"if-none-match": etag})
    assert changed.status_code == 200
    seen = np.frombuffer(changed.content, "<u2").reshape(16, 128, 128)
    np.testing.assert_array_equal(seen, image(2)[:16, :128, :128])


async def test_tiles_follow_what_somebody_writes_into_the_folder(scene: Scene):
    path = f"/tiles/{scene.volume.name}/yz/1/20/0/0.png"
    window = scene.volume.display_window

    async def seen() -> tuple[str, Any]:
        answer = await scene.web.get(path)
        assert answer.status_code == 200
        return answer.headers["etag"], np.asarray(PIL.Image.open(io.BytesIO(answer.content))).astype(int)

    def wanted(level: Any) -> Any:
        grey = (level[:, :, 20].astype(float) - window.low) * 255 / (window.high - window.low)
        return np.clip(np.rint(grey), 0, 255)

    etag, before = await seen()
    assert np.abs(before - wanted(scene.levels[1])).max() <= 1
    assert (await scene.web.get(path, headers={"if-none-match": etag})).status_code == 304
    group: Any = zarr.open_group(scene.folder, mode="r+")
    other = scene.levels[1][::-1].copy()
    group[scene.volume.levels[1].path][:] = other
    changed, after = await seen()
    assert changed != etag
    assert np.abs(after - wanted(other)).max() <= 1
    assert (await scene.web.get(f"/thumbnails/{scene.volume.name}.jpg")).status_code == 200


ABSENT = [
    "",
    "0",
    "3/zarr.json",
    "0/c/2/0/0",
    "0/c/0/2/0",
    "0/c/00/0/0",
    "0/c/-1/0/0",
    "0/c/0/0",
    "0/c/999999999/999999999/999999999",
    "99999999999999999999/zarr.json",
    "٠/zarr.json",
    ".zattrs",
    "scale0/image/zarr.json",
    "%2e%2e/source.ome.zarr/zarr.json",
    "0/%2e%2e/zarr.json",
    "%2fetc%2fpasswd",
    "zarr.json%00",
]


async def test_nothing_else_of_the_folder_or_the_disk_is_there(scene: Scene):
    for path in ABSENT:
        answer = await scene.web.get(f"{scene.path}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND"), path
        assert str(scene.folder.parent) not in answer.text


async def test_only_members_see_it_and_a_source_that_is_gone_is_said(scene: Scene):
    identity: Any = IdentityServiceStub(scene.pair.channel)
    await identity.CreateUser(identity_pb2.CreateUserRequest(user_id="eve"))
    made = await identity.CreateToken(identity_pb2.CreateTokenRequest(parent="users/eve"))
    stranger = {"authorization": f"Bearer {made.secret}"}
    for path in ("zarr.json", "0/zarr.json", "0/c/0/0/0"):
        assert (await scene.web.get(f"{scene.path}/{path}")).status_code == 200
        assert (await scene.web.get(f"{scene.path}/{path}", headers=stranger)).status_code == 404
    scene.folder.rename(scene.folder.with_name("away"))
    answer = await scene.web.get(f"{scene.path}/0/c/0/0/0")
    assert (answer.status_code, answer.json()["reason"]) == (503, "SOURCE_GONE")
