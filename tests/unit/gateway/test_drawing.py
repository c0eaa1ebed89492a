"""From voxels to pixels, without servers."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
from biosegment_gateway.viewing.byte_cache import ByteCache
from biosegment_gateway.viewing.drawing import Style, encode, scaled, style_of
from biosegment_gateway.viewing.exhibit import Exhibit, Kind, Location, ShownLevel, is_made
from biosegment_gateway.viewing.tile import Plane, parse_tile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from biosegment.errors import NotFound
from biosegment.ids import new_id
from biosegment.volume import Index, VoxelSize


def exhibit(kind: Kind, shape: tuple[int, int, int] = (40, 700, 900), **others) -> Exhibit:
    levels = (ShownLevel("0", Index(*shape), Index(1, 1, 1)),)
    source = Location("volumes/v", "1", True)
    return Exhibit(
        "projects/p/volumes/v", "v", kind, "uint8", levels, VoxelSize(30, 8, 8), source, "1", **others
    )


def rgba(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32", "float16"])
def test_the_window_says_what_is_black_and_what_is_white(dtype):
    values = np.array([[0, 20, 40, 60, 100, 120]], dtype)
    assert scaled(values, (20, 100)).tolist() == [[0, 0, 64, 128, 255, 255]]
    assert scaled(values, (60, 60)).tolist()[0][0] == 0  # an image of one value has no width
    assert scaled(values, (60, 60)).tolist()[0][-1] == 255


def test_what_is_no_number_is_black_and_of_score_maps_transparent():
    values = np.array([[np.nan, 0, 0.5, 1, np.inf]], np.float32)
    assert scaled(values, (0, 1)).tolist() == [[0, 0, 128, 255, 255]]
    style = style_of(exhibit(Kind.SCORE_MAP, window=(0.0, 1.0)), {})
    alpha = rgba(encode(values.astype(np.float16), style, "png"))[0, :, 3]
    assert alpha[0] == 0
    assert alpha[1:].all()


def test_neighbouring_objects_get_different_colours_also_with_large_ids():
    style = style_of(exhibit(Kind.INSTANCES), {})
    for dtype, first in (("uint32", 1), ("uint64", 2**63)):
        ids = np.arange(first, first + 64, dtype=dtype)[None]
        colors = {tuple(color) for color in rgba(encode(ids, style, "png"))[0]}
        assert len(colors) > 50
        assert rgba(encode(np.zeros((1, 4), dtype), style, "png"))[0, 0, 3] == 0


def test_a_style_has_another_key_when_anything_looks_different():
    image = exhibit(Kind.IMAGE, window=(0.0, 255.0))
    styles = [
        style_of(image, {}),
        style_of(exhibit(Kind.IMAGE, window=(0.0, 254.0)), {}),
        style_of(exhibit(Kind.LABELS), {2: 0xFF0000}),
        style_of(exhibit(Kind.LABELS), {2: 0xFF0001}),
        style_of(exhibit(Kind.PROBABILITIES, class_value=2), {2: 0xFF0000}),
        style_of(exhibit(Kind.INSTANCES), {}),
    ]
    assert len({style.key for style in styles}) == len(styles)
    assert style_of(image, {2: 1}) == Style(Kind.IMAGE, (0.0, 255.0))


@given(
    st.sampled_from(Plane),
    st.integers(0, 50),
    st.integers(0, 6),
    st.integers(0, 6),
    st.tuples(*(st.integers(1, 1200) for _ in range(3))),
)
def test_tiles_cut_a_plane_without_gaps(plane, index, row, column, shape):
    shown = exhibit(Kind.IMAGE, shape)
    tile, extension = parse_tile("v", f"{plane}/0/{index}/{row}/{column}.jpg")
    assert (tile.plane, extension) == (plane, "jpg")
    corner = [0, 0, 0]
    corner[plane.normal_axis], corner[plane.row_axis], corner[plane.column_axis] = (
        index,
        256 * row,
        256 * column,
    )
    if any(low >= size for low, size in zip(corner, shape, strict=True)):
        with pytest.raises(NotFound) as caught:
            tile.region(shown)
        assert caught.value.reason == "TILE_OUTSIDE"
        return
    region = tile.region(shown)
    assert tuple(region.start) == tuple(corner)
    assert region.shape[plane.normal_axis] == 1
    for axis in (plane.row_axis, plane.column_axis):
        assert region.shape[axis] == min(256, shape[axis] - corner[axis])


def test_planes_are_named_by_their_axes_to_the_right_and_down():
    assert [(plane.column_axis, plane.row_axis, plane.normal_axis) for plane in Plane] == [
        (2, 1, 0),
        (2, 0, 1),
        (1, 0, 2),
    ]


async def test_pictures_are_made_once_for_all_who_ask_and_again_after_an_error():
    cache, gate, made = ByteCache(100), asyncio.Event(), []

    async def make() -> bytes:
        made.append(1)
        await gate.wait()
        if len(made) == 1:
            raise OSError("gone")
        return b"picture"

    waiting = [asyncio.create_task(cache.get("a", make)) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    gate.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(answer, OSError) for answer in answers[1:])
    assert await cache.get("a", make) == await cache.get("a", make) == b"picture"
    assert len(made) == 2


async def test_pictures_that_nobody_asks_for_make_room():
    cache = ByteCache(100)
    made: list[str] = []

    async def get(key: str, size: int) -> None:
        async def make() -> bytes:
            made.append(key)
            return bytes(size)

        assert len(await cache.get(key, make)) == size

    for key, size in (("a", 40), ("b", 40), ("a", 40), ("c", 40), ("large", 101), ("a", 40), ("b", 40)):
        await get(key, size)
        assert cache.size <= 100
    assert made == ["a", "b", "c", "large", "b"]


def test_only_ids_that_the_platform_made_are_never_used_again():
    volume, layer = new_id(), new_id()
    assert is_made(f"projects/p/volumes/{volume}/layers/{layer}")
    assert is_made(f"projects/p/volumes/{volume}")
    assert not is_made(f"projects/p/volumes/brain/layers/{layer}")
    assert not is_made(f"projects/p/volumes/{volume}/layers/cells")
