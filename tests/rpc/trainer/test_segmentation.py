"""Clicks and strokes through a real trainer and its process; the model is one whose answers are known."""

from __future__ import annotations

import asyncio
import signal
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytest_asyncio

from biosegment.api.trainer.v1alpha1 import segmentation_pb2 as pb
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.client.segmentation import Segmentation
from biosegment.client.volumes import Volumes
from biosegment.errors import (
    BiosegmentError,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from biosegment.rpc.geometry import data_type_to_proto, index_to_proto, region_from_proto
from biosegment.volume import Region
from tests.rpc.trainer.bad_request import broken
from tests.rpc.trainer.desk import (
    ALL,
    BALLS,
    CENTRES,
    IN_3D,
    WAITING,
    WIDE,
    XY,
    XZ,
    YZ,
    Desk,
    asked,
    balls,
    edges,
    mask_of,
    open_desk,
    overlap,
    sent,
)
from tests.rpc.trainer.test_trainer_reference import volume_of, write
from tests.rpc.trainer.tiny import import_tiny_model

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path_factory.mktemp("desk"), keys) as started:
        yield started


async def test_a_click_segments_the_object_in_its_slice_and_names_what_it_worked_at(desk):
    answer = await desk.ask(asked(desk.balls, clicks=((CENTRES[0], True),), with_probability=True))
    mask, (image, inside) = mask_of(answer), balls()
    assert mask[6, :50].any()
    assert overlap(mask[6, :50, :50].astype(bool), inside[6, :50, :50]) > 0.8
    assert not mask[6, 50:].any()  # the other ball was not clicked on
    assert not np.delete(mask, 6, 0).any()
    changed = region_from_proto(answer.changed)
    assert (changed.start.z, changed.stop.z) == (6, 7)
    assert (answer.level, edges(answer)) == (0, (30, 10, 10))
    assert answer.model.startswith("models/mitochondria-vem-clicks-")
    probability = np.frombuffer(zlib.decompress(answer.probability), np.uint8).reshape(BALLS)
    assert ((probability >= 128) == (mask > 0)).all()
    assert image.shape == mask.shape


@pytest.mark.parametrize(("plane", "axis"), [(XZ, 1), (YZ, 2)])
async def test_planes_across_the_slices_have_square_pixels_and_answer_in_the_volumes_geometry(
    desk, plane, axis
):
    answer = await desk.ask(asked(desk.balls, clicks=((CENTRES[0], True),), plane=plane))
    mask, at = mask_of(answer), CENTRES[0][axis]
    assert edges(answer) == (10, 10, 10)  # slices are 30 nm apart, pixels of the plane 10
    assert not np.delete(mask, at, axis).any()
    near = np.take(mask, at, axis).astype(bool)[:, :50]
    assert overlap(near, np.take(balls()[1], at, axis)[:, :50]) > 0.6


async def test_in_3d_the_object_is_followed_until_it_ends(desk):
    answer = await desk.ask(asked(desk.balls, clicks=((CENTRES[0], True),), plane=IN_3D))
    mask, inside = mask_of(answer), balls()[1]
    assert not mask[:, 50:].any()
    touched = {int(z) for z in np.flatnonzero(mask.any((1, 2)))}
    assert {5, 6, 7} <= touched
    assert not touched & {0, 11}
    assert overlap(mask[:, :50, :50].astype(bool), inside[:, :50, :50]) > 0.6


