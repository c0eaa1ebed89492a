"""When the sampler asks for a training, and when it does not."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.errors import (
    BiosegmentError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from biosegment.volume import Region
from tests.rpc.sampler.conftest import Platform, eventually
from tests.rpc.sampler.test_loop import annotate, request_training, seeing_maps, train_and_score

pytestmark = pytest.mark.usefixtures("patient")


async def steps(platform: Platform, count: int = 3) -> None:
    for _ in range(count):
        await platform.step()


def trainings(platform: Platform) -> list[job_pb2.Job]:
    return platform.trainer.of_kind("train")


def names(platform: Platform) -> list[str]:
    return [item.name for item in platform.records.holding()]


def annotate_now(platform: Platform) -> None:
    """A region of somebody's own choice, at the time that the sampler has."""
    region = Region.of_shape((1, 8, 8), (len(platform.records.records), 0, 0))
    now = time.time() + platform.clock[0]
    platform.records.commit("ann", region, {1: 64}, volume="v1", created_at=now)


@pytest.mark.parametrize(("meanwhile", "follow_ups"), [(0, 0), (2, 0), (3, 1), (7, 1)])
async def test_what_comes_during_a_training_leads_to_one_more_when_it_is_enough(
    platform: Platform, meanwhile: int, follow_ups: int
) -> None:
    await platform.update("retrain", retrain={"after_annotations": 3})
    await annotate(platform, 3)
    await steps(platform)
    (first,) = trainings(platform)
    known = names(platform)
    await annotate(platform, meanwhile)
    await steps(platform)
    assert len(trainings(platform)) == 1
    platform.trainer.finish_training(first, known)
    await steps(platform)
    assert len(trainings(platform)) == 1 + follow_ups
    if follow_ups:
        platform.trainer.finish_training(trainings(platform)[-1])
        await steps(platform)
        assert len(trainings(platform)) == 2
    else:
        # They are not forgotten.
        await annotate(platform, 3 - meanwhile)
        await steps(platform)
        assert len(trainings(platform)) == 2


async def test_what_the_running_training_took_in_after_it_was_asked_for_is_not_new(
    platform: Platform,
) -> None:
    await platform.update("retrain", retrain={"after_annotations": 2})
    await annotate(platform, 2)
    await steps(platform)
    await annotate(platform, 2)
    # The trainer looks for annotations when it begins, later than it was asked.
    platform.trainer.finish_training(trainings(platform)[0])
    await steps(platform)
    assert len(trainings(platform)) == 1


async def test_a_kept_parent_is_not_trained_again_on_what_did_not_help(platform: Platform) -> None:
    await platform.update("retrain", retrain={"after_annotations": 2, "after_idle_s": 10})
    await annotate(platform, 2)
    await steps(platform)
    platform.trainer.finish_training(trainings(platform)[0], [])
    platform.clock[0] += 100
    await steps(platform)
    assert len(trainings(platform)) == 1
    annotate_now(platform)
    annotate_now(platform)
    await steps(platform)
    assert len(trainings(platform)) == 2


async def test_the_idle_clock_begins_again_with_each_annotation_and_stands_while_a_training_runs(
    platform: Platform,
) -> None:
    await platform.update("retrain", retrain={"after_annotations": 50, "after_idle_s": 100})
    platform.clock[0] += 1000
    await steps(platform)
    assert not trainings(platform)

    for _ in range(3):
        annotate_now(platform)
        platform.clock[0] += 90
        await steps(platform)
        assert not trainings(platform)
    platform.clock[0] += 20
    await steps(platform)
    (first,) = trainings(platform)
    known = names(platform)
    annotate_now(platform)
    platform.clock[0] += 500
    await steps(platform)
    assert len(trainings(platform)) == 1
    platform.trainer.finish_training(first, known)
    await steps(platform)
    # Nobody has annotated for long, and there is something new: one more, and then none.
    assert len(trainings(platform)) == 2
    platform.trainer.finish_training(trainings(platform)[-1])
    platform.clock[0] += 500
    await steps(platform)
    assert len(trainings(platform)) == 2


