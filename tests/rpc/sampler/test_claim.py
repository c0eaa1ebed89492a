from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from typing import Any

import pytest

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.errors import (
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from biosegment.rpc.geometry import region_from_proto, region_to_proto
from biosegment.volume import Index, Region
from tests.rpc.sampler.conftest import Platform
from tests.rpc.sampler.foreign import PROJECT

BOX = Region(Index(3, 10, 20), Index(5, 70, 90))


async def choose(platform: Platform, user: str, region: Region = BOX, **fields: Any) -> pb.Sample:
    request = pb.CreateSampleRequest(
        parent=PROJECT, volume=f"{PROJECT}/volumes/v1", region=region_to_proto(region), **fields
    )
    sample: pb.Sample = (await platform.stub.CreateSample(request, metadata=platform.as_user(user))).sample
    return sample


async def test_a_first_claim_without_a_model_is_stratified_and_says_so(platform: Platform) -> None:
    answer = await platform.claim("ann", count=3)
    assert [sample.strategy for sample in answer.samples] == ["stratified"] * 3
    assert "no model yet" in answer.notice
    assert [sample.rank for sample in answer.samples] == [1, 2, 3]
    for sample in answer.samples:
        assert region_from_proto(sample.region).shape == Index(1, 128, 128)
        assert sample.lease.holder == "ann"
        claims = platform.records.verifier.verify_claims(sample.lease.token, "sampler")
        assert claims["exp"] == sample.lease.expire_time.seconds


async def test_only_the_holder_sees_the_token(platform: Platform) -> None:
    (sample,) = (await platform.claim("ann")).samples
    request = pb.GetSampleRequest(name=sample.name)
    own = (await platform.stub.GetSample(request, metadata=platform.as_user("ann"))).sample
    other = (await platform.stub.GetSample(request, metadata=platform.as_user("bob"))).sample
    assert own.lease.token
    assert (other.lease.holder, other.lease.token) == ("ann", "")


async def test_unfinished_leases_are_answered_first(platform: Platform) -> None:
    first = await platform.claim("ann", count=2)
    second = await platform.claim("ann", count=3)
    assert [sample.name for sample in second.samples[:2]] == [sample.name for sample in first.samples]
    assert len(second.samples) == 3


async def test_a_repeated_request_id_answers_the_same_samples(platform: Platform) -> None:
    request_id = str(uuid.uuid4())
    answers = await asyncio.gather(*(platform.claim("ann", count=2, request_id=request_id) for _ in range(5)))
    names = [[sample.name for sample in answer.samples] for answer in answers]
    assert all(each == names[0] for each in names)
    assert all(sample.lease.token for answer in answers for sample in answer.samples)


async def test_fifty_claimers_at_once_never_hold_overlapping_samples(platform: Platform) -> None:
    answers = await asyncio.gather(
        *(_claim_as_admin(platform, f"user-{number}", count=2) for number in range(50))
    )
    held = [
        (user, region_from_proto(sample.region))
        for user, answer in enumerate(answers)
        for sample in answer.samples
    ]
    assert len(held) == 100
    for index, (user, region) in enumerate(held):
        for other_user, other in held[index + 1 :]:
            assert not region.overlaps(other), f"{user} {region} and {other_user} {other}"


async def _claim_as_admin(platform: Platform, user: str, count: int) -> pb.ClaimSamplesResponse:
    request = pb.ClaimSamplesRequest(parent=PROJECT, count=count, request_id=str(uuid.uuid4()))
    answer: pb.ClaimSamplesResponse = await platform.stub.ClaimSamples(
        request, metadata=platform.as_user(user, admin=True)
    )
    return answer


async def test_two_samplers_on_one_database_lease_no_region_twice(platform: Platform, start: Any) -> None:
    async with start() as second:
        answers = await asyncio.gather(
            *(
                _claim_as_admin(each, f"{name}-{number}", count=3)
                for name, each in (("a", platform), ("b", second))
                for number in range(10)
            )
        )
    held = [region_from_proto(sample.region) for answer in answers for sample in answer.samples]
    assert len(held) == 60
    assert not any(a.overlaps(b) for index, a in enumerate(held) for b in held[index + 1 :])


async def test_an_annotated_region_is_not_proposed_again_until_it_is_reverted(platform: Platform) -> None:
    platform.records.volumes["v1"] = (1, 128, 128)
    (sample,) = (await platform.claim("ann")).samples
    name = platform.answer("ann", sample)
    empty = await platform.claim("bob")
    assert not empty.samples
    assert "region of your own" in empty.notice
    request = pb.GetSampleRequest(name=sample.name)
    seen = (await platform.stub.GetSample(request, metadata=platform.as_user("bob"))).sample
    assert (seen.state, seen.annotation) == (pb.Sample.STATE_ANNOTATED, name)
    platform.records.revert(name)
    (again,) = (await platform.claim("bob")).samples
    assert again.region == sample.region
    assert again.name != sample.name


async def test_a_rejected_annotation_reopens_its_region_and_an_accepted_one_holds(platform: Platform) -> None:
    platform.records.volumes["v1"] = (1, 128, 128)
    (sample,) = (await platform.claim("ann")).samples
    name = platform.answer("ann", sample)
    platform.records.review(name, accepted=False)
    assert (await _progress(platform)).annotations == 0
    assert (await platform.pool()).open_candidates == 1
    platform.records.review(name, accepted=True)
    assert (await _progress(platform)).annotations == 1
    assert not (await platform.claim("bob")).samples


async def _progress(platform: Platform) -> pb.GetProgressResponse:
    request = pb.GetProgressRequest(parent=PROJECT)
    answer: pb.GetProgressResponse = await platform.stub.GetProgress(
        request, metadata=platform.as_user("vic")
    )
    return answer


async def test_progress_counts_what_holds(platform: Platform) -> None:
    for user, counts in (("ann", {1: 100, 2: 28}), ("bob", {1: 50})):
        (sample,) = (await platform.claim(user)).samples
        platform.answer(user, sample, counts)
    await platform.claim("ann")
    progress = await _progress(platform)
    assert (progress.annotations, progress.new_annotations, progress.annotated_voxels) == (2, 2, 178)
    assert dict(progress.annotations_by_author) == {"ann": 1, "bob": 1}
    assert dict(progress.voxels_by_class) == {1: 150, 2: 28}
    assert dict(progress.samples_by_state) == {"annotated": 2, "leased": 1}
    assert progress.work_time_s == 4.0


async def test_a_chosen_region_is_refused_while_somebody_holds_an_overlapping_one(platform: Platform) -> None:
    sample = await choose(platform, "ann")
    assert (sample.strategy, region_from_proto(sample.region)) == ("chosen", BOX)
    with pytest.raises(FailedPrecondition) as caught:
        await choose(platform, "bob", Region(Index(4, 60, 80), Index(9, 200, 200)))
    assert caught.value.reason == "REGION_TAKEN"
    assert caught.value.metadata["holder"] == "ann"
    await choose(platform, "bob", Region(Index(5, 60, 80), Index(9, 200, 200)))


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        (Region(Index(0, 0, 0), Index(1, 1, 385)), "REGION_OUT_OF_BOUNDS"),
        (Region(Index(0, 0, 0), Index(40, 257, 384)), "REGION_OUT_OF_BOUNDS"),
    ],
)
async def test_a_chosen_region_must_lie_in_its_volume(
    platform: Platform, region: Region, reason: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await choose(platform, "ann", region)
    assert caught.value.reason == reason


async def test_a_lease_ends_is_renewed_and_is_lost_to_others(platform: Platform) -> None:
    platform.records.volumes["v1"] = (1, 128, 128)
    await platform.update("lease_duration_s", lease_duration_s=60)
    began = time.monotonic()
    (sample,) = (await platform.claim("ann")).samples
    renew = pb.RenewLeaseRequest(name=sample.name)
    platform.clock[0] += 50
    renewed = (await platform.stub.RenewLease(renew, metadata=platform.as_user("ann"))).sample
    later_s = renewed.lease.expire_time.seconds - sample.lease.expire_time.seconds
    assert 49 <= later_s <= 51 + (time.monotonic() - began)
    with pytest.raises(FailedPrecondition, match=r"held by ann.*ask a manager"):
        await platform.stub.RenewLease(renew, metadata=platform.as_user("bob"))
    assert not (await platform.claim("bob")).samples
    platform.clock[0] += 80
    revived = (await platform.stub.RenewLease(renew, metadata=platform.as_user("ann"))).sample
    assert revived.state == pb.Sample.STATE_LEASED
    platform.clock[0] += 80
    (taken,) = (await platform.claim("bob")).samples
    assert taken.region == sample.region
    with pytest.raises(FailedPrecondition) as caught:
        await platform.stub.RenewLease(renew, metadata=platform.as_user("ann"))
    assert (caught.value.reason, caught.value.metadata["holder"]) == ("LEASE_LOST", "bob")


async def test_without_a_volume_nothing_is_said_of_samples(platform: Platform) -> None:
    platform.records.volumes.clear()
    answer = await platform.claim("ann")
    assert not answer.samples
    assert answer.notice == "there is no volume to sample from: import one, or name another in the pool."


async def test_a_skipped_sample_comes_back_only_when_it_is_released(platform: Platform) -> None:
    platform.records.volumes["v1"] = (1, 128, 128)
    (sample,) = (await platform.claim("ann")).samples
    metadata = platform.as_user("ann")
    with pytest.raises(InvalidArgument, match="1 to 1000"):
        await platform.stub.SkipSample(pb.SkipSampleRequest(name=sample.name), metadata=metadata)
    skipped = (
        await platform.stub.SkipSample(
            pb.SkipSampleRequest(name=sample.name, reason="out of focus"), metadata=metadata
        )
    ).sample
    assert (skipped.state, skipped.skip_reason) == (pb.Sample.STATE_SKIPPED, "out of focus")
    assert not (await platform.claim("bob")).samples
    released = (
        await platform.stub.ReleaseSample(pb.ReleaseSampleRequest(name=sample.name), metadata=metadata)
    ).sample
    assert released.state == pb.Sample.STATE_OPEN
    assert len((await platform.claim("bob")).samples) == 1


async def test_samples_are_listed_in_pages_newest_first(platform: Platform) -> None:
    names = []
    for number in range(5):
        sample = await choose(platform, "ann", Region.of_shape((1, 8, 8), (number, 0, 0)))
        names.append(sample.name)
        await asyncio.sleep(0.002)
    request = pb.ListSamplesRequest(parent=PROJECT, page_size=2, states=[pb.Sample.STATE_LEASED])
    seen: list[str] = []
    while True:
        page = await platform.stub.ListSamples(request, metadata=platform.as_user("vic"))
        seen.extend(sample.name for sample in page.samples)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == names[::-1]
    request.holder = "ann"
    with pytest.raises(InvalidArgument, match="page_token"):
        await platform.stub.ListSamples(request, metadata=platform.as_user("vic"))


async def test_roles_are_kept(platform: Platform) -> None:
    with pytest.raises(PermissionDenied):
        await platform.claim("vic")
    with pytest.raises(NotFound, match="not a member"):
        await platform.claim("eve")
    with pytest.raises(PermissionDenied):
        await platform.stub.UpdatePool(
            pb.UpdatePoolRequest(pool=pb.Pool(name=f"{PROJECT}/pool"), update_mask={"paths": ["seed"]}),
            metadata=platform.as_user("ann"),
        )
    with pytest.raises(PermissionDenied):
        await platform.stub.RequestTraining(
            pb.RequestTrainingRequest(parent=PROJECT), metadata=platform.as_user("ann")
        )
    with pytest.raises(NotFound):
        await platform.stub.GetPool(
            pb.GetPoolRequest(name="projects/other/pool"), metadata=platform.as_user("root", admin=True)
        )


async def test_a_pool_is_updated_by_mask_and_etag(platform: Platform) -> None:
    before = await platform.pool()
    assert [(share.strategy, share.share) for share in before.strategies] == [("entropy", 1.0)]
    after = await platform.update("slice_distance", slice_distance=7, seed=9, etag=before.etag)
    assert (after.slice_distance, after.seed) == (7, before.seed)
    with pytest.raises(Conflict) as caught:
        await platform.update("seed", seed=9, etag=before.etag)
    assert caught.value.reason == "ETAG_MISMATCH"
    for paths, fields, reason in (
        (["strategies"], {"strategies": [{"strategy": "luck", "share": 1}]}, "UNKNOWN_STRATEGY"),
        (["strategies"], {"strategies": [{"strategy": "random", "share": 0.5}]}, "BAD_SHARES"),
        (["volumes"], {"volumes": [f"{PROJECT}/volumes/v9"]}, "UNKNOWN_VOLUME"),
        (["volumes"], {"volumes": ["projects/p2/volumes/v1"]}, "BAD_NAME"),
        (["lease_duration_s"], {"lease_duration_s": 1}, "BAD_LEASE_DURATION"),
        (["scored_model"], {}, "BAD_UPDATE_MASK"),
        ([], {}, "BAD_UPDATE_MASK"),
    ):
        with pytest.raises(InvalidArgument) as wrong:
            await platform.update(*paths, **fields)
        assert wrong.value.reason == reason


async def test_an_excluded_part_is_never_proposed(platform: Platform) -> None:
    held_out = Region(Index(2, 0, 0), Index(40, 256, 384))
    part = {"volume": f"{PROJECT}/volumes/v1", "region": region_to_proto(held_out)}
    pool = await platform.update("excluded", "slice_distance", excluded=[part], slice_distance=1)
    assert pool.open_candidates == 2 * 3 * 5
    answer = await platform.claim("ann", count=100)
    assert len(answer.samples) >= 6
    assert all(sample.region.stop.z <= 2 for sample in answer.samples)
    assert "of 100 samples" in answer.notice


async def test_strategies_are_listed_with_their_measures(platform: Platform) -> None:
    answer = await platform.stub.ListStrategies(pb.ListStrategiesRequest(), metadata=platform.as_user("vic"))
    listed = {item.strategy: (list(item.measures), item.cold_start) for item in answer.strategies}
    assert list(listed) == sorted(listed)
    assert len(listed) == 18
    assert listed["entropy"] == (["entropy"], False)
    assert listed["clasp"] == (["entropy", "class_entropy"], False)
    assert listed["entropy_kmeans"] == (["entropy", "embedding"], False)
    assert listed["stratified"] == ([], True)
    assert all(item.description for item in answer.strategies)


async def test_a_change_of_strategies_holds_from_the_next_sample_on(platform: Platform) -> None:
    first = await platform.claim("ann", count=8)
    assert {sample.strategy for sample in first.samples} == {"stratified"}
    shares = [{"strategy": "stratified", "share": 0.75}, {"strategy": "random", "share": 0.25}]
    await platform.update("strategies", strategies=shares)
    # What others ask for by name, or choose themselves, moves nobody's turn.
    found: list[str] = []
    for _ in range(8):
        found += [
            sample.strategy for sample in (await platform.claim("bob", session=str(len(found)))).samples
        ]
        await platform.claim("mia", strategy="random", session=str(len(found)))
    assert Counter(found) == {"stratified": 6, "random": 2}
    batch = await platform.claim("rev", count=20)
    assert Counter(sample.strategy for sample in batch.samples) == {"stratified": 15, "random": 5}
