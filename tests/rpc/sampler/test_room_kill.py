"""A sampler that dies while a sample changes hands: nobody's work is lost, and nobody is locked out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.api.sampler.v1alpha1 import sampler_pb2_grpc
from biosegment.errors import BiosegmentError, FailedPrecondition
from biosegment.rpc.channel import CallPolicy, connect
from tests.rpc.sampler.conftest import Platform
from tests.rpc.sampler.test_kill import killed, sampler_process
from tests.servers.port import free_port


async def cut_off(
    platform: Platform, tmp_path: Path, point: str, user: str, method: str, request: Any
) -> None:
    """Make a call to a sampler process that dies at a point."""
    port, failpoint = free_port(), tmp_path / "failpoint"
    failpoint.write_text(point)
    channel = connect(f"127.0.0.1:{port}", policy=CallPolicy(attempts=60))
    call = getattr(sampler_pb2_grpc.SamplerServiceStub(channel), method)
    try:
        with sampler_process(platform, port, failpoint) as process:
            while process.poll() is None:
                with pytest.raises(BiosegmentError):
                    await call(request, metadata=platform.as_user(user))
                await asyncio.sleep(0.05)
            await killed(process)
    finally:
        await channel.close()


@pytest.mark.parametrize("point", ["announced", "ended", "before_commit"])
async def test_a_take_over_that_was_cut_off_leaves_the_sample_with_its_holder(
    platform: Platform, tmp_path: Path, point: str
) -> None:
    first, second = (await platform.claim("ann", count=2)).samples
    for sample in (first, second):
        request = pb.TakeOverLeaseRequest(name=sample.name)
        await cut_off(platform, tmp_path, f"sampler.take_over.{point}", "mia", "TakeOverLease", request)
        seen = (await platform.ask("ann", "GetSample", name=sample.name)).sample
        assert (seen.lease.holder, len(seen.events)) == ("ann", 0)
    if point != "announced":
        with pytest.raises(FailedPrecondition, match="took"):
            platform.answer("ann", first)
    # The holder renews and commits; of the other sample the take-over is repeated.
    renewed = (await platform.ask("ann", "RenewLease", name=first.name)).sample
    name = platform.answer("ann", renewed)
    assert (await platform.ask("mia", "GetSample", name=first.name)).sample.annotation == name
    taken = (await platform.ask("mia", "TakeOverLease", name=second.name)).sample
    assert taken.lease.holder == "mia"
    platform.answer("mia", taken)
    with pytest.raises(FailedPrecondition, match="took"):
        platform.answer("ann", second)


async def test_who_repeats_a_take_over_that_was_cut_off_at_its_end_has_the_sample_alone(
    platform: Platform, tmp_path: Path
) -> None:
    (sample,) = (await platform.claim("ann")).samples
    got = []

    async def renew() -> None:
        got.append((await platform.ask("ann", "RenewLease", name=sample.name)).sample)
        platform.records.before_ending = lambda: None

    platform.records.before_ending = renew
    request = pb.TakeOverLeaseRequest(name=sample.name)
    await cut_off(platform, tmp_path, "sampler.take_over.taken", "mia", "TakeOverLease", request)
    again = (await platform.ask("mia", "TakeOverLease", name=sample.name)).sample
    assert [each.lease.holder for each in (*got, again)] == ["ann", "mia"]
    with pytest.raises(FailedPrecondition, match="took"):
        platform.answer("ann", got[0])
    platform.answer("mia", again)


async def test_leaving_that_was_cut_off_gives_nothing_or_everything_back(
    platform: Platform, tmp_path: Path
) -> None:
    samples = (await platform.claim("ann", count=3, session="a")).samples
    request = pb.LeaveSessionRequest(parent="projects/p1", session="a")
    await cut_off(platform, tmp_path, "sampler.leave.before_commit", "ann", "LeaveSession", request)
    held = await platform.ask("ann", "RenewSession", session="a")
    assert sorted(each.name for each in held.samples) == sorted(each.name for each in samples)
    assert len((await platform.ask("ann", "LeaveSession", session="a")).samples) == 3


async def test_a_review_that_was_cut_off_is_nobodys(platform: Platform, tmp_path: Path) -> None:
    (sample,) = (await platform.claim("ann")).samples
    name = platform.answer("ann", sample)
    request = pb.ClaimReviewsRequest(parent="projects/p1")
    await cut_off(platform, tmp_path, "sampler.review.before_commit", "rev", "ClaimReviews", request)
    answer = await platform.ask("roy", "ClaimReviews")
    assert [each.annotation for each in answer.reviews] == [name]