async def test_one_that_was_taken_back_or_rejected_does_not_cause_a_training(platform: Platform) -> None:
    await platform.update("retrain", retrain={"after_annotations": 2})
    await annotate(platform, 2)
    first, second = names(platform)
    platform.records.revert(first)
    await steps(platform)
    assert not trainings(platform)
    await annotate(platform, 1)
    platform.records.review(second, accepted=False)
    await steps(platform)
    assert not trainings(platform)
    platform.records.review(second, accepted=True)
    await steps(platform)
    assert len(trainings(platform)) == 1


async def test_asking_by_hand_while_one_runs_answers_with_it_whoever_asked(platform: Platform) -> None:
    await platform.update("retrain", retrain={"after_annotations": 2})
    await annotate(platform, 2)
    await steps(platform)
    (running,) = trainings(platform)
    assert await request_training(platform) == running.name
    assert await request_training(platform, force=True) == running.name
    platform.trainer.finish_training(running)
    await steps(platform)
    direct = platform.trainer.train_directly()
    await annotate(platform, 1)
    assert await request_training(platform) == direct.name
    direct.state = job_pb2.Job.STATE_CANCELLED
    assert await request_training(platform) not in (running.name, direct.name)


async def test_one_that_has_just_ended_does_not_answer_for_what_came_since(platform: Platform) -> None:
    await annotate(platform, 1)
    first = await request_training(platform)
    platform.trainer.finish_training(platform.trainer.jobs[first])
    await annotate(platform, 1)
    assert await request_training(platform) != first
    assert len(trainings(platform)) == 2


@pytest.mark.parametrize("by_hand", [False, True])
async def test_a_training_for_which_there_is_no_room_learns_later_what_it_was_to_learn(
    platform: Platform, by_hand: bool
) -> None:
    await platform.update("retrain", retrain={"after_annotations": 4 if by_hand else 3})
    await annotate(platform, 3)
    platform.trainer.refusal = ResourceExhausted("TOO_MANY_JOBS", "the queue is full")
    for _ in range(3):
        with pytest.raises(ResourceExhausted):
            await (request_training(platform) if by_hand else platform.step())
        pool = await platform.pool()
        assert "refused to train: TOO_MANY_JOBS: the queue is full" in pool.failure
        assert pool.active_job == ""
    platform.trainer.refusal = None
    await annotate(platform, by_hand)
    await steps(platform)
    (training,) = trainings(platform)
    assert (await platform.pool()).failure == ""
    platform.trainer.finish_training(training)
    await steps(platform)
    assert trainings(platform) == [training]


@pytest.mark.parametrize("kind", [FailedPrecondition, InvalidArgument, NotFound, PermissionDenied])
async def test_a_training_that_is_refused_for_good_waits_for_further_annotations(
    platform: Platform, kind: type[BiosegmentError]
) -> None:
    await platform.update("retrain", retrain={"after_annotations": 2})
    await annotate(platform, 2)
    platform.trainer.refusal = kind("NO_ANNOTATIONS", "there is nothing to learn")
    with pytest.raises(kind):
        await platform.step()
    await steps(platform)
    assert "there is nothing to learn" in (await platform.pool()).failure
    platform.trainer.refusal = None
    await annotate(platform, 1)
    await steps(platform)
    assert not trainings(platform)
    await annotate(platform, 1)
    await steps(platform)
    assert len(trainings(platform)) == 1


