"""A volume with chosen layers as one OME-Zarr, opened by a link by the libraries that viewers are made of."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import tensorstore as ts
import zarr
from google.protobuf.field_mask_pb2 import FieldMask
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel
from ome_zarr_models.v05.labels import Labels

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import project_pb2
from biosegment.api.identity.v1alpha1 import identity_pb2
from biosegment.api.identity.v1alpha1.identity_pb2_grpc import IdentityServiceStub
from tests.rpc.gateway.viewed import GREEN, RED, SHAPE, Viewed, open_viewed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def viewed(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Viewed]:
    async with open_viewed(tmp_path_factory.mktemp("viewed"), keys) as found:
        yield found


async def link(viewed: Viewed, layers: list[str], **others: Any) -> dict[str, Any]:
    headers = others.pop("headers", {})
    body = {"name": viewed.volume.name, "layers": layers, **others}
    answer = await viewed.web.post("/links", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def layer_id(viewed: Viewed, kind: str) -> str:
    return viewed.names[kind].rpartition("/")[2]


async def test_zarr_python_finds_all_of_it_in_the_metadata_of_the_root(viewed: Viewed):
    chosen = ["labels", "probabilities", "instances", "annotations"]
    url = (await link(viewed, [viewed.names[each] for each in chosen]))["zarrUrl"]
    label, amount = layer_id(viewed, "labels"), layer_id(viewed, "probabilities")

    def read() -> None:
        group: Any = zarr.open_consolidated(url, zarr_format=3)
        nodes = {path for path, _ in group.members(max_depth=None)}
        assert {"0", "1", "labels", f"labels/{label}", f"labels/{label}/0", f"images/{amount}/0"} <= nodes
        np.testing.assert_array_equal(group["0"][4:9, 100:, 20:], viewed.image[4:9, 100:, 20:])
        np.testing.assert_array_equal(group[f"labels/{label}/0"][:], viewed.labels)
        assert group[f"images/{amount}/0"][0, 0, 0] == 255
        assert group[f"labels/{layer_id(viewed, 'instances')}/0"][0, 0, 0] == 9
        assert group["labels/annotations/0"][3, 10, 20] == 2

    await asyncio.to_thread(read)


async def test_with_a_token_all_layers_are_below_the_volume(viewed: Viewed):
    listed = (await viewed.web.get(f"/zarr/{viewed.volume.name}/labels/zarr.json")).json()
    labels = {layer_id(viewed, kind) for kind in ("labels", "instances", "annotations")}
    assert set(listed["attributes"]["ome"]["labels"]) == labels
    root = (await viewed.web.get(f"/zarr/{viewed.volume.name}/zarr.json")).json()
    window = root["attributes"]["ome"]["omero"]["channels"][0]["window"]
    known = viewed.volume.display_window
    assert (window["start"], window["end"]) == (known.low, known.high)
    below = root["consolidated_metadata"]["metadata"]
    for path in ("labels", f"images/{layer_id(viewed, 'probabilities')}/0", "1"):
        alone = (await viewed.web.get(f"/zarr/{viewed.volume.name}/{path}/zarr.json")).json()
        assert alone == below[path]


async def test_it_keeps_the_rules_of_ome_zarr(viewed: Viewed):
    url = (await link(viewed, [viewed.names["labels"], viewed.names["probabilities"]]))["zarrUrl"]
    label = layer_id(viewed, "labels")

    def read() -> tuple[Image, Labels, ImageLabel, Image]:
        group: Any = zarr.open_group(url, mode="r", zarr_format=3)
        return (
            Image.from_zarr(group),
            Labels.from_zarr(group["labels"]),
            ImageLabel.from_zarr(group[f"labels/{label}"]),
            Image.from_zarr(group[f"images/{layer_id(viewed, 'probabilities')}"]),
        )

    image, labels, one, amounts = await asyncio.to_thread(read)
    assert [axis.name for axis in image.attributes.ome.multiscales[0].axes] == ["z", "y", "x"]
    assert labels.attributes.ome.labels == [label]
    colors = {each.label_value: each.rgba for each in one.attributes.ome.image_label.colors}
    assert colors == {
        0: (0, 0, 0, 0),
        1: (0, 0, 0, 0),
        2: (RED >> 16, RED >> 8 & 255, RED & 255, 255),
        3: (GREEN >> 16, GREEN >> 8 & 255, GREEN & 255, 255),
    }
    scale, shift = amounts.attributes.ome.multiscales[0].datasets[0].coordinateTransformations
    assert scale.scale == [30, 16, 16]
    assert shift.translation == [0, 4, 4]


async def test_tensorstore_opens_every_array_of_it(viewed: Viewed):
    url = (await link(viewed, [viewed.names["labels"], viewed.names["instances"]]))["zarrUrl"]
    second = await viewed.level(1)

    def read(path: str) -> Any:
        spec = {"driver": "zarr3", "kvstore": {"driver": "http", "base_url": f"{url}/{path}/"}}
        return ts.open(spec, read=True).result().read().result()

    np.testing.assert_array_equal(await asyncio.to_thread(read, "0"), viewed.image)
    np.testing.assert_array_equal(await asyncio.to_thread(read, "1"), second)
    labels = f"labels/{layer_id(viewed, 'labels')}/0"
    np.testing.assert_array_equal(await asyncio.to_thread(read, labels), viewed.labels)
    objects = await asyncio.to_thread(read, f"labels/{layer_id(viewed, 'instances')}/0")
    np.testing.assert_array_equal(objects, np.where(viewed.labels == 1, 0, viewed.labels + 7))
    # Coarser levels of layers are not stored: of each group of voxels they show the middle one.
    coarse = await asyncio.to_thread(read, f"labels/{layer_id(viewed, 'labels')}/1")
    np.testing.assert_array_equal(coarse, viewed.labels[:, 1::2, 1::2])
    coarse = await asyncio.to_thread(read, f"labels/{layer_id(viewed, 'instances')}/2")
    middles = viewed.labels[1::2, 2::4, 2::4] if coarse.shape[0] < SHAPE[0] else viewed.labels[:, 2::4, 2::4]
    np.testing.assert_array_equal(coarse, np.where(middles == 1, 0, middles + 7))


async def test_a_link_shows_what_was_chosen_and_nothing_else(viewed: Viewed):
    url = (await link(viewed, [viewed.names["labels"]]))["zarrUrl"]
    labels, other = layer_id(viewed, "labels"), layer_id(viewed, "probabilities")
    group = (await viewed.web.get(f"{url}/zarr.json", headers={"authorization": ""})).json()
    assert not [path for path in group["consolidated_metadata"]["metadata"] if other in path]
    shown = ["0/zarr.json", "0/c/0/0/0", f"labels/{labels}/zarr.json", f"labels/{labels}/0/c/0/0/0"]
    base = url.rpartition("/")[0]
    hidden = [
        f"{url}/images/{other}/zarr.json",
        f"{url}/images/{other}/0/zarr.json",
        f"{url}/labels/annotations/0/zarr.json",
        f"{url}/layers/{labels}/zarr.json",
        f"{url}/labels/{labels}/9/zarr.json",
        f"{url}/../zarr.json",
        f"{url}/..%2f..%2fgateway.sqlite",
        f"{base}/other.ome.zarr/zarr.json",
        f"{base}/projects/em/volumes/brain/zarr.json",
        base,
        f"{base}/",
    ]
    for path in shown:
        assert (await viewed.web.get(f"{url}/{path}", headers={"authorization": ""})).status_code == 200, path
    for path in hidden:
        assert (await viewed.web.get(path, headers={"authorization": ""})).status_code == 404, path
    for method in ("POST", "PUT", "DELETE"):
        assert (await viewed.web.request(method, f"{url}/zarr.json")).status_code == 405
    text = url.split("/")[-2]
    for path in (f"/zarr/t/{text}/{viewed.volume.name}/zarr.json", f"/tiles/{viewed.volume.name}/info.json"):
        answer = await viewed.web.get(path, headers={"authorization": f"Bearer {text}"})
        assert answer.status_code == 401, path


async def refusal(viewed: Viewed, url: str) -> tuple[int, str]:
    """Status and reason of the answer that a link gets when it has ended."""
    async with asyncio.timeout(60):
        while (answer := await viewed.web.get(url, headers={"authorization": ""})).status_code == 200:
            await asyncio.sleep(0.1)
    return answer.status_code, answer.json()["reason"]


async def test_a_link_ends_with_its_time(viewed: Viewed):
    made = await link(viewed, [], lifetimeS=1)
    assert await refusal(viewed, f"{made['zarrUrl']}/zarr.json") == (401, "LINK_EXPIRED")
    assert datetime.now(UTC) >= datetime.fromisoformat(made["expireTime"])


async def test_a_link_ends_with_the_rights_of_its_user(viewed: Viewed):
    identity: Any = IdentityServiceStub(viewed.pair.channel)
    admin = viewed.pair.admin.datastore
    urls = {}
    for user_id in ("ann", "dan"):
        secret = await viewed.token_of(user_id, project_pb2.ROLE_VIEWER)
        made = await link(viewed, [], headers={"authorization": f"Bearer {secret}"})
        urls[user_id] = f"{made['zarrUrl']}/zarr.json"
        assert (await viewed.web.get(urls[user_id], headers={"authorization": ""})).status_code == 200
    await admin.RemoveMember(pb.RemoveMemberRequest(name="projects/em/members/ann"))
    assert await refusal(viewed, urls["ann"]) == (404, "PROJECT_NOT_FOUND")
    assert (await viewed.web.get(urls["dan"], headers={"authorization": ""})).status_code == 200
    change = identity_pb2.User(name="users/dan", disabled=True)
    await identity.UpdateUser(
        identity_pb2.UpdateUserRequest(user=change, update_mask=FieldMask(paths=["disabled"]))
    )
    assert await refusal(viewed, urls["dan"]) == (401, "USER_DISABLED")


BAD: dict[str, list[dict[str, Any]]] = {
    "BAD_NAME": [{}, {"name": 3}, {"name": "projects/em"}, {"name": "projects/em/volumes/../x"}],
    "BAD_LAYER": [
        {"layers": "l"},
        {"layers": [3]},
        {"layers": [""]},
        {"layers": ["a/b"]},
        {"layers": ["\ud800"]},
    ],
    "BAD_LIFETIME": [{"lifetimeS": 0}, {"lifetimeS": 1e9}, {"lifetimeS": 10**12}, {"lifetimeS": True}],
    "BAD_POSITION": [
        {"position": 3},
        {"position": {"z": 1, "y": 1}},
        {"position": {"z": 1, "y": 1, "x": -1}},
        {"position": {"z": 20, "y": 1, "x": 1}},
        {"position": {"z": 1.5, "y": 1, "x": 1}},
    ],
    "UNKNOWN_FIELD": [{"scope": "write"}],
    "TOO_MANY_LAYERS": [{"layers": [f"l{number}" for number in range(17)]}],
}


async def test_a_request_for_a_link_that_makes_no_sense_is_told_what_is_wrong(viewed: Viewed, caplog):
    caplog.set_level(logging.INFO)
    for reason, bodies in BAD.items():
        for body in bodies:
            whole = body if reason == "BAD_NAME" else {"name": viewed.volume.name, **body}
            # ASCII, so that also what is no text at all can be sent.
            content = json.dumps(whole).encode()
            answer = await viewed.web.post(
                "/links", content=content, headers={"content-type": "application/json"}
            )
            assert (answer.status_code, answer.json()["reason"]) == (400, reason), body
    for content in (b"", b"{", b"[]", b"\xff", b"[" * 10_000):
        answer = await viewed.web.post(
            "/links", content=content, headers={"content-type": "application/json"}
        )
        assert (answer.status_code, answer.json()["reason"]) == (400, "BAD_JSON"), content[:9]
    assert (await viewed.web.post("/links", content=b"{}")).status_code == 415
    assert (await viewed.web.post("/links", json={"name": "x" * 20_000})).status_code == 413
    eve = {"authorization": f"Bearer {await viewed.token_of('eve')}"}
    assert (
        await viewed.web.post("/links", json={"name": viewed.volume.name}, headers=eve)
    ).status_code == 404
    layers = {"name": viewed.volume.name, "layers": ["none"]}
    assert (await viewed.web.post("/links", json=layers)).status_code == 404


async def test_no_log_line_holds_a_link(viewed: Viewed, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    url = (await link(viewed, []))["zarrUrl"]
    await viewed.web.get(f"{url}/zarr.json", headers={"authorization": ""})
    await viewed.web.get(f"{url}/0/c/9/9/9", headers={"authorization": ""})
    await viewed.web.get(f"{url}x/zarr.json", headers={"authorization": ""})
    written = capsys.readouterr()
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    text = url.split("/")[-2]
    assert "/zarr/l/brain.ome.zarr/zarr.json" in written.out + written.err + "".join(ours)
    for secret in (text, text.split(".")[0], text.split(".")[1]):
        assert secret not in written.out + written.err + "".join(ours)
