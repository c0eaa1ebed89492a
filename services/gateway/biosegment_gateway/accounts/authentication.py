"""From what a caller shows to who that is: an API token, a session, or a token of the identity provider."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from biosegment.auth import Kind, Principal
from biosegment.errors import Unauthenticated
from biosegment.expiring import Expiring
from biosegment.rpc.interceptor import bearer_token
from biosegment_gateway.accounts.session import SESSION_PREFIX, Sessions
from biosegment_gateway.clock import Clock, now
from biosegment_gateway.domain import Credential, matches, token_id_of
from biosegment_gateway.ports import Accounts, TokenVerifier

_USE_RESOLUTION: Final = timedelta(minutes=1)


class Authentication:
    """Finds out who calls, on both ports.

    A verified row is remembered for `lifetime_s`, since every call asks. A token that is revoked through this
    process ends at once; one that another replica revokes ends after `lifetime_s` at the latest.

    Args:
        accounts: Users and API tokens.
        clock: Of the ends of tokens.
        lifetime_s: See above.
        sessions: Of people who signed in; nobody has one when None.
        provider: Checks tokens of the identity provider; none are taken when None.
    """

    def __init__(
        self,
        accounts: Accounts,
        clock: Clock = now,
        lifetime_s: float = 2.0,
        sessions: Sessions | None = None,
        provider: TokenVerifier | None = None,
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._sessions = sessions
        self._provider = provider
        self._known: Expiring[str, Credential | None] = Expiring(lifetime_s)
        self._uses: dict[str, datetime] = {}

    async def of_metadata(self, metadata: Mapping[str, str]) -> Principal:
        """Return the caller of an RPC; see `of_token`. Unauthenticated NO_TOKEN when there is none."""
        return await self.of_token(bearer_token(metadata))

    async def of_token(self, secret: str) -> Principal:
        """Return the user whose token this is.

        Raises:
            Unauthenticated: BAD_TOKEN when there is no such token; TOKEN_EXPIRED, TOKEN_REVOKED, USER_DISABLED;
                SESSION_OVER; and as `TokenVerifier.principal`.
        """
        if self._sessions is not None and secret.startswith(SESSION_PREFIX):
            return await self._sessions.principal(secret)
        if self._provider is not None and secret.count(".") == 2:
            return await self._provider.principal(secret)
        return await self._of_api_token(secret)

    async def of_session(self, secret: str) -> Principal:
        """Return the user whose session this is; Unauthenticated SESSION_OVER, USER_DISABLED."""
        if self._sessions is None:
            raise Unauthenticated("SESSION_OVER", "there are no sessions here; send an API token")
        return await self._sessions.principal(secret)

    async def _of_api_token(self, secret: str) -> Principal:
        credential = await self._credential(token_id_of(secret))
        # The reasons below are told only to those who know the secret.
        if credential is None or not matches(secret, credential.secret_sha256):
            raise Unauthenticated(
                "BAD_TOKEN", "the API token is not known here; check that it was copied whole"
            )
        token, user, present = credential.token, credential.user, self._clock()
        if credential.revoked:
            raise Unauthenticated("TOKEN_REVOKED", f"API token {token.token_id} was revoked; use another one")
        if token.expire_time is not None and token.expire_time <= present:
            raise Unauthenticated(
                "TOKEN_EXPIRED",
                f"API token {token.token_id} expired at {token.expire_time.isoformat()}; make a new one",
            )
        if user.disabled:
            raise Unauthenticated(
                "USER_DISABLED", f"user {user.user_id} may not sign in; ask an administrator"
            )
        self._note_use(credential, present)
        return Principal(
            Kind.USER,
            user.user_id,
            is_admin=user.is_admin,
            display_name=user.display_name,
            limits=token.limits,
        )

    def forget(self, token_id: str) -> None:
        """Look the token, and what was begun with it, up again next time."""
        self._known.forget(token_id)
        if self._sessions is not None:
            self._sessions.forget()

    def forget_user(self) -> None:
        """Look everything up again next time: a user has changed."""
        self._known.forget_all()
        if self._sessions is not None:
            self._sessions.forget()
        if self._provider is not None:
            self._provider.forget()

    async def flush(self) -> None:
        """Store when tokens and sessions were last used."""
        if self._sessions is not None:
            await self._sessions.flush()
        uses, self._uses = self._uses, {}
        if not uses:
            return
        try:
            await self._accounts.mark_used(uses)
        except BaseException:
            self._uses = {**uses, **self._uses}
            raise
        for token_id in uses:
            self._known.forget(token_id)  # what is remembered has an older last use

    async def _credential(self, token_id: str) -> Credential | None:
        if not token_id:
            return None
        return await self._known.get(token_id, lambda: self._accounts.find_credential(token_id))

    def _note_use(self, credential: Credential, present: datetime) -> None:
        token = credential.token
        last = self._uses.get(token.token_id) or token.last_use_time
        if last is None or present - last >= _USE_RESOLUTION:
            self._uses[token.token_id] = present
