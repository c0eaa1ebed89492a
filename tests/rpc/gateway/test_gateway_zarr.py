from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest
import tensorstore as ts
import zarr
from biosegment_gateway.gateway import open_gateway
from google.protobuf.timestamp_pb2 import Timestamp

from biosegment.api.datastore.v1alpha1 import project_pb2, volume_pb2
from biosegment.ids import new_id
from biosegment.rpc.geometry import data_type_to_proto, index_to_proto, voxel_size_to_proto
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.storage.folder import FolderObjects
from biosegment.storage.multiscale import Level, write_multiscale_metadata
from biosegment.volume import Index, VoxelSize
from tests.rpc.gateway.conftest import Upstreams

VOLUME = "projects/p/volumes/v"
LAYER = f"{VOLUME}/layers/annotations"
SHAPE = (40, 300, 280)


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 255, SHAPE, np.uint8)


@pytest.fixture
def store(upstreams: Upstreams, tmp_path: Path, voxels) -> str:
    """A volume and its annotations layer in object storage, known to the datastore; returns the store's URL."""
    url = f"file://{tmp_path}/objects"
    arrays = Arrays(ObjectStoreSettings(object_store_url=url))
    arrays.create("volumes/v.ome.zarr/0", SHAPE, np.uint8).write(tuple(slice(0, n) for n in SHAPE), voxels)
    levels = (Level("0", Index(*SHAPE), Index(1, 1, 1)),)
    write_multiscale_metadata(
        FolderObjects(tmp_path / "objects"), "volumes/v.ome.zarr", "v", levels, VoxelSize(50, 4, 4)
    )
    labels = arrays.create("projects/p/layers/a/1", SHAPE, np.uint8)
    labels.write((slice(0, 1), slice(0, 9), slice(0, 9)), np.full((1, 9, 9), 2, np.uint8))
    shelf = upstreams.datastore
    shelf.projects["projects/p"] = project_pb2.Project(name="projects/p", display_name="Kidney")
    shelf.members["projects/p"] = {"ann"}
    shape, uint8 = index_to_proto(SHAPE), data_type_to_proto("uint8")
    shelf.volumes[VOLUME] = volume_pb2.Volume(
        name=VOLUME,
        uri=f"{url}/volumes/v.ome.zarr",
        update_time=Timestamp(seconds=5),
        shape=shape,
        data_type=uint8,
        voxel_size=voxel_size_to_proto(VoxelSize(50, 4, 4)),
        levels=[volume_pb2.Level(shape=shape, downsampling=index_to_proto((1, 1, 1)), path="0")],
    )
    shelf.layers[LAYER] = volume_pb2.Layer(
        name=LAYER,
        kind=volume_pb2.Layer.KIND_ANNOTATIONS,
        uri=f"{url}/projects/p/layers/a/1",
        shape=shape,
        data_type=uint8,
    )
    return url


@pytest.fixture
def base(running, store) -> str:
    return f"http://{running.http_address}/zarr"


@pytest.fixture
def signed(web, admin_token, store):
    web.headers["authorization"] = f"Bearer {admin_token}"
    return web


SHARD = f"/zarr/{VOLUME}/0/c/0/0/0"


async def test_zarr_python_opens_a_volume_by_its_address(base, admin_token, voxels):
    def read():
        group = zarr.open_group(f"{base}/t/{admin_token}/{VOLUME}", mode="r", zarr_format=3)
        assert group.attrs["ome"]["version"] == "0.5"
        return group["0"][3:20, 100:290, 5:270]

    assert np.array_equal(await asyncio.to_thread(read), voxels[3:20, 100:290, 5:270])


@pytest.mark.parametrize("name", [VOLUME + "/0", LAYER])
async def test_tensorstore_opens_a_volume_or_layer_by_its_address(base, admin_token, voxels, name):
    spec = {"driver": "zarr3", "kvstore": {"driver": "http", "base_url": f"{base}/t/{admin_token}/{name}/"}}

    def read():
        return ts.open(spec, read=True).result()[:].read().result()

    got = await asyncio.to_thread(read)
    if name == LAYER:
        assert got.sum() == 2 * 81
    else:
        assert np.array_equal(got, voxels)


