from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from biosegment_trainer.interaction.engine import Engine
from biosegment_trainer.interaction.service import HALO_PX
from biosegment_trainer.interaction.task import ClickedVoxel, ModelPlace, Plane, SegmenterConfig, SegmentTask
from biosegment_trainer.interaction.working_grid import Level, make_grid
from biosegment_trainer.scribbles.segmentation import HALO

from biosegment.settings import ObjectStoreSettings
from biosegment.volume import Index, Region, VoxelSize
from tests.rpc.trainer.tiny_clicks import write_click_bundle

SHAPE = Index(20, 40, 30)
AT = Index(9, 17, 12)
SIZE = VoxelSize(24, 10, 12)
MODEL = ModelPlace("tiny", "models/tiny")
TURNS = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
"""Where the axes z, y, x of a turned volume come from."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("store")
    write_click_bundle(folder / "models", "tiny")
    return Engine(SegmenterConfig(ObjectStoreSettings(object_store_url=f"file://{folder}"), 1, "cpu"))


def tissue() -> Any:
    """An ellipsoid, brighter than its surroundings, and some more of them: float32 around 0."""
    rng = np.random.default_rng(4)
    z, y, x = np.mgrid[: SHAPE.z, : SHAPE.y, : SHAPE.x]
    image = rng.normal(-1, 0.3, SHAPE)
    for cz, cy, cx in (AT, (9, 33, 25), (3, 5, 5), (16, 35, 8)):
        image[((z - cz) / 4) ** 2 + ((y - cy) / 9) ** 2 + ((x - cx) / 8) ** 2 < 1] += 2
    return image.astype(np.float32)


def task(turn: tuple[int, int, int], plane: Plane, **fields: Any) -> SegmentTask:
    """A click, in a volume whose axes are exchanged; nothing is normalised, as slices are along another axis."""
    image = tissue().transpose(turn)
    size = VoxelSize(*(tuple(SIZE)[axis] for axis in turn))
    shape = Index(*image.shape)
    start = [2 if axis else 0 for axis in turn]
    stop = [edge - (3 if axis == 1 else 0) for axis, edge in zip(turn, shape, strict=True)]
    region = Region(Index(*start), Index(*stop))
    grid = make_grid(region, Level(shape, Index(1, 1, 1)), size, plane.through, 10.0)
    depth = region.shape.z
    previous = fields.pop("previous", None)
    given: dict[str, Any] = {
        "image_key": f"{turn}",
        "voxels": image[region.slices],
        "mean": np.zeros(depth),
        "std": np.ones(depth),
        "grid": grid,
        "surroundings": grid,
        "plane": plane,
        "class_value": 2,
        "clicks": (ClickedVoxel(Index(*(AT[axis] for axis in turn)), True),),
        "scribbles": None,
        "previous": None if previous is None else previous.transpose(turn)[region.slices],
        "draft": False,
        "with_probability": True,
        "model": MODEL,
        "shallow": None,
    }
    return SegmentTask(**{**given, **fields})


def arrays(engine: Engine, asked: SegmentTask, turn: tuple[int, int, int]) -> tuple[Any, Any]:
    """Mask and probability with the axes where they were before they were exchanged."""
    answer = engine.segment(asked)
    back = tuple(np.argsort(turn))
    mask, probability = (
        np.frombuffer(zlib.decompress(data), np.uint8).reshape(asked.region.shape).transpose(back)
        for data in (answer.mask, answer.probability)
    )
    return mask, probability


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_turned_volume_gives_the_turned_answer_in_every_plane(engine, number):
    """The plane across axis `number` of a volume, and the same plane after that axis was made another one."""
    planes = {0: Plane.XY, 1: Plane.XZ, 2: Plane.YZ}
    before = (np.random.default_rng(1).random(SHAPE) < 0.1).astype(np.uint8)
    upright = TURNS[0]
    one = arrays(engine, task(upright, planes[number], previous=before), upright)
    assert one[0].any()
    for turn in ((0, 1, 2), (1, 0, 2), (2, 0, 1), (1, 2, 0)):
        in_order = [axis for axis in turn if axis != number] == [axis for axis in range(3) if axis != number]
        if not in_order:
            continue
        other = arrays(engine, task(turn, planes[turn.index(number)], previous=before), turn)
        assert (one[0] == other[0]).all(), turn
        assert (one[1] == other[1]).all(), turn


@pytest.mark.parametrize("plane", [Plane.XY, Plane.XZ, Plane.YZ])
def test_a_click_fills_its_object_and_no_other_slice(engine, plane):
    mask, probability = arrays(engine, task(TURNS[0], plane), TURNS[0])
    start = task(TURNS[0], plane).region.start
    at = tuple(here - low for here, low in zip(AT, start, strict=True))
    assert mask[at] == 1
    assert not np.delete(mask, at[plane.through], plane.through).any()
    assert ((probability >= 128) == (mask == 1)).all()
    truth = tissue()[start.z :, start.y :, start.x :][: mask.shape[0], : mask.shape[1], : mask.shape[2]] > 0.1
    slice_ = np.take(mask, at[plane.through], plane.through)
    assert (slice_ & np.take(truth, at[plane.through], plane.through)).sum() > 0.8 * slice_.sum()


def on_coarse_pixels(previous: Any, bright: Any, click: ClickedVoxel) -> SegmentTask:
    """A click on an image of which a working pixel is 2 x 2 voxels."""
    shape = Index(*previous.shape)
    grid = make_grid(Region.of_shape(shape), Level(shape, Index(1, 1, 1)), VoxelSize(30, 5, 5), 0, 10.0)
    return replace(
        task(TURNS[0], Plane.XY),
        voxels=np.where(bright, 1, -1).astype(np.float32),
        mean=np.zeros(shape.z),
        std=np.ones(shape.z),
        grid=grid,
        surroundings=grid,
        clicks=(click,),
        previous=previous,
    )


def test_a_click_is_honoured_at_its_voxel_though_a_pixel_is_several(engine):
    bright = np.zeros((2, 40, 40), bool)
    bright[1, 10:30, 10:30] = True
    before = bright.astype(np.uint8)
    before[1, 15, 15] = 0
    asked = on_coarse_pixels(before, bright, ClickedVoxel(Index(1, 15, 15), True))
    mask = arrays(engine, asked, TURNS[0])[0]
    assert mask[1, 15, 15] == 1
    assert mask[1, 12:28, 12:28].all()


def test_a_negative_click_takes_a_speck_away_that_fills_no_pixel(engine):
    before = np.zeros((2, 40, 40), np.uint8)
    before[1, 9, 11:21:2] = 1  # a dotted line, of each of whose pixels a quarter is set
    before[1, 20:30, 4:12] = before[1, 9, 33] = 1
    asked = on_coarse_pixels(before, before > 0, ClickedVoxel(Index(1, 9, 33), False))
    speck = arrays(engine, asked, TURNS[0])[0]
    gone = before.copy()
    gone[1, 9, 33] = 0
    assert (speck == gone).all()
    answer = engine.segment(asked)
    assert answer.changed is not None
    assert all(
        a <= b < c for a, b, c in zip(answer.changed.start, (1, 9, 33), answer.changed.stop, strict=True)
    )
    asked = on_coarse_pixels(before, before > 0, ClickedVoxel(Index(1, 9, 12), False))
    line = arrays(engine, asked, TURNS[0])[0]
    assert not line[1, 8:10, :30].any()
    assert (line[1, 12:] == before[1, 12:]).all()
    assert line[1, 9, 33] == 1


def test_the_surroundings_of_strokes_are_as_wide_as_their_features_look():
    assert HALO_PX == HALO
