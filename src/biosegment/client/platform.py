"""The platform as a whole, and who one is on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from biosegment.api.datastore.v1alpha1 import datastore_pb2
from biosegment.api.datastore.v1alpha1.datastore_pb2_grpc import DatastoreServiceStub
from biosegment.api.identity.v1alpha1 import identity_pb2
from biosegment.api.identity.v1alpha1.identity_pb2_grpc import IdentityServiceStub
from biosegment.api.platform.v1alpha1 import platform_pb2
from biosegment.api.platform.v1alpha1.platform_pb2_grpc import PlatformServiceStub
from biosegment.client.resources import AuditEvent, Garbage, ServiceStatus, Token, User
from biosegment.client.resources.wire import timestamp_of

_AUDIT_PAGE: Final = 1000


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

    async def update_user(
        self,
        user_id: str,
        *,
        display_name: str | None = None,
        is_admin: bool | None = None,
        disabled: bool | None = None,
    ) -> User:
        """Change what is given of a user; administrators only. FailedPrecondition LAST_ADMIN."""
        given = {"display_name": display_name, "is_admin": is_admin, "disabled": disabled}
        values = {name: value for name, value in given.items() if value is not None}
        request = identity_pb2.UpdateUserRequest(
            user=identity_pb2.User(name=f"users/{user_id}", **values),  # type: ignore[arg-type]
            update_mask=FieldMask(paths=list(values)),
        )
        return User.from_proto((await self._identity.UpdateUser(request)).user)

    async def set_password(self, new_password: str, *, old_password: str = "", user_id: str = "") -> None:
        """Set one's own password, or, as administrator, that of somebody else; ends all of the user's sessions.

        Args:
            new_password: At least 10 characters.
            old_password: Needed for one's own, unless it is the first one.
            user_id: Whose; the caller's when ''.
        """
        request = identity_pb2.SetPasswordRequest(
            name=f"users/{user_id}" if user_id else "", old_password=old_password, new_password=new_password
        )
        await self._identity.SetPassword(request)

    async def create_token(
        self,
        *,
        user_id: str = "",
        display_name: str = "",
        expire_time: datetime | None = None,
        scopes: Sequence[str] = (),
    ) -> Token:
        """Make an API token, for the caller or, as administrator, for somebody else; shows its secret once.

        Args:
            user_id: For whom; the caller when ''.
            display_name: What it is for.
            expire_time: After this it is refused; never when None.
            scopes: What it may be used for at most: `read`, `annotate`, `manage`, `admin`, or of one project
                `annotate:projects/kidney`; everything that the user may do when empty.
        """
        message = identity_pb2.Token(display_name=display_name, scopes=scopes)
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

    async def audit_events(
        self,
        *,
        user: str = "",
        resource: str = "",
        action: str = "",
        start: datetime | None = None,
        end: datetime | None = None,
        after_sequence: int = 0,
        oldest_first: bool = False,
    ) -> AsyncIterator[AuditEvent]:
        """Yield who did what, fetched page by page; administrators only.

        Args:
            user: Only what this user did, by id.
            resource: Only what was done to this resource and those below it, `projects/p`.
            action: Only methods and routes with this in them, `DeleteProject`.
            start: Not before; with its time zone.
            end: Only before.
            after_sequence: Only what came after this event.
            oldest_first: Newest first otherwise.
        """
        request = identity_pb2.ListAuditEventsRequest(
            page_size=_AUDIT_PAGE,
            user=user,
            resource=resource,
            action=action,
            after_sequence=after_sequence,
            oldest_first=oldest_first,
        )
        if start is not None:
            request.start_time.CopyFrom(timestamp_of(start))
        if end is not None:
            request.end_time.CopyFrom(timestamp_of(end))
        while True:
            events = (await self._identity.ListAuditEvents(request)).events
            for event in events:
                yield AuditEvent.from_proto(event)
            if len(events) < _AUDIT_PAGE:
                return
            if oldest_first:
                request.after_sequence = events[-1].sequence
            else:
                request.before_sequence = events[-1].sequence

    async def collect_garbage(self, *, dry_run: bool = False) -> Garbage:
        """Remove objects that nothing refers to; administrators only.

        Args:
            dry_run: Only tell what they are.
        """
        answer = await self._datastore.CollectGarbage(datastore_pb2.CollectGarbageRequest(dry_run=dry_run))
        return Garbage(answer.objects, answer.size_bytes, tuple(answer.prefixes))
