"""Files on their way in: `PUT /api/uploads/projects/{p}/uploads/{u}?offset={bytes}` appends to an upload.

`CreateUpload` makes it, `GetUpload` says how far it is, and `CreateJob` imports it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import google_crc32c
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import volume_pb2
from biosegment.errors import BiosegmentError, Conflict, InvalidArgument, ResourceExhausted
from biosegment.rpc.stream import CHUNK_BYTES
from biosegment_gateway.http.body import BodyLimit, BodyTooLarge, UnsupportedMediaType
from biosegment_gateway.http.json_call import caller_of
from biosegment_gateway.http.openapi_schema import Schema, reference
from biosegment_gateway.local_call import Caller, LocalCalls
from biosegment_gateway.message_json import to_json

MAX_CHECKED_BYTES: Final = 8 << 20
"""Of a body with a digest: it is kept in memory until it is known to be whole."""
_CHECKED_AT_ONCE: Final = 4
"""Such bodies of one user: who sends slowly holds up nobody else."""
_DATASTORE: Final = "/biosegment.api.datastore.v1alpha1.DatastoreService/"
_DIGEST: Final = re.compile(r"\s*sha-256=:([A-Za-z0-9+/=]{1,100}):\s*")
_OFFSET: Final = re.compile(r"[0-9]{1,18}")
_PATH: Final = "/api/uploads/projects/{project}/uploads/{upload}"


class Uploads:
    """Hands bodies on to the datastore, a megabyte at a time.

    Args:
        calls: Answer for the datastore.
    """

    def __init__(self, calls: LocalCalls) -> None:
        self._calls = calls
        self._checking: Counter[str] = Counter()

    @property
    def routes(self) -> list[Route]:
        return [Route(_PATH, self.write, methods=["PUT"])]

    @property
    def paths(self) -> dict[str, Schema]:
        """The same in OpenAPI's words."""
        return {_PATH: {"put": _operation()}}

    async def write(self, request: Request) -> Response:
        """Append the body, beginning at `offset`; answers as WriteUpload does.

        What arrived before the connection broke is kept. A body with `Content-Digest: sha-256=:...:` (8 MiB at most) is
        kept only when it has that digest.

        Raises:
            Conflict: OFFSET_MISMATCH; `received_bytes` of its details is where to go on.
            BodyTooLarge: BODY_TOO_LARGE, more than was announced; DIGESTED_TOO_LARGE.
            InvalidArgument: BAD_OFFSET, BAD_DIGEST, DIGEST_MISMATCH, BODY_INCOMPLETE.
            UnsupportedMediaType: A form, or a compressed body.
            ResourceExhausted: TOO_MANY_PARTS with a digest at the same time.
        """
        _require_plain(request)
        caller, offset = caller_of(request), _offset(request)
        digest = _digest(request.headers.get("content-digest"))
        parameters = request.path_params
        name = f"projects/{parameters['project']}/uploads/{parameters['upload']}"
        upload = await self._upload(name, caller)
        if offset != upload.received_bytes:
            raise Conflict(
                "OFFSET_MISMATCH",
                f"{name} has received {upload.received_bytes} bytes; go on from there, not from {offset}",
                received_bytes=str(upload.received_bytes),
            )
        rest = upload.size_bytes - offset
        limit = BodyLimit(request, rest, f"{name} was announced with {upload.size_bytes}")
        if digest is None:
            return await self._send(name, offset, limit.stream(), caller)
        with self._place(caller.principal.user):
            body = await _checked(request, limit, digest)
            return await self._send(name, offset, _once(body), caller)

    @contextmanager
    def _place(self, user: str) -> Iterator[None]:
        """Room in memory for one more body of a user."""
        if self._checking[user] >= _CHECKED_AT_ONCE:
            raise ResourceExhausted(
                "TOO_MANY_PARTS",
                f"user {user!r} sends {_CHECKED_AT_ONCE} parts with a digest already; send the next one when one has "
                "arrived",
                retry_after_s="1",
            )
        self._checking[user] += 1
        try:
            yield
        finally:
            self._checking[user] -= 1
            if not self._checking[user]:
                del self._checking[user]

    async def _upload(self, name: str, caller: Caller) -> volume_pb2.Upload:
        request = pb.GetUploadRequest(name=name).SerializeToString()
        answer = await self._calls.unary(f"{_DATASTORE}GetUpload", request, caller)
        return pb.GetUploadResponse.FromString(answer).upload

    async def _send(self, name: str, offset: int, body: AsyncIterator[bytes], caller: Caller) -> Response:
        pieces = _Pieces(body)
        answer = await self._calls.send(f"{_DATASTORE}WriteUpload", pieces.requests(name, offset), caller)
        if pieces.error is not None:
            raise pieces.error
        return JSONResponse(to_json(answer, pb.WriteUploadResponse.DESCRIPTOR))


