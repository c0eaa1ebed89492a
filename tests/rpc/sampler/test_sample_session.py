"""The SDK's keeper of a window, against a real sampler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import pytest

from biosegment.auth import Kind, Principal
from biosegment.client import synchronous
from biosegment.client.annotations import Annotations
from biosegment.client.loop import BackgroundLoop
from biosegment.client.sample_session import SampleSession
from biosegment.client.samples import Samples
from biosegment.errors import BiosegmentError, FailedPrecondition
from biosegment.rpc.channel import CallPolicy, ServiceCredentials, connect
from biosegment.volume import Region
from tests.rpc.sampler.conftest import Platform, eventually
from tests.rpc.sampler.foreign import PROJECT

BEAT_S = 0.02


class Desk:
    """What a user works with: in place of the gateway, one channel to each service."""

    def __init__(self, platform: Platform, user: str) -> None:
        self._platform, self._user = platform, user
        self._channels = [
            connect(address, credentials=self._credentials(service), policy=CallPolicy(attempts=1))
            for service, address in (
                ("sampler", platform.address),
                ("datastore", platform.settings.datastore_address),
            )
        ]
        self.samples, self.annotations = Samples(self._channels[0]), Annotations(self._channels[1])

    def _credentials(self, service: str) -> Any:
        tokens = ServiceCredentials(self._platform.credentials._signer, service)
        return lambda: tokens.token(Principal(Kind.USER, self._user))

    def session(self, beat_s: float = BEAT_S) -> SampleSession:
        return SampleSession(self.samples, self.annotations, PROJECT, beat_s)

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


@pytest.fixture
async def desks(platform: Platform) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:

        def desk(user: str) -> Desk:
            made = Desk(platform, user)
            stack.push_async_callback(made.close)
            return made

        yield desk


def blank(sample: Any) -> Any:
    return np.ones(sample.region.shape, np.uint8)


async def test_a_session_keeps_what_it_holds_and_gives_it_back_at_the_end(
    platform: Platform, desks: Any
) -> None:
    await platform.update("heartbeat_timeout_s", heartbeat_timeout_s=60)
    ann = desks("ann")
    async with ann.session() as session:
        (sample,) = (await session.claim()).samples
        for _ in range(4):
            platform.clock[0] += 50
            now = sample.heartbeat_time.timestamp()

            async def is_renewed(now: float = now) -> bool:
                (held,) = await session.held()
                return bool(held.heartbeat_time.timestamp() >= now + 45)

            await eventually(is_renewed)
            (sample,) = await session.held()
        assert not await session.lost()
        assert (await ann.samples.get(sample.name)).state == "leased"
    assert (await ann.samples.get(sample.name)).state == "open"


async def test_a_commit_has_the_newest_lease_and_is_no_loss(platform: Platform, desks: Any) -> None:
    await platform.update("heartbeat_timeout_s", heartbeat_timeout_s=30)
    ann = desks("ann")
    async with ann.session(beat_s=3600) as session:
        first, second, third, fourth = (await session.claim(4)).samples
        await session.commit(blank(first), first)
        assert (await ann.samples.get(first.name)).state == "annotated"
        # Committed past the session, which looks before it says that something is lost.
        await ann.annotations.commit(blank(second), sample=second)
        await session.skip(third.name, "blurred")
        await session.renew()
        assert [held.name for held in await session.held()] == [fourth.name]
        assert not await session.lost()


async def test_a_session_tells_what_it_lost_and_to_whom(platform: Platform, desks: Any) -> None:
    ann, mia = desks("ann"), desks("mia")
    async with ann.session() as session:
        taken, kept = (await session.claim(2)).samples
        await mia.samples.take_over(taken.name)

        async def is_lost() -> bool:
            return len(await session.held()) == 1

        await eventually(is_lost)
        (lost,) = await session.lost()
        assert (lost.name, lost.holder) == (taken.name, "mia")
        assert not await session.lost()
        with pytest.raises(FailedPrecondition) as caught:
            await session.commit(blank(taken), taken)
        assert caught.value.reason == "LEASE_TAKEN_OVER"
        assert [held.name for held in await session.held()] == [kept.name]


async def test_activity_is_told_and_an_idle_session_loses_its_samples(platform: Platform, desks: Any) -> None:
    await platform.update("lease_duration_s", lease_duration_s=60)
    async with desks("ann").session(beat_s=3600) as session:
        (sample,) = (await session.claim()).samples
        await session.renew()
        platform.clock[0] += 45
        await session.note_activity()
        await session.renew()
        platform.clock[0] += 45
        await session.renew()
        assert [held.name for held in await session.held()] == [sample.name]
        platform.clock[0] += 45
        await session.renew()
        assert not await session.held()
        (lost,) = await session.lost()
        assert (lost.name, lost.holder) == (sample.name, "")
        assert "ran out" in lost.notice


async def test_a_heartbeat_that_fails_is_told_and_tried_again(platform: Platform, desks: Any) -> None:
    ann = desks("ann")
    async with ann.session() as session:
        await session.claim()
        server = platform.application.server
        await server.stop(0)

        async def fails() -> bool:
            try:
                await session.held()
            except BiosegmentError:
                return True
            return False

        await eventually(fails)
        # Leaving a session that nobody can be told of is no error: its leases end by themselves.


async def test_the_synchronous_face_does_the_same(platform: Platform, desks: Any) -> None:
    ann = desks("ann")

    def work() -> tuple[str, str]:
        loop = BackgroundLoop()

        async def open_desk() -> Desk:
            return Desk(platform, "ann")

        mine = loop.run(open_desk())
        try:
            group = synchronous.Samples(loop, mine.samples)
            assert isinstance(group.session(PROJECT), synchronous.SampleSession)
            with synchronous.SampleSession(loop, mine.session()) as session:
                done, left = session.claim(2).samples
                session.commit(blank(done), done)
                session.note_activity()
                session.renew()
                assert [held.name for held in session.held()] == [left.name]
                own = session.create(done.volume, Region((0, 0, 0), (1, 32, 32)))
                assert own.holder == "ann"
            return done.name, left.name
        finally:
            loop.run(mine.close())
            loop.close()

    done, left = await asyncio.to_thread(work)
    assert (await ann.samples.get(done)).state == "annotated"
    assert (await ann.samples.get(left)).state == "open"
