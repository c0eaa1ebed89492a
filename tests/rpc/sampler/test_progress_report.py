"""The progress report of a real sampler; models are what a trainer's list says."""

from __future__ import annotations

import time
from typing import Any

import pytest

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.errors import InvalidArgument
from biosegment.volume import Region
from tests.rpc.sampler.conftest import Platform
from tests.rpc.sampler.foreign import PROJECT
from tests.rpc.sampler.test_loop import annotate

FLAT = Region.of_shape((1, 128, 128), (0, 0, 0))
BLOCK = Region.of_shape((5, 20, 20), (10, 0, 0))


async def progress(platform: Platform, user: str = "vic", **fields: Any) -> pb.GetProgressResponse:
    request = pb.GetProgressRequest(parent=PROJECT, **fields)
    answer: pb.GetProgressResponse = await platform.stub.GetProgress(request, metadata=platform.as_user(user))
    return answer


def figures_of(iou: float, annotations: int = 25) -> dict[str, float]:
    """Figures of a model whose parent was tested."""
    return {
        "new/iou/mitochondria": iou,
        "new/error/mitochondria": 0.005,
        "new/annotations/mitochondria": annotations,
        "new/annotations": annotations + 2,
        "new/voxels": 4096.0 * annotations,
        "training_annotations": 30,
    }


async def test_a_report_says_who_annotated_what_and_when(platform: Platform) -> None:
    records, today = platform.records, time.time()
    yesterday = today - 86_400
    commit = records.commit
    commit("ann", FLAT, {1: 9_000, 2: 1_000}, volume="v1", work_time_s=30, created_at=yesterday)
    commit("ann", FLAT, {1: 10_000}, volume="v1", work_time_s=0, created_at=yesterday)
    accepted = commit("ann", FLAT, {2: 10_000}, volume="v1", work_time_s=50, created_at=today)
    commit("bob", BLOCK, {1: 250_000}, volume="v1", work_time_s=0, created_at=today)
    rejected = commit("bob", BLOCK, {2: 7}, volume="v1", work_time_s=1000, created_at=today)
    reverted = commit("bob", BLOCK, {2: 7}, volume="v1", work_time_s=1000, created_at=today)
    records.review(accepted, accepted=True)
    records.review(rejected, accepted=False)
    records.revert(reverted)
    found = await progress(platform)
    assert (found.annotations, found.new_annotations, found.annotated_voxels) == (4, 4, 280_000)
    # Voxels are 40 x 10 x 10 nm: 10 000 of them are 1 um2 in a slice, 250 000 of them 1 um3.
    assert found.annotated_area_um2 == pytest.approx(3.0)
    assert found.annotated_volume_um3 == pytest.approx(1.0)
    assert (found.measured_annotations, found.work_time_s, found.median_work_time_s) == (2, 80.0, 40.0)
    assert found.reviews == pb.ReviewCounts(pending=3, accepted=1, rejected=1, reverted=1)
    ann, bob = found.authors
    assert (ann.author, ann.annotations, ann.voxels, ann.measured_annotations) == ("ann", 3, 30_000, 2)
    assert (ann.median_work_time_s, dict(ann.voxels_by_class)) == (40.0, {1: 19_000, 2: 11_000})
    assert ann.last_annotation_time.seconds == int(today)
    # What does not hold counts in reviews alone, its time not even there.
    assert (bob.author, bob.annotations, bob.measured_annotations, bob.work_time_s) == ("bob", 1, 0, 0.0)
    assert bob.median_work_time_s == 0.0
    assert bob.reviews == pb.ReviewCounts(pending=1, rejected=1, reverted=1)
    assert [(each.class_value, each.annotations, each.voxels) for each in found.classes] == [
        (1, 3, 269_000),
        (2, 2, 11_000),
    ]
    assert [(day.annotations, day.authors, day.measured_annotations) for day in found.days] == [
        (2, 1, 1),
        (2, 2, 1),
    ]
    assert found.days[0].day == time.strftime("%Y-%m-%d", time.gmtime(yesterday))


async def test_the_figures_are_those_of_now_whenever_one_asks(platform: Platform) -> None:
    await annotate(platform, 2)
    assert (await progress(platform)).annotations == 2
    await annotate(platform, 1)
    await platform.claim("bob")
    found = await progress(platform)
    assert (found.annotations, found.new_annotations) == (3, 3)
    assert dict(found.samples_by_state) == {"annotated": 3, "leased": 1}
    platform.trainer.add_model([item.name for item in platform.records.holding()][:2])
    await platform.step()
    assert (await progress(platform)).new_annotations == 1
    platform.records.revert(platform.records.holding()[0].name)
    assert (await progress(platform)).annotations == 2


