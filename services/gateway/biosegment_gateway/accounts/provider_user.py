"""From what an identity provider says of somebody to a user of the platform."""

from __future__ import annotations

import re
from typing import Any, Final

import structlog

from biosegment.auth import Kind, Principal
from biosegment.errors import FailedPrecondition, PermissionDenied, Unauthenticated
from biosegment.expiring import Expiring
from biosegment_gateway.accounts.oidc_settings import OidcSettings
from biosegment_gateway.accounts.provider_token import TokenCheck
from biosegment_gateway.clock import Clock, now
from biosegment_gateway.domain import ADMIN, User
from biosegment_gateway.ports import Accounts, PasswordRows, ProviderUsers

_OTHER: Final = re.compile(r"[^a-z0-9]+")
_LONGEST_ID: Final = 63
_REMEMBERED_S: Final = 2.0

_log = structlog.get_logger("biosegment_gateway.accounts.provider_user")


class ProviderAccounts:
    """Finds and makes users of the provider; implements `TokenVerifier`.

    A user is known by issuer and subject, which the provider never gives to somebody else; the claim that says their
    id counts once, at the first sign-in.

    Args:
        settings: What claims mean.
        check: Of tokens.
        accounts: All users.
        links: Which of them the provider's are.
        passwords: Users with one are nobody at the provider.
        clock: Of new users.
    """

    def __init__(
        self,
        settings: OidcSettings,
        check: TokenCheck,
        accounts: Accounts,
        links: ProviderUsers,
        passwords: PasswordRows,
        clock: Clock = now,
    ) -> None:
        self._settings = settings
        self._check = check
        self._accounts = accounts
        self._links = links
        self._passwords = passwords
        self._clock = clock
        self._known: Expiring[str, User] = Expiring(_REMEMBERED_S)

    async def principal(self, token: str) -> Principal:
        """See `TokenVerifier`. Where a claim makes administrators, the token itself must have it."""
        claims = await self._check.claims(token)
        user = await self._known.get(str(claims["sub"]), lambda: self._user(claims))
        _require_enabled(user)
        is_admin = self._says_admin(claims) if self._settings.oidc_admin_claim else user.is_admin
        return Principal(Kind.USER, user.user_id, is_admin=is_admin, display_name=user.display_name)

    def forget(self) -> None:
        """Look users up again: one has changed."""
        self._known.forget_all()

    async def sign_in(self, claims: dict[str, Any]) -> User:
        """The user of somebody who just signed in; keeps whether they are an administrator, if a claim says so.

        Raises:
            Unauthenticated: NO_USER_CLAIM, NO_USER, USER_DISABLED.
            PermissionDenied: USER_ID_TAKEN.
        """
        user = await self._user(claims)
        _require_enabled(user)
        is_admin = self._says_admin(claims)
        if self._settings.oidc_admin_claim and user.is_admin != is_admin:
            try:
                user = await self._accounts.update_user(user.user_id, is_admin=is_admin) or user
            except FailedPrecondition as error:
                _log.warning("admin_kept", user=user.user_id, reason=error.reason)
            self.forget()
        return user

    async def _user(self, claims: dict[str, Any]) -> User:
        issuer, subject = self._settings.oidc_issuer, str(claims["sub"])
        found = await self._links.find(issuer, subject)
        return found if found is not None else await self._first_time(issuer, subject, claims)

    async def _first_time(self, issuer: str, subject: str, claims: dict[str, Any]) -> User:
        if len(subject) > 255:
            raise Unauthenticated("BAD_TOKEN", "the subject has more than 255 characters")
        user_id = self._user_id(claims)
        user = await self._accounts.get_user(user_id)
        if user is None:
            user = await self._make(user_id, claims)
        elif user.is_admin or user_id == ADMIN or await self._passwords.get(user_id) is not None:
            # A name at the provider may be chosen by anybody; it must not be the key to what is there already.
            raise _taken(user_id)
        if not await self._links.link(issuer, subject, user_id, self._clock()):
            raise _taken(user_id)
        _log.info("provider_user_linked", user=user_id)
        return user

    async def _make(self, user_id: str, claims: dict[str, Any]) -> User:
        if not self._settings.oidc_create_users:
            raise Unauthenticated(
                "NO_USER",
                f"there is no user {user_id!r}; an administrator makes one before the first sign-in",
            )
        name = str(claims.get("name") or claims.get(self._settings.oidc_user_claim))[:200]
        user = User(user_id, name, self._says_admin(claims), False, self._clock())
        if not await self._accounts.add_user(user):
            raise _taken(user_id)
        return user

    def _user_id(self, claims: dict[str, Any]) -> str:
        name = self._settings.oidc_user_claim
        value = claims.get(name)
        user_id = (
            _OTHER.sub("-", value.lower()).strip("-")[:_LONGEST_ID].strip("-")
            if isinstance(value, str)
            else ""
        )
        if not user_id:
            raise Unauthenticated(
                "NO_USER_CLAIM",
                f"the token says no {name!r}, from which your user id would be made; sign in at the page first, or "
                "have the provider add it to its tokens",
            )
        return user_id

    def _says_admin(self, claims: dict[str, Any]) -> bool:
        if not self._settings.oidc_admin_claim:
            return False
        # Some providers use addresses as names of claims, which have dots of their own.
        value: Any = claims.get(self._settings.oidc_admin_claim)
        if value is None:
            value = claims
            for part in self._settings.oidc_admin_claim.split("."):
                value = value.get(part) if isinstance(value, dict) else None
        values = value if isinstance(value, list) else [value]
        return self._settings.oidc_admin_value in [
            "true" if each is True else each for each in values if isinstance(each, str | bool)
        ]


def _require_enabled(user: User) -> None:
    if user.disabled:
        raise Unauthenticated("USER_DISABLED", f"user {user.user_id} may not sign in; ask an administrator")


def _taken(user_id: str) -> PermissionDenied:
    return PermissionDenied(
        "USER_ID_TAKEN",
        f"user {user_id!r} exists already and is somebody else, a local user, or an administrator; ask an "
        "administrator for help",
    )
