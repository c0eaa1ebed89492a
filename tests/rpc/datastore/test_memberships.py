"""What other services learn of memberships."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import project_pb2
from biosegment.auth import Role
from biosegment.errors import Unavailable
from biosegment.memberships import DatastoreMemberships
from biosegment.rpc.channel import CallPolicy, ServiceCredentials, connect
from tests.rpc.datastore_server import Caller, RunningDatastore


@pytest.fixture
async def channel(datastore: RunningDatastore, sampler: ServiceCredentials) -> AsyncIterator[Any]:
    async with connect(datastore.address, credentials=sampler, policy=CallPolicy(attempts=1)) as channel:
        yield channel


async def set_role(ada: Caller, user: str, role: int) -> None:
    member = project_pb2.Member(name=f"projects/em/members/{user}", role=role)
    await ada.datastore.SetMember(pb.SetMemberRequest(member=member))


async def test_one_answer_tells_of_all_members(
    datastore: RunningDatastore, ada: Caller, project: Any, channel: grpc.aio.Channel
) -> None:
    await set_role(ada, "bob", project_pb2.ROLE_REVIEWER)
    memberships = DatastoreMemberships(channel, lifetime_s=600)
    users = await asyncio.gather(*(memberships.role("bob", "em") for _ in range(5)))
    assert users == [Role.REVIEWER] * 5
    await datastore.parts.server.stop(0)
    assert await memberships.role("ada", "em") is Role.OWNER
    with pytest.raises(Unavailable):
        await memberships.role("somebody", "em")
    with pytest.raises(Unavailable):
        await memberships.role("ada", "other")


async def test_who_was_just_made_a_member_need_not_wait(
    ada: Caller, project: Any, channel: grpc.aio.Channel
) -> None:
    memberships = DatastoreMemberships(channel, lifetime_s=600)
    assert await memberships.role("ada", "em") is Role.OWNER
    assert await memberships.role("bob", "em") is None
    await set_role(ada, "bob", project_pb2.ROLE_ANNOTATOR)
    assert await memberships.role("bob", "em") is Role.ANNOTATOR
    assert await memberships.role("bob", "none") is None


async def test_who_is_a_member_no_more_is_found_out_when_the_answer_is_too_old(
    ada: Caller, project: Any, channel: grpc.aio.Channel
) -> None:
    await set_role(ada, "bob", project_pb2.ROLE_ANNOTATOR)
    lasting, fleeting = DatastoreMemberships(channel, lifetime_s=600), DatastoreMemberships(channel, 0)
    for each in (lasting, fleeting):
        assert await each.role("bob", "em") is Role.ANNOTATOR
    await set_role(ada, "bob", project_pb2.ROLE_VIEWER)
    assert await fleeting.role("bob", "em") is Role.VIEWER
    await ada.datastore.RemoveMember(pb.RemoveMemberRequest(name="projects/em/members/bob"))
    assert await fleeting.role("bob", "em") is None
    assert await lasting.role("bob", "em") is Role.ANNOTATOR
