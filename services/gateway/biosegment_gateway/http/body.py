"""Bodies of requests, of bounded size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from biosegment.errors import InvalidArgument, ResourceExhausted

_LONGEST_LENGTH: Final = 18
_DRAINED_BYTES: Final = 16 << 20


class BodyTooLarge(ResourceExhausted):
    """BODY_TOO_LARGE."""

    http_status = 413


class UnsupportedMediaType(InvalidArgument):
    """UNSUPPORTED_MEDIA_TYPE."""

    http_status = 415


class BodyLimit:
    """Counts what is received of a request.

    Args:
        request: Whose body it is.
        max_bytes: Of the whole body.
        advice: What else somebody with more can do, for the message.

    """

    def __init__(self, request: Request, max_bytes: int, advice: str = "send less at a time") -> None:
        self._request = request
        self._max_bytes = max_bytes
        self._advice = advice
        self._received = 0
        length = request.headers.get("content-length", "")
        known = length.isascii() and length.isdecimal()
        self._announced = int(length[:_LONGEST_LENGTH]) if known else 0

    async def receive(self) -> Message:
        """What the server received next; BodyTooLarge BODY_TOO_LARGE."""
        if self._announced > self._max_bytes:
            if self._announced <= _DRAINED_BYTES:
                await self._drain()
            raise self._too_large()
        message = await self._request.receive()
        self._received += len(message.get("body", b""))
        if self._received > self._max_bytes:
            if message.get("more_body", False):
                await self._drain()
            raise self._too_large()
        return message

    async def stream(self) -> AsyncIterator[bytes]:
        """The pieces of the body; InvalidArgument BODY_INCOMPLETE when the connection ends before."""
        try:
            async for piece in Request(self._request.scope, self.receive).stream():
                yield piece
        except ClientDisconnect as error:
            raise InvalidArgument("BODY_INCOMPLETE", "the connection ended before the body did") from error

    async def read(self) -> bytes:
        """The whole body; errors as for `stream`."""
        return b"".join([piece async for piece in self.stream()])

    async def _drain(self) -> None:
        """Take a little more: who is still sending when the connection is closed does not get to read why."""
        if "expect" in self._request.headers:
            return
        left = _DRAINED_BYTES
        while left > 0:
            message = await self._request.receive()
            left -= len(message.get("body", b""))
            if not message.get("more_body", False):
                return

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            "BODY_TOO_LARGE",
            f"the body is larger than the {self._max_bytes} bytes that are taken; {self._advice}",
            limit=str(self._max_bytes),
        )


def require_media_type(request: Request, wanted: str) -> None:
    """UnsupportedMediaType unless the body is said to be of this type, in UTF-8 and not compressed."""
    sent = request.headers.get("content-type", "")
    kind, *parameters = (part.strip().lower() for part in sent.split(";"))
    charsets = {text.partition("=")[2].strip('"') for text in parameters if text.startswith("charset=")}
    if kind != wanted or not charsets <= {"utf-8"}:
        raise UnsupportedMediaType(
            "UNSUPPORTED_MEDIA_TYPE", f"the body is said to be {sent[:100]!r}; send it as {wanted!r} in UTF-8"
        )
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedMediaType(
            "UNSUPPORTED_MEDIA_TYPE", f"bodies in the content encoding {encoding[:100]!r} are not taken"
        )