async def test_outside_of_what_changed_the_mask_is_bit_for_bit_the_one_before(desk):
    """At half the resolution, from a mask that no downsampling would leave as it is."""
    region = Region((0, 3, 5), (4, 298, 297))
    before = (np.random.default_rng(0).random(region.shape) < 0.5).astype(np.uint8)
    before[:, 60:, 60:] = 0
    answer = await desk.ask(asked(desk.wide, region, (((1, 150, 131), True),), previous=before))
    assert (answer.level, edges(answer)) == (1, (30, 10, 10))
    mask, changed = mask_of(answer, region), region_from_proto(answer.changed)
    expected = before.copy()
    part = changed.relative_to(region).slices
    expected[part] = mask[part]
    assert (mask == expected).all()
    assert (changed.start.z, changed.stop.z) == (1, 2)
    assert (mask[1] != before[1]).sum() > 9000  # the disc
    assert (
        mask[1, :40, :40] == before[1, :40, :40]
    ).all()  # noise within the part, but of no object that was clicked on


async def test_a_click_takes_away_all_of_an_object_with_its_outline(desk):
    """The outline lies between working pixels: none of it is left behind."""
    region = Region.of_shape(WIDE)
    before = np.zeros(WIDE, np.uint8)
    before[2, 21:64, 31:64] = 1
    answer = await desk.ask(asked(desk.wide, region, (((2, 40, 40), False),), previous=before))
    assert not mask_of(answer, region).any()


async def test_a_click_of_a_session_does_not_undo_the_earlier_ones_in_its_slice(desk):
    session = await Segmentation(desk.datastore.as_user("ada").channel).begin(desk.balls, ALL, class_value=2)
    client = Segmentation(desk.trainer.as_user("ada").channel)
    hole, beside, next_slice = (6, 30, 24), (6, 30, 38), (5, 30, 30)
    assert (await client.click(session, CENTRES[0])).mask[hole] == 1
    assert (await client.click(session, hole, positive=False)).mask[hole] == 0
    answer = await client.click(session, beside)
    assert (answer.mask[hole], answer.mask[beside]) == (0, 1)
    # Clicks in other slices are not asked for again.
    answer = await client.click(session, next_slice)
    assert (answer.changed.start.z, answer.changed.stop.z) == (5, 6)
    for _ in range(3):
        session.undo()
    assert (await client.click(session, beside)).mask[hole] == 1


async def test_a_level_that_was_asked_for_is_worked_at(desk):
    region = Region.of_shape(WIDE)
    clicks = (((1, 150, 131), True),)
    masks = {}
    for level, nm in ((0, 5), (1, 10)):
        answer = await desk.ask(asked(desk.wide, region, clicks, level=level))
        assert (answer.level, edges(answer)) == (level, (30, nm, nm))
        masks[level] = mask_of(answer, region)[1].astype(bool)
    # At level 0 the focus window covers less than the disc.
    assert masks[1][:, 131].sum() == pytest.approx(121, abs=4)
    assert overlap(masks[0], masks[1]) > 0.9


async def test_a_reference_volume_and_an_image_are_segmented_like_a_copy(desk):
    image = balls()[0]
    write(desk.datastore.imports / "referenced.ome.zarr", image, "0.5")
    volume = await volume_of(desk.datastore, desk.datastore.imports / "referenced.ome.zarr", "ref", True)
    assert volume.reference
    referenced = await desk.ask(asked(volume.name, clicks=((CENTRES[1], True),), level=0))
    copied = await desk.ask(asked(desk.balls, clicks=((CENTRES[1], True),), level=0))
    assert referenced.mask == copied.mask
    request = asked(desk.balls, clicks=((CENTRES[1], True),))
    request.image.CopyFrom(
        pb.Image(
            shape=index_to_proto(BALLS),
            data_type=data_type_to_proto(np.dtype(np.float32)),
            data=sent(image.astype(np.float32)),
            voxel_size=geometry_pb2.VoxelSize(z_nm=30, y_nm=10, x_nm=10),
        )
    )
    along = await desk.ask(request)
    assert overlap(mask_of(along).astype(bool), mask_of(copied).astype(bool)) > 0.95


