"""Use-cases of users, tokens, passwords and the audit log."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Final

from biosegment.auth import Limit, Principal, require_admin, require_whole
from biosegment.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied
from biosegment.failpoint import failpoint
from biosegment.ids import check_id
from biosegment_gateway.accounts.authentication import Authentication
from biosegment_gateway.accounts.sign_in import SignIn
from biosegment_gateway.audit import Audit
from biosegment_gateway.clock import Clock, now
from biosegment_gateway.domain import ApiToken, AuditEvent, AuditQuery, User, UserField, digest, new_secret
from biosegment_gateway.ports import Accounts

_MAX_DISPLAY_NAME: Final = 200
_MAX_SCOPES: Final = 50


class IdentityService:
    """Users, tokens and passwords; administrators manage everybody's, others their own tokens and password.

    Args:
        accounts: Users and tokens.
        authentication: Told what changes.
        audit: The log.
        sign_in: Passwords and sessions.
        clock: Of all times.
    """

    def __init__(
        self,
        accounts: Accounts,
        authentication: Authentication,
        audit: Audit,
        sign_in: SignIn,
        clock: Clock = now,
    ) -> None:
        self._accounts = accounts
        self._authentication = authentication
        self._audit = audit
        self._sign_in = sign_in
        self._clock = clock

    async def get_self(self, principal: Principal) -> User:
        """The caller."""
        return await self._user(principal.user)

    async def create_user(
        self, principal: Principal, user_id: str, display_name: str, is_admin: bool
    ) -> User:
        """Make a user.

        Raises:
            AlreadyExists: USER_EXISTS.
        """
        require_admin(principal)
        check_id(user_id, "user")
        user = User(user_id, _display_name(display_name), is_admin, False, self._clock())
        if not await self._accounts.add_user(user):
            raise AlreadyExists("USER_EXISTS", f"user {user_id!r} exists already; choose another id")
        return user

    async def list_users(self, principal: Principal, page_size: int, after: str) -> tuple[list[User], str]:
        """A page of users by id, and the token of the next page."""
        require_admin(principal)
        limit = _limit(page_size, 50, 500)
        users = await self._accounts.list_users(after, limit + 1)
        return users[:limit], users[limit - 1].user_id if len(users) > limit else ""

    async def update_user(
        self, principal: Principal, user_id: str, wanted: User, fields: Collection[UserField]
    ) -> User:
        """Change `fields` of a user to those of `wanted`.

        Raises:
            NotFound: USER_NOT_FOUND.
            FailedPrecondition: LAST_ADMIN.
        """
        require_admin(principal)
        values = {field.value: getattr(wanted, field.value) for field in fields}
        if UserField.DISPLAY_NAME in fields:
            _display_name(wanted.display_name)
        user = await self._accounts.update_user(user_id, **values)
        if user is None:
            raise _no_user(user_id)
        if user.disabled:
            await self._sign_in.sessions.end_all(user_id)
        self._authentication.forget_user()
        return user

    async def set_password(
        self, principal: Principal, user_id: str, old_password: str, new_password: str, address: str
    ) -> None:
        """Set the password of the caller ('' or themselves), or as administrator of somebody else.

        Args:
            principal: Who asks.
            user_id: Whose.
            old_password: The present one; for somebody else's, and for the first one, it does not count.
            new_password: The next one.
            address: From where it is asked, since the old one can be guessed here too.
        """
        require_whole(principal)
        user_id = user_id or principal.user
        if user_id != principal.user:
            require_admin(principal)
        await self._user(user_id)
        await self._sign_in.set_password(
            user_id, None if user_id != principal.user else old_password, new_password, address
        )

    async def create_token(
        self,
        principal: Principal,
        user_id: str,
        display_name: str,
        expire_time: datetime | None,
        scopes: tuple[str, ...] = (),
    ) -> tuple[ApiToken, str]:
        """Make a token for a user ('' for the caller); return it with its secret."""
        user_id = self._subject(principal, user_id)
        limits = _limits(scopes)
        if expire_time is not None and expire_time <= self._clock():
            raise InvalidArgument(
                "EXPIRE_TIME_PAST", f"expire_time {expire_time.isoformat()} is not in the future"
            )
        await self._user(user_id)
        token_id, secret = new_secret()
        token = ApiToken(
            token_id, user_id, _display_name(display_name), self._clock(), expire_time, None, limits
        )
        await self._accounts.add_token(token, digest(secret))
        failpoint("gateway.token.row_written")
        self._authentication.forget(token_id)
        return token, secret

    async def list_tokens(self, principal: Principal, user_id: str) -> list[ApiToken]:
        """The tokens of a user ('' for the caller), oldest first, with their last use."""
        user_id = self._subject(principal, user_id)
        await self._user(user_id)
        await self._authentication.flush()
        return await self._accounts.list_tokens(user_id)

    async def revoke_token(self, principal: Principal, user_id: str, token_id: str) -> None:
        """End a token at once."""
        self._subject(principal, user_id)
        if not await self._accounts.revoke_token(user_id, token_id, self._clock()):
            raise NotFound("TOKEN_NOT_FOUND", f"user {user_id!r} has no token {token_id!r}")
        self._authentication.forget(token_id)

    async def list_audit_events(self, principal: Principal, query: AuditQuery) -> list[AuditEvent]:
        """Who did what."""
        require_admin(principal)
        return await self._audit.list(replace(query, limit=_limit(query.limit, 100, 1000)))

    async def _user(self, user_id: str) -> User:
        user = await self._accounts.get_user(user_id)
        if user is None:
            raise _no_user(user_id)
        return user

    @staticmethod
    def _subject(principal: Principal, user_id: str) -> str:
        require_whole(principal)
        if user_id and user_id != principal.user and not principal.is_admin:
            raise PermissionDenied(
                "NOT_YOUR_TOKENS", f"only administrators handle tokens of others, here of {user_id!r}"
            )
        return user_id or principal.user


def _no_user(user_id: str) -> NotFound:
    return NotFound("USER_NOT_FOUND", f"there is no user {user_id!r}")


def _limits(scopes: tuple[str, ...]) -> tuple[Limit, ...]:
    if len(scopes) > _MAX_SCOPES:
        raise InvalidArgument("BAD_SCOPE", f"a token has at most {_MAX_SCOPES} scopes, not {len(scopes)}")
    return tuple(dict.fromkeys(Limit.parse(scope) for scope in scopes))


def _display_name(value: str) -> str:
    if not value.isprintable():
        raise InvalidArgument(
            "BAD_DISPLAY_NAME", f"display_name {value[:50]!r} has characters that nobody can see"
        )
    if len(value) > _MAX_DISPLAY_NAME:
        raise InvalidArgument(
            "NAME_TOO_LONG", f"display_name has {len(value)} characters; {_MAX_DISPLAY_NAME} are allowed"
        )
    return value


def _limit(page_size: int, default: int, largest: int) -> int:
    if not 0 <= page_size <= largest:
        raise InvalidArgument("BAD_PAGE_SIZE", f"page_size {page_size} is not in 1..{largest} (or 0)")
    return page_size or default
