"""Following samples as others change them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.errors import InvalidArgument
from tests.rpc.sampler.conftest import Platform, Start
from tests.rpc.sampler.foreign import PROJECT


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watchers look often."""
    monkeypatch.setattr("biosegment_sampler.watching._LOOK_S", 0.02)


class Watch:
    """An open stream."""

    def __init__(self, call: Any) -> None:
        self._answers = aiter(call)
        self.token = ""

    async def next(self) -> pb.Sample:
        """The next sample; one without a name where there is none to begin with."""
        async with asyncio.timeout(20):
            answer = await anext(self._answers)
        self.token = answer.resume_token or self.token
        sample: pb.Sample = answer.sample
        return sample

    async def next_of(self, name: str) -> pb.Sample:
        while True:
            sample = await self.next()
            if sample.name == name:
                return sample


@asynccontextmanager
async def watching(platform: Platform, user: str, token: str = "") -> AsyncIterator[Watch]:
    request = pb.WatchSamplesRequest(parent=PROJECT, resume_token=token)
    call = platform.stub.WatchSamples(request, metadata=platform.as_user(user))
    try:
        yield Watch(call)
    finally:
        call.cancel()


async def test_what_others_do_to_samples_is_told_and_only_holders_see_tokens(platform: Platform) -> None:
    async with watching(platform, "bob") as watch:
        assert (await watch.next()).name == ""
        (sample,) = (await platform.claim("ann")).samples
        seen = await watch.next()
        assert (seen.name, seen.lease.holder, seen.lease.token) == (sample.name, "ann", "")
        await platform.ask("ann", "FlagSample", name=sample.name, text="a mitochondrion?")
        assert (await watch.next()).flag.text == "a mitochondrion?"
        (other,) = (await platform.claim("ann")).samples
        assert (await watch.next()).name == other.name
        platform.answer("ann", other)
        assert (await watch.next_of(other.name)).state == pb.Sample.STATE_ANNOTATED
    async with watching(platform, "ann") as own:
        (third,) = (await platform.claim("ann")).samples
        assert (await own.next_of(third.name)).lease.token


async def test_a_renewed_lease_is_no_news_and_its_end_is(platform: Platform) -> None:
    (sample,) = (await platform.claim("ann")).samples
    async with watching(platform, "bob") as watch:
        assert (await watch.next()).state == pb.Sample.STATE_LEASED
        await platform.ask("ann", "RenewLease", name=sample.name)
        (second,) = (await platform.claim("ann", session="other")).samples
        assert (await watch.next()).name == second.name
        platform.clock[0] += 2 * 3600.0
        ended = {(await watch.next()).name for _ in range(2)}
        assert ended == {sample.name, second.name}


async def test_after_a_break_all_that_changed_comes_once_also_from_a_sampler_that_was_restarted(
    start: Start,
) -> None:
    async with start() as platform:
        (sample,) = (await platform.claim("ann")).samples
        async with watching(platform, "bob") as watch:
            await watch.next_of(sample.name)
        await platform.ask("ann", "SkipSample", name=sample.name, reason="blurred")
        (second,) = (await platform.claim("ann")).samples
    async with start() as platform, watching(platform, "bob", watch.token) as again:
        seen = {each.name: each.state for each in [await again.next(), await again.next()]}
        assert seen == {sample.name: pb.Sample.STATE_SKIPPED, second.name: pb.Sample.STATE_LEASED}
    async with start() as platform, watching(platform, "bob", again.token) as third:
        assert (await third.next()).name == ""


async def test_a_token_of_rows_that_were_restored_since_begins_anew(platform: Platform) -> None:
    (sample,) = (await platform.claim("ann")).samples
    async with watching(platform, "bob", "123456") as watch:
        assert (await watch.next()).name == sample.name


@pytest.mark.parametrize("token", ["x", "-1", "1" * 40, "٣"])
async def test_tokens_that_are_none_are_refused(platform: Platform, token: str) -> None:
    async with watching(platform, "bob", token) as watch:
        with pytest.raises(InvalidArgument) as caught:
            await watch.next()
    assert caught.value.reason == "BAD_RESUME_TOKEN"
