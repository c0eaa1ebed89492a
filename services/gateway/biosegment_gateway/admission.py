"""What stands before every call of a user, over gRPC and HTTP: how many, how often; and who was sent away."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from biosegment.auth import Principal
from biosegment.errors import ResourceExhausted, Unauthenticated
from biosegment_gateway.audit import Audit, Recording
from biosegment_gateway.domain import token_id_of
from biosegment_gateway.peer import Proxies, host_of
from biosegment_gateway.rate import Rate

REFUSED: Final = "gateway/Authenticate"
"""Action of the event that says that somebody showed a token that does not let them in."""

_UNSAID: Final = ("NO_TOKEN",)
_BUSY_PAUSE_S: Final = 0.5


class Admission:
    """Admits the calls of users; health checks and the shell of the page never come here.

    Args:
        requests_per_s: Of one user, in the long run; 0 for any number.
        burst: Requests of one user that may come at once.
        at_once: Requests and streams of one user that may run at a time; 0 for any number.
        audit: Told of tokens that let nobody in, as often as `refusals` allows for one address and for all.
        proxies: Whose word counts on where a call comes from.
    """

    def __init__(
        self, requests_per_s: float, burst: int, at_once: int, audit: Audit, proxies: Proxies
    ) -> None:
        self._rate = Rate(requests_per_s, burst) if requests_per_s else None
        self._at_once = at_once
        self._running: Counter[str] = Counter()
        self._audit = audit
        self._proxies = proxies
        # Else anybody could fill the database: the log forgets nothing.
        self._refusals_of_one = Rate(0.1, 10)
        self._refusals_of_all = Rate(1.0, 200)

    @contextmanager
    def admitted(self, principal: Principal) -> Iterator[None]:
        """Surrounds a call.

        Raises:
            ResourceExhausted: RATE_LIMITED, TOO_MANY_AT_ONCE; nothing has been done, and `retry_after_s` says when to
                try again.
        """
        user = principal.user
        if self._at_once and self._running[user] >= self._at_once:
            raise _try_later(
                "TOO_MANY_AT_ONCE",
                f"{self._at_once} requests of user {user!r} run already, which is the limit",
                _BUSY_PAUSE_S,
            )
        wait_s = self._rate.take(user) if self._rate else 0.0
        if wait_s:
            raise _try_later("RATE_LIMITED", f"user {user!r} sends requests faster than is allowed", wait_s)
        self._running[user] += 1
        try:
            yield
        finally:
            self._running[user] -= 1
            if not self._running[user]:
                del self._running[user]

    def refused_call(self, error: Unauthenticated, token: str, context: Any) -> None:
        """Note that a gRPC call showed a token that lets nobody in."""
        self.refused(error, token, self._proxies.grpc_peer(context))

    def refused(self, error: Unauthenticated, token: str, peer: str) -> None:
        """Note that a request showed a token that lets nobody in; what is no token is not kept."""
        if error.reason in _UNSAID or not token:
            return
        if self._refusals_of_one.take(host_of(peer)) or self._refusals_of_all.take(""):
            return
        token_id = token_id_of(token)
        resource = f"token {token_id}" if token_id else ""
        self._audit.note(Recording(REFUSED, resource=resource, outcome=error.grpc_code), peer)


class AdmittedRequests:
    """Lets `Admission` decide on HTTP requests; lies inside of what finds out who sent them."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = scope.get("state", {}).get("principal")
        if principal is None:
            await self._app(scope, receive, send)
            return
        with self._admission.admitted(principal):
            await self._app(scope, receive, send)


def _try_later(reason: str, what: str, wait_s: float) -> ResourceExhausted:
    wait_s = math.ceil(wait_s * 100) / 100
    return ResourceExhausted(
        reason,
        f"{what}; try again in {wait_s:g} s (nothing was done)",
        retry_after_s=f"{wait_s:g}",
    )