async def test_strokes_segment_their_slice_without_a_model_and_the_rest_as_a_draft(desk):
    strokes = np.zeros(BALLS, np.uint8)
    strokes[6, 28:33, 25:36] = 2
    strokes[6, 5:8, 5:90] = 1
    before = np.zeros(BALLS, np.uint8)
    before[2, 10:20, 10:20] = 1
    answer = await desk.ask(asked(desk.balls, scribbles=strokes, previous=before, with_probability=True))
    mask, inside = mask_of(answer), balls()[1]
    assert overlap(mask[6].astype(bool), inside[6]) > 0.7
    assert (np.delete(mask, 6, 0) == np.delete(before, 6, 0)).all()
    assert answer.model == ""
    draft = mask_of(await desk.ask(asked(desk.balls, scribbles=strokes, previous=before, draft=True)))
    assert (draft[6] == mask[6]).all()
    assert overlap(draft[5].astype(bool), inside[5]) > 0.6
    assert not draft[2, 10:20, 10:20].all()


async def test_strokes_on_a_part_see_the_tissue_around_it(desk):
    """The answer for a part of a slice is that for the slice, cut."""
    region = Region((6, 20, 18), (7, 61, 67))
    strokes = np.zeros(BALLS, np.uint8)
    strokes[6, 28:33, 25:36], strokes[6, 50:53, 20:60] = 2, 1
    whole = mask_of(await desk.ask(asked(desk.balls, scribbles=strokes)))
    part = mask_of(await desk.ask(asked(desk.balls, region, scribbles=strokes[region.slices])), region)
    assert overlap(part.astype(bool), whole[region.slices].astype(bool)) > 0.97


@pytest.mark.parametrize(
    ("fields", "kind", "reason"), [each[1:] for each in broken()], ids=[each[0] for each in broken()]
)
async def test_what_cannot_be_is_refused_with_a_message(desk, fields, kind, reason):
    fields = dict(fields)
    region = fields.pop("region", ALL)
    previous_mask, scribbles = fields.pop("previous_mask", b""), fields.pop("scribbles_data", b"")
    request = asked(desk.balls, region, fields.pop("clicks", ()), **fields)
    request.previous_mask = previous_mask or request.previous_mask
    request.scribbles = scribbles or request.scribbles
    with pytest.raises(kind) as caught:
        await desk.ask(request)
    assert caught.value.reason == reason
    assert len(caught.value.message) > 20
    if reason == "PROMPT_OUTSIDE":
        at = request.clicks[0].position
        assert caught.value.metadata["position"] == f"{at.z},{at.y},{at.x}"


async def test_the_probabilities_of_another_class_are_no_base(desk):
    volumes = Volumes(desk.datastore.as_user("ada").channel)
    other = np.zeros(balls()[0].shape, np.uint8)
    layer = await volumes.write_layer(desk.balls, other, kind="probabilities", class_value=3)
    with pytest.raises(InvalidArgument) as caught:
        await desk.ask(asked(desk.balls, clicks=((CENTRES[0], True),), base_layer=layer.name))
    assert caught.value.reason == "BAD_BASE"


