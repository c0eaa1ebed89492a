"""Tokens by which a stream of changes goes on where it broke off: the number of the last change, in digits."""

from __future__ import annotations

from typing import Final

from biosegment.errors import InvalidArgument

DIGITS: Final = 18
"""At most; more would not fit into a database's integer."""


def read_resume_token(token: str) -> int | None:
    """The number of a token, None for ''; InvalidArgument BAD_RESUME_TOKEN for what is none."""
    if not token:
        return None
    if not token.isascii() or not token.isdecimal() or len(token) > DIGITS:
        raise InvalidArgument(
            "BAD_RESUME_TOKEN", f"resume_token {token[:80]!r} is not from an answer; begin without one"
        )
    return int(token)
