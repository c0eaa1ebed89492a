"""Roles of users as the datastore knows them, for the other services."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

import grpc

from biosegment.api.datastore.v1alpha1 import datastore_pb2, datastore_pb2_grpc, project_pb2
from biosegment.auth import Role
from biosegment.errors import NotFound

_ROLES: Final = {
    project_pb2.ROLE_OWNER: Role.OWNER,
    project_pb2.ROLE_MANAGER: Role.MANAGER,
    project_pb2.ROLE_ANNOTATOR: Role.ANNOTATOR,
    project_pb2.ROLE_REVIEWER: Role.REVIEWER,
    project_pb2.ROLE_VIEWER: Role.VIEWER,
}


class DatastoreMemberships:
    """`biosegment.auth.Memberships` that asks the datastore and remembers its answers for a few seconds.

    Args:
        channel: To the datastore, in this service's own name (`biosegment.rpc.channel.connect`).
        lifetime_s: How long a membership that was taken away may go on working.
        capacity: Answers that are remembered at most.
    """

    def __init__(self, channel: grpc.aio.Channel, lifetime_s: float = 5.0, capacity: int = 4096) -> None:
        self._stub = datastore_pb2_grpc.DatastoreServiceStub(channel)
        self._lifetime_s = lifetime_s
        self._capacity = capacity
        self._known: OrderedDict[tuple[str, str], tuple[float, Role]] = OrderedDict()

    async def role(self, user: str, project_id: str) -> Role | None:
        """The role of a user in a project, None when they are no member or there is no such project.

        Raises:
            Unavailable: SERVICE_UNAVAILABLE when the datastore does not answer: nobody is let in unchecked.
        """
        expires, known = self._known.get((user, project_id), (0.0, None))
        if known is not None and time.monotonic() < expires:
            return known
        self._known.pop((user, project_id), None)
        request = datastore_pb2.GetMemberRequest(name=f"projects/{project_id}/members/{user}")
        try:
            response = await self._stub.GetMember(request)
        except NotFound:
            # Not remembered: who was just made a member must not wait.
            return None
        role = _ROLES.get(response.member.role)
        if role is not None:
            self._known[user, project_id] = (time.monotonic() + self._lifetime_s, role)
            if len(self._known) > self._capacity:
                self._known.popitem(last=False)
        return role
