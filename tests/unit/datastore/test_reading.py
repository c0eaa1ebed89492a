from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from biosegment_datastore.admission import Admission
from biosegment_datastore.reading import RegionRead, boxes
from hypothesis import given
from hypothesis import strategies as st

from biosegment.errors import NotFound
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Array, Arrays
from biosegment.storage.layout import ArrayLayout
from biosegment.volume import Index, Region

SHAPE = (40, 70, 50)


@pytest.fixture
def voxels() -> Any:
    return np.random.default_rng(5).integers(0, 60_000, SHAPE, np.uint16)


@pytest.fixture
def array(tmp_path: Path, voxels: Any) -> Array:
    arrays = Arrays(ObjectStoreSettings(object_store_url=f"file://{tmp_path}"))
    array = arrays.create("a", SHAPE, "uint16", layout=ArrayLayout((16, 32, 32), (8, 16, 16)))
    array.write(Region.of_shape(SHAPE), voxels)
    return array


@st.composite
def regions(draw: Any) -> Region:
    start = Index(*(draw(st.integers(0, 100)) for _ in range(3)))
    return Region.of_shape(tuple(draw(st.integers(1, 90)) for _ in range(3)), start)


@given(region=regions(), part_bytes=st.integers(1, 60_000))
def test_boxes_cover_a_region_once_in_its_full_width(region: Region, part_bytes: int) -> None:
    seen = np.zeros(region.shape, np.uint8)
    for box in boxes(region, 2, (8, 16, 16), part_bytes):
        assert (box.start.x, box.stop.x) == (region.start.x, region.stop.x)
        z, y = box.start.z - region.start.z, box.start.y - region.start.y
        seen[z : z + box.shape.z, y : y + box.shape.y] += 1
    assert (seen == 1).all()


def test_boxes_share_no_chunk_when_memory_allows() -> None:
    def chunk_rows(parts: Iterator[Region]) -> list[tuple[int, int]]:
        return [
            (z, y)
            for box in parts
            for z in range(box.start.z // 16, -(-box.stop.z // 16))
            for y in range(box.start.y // 128, -(-box.stop.y // 128))
        ]

    for region in (Region.of_shape((64, 4096, 4096)), Region.of_shape((50, 3000, 4000), (7, 130, 9))):
        parts = list(boxes(region, 1, (16, 128, 128)))
        rows = chunk_rows(iter(parts))
        assert len(rows) <= 1.1 * len(set(rows))
        assert max(box.size for box in parts) <= 16 << 20


def test_a_region_that_fits_is_one_box_wherever_it_lies() -> None:
    region = Region.of_shape((64, 256, 256), (5, 77, 99))
    assert list(boxes(region, 1, (16, 128, 128))) == [region]


async def test_pieces_are_as_large_as_they_may_be(array: Array) -> None:
    read = RegionRead(array, Region.of_shape((30, 40, 45), (5, 20, 3)), Admission(1 << 20))
    sizes = [len(piece) async for _, piece in read.pieces(9_999)]
    assert sizes == [9_999] * 10 + [30 * 40 * 45 * 2 - 99_990]


async def collected(read: RegionRead, piece_bytes: int) -> Any:
    result = np.zeros(read.region.size * 2, np.uint8)
    seen = np.zeros(result.shape, bool)
    async for offset, piece in read.pieces(piece_bytes):
        assert len(piece) <= piece_bytes
        assert not seen[offset : offset + len(piece)].any()
        seen[offset : offset + len(piece)] = True
        result[offset : offset + len(piece)] = piece
    assert seen.all()
    return result.view(np.uint16).reshape(read.shape)


@pytest.mark.parametrize("part_bytes", [300, 5_000, 40_000, 1 << 20])
@pytest.mark.parametrize("corner", [(0, 0, 0), (3, 7, 11)])
async def test_pieces_put_in_their_place_are_the_region(
    array: Array, voxels: Any, part_bytes: int, corner: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boxes, "__defaults__", (part_bytes,))
    region = Region(Index(*corner), Index(*SHAPE))
    admission = Admission(1 << 20)
    assert (await collected(RegionRead(array, region, admission), 999) == voxels[region.slices]).all()
    assert admission.held_bytes == 0


async def test_memory_is_given_out_in_the_order_of_asking_and_never_beyond_the_limit() -> None:
    admission, order, largest = Admission(100), [], 0

    async def stream(name: int) -> None:
        nonlocal largest
        for _ in range(10):
            part = await admission.enter(60 if name % 2 else 30)
            order.append(name)
            largest = max(largest, admission.held_bytes)
            await asyncio.sleep(0)
            part.close()

    await asyncio.gather(*(stream(name) for name in range(8)))
    assert largest <= 100
    assert admission.held_bytes == 0
    progress = dict.fromkeys(range(8), 0)
    for name in order:
        progress[name] += 1
        assert max(progress.values()) - min(progress.values()) <= 2


async def test_a_part_larger_than_the_limit_gets_in_alone() -> None:
    admission = Admission(100)
    large = await admission.enter(1000)
    waiting = asyncio.ensure_future(admission.enter(1))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    large.close()
    (await waiting).close()
    assert admission.held_bytes == 0


async def test_who_gives_up_waiting_takes_nothing_and_lets_the_next_one_in() -> None:
    admission = Admission(100)
    held = await admission.enter(80)
    large = asyncio.ensure_future(admission.enter(90))
    small = asyncio.ensure_future(admission.enter(20))
    await asyncio.sleep(0.01)
    assert not small.done()
    large.cancel()
    part = await small
    # Cancelled in the very moment in which it was its turn.
    late = asyncio.ensure_future(admission.enter(90))
    await asyncio.sleep(0.01)
    held.close()
    part.close()
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    assert admission.held_bytes == 0


async def test_readers_that_take_nothing_do_not_keep_others_waiting_and_miss_nothing(
    array: Array, voxels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boxes, "__defaults__", (20_000,))
    admission = Admission(50_000, stalled_s=0.05)
    reads = [RegionRead(array, Region.of_shape(SHAPE), admission) for _ in range(4)]
    stalled = [read.pieces(700) for read in reads[:3]]
    first = [await anext(pieces) for pieces in stalled]
    async with asyncio.timeout(20):
        assert (await collected(reads[3], 999) == voxels).all()
    for pieces, (offset, piece) in zip(stalled, first, strict=True):
        result = np.zeros(voxels.nbytes, np.uint8)
        result[offset : offset + len(piece)] = piece
        async for place, more in pieces:
            result[place : place + len(more)] = more
        assert (result.view(np.uint16).reshape(SHAPE) == voxels).all()
    assert admission.held_bytes == 0


async def test_a_reader_that_leaves_or_fails_gives_its_memory_back(
    array: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boxes, "__defaults__", (20_000,))
    admission = Admission(1 << 20)
    pieces = RegionRead(array, Region.of_shape(SHAPE), admission).pieces(700)
    await anext(pieces)
    await pieces.aclose()
    (tmp_path / "a" / "c" / "1" / "0" / "0").write_bytes(b"damaged")
    with pytest.raises(Exception) as caught:  # noqa: PT011 (which one is another test's matter)
        await collected(RegionRead(array, Region.of_shape(SHAPE), admission), 700)
    assert not isinstance(caught.value, NotFound)
    for _ in range(2000):
        if admission.held_bytes == 0:
            break
        await asyncio.sleep(0.01)
    assert admission.held_bytes == 0
