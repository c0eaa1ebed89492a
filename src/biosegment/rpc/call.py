"""What is known about the RPC that is being served: context variables, set by the server's interceptor."""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import Final

from biosegment.auth import Principal
from biosegment.errors import Unauthenticated
from biosegment.ids import new_id

AUTHORIZATION: Final = "authorization"
REQUEST_ID: Final = "x-request-id"
MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

principal_variable: ContextVar[Principal | None] = ContextVar("biosegment_principal", default=None)
request_id_variable: ContextVar[str] = ContextVar("biosegment_request_id", default="")


def current_principal() -> Principal:
    """The authenticated caller of the RPC that is being served, also inside streaming handlers.

    Raises:
        Unauthenticated: NO_TOKEN outside of an RPC, and in methods that need no authentication.
    """
    principal = principal_variable.get()
    if principal is None:
        raise Unauthenticated(
            "NO_TOKEN", "nobody is authenticated here; send metadata 'authorization: Bearer <token>'"
        )
    return principal


def current_request_id() -> str:
    """The id under which this call is logged, handed on to services that it calls; '' outside of an RPC."""
    return request_id_variable.get()


def valid_request_id(text: str) -> str:
    """The id that a caller gave its request, or a new one where it gave none that can be logged."""
    return text if _REQUEST_ID.fullmatch(text) else new_id()


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Metadata for one call in another name than the channel's: `stub.Get(r, metadata=bearer(token))`."""
    return ((AUTHORIZATION, f"Bearer {token}"),)
