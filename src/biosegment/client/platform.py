"""The platform as a whole, and who one is on it."""

from __future__ import annotations

from datetime import datetime

import grpc

from biosegment.api.datastore.v1alpha1 import datastore_pb2
from biosegment.api.datastore.v1alpha1.datastore_pb2_grpc import DatastoreServiceStub
from biosegment.api.identity.v1alpha1 import identity_pb2
from biosegment.api.identity.v1alpha1.identity_pb2_grpc import IdentityServiceStub
from biosegment.api.platform.v1alpha1 import platform_pb2
from biosegment.api.platform.v1alpha1.platform_pb2_grpc import PlatformServiceStub
from biosegment.client.resources import Garbage, ServiceStatus, Token, User


class Platform:
    """Health, users and tokens."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._platform = PlatformServiceStub(channel)
        self._identity = IdentityServiceStub(channel)
        self._datastore = DatastoreServiceStub(channel)

    async def status(self) -> list[ServiceStatus]:
        """Return health, version and address of every service."""
        answer = await self._platform.GetStatus(platform_pb2.GetStatusRequest())
        return [ServiceStatus.from_proto(service) for service in answer.services]

    async def self(self) -> User:
        """Return the caller."""
        return User.from_proto((await self._identity.GetSelf(identity_pb2.GetSelfRequest())).user)

    async def create_user(self, user_id: str, *, display_name: str = "", is_admin: bool = False) -> User:
        """Make a user; administrators only."""
        request = identity_pb2.CreateUserRequest(
            user_id=user_id,
            user=identity_pb2.User(display_name=display_name or user_id, is_admin=is_admin),
        )
        return User.from_proto((await self._identity.CreateUser(request)).user)

    async def users(self) -> list[User]:
        """Return all users; administrators only."""
        found: list[User] = []
        token = ""
        while True:
            request = identity_pb2.ListUsersRequest(page_size=500, page_token=token)
            page = await self._identity.ListUsers(request)
            found.extend(map(User.from_proto, page.users))
            token = page.next_page_token
            if not token:
                return found

    async def create_token(
        self, *, user_id: str = "", display_name: str = "", expire_time: datetime | None = None
    ) -> Token:
        """Make an API token, for the caller or, as administrator, for somebody else; shows its secret once."""
        message = identity_pb2.Token(display_name=display_name)
        if expire_time is not None:
            message.expire_time.FromDatetime(expire_time)
        parent = f"users/{user_id}" if user_id else ""
        request = identity_pb2.CreateTokenRequest(parent=parent, token=message)
        answer = await self._identity.CreateToken(request)
        return Token.from_proto(answer.token, answer.secret)

    async def tokens(self, user_id: str = "") -> list[Token]:
        """Return tokens, without their secrets."""
        parent = f"users/{user_id}" if user_id else ""
        answer = await self._identity.ListTokens(identity_pb2.ListTokensRequest(parent=parent))
        return [Token.from_proto(token) for token in answer.tokens]

    async def revoke_token(self, name: str) -> None:
        """End a token at once."""
        await self._identity.RevokeToken(identity_pb2.RevokeTokenRequest(name=name))

    async def collect_garbage(self, *, dry_run: bool = False) -> Garbage:
        """Remove objects that nothing refers to; administrators only.

        Args:
            dry_run: Only tell what they are.
        """
        answer = await self._datastore.CollectGarbage(datastore_pb2.CollectGarbageRequest(dry_run=dry_run))
        return Garbage(answer.objects, answer.size_bytes, tuple(answer.prefixes))
