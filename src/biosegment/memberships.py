"""Roles of users as the datastore knows them, for the other services."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import grpc

from biosegment.api.datastore.v1alpha1 import datastore_pb2, datastore_pb2_grpc, project_pb2
from biosegment.auth import Role
from biosegment.errors import NotFound
from biosegment.ids import parse_name

_ROLES: Final = {
    project_pb2.ROLE_OWNER: Role.OWNER,
    project_pb2.ROLE_MANAGER: Role.MANAGER,
    project_pb2.ROLE_ANNOTATOR: Role.ANNOTATOR,
    project_pb2.ROLE_REVIEWER: Role.REVIEWER,
    project_pb2.ROLE_VIEWER: Role.VIEWER,
}

_Roles = Mapping[str, Role]


class DatastoreMemberships:
    """`biosegment.auth.Memberships` that asks the datastore and remembers its answers for a few seconds.

    All members of a project come with one answer, so that a room of people costs no more than one of them.

    Args:
        channel: To the datastore, in this service's own name (`biosegment.rpc.channel.connect`).
        lifetime_s: How long a membership that was taken away may go on working.
        capacity: Projects that are remembered at most.
    """

    def __init__(self, channel: grpc.aio.Channel, lifetime_s: float = 5.0, capacity: int = 1024) -> None:
        self._stub = datastore_pb2_grpc.DatastoreServiceStub(channel)
        self._lifetime_s = lifetime_s
        self._capacity = capacity
        self._known: OrderedDict[str, tuple[float, _Roles]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[_Roles]] = {}

    async def role(self, user: str, project_id: str) -> Role | None:
        """The role of a user in a project, None when they are no member or there is no such project.

        Raises:
            Unavailable: SERVICE_UNAVAILABLE when the datastore does not answer: nobody is let in unchecked.
        """
        expires, roles = self._known.get(project_id, (0.0, {}))
        if time.monotonic() >= expires:
            roles = await self._ask_once(project_id)
        # Who was just made a member must not wait until the others are asked for again.
        return roles[user] if user in roles else await self._newcomer(user, project_id)

    async def _newcomer(self, user: str, project_id: str) -> Role | None:
        request = datastore_pb2.GetMemberRequest(name=f"projects/{project_id}/members/{user}")
        try:
            response = await self._stub.GetMember(request)
        except NotFound:
            return None
        self._known.pop(project_id, None)
        return _ROLES.get(response.member.role)

    async def _ask_once(self, project_id: str) -> _Roles:
        """All members; who comes while they are asked for shares the answer."""
        task = self._asking.get(project_id)
        if task is None:
            task = self._asking[project_id] = asyncio.create_task(self._ask(project_id))
            task.add_done_callback(lambda done: self._asked(project_id, done))
        return await asyncio.shield(task)

    def _asked(self, project_id: str, task: asyncio.Task[_Roles]) -> None:
        del self._asking[project_id]
        if not task.cancelled():
            # Whoever still waits is told; when nobody does, it is no news.
            task.exception()

    async def _ask(self, project_id: str) -> _Roles:
        asked_at = time.monotonic()
        answer = await self._stub.ListMembers(
            datastore_pb2.ListMembersRequest(parent=f"projects/{project_id}")
        )
        roles = {
            parse_name(member.name, "projects/*/members/*")[1]: _ROLES[member.role]
            for member in answer.members
            if member.role in _ROLES
        }
        self._known.pop(project_id, None)
        self._known[project_id] = (asked_at + self._lifetime_s, roles)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return roles