async def test_models_stand_beside_their_parents_on_the_same_held_out_annotations(platform: Platform) -> None:
    first = platform.trainer.add_model(["a"] * 3, display_name="first", metrics={"training_annotations": 3})
    figures = {
        "training_annotations": 40,
        "validation_annotations": 6,
        "validation_iou": 0.7,
        "parent_validation_iou": 0.6,
        "parent_kept": 0,
        "validation/iou/mitochondria": 0.8,
        "parent_validation/iou/mitochondria": 0.6,
        "validation/iou/outer/membrane": 0.6,
        "validation/dice/mitochondria": 0.9,
    }
    second = platform.trainer.add_model(["a"] * 46, metrics=figures, parent=first, remarks=["stopped early"])
    kept = {**figures, "parent_kept": 1.0}
    platform.trainer.add_model(["a"] * 46, metrics=kept, parent=second, deleted=True)
    one, two, three = (await progress(platform)).models
    assert (one.model, one.version, one.display_name, one.parent) == (first, 1, "first", "")
    assert (one.trained_annotations, one.held_out_annotations) == (3, 0)
    assert not one.HasField("iou")
    assert not one.HasField("parent_iou")
    assert (two.parent, two.trained_annotations, two.held_out_annotations) == (first, 40, 6)
    assert (two.iou, two.parent_iou, two.parent_kept) == (0.7, 0.6, False)
    mitochondria, membrane = two.classes
    assert (mitochondria.class_name, mitochondria.iou, mitochondria.parent_iou) == ("mitochondria", 0.8, 0.6)
    assert (membrane.class_name, membrane.iou, membrane.HasField("parent_iou")) == (
        "outer/membrane",
        0.6,
        False,
    )
    assert list(two.remarks) == ["stopped early"]
    assert (three.parent_kept, three.deleted) == (True, True)


async def test_the_hint_follows_the_line_of_models_and_takes_the_caller_s_word_for_flat(
    platform: Platform,
) -> None:
    assert (await progress(platform)).hint.verdict == pb.StoppingHint.VERDICT_TOO_FEW
    parent = ""
    for number, iou in enumerate((0.0, 0.55, 0.70, 0.71, 0.705)):
        parent = platform.trainer.add_model([], parent=parent, metrics=figures_of(iou) if number else {})
    found = await progress(platform)
    (curve,) = found.hint.curves
    assert [(point.version, point.iou, point.annotations) for point in curve.points] == [
        (2, 0.55, 25),
        (3, 0.70, 25),
        (4, 0.71, 25),
        (5, 0.705, 25),
    ]
    assert found.hint.verdict == curve.verdict == pb.StoppingHint.VERDICT_FLAT
    assert "flat for 3 rounds" in found.hint.text
    assert "not accuracy on the volume" in found.hint.text
    assert (found.models[-1].new_annotations, found.models[-1].new_voxels) == (27, 25 * 4096)
    rising = await progress(platform, flat_rounds=4)
    assert rising.hint.verdict == pb.StoppingHint.VERDICT_RISING
    strict = await progress(platform, flat_tolerance=0.01)
    assert strict.hint.verdict == pb.StoppingHint.VERDICT_TOO_FEW
    # It only says so: nothing was asked for or stopped.
    assert not platform.trainer.jobs
    for wrong in ({"flat_rounds": 1}, {"flat_tolerance": 1.5}, {"flat_tolerance": float("nan")}):
        with pytest.raises(InvalidArgument) as caught:
            await progress(platform, **wrong)
        assert caught.value.reason == "BAD_FLATNESS"


async def test_a_report_without_a_trainer_or_with_a_deleted_volume_says_what_is_missing(
    platform: Platform,
) -> None:
    platform.records.commit("ann", FLAT, {1: 10_000}, volume="v1")
    platform.trainer.add_model([])
    platform.trainer.away = True
    found = await progress(platform)
    assert (found.annotations, list(found.models)) == (1, [])
    assert "trainer" in found.notice
    platform.trainer.away = False
    assert (await progress(platform)).notice == ""
    del platform.records.volumes["v1"]
    found = await progress(platform)
    assert (found.annotated_voxels, found.annotated_area_um2) == (10_000, 0.0)
    assert "v1" in found.notice