async def test_ranges_give_exactly_the_bytes_of_the_object(signed, tmp_path):
    whole = (tmp_path / "objects/volumes/v.ome.zarr/0/c/0/0/0").read_bytes()
    size = len(whole)
    cases = {
        "bytes=0-99": (206, whole[:100], f"bytes 0-99/{size}"),
        "bytes=5-5": (206, whole[5:6], f"bytes 5-5/{size}"),
        f"bytes={size - 7}-": (206, whole[-7:], f"bytes {size - 7}-{size - 1}/{size}"),
        "bytes=-52": (206, whole[-52:], f"bytes {size - 52}-{size - 1}/{size}"),
        f"bytes=-{size + 9}": (206, whole, f"bytes 0-{size - 1}/{size}"),
        f"bytes=9-{size + 9}": (206, whole[9:], f"bytes 9-{size - 1}/{size}"),
        f"bytes={size}-": (416, b"", f"bytes */{size}"),
        "bytes=-0": (416, b"", f"bytes */{size}"),
        "bytes=0-1,5-6": (200, whole, None),
        "lines=0-1": (200, whole, None),
        "bytes=7-3": (200, whole, None),
    }
    for header, (status, content, content_range) in cases.items():
        answer = await signed.get(SHARD, headers={"range": header})
        seen = (answer.status_code, answer.content, answer.headers.get("content-range"))
        assert seen == (status, content, content_range), header
        assert answer.headers["content-length"] == str(len(content))
        assert answer.headers["accept-ranges"] == "bytes"


async def test_objects_larger_than_a_piece_come_whole(signed, tmp_path):
    assert (tmp_path / "objects/volumes/v.ome.zarr/0/c/0/0/0").stat().st_size > 2 * 1024 * 1024
    content = bytes(range(256)) * 20_000
    (tmp_path / "objects/volumes/v.ome.zarr/large").write_bytes(content)
    assert (await signed.get(f"/zarr/{VOLUME}/large")).content == content
    part = await signed.get(f"/zarr/{VOLUME}/large", headers={"range": "bytes=1000-4999999"})
    assert part.content == content[1000:5_000_000]


async def test_an_empty_object_is_an_empty_answer(signed, tmp_path):
    (tmp_path / "objects/volumes/v.ome.zarr/empty").write_bytes(b"")
    answer = await signed.get(f"/zarr/{VOLUME}/empty")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_head_says_what_get_would_send_and_ignores_ranges(signed):
    got = await signed.get(SHARD)
    head = await signed.head(SHARD, headers={"range": "bytes=0-1"})
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag", "accept-ranges", "content-type"):
        assert head.headers[name] == got.headers[name]


