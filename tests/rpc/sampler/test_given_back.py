"""What is over when a sample was given back, a project deleted, or a request too long."""

from __future__ import annotations

from typing import Any

import pytest

from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from tests.rpc.sampler.conftest import Platform
from tests.rpc.sampler.test_claim import choose
from tests.rpc.sampler.test_room import refused


@pytest.mark.parametrize(
    ("method", "fields"),
    [("ReleaseSample", {}), ("SkipSample", {"reason": "blurred"}), ("FlagSample", {"text": "what is this?"})],
)
async def test_the_token_of_a_sample_that_was_given_back_is_refused(
    platform: Platform, method: str, fields: dict[str, Any]
) -> None:
    (sample,) = (await platform.claim("ann")).samples
    await platform.ask("ann", method, name=sample.name, **fields)
    with pytest.raises(FailedPrecondition) as caught:
        platform.answer("ann", sample)
    assert caught.value.reason == "LEASE_GIVEN_BACK"


async def test_who_resumes_what_they_gave_back_can_commit_it(platform: Platform) -> None:
    (sample,) = (await platform.claim("ann", session="a")).samples
    await platform.ask("ann", "LeaveSession", session="a")
    with pytest.raises(FailedPrecondition):
        platform.answer("ann", sample)
    again = (await platform.ask("ann", "ResumeSample", name=sample.name)).sample
    assert platform.answer("ann", again)


async def test_a_release_whose_end_could_not_be_told_is_told_when_it_is_repeated(platform: Platform) -> None:
    (sample,) = (await platform.claim("ann")).samples

    def fail() -> None:
        platform.records.before_ending = lambda: None
        raise Unavailable("SERVICE_UNAVAILABLE", "away")

    platform.records.before_ending = fail
    with pytest.raises(Unavailable):
        await platform.ask("ann", "ReleaseSample", name=sample.name)
    await platform.ask("ann", "ReleaseSample", name=sample.name)
    with pytest.raises(FailedPrecondition):
        platform.answer("ann", sample)


async def test_request_ids_have_at_most_64_characters(platform: Platform) -> None:
    long = "x" * 65
    await refused(platform.claim("ann", request_id=long), "BAD_REQUEST_ID", InvalidArgument)
    await refused(choose(platform, "ann", request_id=long), "BAD_REQUEST_ID", InvalidArgument)
    training = platform.ask("mia", "RequestTraining", request_id=long)
    await refused(training, "BAD_REQUEST_ID", InvalidArgument)
    assert (await platform.claim("ann", request_id="x" * 64)).samples


async def test_the_pool_of_a_deleted_project_is_removed_and_that_of_a_missing_one_is_kept(
    platform: Platform,
) -> None:
    (sample,) = (await platform.claim("ann")).samples
    ledger = platform.application.loop._ledger
    platform.records.gone = "missing"
    with pytest.raises(NotFound):
        await platform.step()
    assert await ledger.projects() == ["p1"]
    platform.records.gone = "deleted"
    await platform.step()
    assert await ledger.projects() == []
    async with ledger.read("p1") as transaction:
        assert await transaction.sample(sample.name.rpartition("/")[2]) is None
        assert (await transaction.log.since(None)).number == 0
    await platform.step()
