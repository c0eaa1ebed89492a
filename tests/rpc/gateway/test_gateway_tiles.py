"""Image tiles and thumbnails of a real volume and its layers."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask
from PIL import Image

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import project_pb2, volume_pb2
from biosegment.client.instances import Instances
from biosegment.volume import Index, Region
from tests.rpc.gateway.viewed import GREEN, RED, SHAPE, Viewed, open_viewed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def viewed(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Viewed]:
    async with open_viewed(tmp_path_factory.mktemp("viewed"), keys) as found:
        yield found


def grey(values: Any, viewed: Viewed) -> Any:
    window = viewed.volume.display_window
    scaled = (values.astype(np.float64) - window.low) * 255 / (window.high - window.low)
    return np.clip(np.rint(scaled), 0, 255).astype(int)


async def test_a_tile_is_the_voxels_of_its_plane_and_level_through_the_display_window(viewed: Viewed):
    first, second = viewed.image, await viewed.level(1)
    cases = {
        "xy/0/7/0/1": first[7, :256, 256:512],
        "xy/0/19/1/2": first[19, 256:, 512:],
        "xz/0/123/0/0": first[:, 123, :256],
        "xz/0/299/0/2": first[:, 299, 512:],
        "yz/0/500/0/1": first[:, 256:, 500],
        "xy/1/3/0/1": second[3, :256, 256:],
        "yz/1/10/0/0": second[:, :256, 10],
    }
    for place, values in cases.items():
        exact = np.asarray(await viewed.picture(f"/tiles/{viewed.volume.name}/{place}.png"))
        assert np.abs(exact - grey(values, viewed)).max() <= 1, place
        photo = await viewed.picture(f"/tiles/{viewed.volume.name}/{place}.jpg")
        assert (photo.format, photo.mode) == ("JPEG", "L")
        assert np.abs(np.asarray(photo).astype(int) - exact).mean() < 3, place
    assert exact.std() > 5  # there is something to see


async def test_info_says_how_the_planes_are_cut_and_how_many_nanometres_a_pixel_is(viewed: Viewed):
    info = (await viewed.web.get(f"/tiles/{viewed.volume.name}/info.json")).json()
    assert (info["tileSize"], info["kind"], info["formats"]) == (256, "image", ["jpg", "png"])
    window = viewed.volume.display_window
    assert info["window"] == {"low": window.low, "high": window.high}
    assert len(info["levels"]) == len(viewed.volume.levels) > 1
    finest, coarser = info["levels"][:2]
    assert finest["voxelSizeNm"] == {"z": 30, "y": 8, "x": 8}
    assert coarser["voxelSizeNm"] == {"z": 30, "y": 16, "x": 16}
    assert finest["planes"]["xz"] == {
        "count": 300,
        "width": 520,
        "height": 20,
        "columns": 3,
        "rows": 1,
        "pixelWidthNm": 8,
        "pixelHeightNm": 30,
        "spacingNm": 8,
    }
    assert finest["planes"]["yz"]["width"] == 300
    labels = (await viewed.web.get(f"/tiles/{viewed.names['probabilities']}/info.json")).json()
    assert labels["formats"] == ["png"]
    assert labels["levels"][0]["voxelSizeNm"] == {"z": 30, "y": 16, "x": 16}
    assert labels["levels"][0]["shape"] == {"z": 20, "y": 150, "x": 260}


OUTSIDE = ["xy/0/20/0/0.png", "xy/0/0/2/0.png", "xy/0/0/0/3.png", "xz/0/300/0/0.jpg", "yz/9/0/0/0.png"]
NO_TILES = [
    "",
    "xy",
    "zy/0/0/0/0.png",
    "xy/0/0/0/0.gif",
    "xy/0/0/0/0",
    "xy/0/0/0/-1.png",
    "xy/00/0/0/0.png",
    "xy/0/0/0/99999999999999999999.png",
    f"xy/0/{'9' * 5000}/0/0.png",
    "xy/0/0/0/٣.png",
    "info.json/x",
    "..%2f..%2finfo.json",
]


async def test_what_is_no_tile_is_absent_and_only_members_see_any(viewed: Viewed):
    base = f"/tiles/{viewed.volume.name}"
    for reason, paths in (("TILE_OUTSIDE", OUTSIDE), ("NO_SUCH_TILE", NO_TILES)):
        for path in paths:
            answer = await viewed.web.get(f"{base}/{path}")
            assert (answer.status_code, answer.json()["reason"]) == (404, reason), path
    for path in ("/tiles/projects/em/volumes/none/info.json", f"{base}/layers/none/xy/0/0/0/0.png"):
        assert (await viewed.web.get(path)).status_code == 404
    eve = {"authorization": f"Bearer {await viewed.token_of('eve')}"}
    for path in (f"{base}/info.json", f"{base}/xy/0/0/0/0.png", f"/thumbnails/{viewed.volume.name}.jpg"):
        assert (await viewed.web.get(path)).status_code == 200
        assert (await viewed.web.get(path, headers=eve)).status_code == 404
        assert (await viewed.web.get(path, headers={"authorization": ""})).status_code == 401


async def show_from(viewed: Viewed, low: float, high: float) -> None:
    change = volume_pb2.Volume(name=viewed.volume.name)
    change.display_window.low, change.display_window.high = low, high
    await viewed.pair.admin.datastore.UpdateVolume(
        pb.UpdateVolumeRequest(volume=change, update_mask=FieldMask(paths=["display_window"]))
    )


async def test_a_tile_is_sent_once_and_again_when_it_looks_different(viewed: Viewed):
    path = f"/tiles/{viewed.volume.name}/xy/0/7/0/0.png"
    first = await viewed.web.get(path)
    again = await viewed.web.get(path, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["cache-control"] == "private, no-cache"
    bob = {"authorization": f"Bearer {await viewed.token_of('bob', project_pb2.ROLE_VIEWER)}"}
    await show_from(viewed, 1000, 2000)
    try:
        # Of somebody who has not looked yet: what is known of a volume is remembered for seconds.
        other = await viewed.web.get(path, headers={**bob, "if-none-match": first.headers["etag"]})
    finally:
        await show_from(viewed, viewed.volume.display_window.low, viewed.volume.display_window.high)
    assert other.status_code == 200
    seen = np.asarray(Image.open(io.BytesIO(other.content))).astype(int)
    wanted = np.clip((viewed.image[7, :256, :256].astype(int) - 1000) * 255 / 1000, 0, 255)
    assert np.abs(seen - wanted).max() <= 1


async def test_layers_are_drawn_in_the_colours_of_the_classes_on_nothing(viewed: Viewed):
    def rgba(color: int, alpha: int = 255) -> list[int]:
        return [color >> 16, color >> 8 & 255, color & 255, alpha]

    async def tile(layer: str, place: str = "xy/0/7/0/0") -> Any:
        return np.asarray((await viewed.picture(f"/tiles/{viewed.names[layer]}/{place}.png")).convert("RGBA"))

    labels = await tile("labels")
    assert labels[0, 0].tolist() == rgba(RED)
    assert labels[100, 100, 3] == 0  # background
    assert (await tile("labels", "xy/0/7/1/2"))[-1, -1].tolist() == rgba(GREEN)
    amounts = await tile("probabilities")
    assert amounts[0, 0].tolist() == rgba(RED)
    assert amounts[60, 60, 3] == 0
    drawn = await tile("annotations", "xy/0/3/0/0")
    assert drawn[10, 20].tolist() == rgba(RED)
    assert drawn[9, 20, 3] == 0
    answer = await viewed.web.get(f"/tiles/{viewed.names['labels']}/xy/0/7/0/0.jpg")
    assert (answer.status_code, answer.json()["reason"]) == (400, "NOT_A_PHOTO")


async def test_objects_are_drawn_as_their_edits_made_them(viewed: Viewed):
    name = viewed.names["instances"]
    path = f"/tiles/{name}/xy/0/7/0/0.png"
    before = await viewed.web.get(path)
    seen = np.asarray(Image.open(io.BytesIO(before.content)).convert("RGBA"))
    assert seen[100, 100, 3] == 0
    assert seen[0, 0, 3] == 255
    region = Region(Index(7, 100, 100), Index(8, 120, 120))
    await Instances(viewed.pair.channel).reassign(name, np.ones(region.shape, bool), region=region)
    bob = {"authorization": f"Bearer {await viewed.token_of('ben', project_pb2.ROLE_VIEWER)}"}
    after = await viewed.web.get(path, headers={**bob, "if-none-match": before.headers["etag"]})
    assert after.status_code == 200
    seen = np.asarray(Image.open(io.BytesIO(after.content)).convert("RGBA"))
    assert seen[110, 110, 3] == 255
    assert seen[110, 110].tolist() != seen[0, 0].tolist()


async def test_a_thumbnail_is_the_middle_slice_with_square_pixels(viewed: Viewed):
    path = f"/thumbnails/{viewed.volume.name}.jpg"
    small = await viewed.picture(path)
    assert (small.format, small.size) == ("JPEG", (256, round(256 * SHAPE[1] / SHAPE[2])))
    wanted = grey(viewed.image[10], viewed)
    step = SHAPE[2] / 256
    rows, columns = (np.arange(10, 140, 20) * step).astype(int), (np.arange(10, 250, 20) * step).astype(int)
    seen = np.asarray(small).astype(int)[10:140:20, 10:250:20]
    assert np.abs(seen - wanted[np.ix_(rows, columns)]).max() < 8
    answer = await viewed.web.get(path)
    again = await viewed.web.get(path, headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304


async def test_many_viewers_of_one_tile_get_the_same_one(viewed: Viewed):
    path = f"/tiles/{viewed.volume.name}/xz/0/100/0/1.jpg"
    answers = await asyncio.gather(*(viewed.web.get(path) for _ in range(40)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