class _Pieces:
    """A body as messages; an error in it ends the messages, so that what came before is kept.

    Attributes:
        error: What ended the body too early.
    """

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self.error: BiosegmentError | None = None

    async def requests(self, name: str, offset: int) -> AsyncIterator[bytes]:
        yield pb.WriteUploadRequest(name=name, offset=offset).SerializeToString()
        buffer = bytearray()
        try:
            async for piece in self._body:
                buffer += piece
                while len(buffer) >= CHUNK_BYTES:
                    yield _message(offset, bytes(buffer[:CHUNK_BYTES]))
                    offset += CHUNK_BYTES
                    del buffer[:CHUNK_BYTES]
        except BiosegmentError as error:
            self.error = error
        if buffer:
            yield _message(offset, bytes(buffer))


def _message(offset: int, data: bytes) -> bytes:
    crc32c: Any = google_crc32c.value(data)
    return pb.WriteUploadRequest(offset=offset, data=data, crc32c=crc32c).SerializeToString()


async def _checked(request: Request, limit: BodyLimit, digest: bytes) -> bytes:
    """The whole body, which has this digest."""
    body = bytearray()
    async for piece in limit.stream():
        body += piece
        if len(body) > MAX_CHECKED_BYTES:
            raise BodyTooLarge(
                "DIGESTED_TOO_LARGE",
                f"a body with a digest may have {MAX_CHECKED_BYTES} bytes; send the file in several parts",
                limit=str(MAX_CHECKED_BYTES),
            )
    found = await asyncio.to_thread(lambda: hashlib.sha256(body).digest())
    if not hmac.compare_digest(found, digest):
        raise InvalidArgument(
            "DIGEST_MISMATCH", "the body does not have its digest; nothing of it was kept, send it again"
        )
    return bytes(body)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _operation() -> Schema:
    text = {"type": "string"}
    in_path = {"in": "path", "required": True, "schema": {**text, "pattern": "^[a-z0-9-]{1,63}$"}}
    answer = {"schema": reference(pb.WriteUploadResponse.DESCRIPTOR)}
    return {
        "summary": "Append bytes to an upload",
        "description": "`CreateUpload` makes the upload, `GetUpload` says how far it is, and `CreateJob` imports it. "
        "What arrived before the connection broke is kept.",
        "tags": ["files"],
        "parameters": [
            {"name": "project", **in_path},
            {"name": "upload", **in_path},
            {
                "name": "offset",
                "in": "query",
                "schema": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1, "default": 0},
                "description": "Where the body belongs in the file: `received_bytes` of the upload.",
            },
            {
                "name": "Content-Digest",
                "in": "header",
                "schema": {**text, "pattern": "^sha-256=:[A-Za-z0-9+/]{43}=:$"},
                "description": "SHA-256 of the body, of 8 MiB at most; nothing is kept of one that has another.",
            },
        ],
        "requestBody": {"content": {"application/octet-stream": {"schema": {}}}},
        "responses": {
            "200": {"description": "The upload as it is now.", "content": {"application/json": answer}}
        },
    }


def _offset(request: Request) -> int:
    text = request.query_params.get("offset", "0")
    if not _OFFSET.fullmatch(text):
        raise InvalidArgument("BAD_OFFSET", f"offset {text[:40]!r} is no number of bytes")
    return int(text)


def _digest(header: str | None) -> bytes | None:
    """SHA-256 of `Content-Digest` (RFC 9530); None without the header."""
    if header is None:
        return None
    match = _DIGEST.fullmatch(header)
    try:
        digest = base64.b64decode(match[1], validate=True) if match else b""
    except binascii.Error:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise InvalidArgument(
            "BAD_DIGEST", f"Content-Digest {header[:80]!r} is not of the form sha-256=:<base64>:"
        )
    return digest


def _require_plain(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded") or encoding != "identity":
        raise UnsupportedMediaType(
            "UNSUPPORTED_MEDIA_TYPE",
            f"the body must be the bytes of the file themselves, not {(kind or encoding)[:100]!r}; "
            "send them as 'application/octet-stream'",
        )
