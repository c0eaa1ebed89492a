from __future__ import annotations

import asyncio
import uuid
from typing import Any

import numpy as np
import pytest

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.errors import FailedPrecondition
from biosegment.rpc.geometry import region_from_proto, region_to_proto
from biosegment.volume import Index, Region
from tests.rpc.sampler.conftest import Platform, eventually
from tests.rpc.sampler.foreign import CELL, PROJECT

pytestmark = pytest.mark.usefixtures("patient")

CELLS = (40, 256 // CELL, 384 // CELL)
FOREGROUND = Region(Index(20, 128, 192), Index(28, 192, 256))
"""Where the volume of these tests has mitochondria."""


def foreground_cells() -> np.ndarray:
    cells = np.zeros(CELLS)
    z, y, x = FOREGROUND.slices
    cells[z, y.start // CELL : y.stop // CELL, x.start // CELL : x.stop // CELL] = 1
    return cells


def maps(entropy: np.ndarray, foreground: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    return {"v1": {"entropy": entropy, "class_probability": foreground}}


def blind_maps() -> dict[str, dict[str, np.ndarray]]:
    """What a model that learned 'all background' answers: hardly any entropy, and that only by chance."""
    noise = np.random.default_rng(0).random(CELLS)
    return maps(0.2 + 0.001 * noise, 0.03 + 0.001 * noise)


def seeing_maps() -> dict[str, dict[str, np.ndarray]]:
    noise = np.random.default_rng(0).random(CELLS)
    return maps(0.01 * noise + 0.4 * foreground_cells(), 0.02 + 0.9 * foreground_cells())


async def annotate(platform: Platform, count: int) -> list[pb.Sample]:
    """A simulated annotator: claims one sample after the other, and answers from the truth."""
    answered = []
    for _ in range(count):
        (sample,) = (await platform.claim("ann")).samples
        inside = region_from_proto(sample.region).intersection(FOREGROUND)
        positive = inside.size if inside else 0
        platform.answer("ann", sample, {1: 16384 - positive, 2: positive} if positive else None)
        answered.append(sample)
    return answered


async def train_and_score(platform: Platform, answer: dict[str, dict[str, np.ndarray]]) -> str:
    await platform.step()
    job = platform.trainer.of_kind("train")[-1]
    model = platform.trainer.finish_training(job)
    await platform.step()
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[-1], answer)
    await platform.step()
    return model


async def test_enough_annotations_train_score_and_change_the_ranking(platform: Platform) -> None:
    await platform.update("retrain", retrain={"after_annotations": 4})
    await annotate(platform, 3)
    await platform.step()
    assert not platform.trainer.jobs
    await annotate(platform, 1)
    await platform.step()
    (training,) = platform.trainer.of_kind("train")
    assert (await platform.pool()).active_job == training.name
    await platform.step()
    assert len(platform.trainer.jobs) == 1
    model = platform.trainer.finish_training(training)
    await platform.step()
    (scoring,) = platform.trainer.of_kind("score")
    assert set(scoring.spec.score.measures) == {"entropy", "class_probability"}
    assert scoring.spec.score.max_pixels == platform.settings.score_pixels > 0
    pool = await platform.pool()
    assert (pool.latest_model, pool.scored_model, pool.active_job) == (model, "", scoring.name)
    assert "being scored" in (await platform.claim("bob")).notice
    platform.trainer.finish_scoring(scoring, seeing_maps())
    await platform.step()
    pool = await platform.pool()
    assert (pool.scored_model, pool.active_job, pool.failure) == (model, "", "")
    (sample,) = (await platform.claim("ann")).samples
    assert (sample.strategy, sample.model) == ("entropy", model)
    assert sample.score_layer.startswith(f"{PROJECT}/volumes/v1/layers/")
    assert region_from_proto(sample.region).overlaps(FOREGROUND)
    assert sample.score > 0.05
    progress = await platform.stub.GetProgress(
        pb.GetProgressRequest(parent=PROJECT), metadata=platform.as_user("ann")
    )
    assert (progress.rounds, progress.new_annotations, progress.annotations) == (1, 0, 4)


async def test_the_loop_gets_out_of_an_all_background_start_by_spreading(platform: Platform) -> None:
    await platform.update("retrain", "excluded", retrain={"after_annotations": 5})
    found = 0
    for _ in range(12):
        answered = await annotate(platform, 5)
        found = sum(region_from_proto(sample.region).overlaps(FOREGROUND) for sample in answered)
        assert all(sample.strategy == "stratified" for sample in answered)
        # The model sees as soon as an annotation showed it foreground, as a real one does.
        await train_and_score(platform, seeing_maps() if found else blind_maps())
        answer = await platform.claim("bob")
        if found:
            break
        assert "no foreground" in answer.notice
    assert found
    (next_one,) = (await platform.claim("ann")).samples
    assert next_one.strategy == "entropy"
    assert next_one.notice == ""
    assert region_from_proto(next_one.region).overlaps(FOREGROUND)


async def test_the_loop_gets_out_of_an_all_background_start_by_a_chosen_region(platform: Platform) -> None:
    await platform.update("retrain", retrain={"after_annotations": 2})
    await annotate(platform, 2)
    await train_and_score(platform, blind_maps())
    answer = await platform.claim("bob")
    # Stratified samples may have met it.
    assert {sample.strategy for sample in answer.samples} <= {"stratified", "near_foreground"}
    assert "regions of your own" in answer.notice
    for shift in (0, 2):
        region = Region.of_shape((1, 64, 64), (20 + shift, 128, 192))
        request = pb.CreateSampleRequest(
            parent=PROJECT, volume=f"{PROJECT}/volumes/v1", region=region_to_proto(region)
        )
        metadata = platform.as_user("ann")
        sample = (await platform.stub.CreateSample(request, metadata=metadata)).sample
        platform.answer("ann", sample, {2: 4096})
    await train_and_score(platform, seeing_maps())
    (next_one,) = (await platform.claim("ann")).samples
    assert next_one.strategy == "entropy"
    assert region_from_proto(next_one.region).overlaps(FOREGROUND)


@pytest.mark.parametrize(
    "entropy",
    [np.full(CELLS, np.nan), np.full(CELLS, 0.3), np.zeros(CELLS)],
    ids=["not a number", "flat", "zero"],
)
async def test_useless_scores_fall_back_to_stratified(platform: Platform, entropy: np.ndarray) -> None:
    await platform.update("retrain", retrain={"after_annotations": 1})
    await annotate(platform, 1)
    await train_and_score(platform, maps(entropy, 0.9 * foreground_cells()))
    answer = await platform.claim("ann")
    assert [sample.strategy for sample in answer.samples] == ["stratified"]
    assert "spread evenly" in answer.notice


async def test_a_batch_mixes_strategies_in_their_shares(platform: Platform) -> None:
    shares = [{"strategy": "entropy", "share": 0.75}, {"strategy": "random", "share": 0.25}]
    await platform.update("strategies", "retrain", strategies=shares, retrain={"after_annotations": 1})
    await annotate(platform, 1)
    await train_and_score(platform, seeing_maps())
    samples = (await platform.claim("ann", count=8)).samples
    names = [sample.strategy for sample in samples]
    assert (names.count("entropy"), names.count("random")) in ((6, 2), (7, 1))


async def test_a_failed_training_is_told_and_waits_for_annotations_or_a_hand(platform: Platform) -> None:
    await platform.update("retrain", retrain={"after_annotations": 2})
    await annotate(platform, 2)
    await platform.step()
    platform.trainer.fail(platform.trainer.of_kind("train")[0], "out of memory")
    for _ in range(3):
        await platform.step()
    assert len(platform.trainer.jobs) == 1
    assert "out of memory" in (await platform.pool()).failure
    await annotate(platform, 2)
    await platform.step()
    assert len(platform.trainer.jobs) == 2
    platform.trainer.fail(platform.trainer.of_kind("train")[1], "again")
    await platform.step()
    job = await request_training(platform)
    assert job == platform.trainer.of_kind("train")[2].name
    assert (await platform.pool()).failure == ""


async def test_a_model_made_by_hand_ends_the_word_of_a_failed_training(platform: Platform) -> None:
    await platform.update("retrain", retrain={"after_annotations": 1})
    await annotate(platform, 1)
    await platform.step()
    platform.trainer.fail(platform.trainer.of_kind("train")[0], "out of memory")
    await platform.step()
    assert "out of memory" in (await platform.pool()).failure
    platform.trainer.add_model([])
    await platform.step()
    assert (await platform.pool()).failure == ""


async def request_training(platform: Platform, **fields: Any) -> str:
    request = pb.RequestTrainingRequest(parent=PROJECT, **fields)
    answer = await platform.stub.RequestTraining(request, metadata=platform.as_user("mia"))
    return str(answer.job)


async def test_training_by_hand_answers_with_the_running_one_and_needs_something_new(
    platform: Platform,
) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        await request_training(platform)
    assert caught.value.reason == "NO_ANNOTATIONS"
    await annotate(platform, 1)
    request_id = str(uuid.uuid4())
    job = await request_training(platform, request_id=request_id)
    assert await request_training(platform) == job
    platform.trainer.finish_training(platform.trainer.jobs[job])
    await platform.step()
    assert await request_training(platform, request_id=request_id) == job
    with pytest.raises(FailedPrecondition) as caught:
        await request_training(platform)
    assert caught.value.reason == "NOTHING_NEW"
    assert await request_training(platform, force=True) != job


async def test_a_manual_pool_never_trains_by_itself(platform: Platform) -> None:
    await platform.update("retrain", retrain={"after_annotations": 1, "manual": True})
    await annotate(platform, 3)
    await platform.step()
    assert not platform.trainer.jobs


async def test_an_idle_pool_trains_after_its_time(platform: Platform) -> None:
    await platform.update("retrain", retrain={"after_annotations": 50, "after_idle_s": 100})
    await annotate(platform, 1)
    await platform.step()
    assert not platform.trainer.jobs
    platform.clock[0] += 101
    await platform.step()
    assert len(platform.trainer.of_kind("train")) == 1


async def test_a_model_made_by_hand_is_scored_and_a_newer_one_cancels_the_scoring(platform: Platform) -> None:
    await annotate(platform, 1)
    platform.trainer.add_model([])
    await platform.step()
    (first,) = platform.trainer.of_kind("score")
    newest = platform.trainer.add_model([])
    await platform.step()
    assert first.state == 5  # cancelled
    second = platform.trainer.of_kind("score")[-1]
    assert second.spec.score.model == newest
    platform.trainer.finish_scoring(second, seeing_maps())
    await platform.step()
    assert (await platform.pool()).scored_model == newest


async def test_a_network_that_was_only_pretrained_scores_nothing(platform: Platform) -> None:
    await annotate(platform, 1)
    usable = platform.trainer.add_model([])
    platform.trainer.add_model([], class_values=())
    await platform.step()
    (job,) = platform.trainer.of_kind("score")
    assert job.spec.score.model == usable


async def test_only_what_was_scored_is_ranked_and_the_rest_is_spread_over(platform: Platform) -> None:
    await annotate(platform, 1)
    platform.trainer.add_model([])
    await platform.step()
    # Of a large volume a part is scored at a time: nothing of slices 10 and later, half of the others.
    answer = seeing_maps()["v1"]
    for cells in answer.values():
        cells[10:] = cells[:, :, 12:] = np.nan
    answer["class_probability"][0, 0, 0] = 0.9
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[-1], {"v1": answer})
    await platform.step()
    samples = list((await platform.claim("ann", count=100)).samples)
    ranked = [sample for sample in samples if sample.strategy == "entropy"]
    assert ranked
    assert {sample.strategy for sample in samples} <= {"entropy", "stratified"}
    for sample in ranked:
        region = region_from_proto(sample.region)
        assert region.stop.z <= 10
        # At least half of what is seen was scored.
        assert (region.start.x + region.stop.x) / 2 <= 12 * CELL
        assert np.isfinite(sample.score)


async def test_a_new_volume_is_scored_too(platform: Platform) -> None:
    await annotate(platform, 1)
    platform.trainer.add_model([])
    await platform.step()
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[-1], seeing_maps())
    await platform.step()
    platform.records.volumes["v2"] = (40, 256, 384)
    await platform.step()
    job = platform.trainer.of_kind("score")[-1]
    assert list(job.spec.score.volumes) == [f"{PROJECT}/volumes/v2"]
    platform.trainer.finish_scoring(job, {"v2": seeing_maps()["v1"]})
    await platform.step()
    answer = await platform.claim("ann", volume=f"{PROJECT}/volumes/v2")
    assert [sample.strategy for sample in answer.samples] == ["entropy"]
    await platform.step()
    assert len(platform.trainer.of_kind("score")) == 2


async def test_a_refusing_trainer_is_told_in_the_pool(platform: Platform) -> None:
    await platform.update("retrain", retrain={"after_annotations": 1})
    await annotate(platform, 1)
    platform.trainer.refuse = "no annotation has two classes"
    with pytest.raises(FailedPrecondition):
        await platform.step()
    assert "two classes" in (await platform.pool()).failure
    platform.trainer.refuse = ""
    await platform.step()
    assert not platform.trainer.jobs


async def test_the_running_loop_does_all_of_it_by_itself(platform: Platform) -> None:
    await platform.update("retrain", retrain={"after_annotations": 2})
    task = asyncio.create_task(platform.application.loop.run(0.02))

    async def trains() -> bool:
        return bool(platform.trainer.of_kind("train"))

    async def scores() -> bool:
        return bool(platform.trainer.of_kind("score"))

    async def switched() -> bool:
        return bool((await platform.pool()).scored_model)

    try:
        await annotate(platform, 2)
        await eventually(trains)
        platform.trainer.finish_training(platform.trainer.of_kind("train")[0])
        await eventually(scores)
        platform.trainer.finish_scoring(platform.trainer.of_kind("score")[0], seeing_maps())
        await eventually(switched)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(platform.trainer.jobs) == 2
