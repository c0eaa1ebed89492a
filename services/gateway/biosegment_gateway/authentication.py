"""From an API token to the user who shows it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from biosegment.auth import Kind, Principal
from biosegment.errors import Unauthenticated
from biosegment.rpc.interceptor import bearer_token
from biosegment_gateway.domain import Credential, matches, token_id_of
from biosegment_gateway.ports import Accounts

Clock = Callable[[], datetime]

_USE_RESOLUTION: Final = timedelta(minutes=1)
_CAPACITY: Final = 4096


def now() -> datetime:
    """The present moment, UTC."""
    return datetime.now(UTC)


class Authentication:
    """Checks API tokens.

    A verified row is remembered for `lifetime_s`, since every call asks. A token that is revoked through this
    process ends at once; one that another replica revokes ends after `lifetime_s` at the latest.
    """

    def __init__(self, accounts: Accounts, clock: Clock = now, lifetime_s: float = 2.0) -> None:
        self._accounts = accounts
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._known: OrderedDict[str, tuple[float, Credential | None]] = OrderedDict()
        self._uses: dict[str, datetime] = {}

    async def of_metadata(self, metadata: Mapping[str, str]) -> Principal:
        """Return the caller of an RPC; see `of_token`. Unauthenticated NO_TOKEN when there is none."""
        return await self.of_token(bearer_token(metadata))

    async def of_token(self, secret: str) -> Principal:
        """Return the user whose token this is.

        Raises:
            Unauthenticated: BAD_TOKEN when there is no such token; TOKEN_EXPIRED, TOKEN_REVOKED, USER_DISABLED.
        """
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
        return Principal(Kind.USER, user.user_id, is_admin=user.is_admin)

    def forget(self, token_id: str) -> None:
        """Look the token up again next time."""
        self._known.pop(token_id, None)

    async def flush(self) -> None:
        """Store when tokens were last used."""
        uses, self._uses = self._uses, {}
        if not uses:
            return
        try:
            await self._accounts.mark_used(uses)
        except BaseException:
            self._uses = {**uses, **self._uses}
            raise
        for token_id in uses:
            self.forget(token_id)  # what is remembered has an older last use

    async def _credential(self, token_id: str) -> Credential | None:
        if not token_id:
            return None
        known_until, credential = self._known.get(token_id, (0.0, None))
        if time.monotonic() < known_until:
            return credential
        credential = await self._accounts.find_credential(token_id)
        self._known[token_id] = (time.monotonic() + self._lifetime_s, credential)
        if len(self._known) > _CAPACITY:
            self._known.popitem(last=False)
        return credential

    def _note_use(self, credential: Credential, present: datetime) -> None:
        token = credential.token
        last = self._uses.get(token.token_id) or token.last_use_time
        if last is None or present - last >= _USE_RESOLUTION:
            self._uses[token.token_id] = present