async def test_images_that_cannot_be_are_refused(desk):
    good = pb.Image(
        shape=index_to_proto((2, 8, 8)),
        data_type=data_type_to_proto(np.dtype(np.float32)),
        data=sent(np.zeros((2, 8, 8), np.float32)),
        voxel_size=geometry_pb2.VoxelSize(z_nm=30, y_nm=10, x_nm=10),
    )
    nothing = np.full((2, 8, 8), np.nan, np.float32)
    worse: list[tuple[dict[str, Any], str]] = [
        ({"shape": index_to_proto((0, 8, 8))}, "BAD_IMAGE"),
        ({"shape": index_to_proto((-2, -8, 8))}, "BAD_IMAGE"),
        ({"shape": index_to_proto((2, 8, 9))}, "BAD_IMAGE"),
        ({"shape": index_to_proto((1 << 40, 1 << 40, 8))}, "REGION_TOO_LARGE"),
        ({"data_type": 0}, "BAD_DATA_TYPE"),
        ({"data_type": 77}, "BAD_DATA_TYPE"),
        ({"data": b""}, "BAD_IMAGE"),
        ({"data": sent(nothing)}, "BAD_IMAGE"),
        ({"data": bytes(5 << 20)}, "IMAGE_TOO_LARGE"),
        ({"voxel_size": geometry_pb2.VoxelSize()}, "BAD_VOXEL_SIZE"),
        ({"voxel_size": geometry_pb2.VoxelSize(z_nm=float("nan"), y_nm=1, x_nm=1)}, "BAD_VOXEL_SIZE"),
    ]
    for changes, reason in worse:
        image = pb.Image()
        image.CopyFrom(good)
        for name, value in changes.items():
            image.ClearField(name)  # type: ignore[arg-type]
            if isinstance(value, (bytes, int)):
                setattr(image, name, value)
            else:
                getattr(image, name).CopyFrom(value)
        click = pb.Click(position=index_to_proto((0, 4, 4)), positive=True)
        request = pb.SegmentRequest(
            project="projects/em", image=image, clicks=[click], class_value=2, plane=XY
        )
        with pytest.raises((InvalidArgument, ResourceExhausted)) as caught:
            await desk.ask(request)
        assert caught.value.reason == reason, changes
    with pytest.raises(InvalidArgument) as caught:
        await desk.ask(pb.SegmentRequest(project="projects/em", class_value=2))
    assert caught.value.reason == "NO_INPUT"
    # A slice that shows nothing is segmented all the same.
    request = pb.SegmentRequest(project="projects/em", image=good, clicks=[click], class_value=2, plane=XY)
    assert mask_of(await desk.ask(request), Region.of_shape((2, 8, 8)))[0, 4, 4] == 1


async def test_a_model_that_predicts_takes_no_clicks(desk, tmp_path):
    name = await import_tiny_model(desk.trainer.as_user("ada"), tmp_path)
    with pytest.raises(FailedPrecondition) as caught:
        await desk.ask(asked(desk.balls, clicks=((CENTRES[0], True),), model=name))
    assert caught.value.reason == "NOT_A_CLICK_MODEL"


async def test_only_annotators_segment_and_a_stranger_learns_nothing(desk):
    request = asked(desk.balls, clicks=((CENTRES[0], True),))
    assert (await desk.ask(request, "ann")).mask
    with pytest.raises(PermissionDenied):
        await desk.ask(request, "vic")
    with pytest.raises(NotFound) as caught:
        await desk.ask(request, "eve")
    assert caught.value.reason == "PROJECT_NOT_FOUND"
    # Rights come first: nobody's mistakes are discussed with a stranger.
    with pytest.raises(NotFound):
        await desk.ask(pb.SegmentRequest(project="projects/em"), "eve")
    await desk.datastore.as_user("eve").create_project("hers", classes=("mitochondria",))
    request.project = "projects/hers"
    with pytest.raises(InvalidArgument) as foreign:
        await desk.ask(request, "eve")
    assert foreign.value.reason == "OTHER_PROJECT"


async def test_of_two_with_the_same_base_the_second_is_told_whose_annotation_came_between(desk):
    region = Region((6, 0, 0), (7, 96, 96))
    mine = asked(desk.balls, region, ((CENTRES[0], True),), base_sequence=0)
    await desk.ask(mine)
    ann = desk.datastore.as_user("ann")
    stored = await ann.commit(desk.balls, Region((6, 80, 80), (7, 96, 96)), np.ones((1, 16, 16)))
    with pytest.raises(Conflict) as caught:
        await desk.ask(mine)
    assert caught.value.reason == "BASE_OUTDATED"
    assert caught.value.metadata == {"annotation": stored.name, "sequence": str(stored.sequence)}
    assert stored.name in caught.value.message
    # Beside it nothing changed, and who saw it goes on.
    await desk.ask(asked(desk.balls, Region((6, 0, 0), (7, 80, 96)), ((CENTRES[0], True),), base_sequence=0))
    mine.base_sequence = stored.sequence
    await desk.ask(mine)