async def test_a_refused_training_keeps_no_scores_from_annotators_and_is_not_asked_for_all_the_time(
    platform: Platform,
) -> None:
    await platform.update("retrain", retrain={"after_annotations": 2})
    await annotate(platform, 2)
    await steps(platform)
    model = platform.trainer.finish_training(trainings(platform)[0])
    await steps(platform)
    (scoring,) = platform.trainer.of_kind("score")
    await annotate(platform, 2)
    platform.trainer.refusal = ResourceExhausted("DISK_FULL", "no room for weights")
    with pytest.raises(ResourceExhausted):
        await platform.step()
    platform.trainer.finish_scoring(scoring, seeing_maps())
    with pytest.raises(ResourceExhausted):
        await platform.step()
    assert (await platform.pool()).scored_model == model
    asked = platform.trainer.asked
    loop = asyncio.create_task(platform.application.loop.run(0.02))
    await asyncio.sleep(1.5)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    # Waits double from try to try.
    assert 1 <= platform.trainer.asked - asked <= 8


async def test_the_policy_waits_for_a_training_that_somebody_asked_the_trainer_for(
    platform: Platform,
) -> None:
    await platform.update("retrain", retrain={"after_annotations": 2})
    direct = platform.trainer.train_directly()
    await annotate(platform, 2)
    for state in (job_pb2.Job.STATE_QUEUED, job_pb2.Job.STATE_RUNNING):
        direct.state = state
        await steps(platform)
        assert trainings(platform) == [direct]
    platform.trainer.finish_training(direct)
    await steps(platform)
    assert trainings(platform) == [direct]
    again = platform.trainer.train_directly()
    await annotate(platform, 2)
    platform.trainer.fail(again, "out of memory")
    await steps(platform)
    assert len(trainings(platform)) == 3


async def test_a_policy_that_is_changed_while_one_runs_holds_for_the_next(platform: Platform) -> None:
    await platform.update("retrain", retrain={"after_annotations": 2})
    await annotate(platform, 2)
    await steps(platform)
    first, known = trainings(platform)[0], names(platform)
    await annotate(platform, 4)
    await platform.update("retrain", retrain={"after_annotations": 2, "manual": True})
    await steps(platform)
    assert first.state == job_pb2.Job.STATE_RUNNING
    assert (await platform.pool()).active_job == first.name
    platform.trainer.finish_training(first, known)
    await steps(platform)
    assert len(trainings(platform)) == 1
    await platform.update("retrain", retrain={"after_annotations": 5})
    await steps(platform)
    assert len(trainings(platform)) == 1
    await platform.update("retrain", retrain={"after_annotations": 4})
    await steps(platform)
    assert len(trainings(platform)) == 2


async def test_proposals_come_from_the_last_finished_scores_while_a_trainer_is_away(
    platform: Platform,
) -> None:
    await platform.update("retrain", retrain={"after_annotations": 1})
    await annotate(platform, 1)
    model = await train_and_score(platform, seeing_maps())
    loop = asyncio.create_task(platform.application.loop.run(0.02))

    async def trains() -> bool:
        return len(trainings(platform)) == 2

    try:
        await annotate(platform, 1)
        await eventually(trains)
        for away in (False, True):
            platform.trainer.away = away
            samples = (await platform.claim("bob", count=2)).samples
            assert [(sample.strategy, sample.model) for sample in samples] == [("entropy", model)] * 2
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


@pytest.mark.parametrize(
    "policy",
    [
        {"after_annotations": -1},
        {"after_idle_s": -1.0},
        {"after_idle_s": float("nan")},
        {"after_idle_s": float("inf")},
        {"after_idle_s": 1e10},
    ],
)
async def test_policies_that_make_no_sense_are_refused(platform: Platform, policy: dict[str, Any]) -> None:
    before = (await platform.pool()).retrain
    with pytest.raises(InvalidArgument) as caught:
        await platform.update("retrain", retrain=policy)
    assert caught.value.reason == "BAD_RETRAIN_POLICY"
    assert f"{next(iter(policy.values())):g}" in caught.value.message
    assert (await platform.pool()).retrain == before
    assert before == pb.RetrainPolicy(after_annotations=20)