async def test_entity_tags_save_transfers_and_change_with_the_volume(signed, upstreams: Upstreams):
    etag = (await signed.get(SHARD)).headers["etag"]
    for known in (etag, f'"other", {etag}', "*", f"W/{etag}"):
        answer = await signed.get(SHARD, headers={"if-none-match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert (await signed.get(SHARD, headers={"if-none-match": '"other"'})).status_code == 200
    part = await signed.get(SHARD, headers={"range": "bytes=0-9", "if-range": etag})
    assert part.status_code == 206
    whole = await signed.get(SHARD, headers={"range": "bytes=0-9", "if-range": '"old"'})
    assert whole.status_code == 200


async def test_a_layer_that_annotations_are_projected_into_has_a_weak_tag_of_its_last_record(
    running, signed, upstreams: Upstreams, make_user
):
    path = f"/zarr/{LAYER}/c/0/0/0"
    first = (await signed.get(path)).headers["etag"]
    upstreams.datastore.layers[LAYER].projected_sequence += 1
    upstreams.datastore.members["projects/p"].add("bob")
    # Another user: what is remembered for seconds is remembered for each one.
    second = (await signed.get(path, headers=_bearer(await make_user("bob")))).headers["etag"]
    assert first.startswith("W/")
    assert second.startswith("W/")
    assert first != second


@pytest.mark.parametrize(
    "path",
    [
        "0/c/9/9/9",
        "zarr.json/x",
        ".zgroup",
        "0/.zarray",
        "",
        "0",
        "0/",
        "..",
        "../v.ome.zarr/zarr.json",
        "%2e%2e/v.ome.zarr/zarr.json",
        "..%2fv.ome.zarr%2fzarr.json",
        "0/..%2f..%2f..%2f..%2fgateway.sqlite",
        "%2e%2e/%2e%2e/%2e%2e/gateway.sqlite",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "..%5c..%5cgateway.sqlite",
        "zarr.json%00",
        "a//b",
        "%ff%fe",
        "x" * 2000,
    ],
)
async def test_paths_that_are_no_object_of_the_volume_are_absent(running, admin_token, store, path):
    # By hand: clients tidy such paths up before they send them.
    answer = await _raw_get(running.http_address, f"/zarr/{VOLUME}/{path}", admin_token)
    assert answer.startswith(b"HTTP/1.1 404 "), answer[:300]
    assert b'"code":"NOT_FOUND"' in answer


@pytest.mark.parametrize(
    "path",
    [
        "/zarr/projects/p/volumes/none/zarr.json",
        "/zarr/projects/none/volumes/v/zarr.json",
        f"/zarr/{VOLUME}/layers/none/zarr.json",
        "/zarr/projects/p/zarr.json",
        "/zarr/",
    ],
)
async def test_what_is_no_volume_is_absent(signed, path):
    assert (await signed.get(path)).status_code == 404


async def test_only_members_see_a_volume_in_whatever_way_they_sign_in(web, store, make_user):
    ann, eve = await make_user("ann"), await make_user("eve")
    path = f"/zarr/{VOLUME}/zarr.json"
    embedded = f"/zarr/t/{{}}/{VOLUME}/zarr.json"
    for token, status in ((ann, 200), (eve, 404)):
        answers = [
            await web.get(path, headers=_bearer(token)),
            await web.get(path, auth=("anybody", token)),
            await web.get(path, params={"token": token}),
            await web.get(embedded.format(token)),
        ]
        assert [answer.status_code for answer in answers] == [status] * 4
    assert (await web.get(f"/api/projects?token={ann}")).status_code == 401


async def test_a_volume_outside_of_the_object_storage_is_refused(signed, upstreams: Upstreams):
    far = volume_pb2.Volume()
    far.CopyFrom(upstreams.datastore.volumes[VOLUME])
    far.uri = "file:///etc"
    upstreams.datastore.volumes["projects/p/volumes/far"] = far
    answer = await signed.get("/zarr/projects/p/volumes/far/passwd")
    assert (answer.status_code, answer.json()["reason"]) == (409, "NOT_IN_OBJECT_STORE")
    assert "/etc" not in answer.text


async def test_a_layer_is_hidden_until_it_is_committed(signed, upstreams: Upstreams, store):
    name = f"{VOLUME}/layers/new"
    layer = volume_pb2.Layer()
    layer.CopyFrom(upstreams.datastore.layers[LAYER])
    layer.MergeFrom(
        volume_pb2.Layer(name=name, kind=volume_pb2.Layer.KIND_LABELS, state=volume_pb2.Layer.STATE_WRITING)
    )
    upstreams.datastore.layers[name] = layer
    assert (await signed.get(f"/zarr/{name}/zarr.json")).status_code == 404
    layer.state = volume_pb2.Layer.STATE_COMMITTED
    assert (await signed.get(f"/zarr/{name}/zarr.json")).status_code == 200


async def test_browsers_keep_chunks_below_ids_that_are_never_used_again(signed, upstreams: Upstreams, store):
    volume, layer = f"projects/p/volumes/{new_id()}", new_id()
    shelf = upstreams.datastore
    shelf.volumes[volume] = volume_pb2.Volume()
    shelf.volumes[volume].CopyFrom(shelf.volumes[VOLUME])
    shelf.volumes[volume].name = volume
    for layer_id, kind in ((layer, volume_pb2.Layer.KIND_LABELS), ("cells", volume_pb2.Layer.KIND_LABELS)):
        made = volume_pb2.Layer()
        made.CopyFrom(shelf.layers[LAYER])
        made.MergeFrom(volume_pb2.Layer(kind=kind, state=volume_pb2.Layer.STATE_COMMITTED))
        made.name = f"{volume}/layers/{layer_id}"
        shelf.layers[made.name] = made
    cases = {
        f"{volume}/0/c/0/0/0": True,
        f"{volume}/layers/{layer}/c/0/0/0": True,
        f"{volume}/labels/{layer}/0/c/0/0/0": True,
        f"{volume}/0/zarr.json": False,
        f"{volume}/zarr.json": False,
        f"{volume}/layers/{layer}/zarr.json": False,
        f"{volume}/layers/cells/c/0/0/0": False,  # somebody may give another layer this id
        f"{VOLUME}/0/c/0/0/0": False,
        f"{LAYER}/c/0/0/0": False,  # somebody may be painting
    }
    for path, is_kept in cases.items():
        answer = await signed.get(f"/zarr/{path}")
        assert answer.status_code == 200, path
        assert ("immutable" in answer.headers["cache-control"]) == is_kept, path
        assert answer.headers["cache-control"].startswith("private"), path


async def test_a_page_of_an_allowed_origin_reads_ranges_by_a_link(upstreams, make_settings, store, tmp_path):
    origin = "https://viewer.example"
    async with open_gateway(make_settings(upstreams.addresses, allowed_origins=origin)) as gateway:
        token = (tmp_path / "admin-token").read_text().strip()
        async with httpx.AsyncClient(base_url=f"http://{gateway.http_address}", timeout=60) as web:
            body = {"name": VOLUME, "layers": ["annotations"]}
            made = await web.post("/links", json=body, headers=_bearer(token))
            url = f"{made.json()['zarrUrl']}/0/c/0/0/0"
            asked = {"access-control-request-method": "GET", "access-control-request-headers": "range"}
            for page, is_allowed in ((origin, True), ("https://other.example", False)):
                before = await web.options(url, headers={"origin": page, **asked})
                answer = await web.get(url, headers={"origin": page, "range": "bytes=-52"})
                assert answer.status_code == 206
                for each in (before, answer):
                    assert (each.headers.get("access-control-allow-origin") == page) == is_allowed, each
            assert "content-range" in answer.headers["access-control-expose-headers"].lower()


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def _raw_get(address: str, path: str, token: str) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    writer.write(head.encode())
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