async def test_it_never_runs_in_the_process_that_takes_calls(desk):
    await desk.ask(asked(desk.balls, clicks=((CENTRES[0], True),)))
    mapped = {file.path for file in psutil.Process(desk.trainer.process.pid).memory_maps()}
    assert not [path for path in mapped if "/torch/" in path or "/ray/" in path]
    child = desk.child()
    assert child is not None
    assert [path for path in {file.path for file in child.memory_maps()} if "/torch/" in path]
    assert not [name for name in child.environ() if name.startswith("BIOSEGMENT_")]


async def test_a_killed_process_costs_no_request(desk):
    request = asked(desk.balls, clicks=((CENTRES[0], True),))
    expected = (await desk.ask(request)).mask
    first = desk.child()
    first.kill()  # between requests
    assert (await desk.patiently(request)).mask == expected
    second = desk.child()
    assert second.pid != first.pid
    second.suspend()
    running = asyncio.ensure_future(desk.patiently(request))
    await asyncio.sleep(0.3)
    assert not running.done()
    second.send_signal(signal.SIGKILL)  # during one
    assert (await running).mask == expected


async def test_who_begins_has_the_process_started_before_the_first_click(desk):
    first = desk.child()
    first.kill()
    async with asyncio.timeout(60):
        while desk.child() is not None:
            await asyncio.sleep(0.05)
    prepared = pb.PrepareSegmentationRequest(project="projects/em")
    with pytest.raises(PermissionDenied):
        await desk.trainer.as_user("vic").segmentation.PrepareSegmentation(prepared)
    async with asyncio.timeout(240):
        # Said before the trainer knows that the old one has died, it starts nothing: a click would find out.
        while desk.child() is None:
            await desk.trainer.as_user("ada").segmentation.PrepareSegmentation(prepared)
            await asyncio.sleep(0.5)


async def test_few_wait_and_of_a_session_only_the_newest(desk):
    """Which of them is served, and when each arrives, is left open: `test_line` says who is served when."""
    clicks = ((CENTRES[0], True),)
    await desk.patiently(asked(desk.balls, clicks=clicks))
    child = desk.child()
    child.suspend()
    try:
        many = [asyncio.ensure_future(desk.ask(asked(desk.balls, clicks=clicks))) for _ in range(WAITING + 4)]
        # One is served and some wait; all others are refused.
        refused = await all_but(many, WAITING + 1)
        assert {(type(error), error.reason) for error in refused} == {(ResourceExhausted, "BUSY")}
    finally:
        child.resume()
    served = [
        answer for answer in await asyncio.gather(*many, return_exceptions=True) if answer not in refused
    ]
    child.suspend()
    try:
        request = asked(desk.balls, clicks=clicks, session="b")
        several = [asyncio.ensure_future(desk.ask(request)) for _ in range(WAITING)]
        # The newest waits, and perhaps another one was being served already.
        superseded = await all_but(several, 2)
        assert {(type(error), error.reason) for error in superseded} == {(Conflict, "SUPERSEDED")}
    finally:
        child.resume()
    newest = await asyncio.gather(*several, return_exceptions=True)
    served += [answer for answer in newest if not isinstance(answer, Conflict)]
    assert len({answer.mask for answer in served}) == 1
    assert WAITING + 2 <= len(served) <= WAITING + 3
    assert desk.child().pid == child.pid


async def all_but(calls: list[asyncio.Future[Any]], few: int) -> list[BiosegmentError]:
    """Errors of those that have ended, once no more than a few are under way."""
    async with asyncio.timeout(100):
        while len(pending := [call for call in calls if not call.done()]) > few:
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    errors = [call.exception() for call in calls if call.done()]
    return [error for error in errors if isinstance(error, BiosegmentError)]
