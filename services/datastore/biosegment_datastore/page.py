"""Pages of lists and the tokens between them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from biosegment.errors import InvalidArgument

T = TypeVar("T")
Key = str | int


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page is wanted.

    Attributes:
        size: At most so many items.
        after: Sort key of the last item of the page before, None for the first page.
        query: Digest of what is listed, so that a token cannot be used for another list.
    """

    size: int
    after: Key | None
    query: str

    @classmethod
    def of(
        cls, page_size: int, page_token: str, *query: object, largest: int = 500, default: int = 50
    ) -> PageRequest:
        """Read a request's page fields.

        Raises:
            InvalidArgument: BAD_PAGE_SIZE, or BAD_PAGE_TOKEN when the token is not from the same query.
        """
        if not 0 <= page_size <= largest:
            raise InvalidArgument(
                "BAD_PAGE_SIZE", f"page_size {page_size} is not within 1..{largest} (0 for {default})"
            )
        digest = hashlib.sha256(repr(query).encode()).hexdigest()[:16]
        return cls(page_size or default, _read_token(page_token, digest), digest)

    def next_token(self, last: Key) -> str:
        """Token of the page after the item with sort key `last`."""
        return base64.urlsafe_b64encode(json.dumps([self.query, last]).encode()).decode()


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items and the token of the next page, '' on the last."""

    items: Sequence[T]
    next_token: str


def _read_token(token: str, digest: str) -> Key | None:
    if not token:
        return None
    try:
        query, last = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError, TypeError):
        query, last = "", None
    if query != digest or not isinstance(last, str | int):
        raise InvalidArgument(
            "BAD_PAGE_TOKEN",
            f"page_token {token[:80]!r} is not from an answer to the same query; begin without one",
        )
    return last
