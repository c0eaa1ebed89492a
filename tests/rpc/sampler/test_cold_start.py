"""A start without any foreground with a network that really learns: the model finds nothing, and the loop gets out."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.rpc.geometry import region_from_proto, region_to_proto
from biosegment.volume import Region
from tests.rpc.sampler.conftest import Platform, Start
from tests.rpc.sampler.foreign import PROJECT
from tests.rpc.sampler.learner import SHAPE, Learner

pytestmark = [pytest.mark.usefixtures("patient"), pytest.mark.system, pytest.mark.timeout(500)]

WINDOW = (1, 32, 32)
ROUNDS = 4
"""Trainings after the blind one within which the loop must have got out."""


@pytest.fixture
def learner(records: Any) -> Learner:
    records.volumes["v1"] = tuple(SHAPE)
    return Learner()


def regions(learner: Learner, least: float, most: float, count: int) -> list[Region]:
    """Windows whose share of foreground lies within bounds."""
    found = []
    for z in range(0, SHAPE.z, 2):
        for y in range(0, SHAPE.y - 31, 32):
            for x in range(0, SHAPE.x - 31, 32):
                region = Region.of_shape(WINDOW, (z, y, x))
                if least <= learner.truth[region.slices].mean() <= most:
                    found.append(region)
    return [found[number] for number in np.linspace(0, len(found) - 1, count).astype(int)]


async def choose(platform: Platform, learner: Learner, region: Region) -> None:
    """Annotate a region of one's own choice."""
    request = pb.CreateSampleRequest(
        parent=PROJECT, volume=f"{PROJECT}/volumes/v1", region=region_to_proto(region)
    )
    sample = (await platform.stub.CreateSample(request, metadata=platform.as_user("ann"))).sample
    assert sample.strategy == "chosen"
    platform.answer("ann", sample, learner.counts(region))


async def annotate_next(platform: Platform, learner: Learner, count: int) -> pb.ClaimSamplesResponse:
    answer = await platform.claim("ann", count=count)
    for sample in answer.samples:
        platform.answer("ann", sample, learner.counts(region_from_proto(sample.region)))
    return answer


async def train(platform: Platform, learner: Learner) -> str:
    """A round of the loop; returns the model, whose scores are then in use."""
    request = pb.RequestTrainingRequest(parent=PROJECT)
    await platform.stub.RequestTraining(request, metadata=platform.as_user("mia"))
    # In a thread: the servers of this process go on answering.
    await asyncio.to_thread(learner.train, platform.records.holding())
    model = platform.trainer.finish_training(platform.trainer.of_kind("train")[-1])
    await platform.step()
    job = platform.trainer.of_kind("score")[-1]
    scores = await asyncio.to_thread(learner.score, job.spec.score)
    platform.trainer.finish_scoring(job, {"v1": scores})
    await platform.step()
    pool = await platform.pool()
    assert (pool.scored_model, pool.failure) == (model, "")
    return model


async def collapse(platform: Platform, learner: Learner) -> pb.ClaimSamplesResponse:
    """Train on four patches without foreground; returns what is proposed then."""
    await platform.update(
        "sample_shape",
        "slice_distance",
        "retrain",
        sample_shape=dict(zip("zyx", WINDOW, strict=True)),
        slice_distance=1,
        retrain={"manual": True},
    )
    for region in regions(learner, 0, 0, 4):
        await choose(platform, learner, region)
    await train(platform, learner)
    assert await asyncio.to_thread(learner.found) == 0
    answer = await platform.claim("bob", count=2)
    assert [sample.strategy for sample in answer.samples] == ["stratified"] * 2
    assert "no foreground" in answer.notice
    assert "add regions of your own" in answer.notice
    for sample in answer.samples:
        request = pb.ReleaseSampleRequest(name=sample.name)
        await platform.stub.ReleaseSample(request, metadata=platform.as_user("bob"))
    return answer


async def until_seeing(platform: Platform, learner: Learner) -> None:
    """Annotate what is proposed and train, until entropy ranks again, and further until the model is of use."""
    for _ in range(ROUNDS):
        await annotate_next(platform, learner, 6)
        model = await train(platform, learner)
        answer = await platform.claim("ann")
        if [sample.strategy for sample in answer.samples] == ["entropy"]:
            assert answer.notice == ""
            assert answer.samples[0].model == model
            break
        assert "add regions of your own" in answer.notice
    else:
        raise AssertionError(f"still blind after {ROUNDS} rounds: {answer.notice}")
    for _ in range(ROUNDS):
        if (found := await asyncio.to_thread(learner.found)) > 0.2:
            return
        answer = await annotate_next(platform, learner, 6)
        assert {sample.strategy for sample in answer.samples} == {"entropy"}
        await train(platform, learner)
    raise AssertionError(f"it sees, but no better than IoU {found:.2f}")


async def test_one_chosen_region_leads_a_blind_model_to_foreground(start: Start, learner: Learner) -> None:
    async with start() as platform:
        await collapse(platform, learner)
        await choose(platform, learner, regions(learner, 0.25, 1, 1)[0])
        # There is no new model yet, but known foreground to look around.
        answer = await annotate_next(platform, learner, 6)
        assert {sample.strategy for sample in answer.samples} == {"near_foreground", "stratified"}
        assert "near annotations that show a class" in answer.notice
        near = [sample for sample in answer.samples if sample.strategy == "near_foreground"]
        assert any(learner.truth[region_from_proto(sample.region).slices].any() for sample in near)
        await until_seeing(platform, learner)


async def test_a_blind_model_gets_out_by_itself(start: Start, learner: Learner) -> None:
    async with start() as platform:
        await collapse(platform, learner)
        await until_seeing(platform, learner)
