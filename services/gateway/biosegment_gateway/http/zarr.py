"""OME-Zarr over HTTP: GET and HEAD of the objects of volumes and layers, with ranges and entity tags."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from biosegment_gateway.http.access import principal_of
from biosegment_gateway.http.byte_range import UnsatisfiableRange, parse_range
from biosegment_gateway.zarr import StoredObject, ZarrReader


class ZarrEndpoint:
    """Serves `/zarr/projects/{p}/volumes/{v}/...` and `.../layers/{l}/...`."""

    def __init__(self, reader: ZarrReader) -> None:
        self._reader = reader

    @property
    def routes(self) -> list[Route]:
        volume = "/zarr/projects/{project}/volumes/{volume}"
        # Layers first: the path of the second route would match them too.
        return [
            Route(f"{volume}/layers/{{layer}}/{{path:path}}", self.read),
            Route(f"{volume}/{{path:path}}", self.read),
        ]

    async def read(self, request: Request) -> Response:
        """Answer a GET or HEAD."""
        found = await self._reader.find(
            principal_of(request), _name(request.path_params), request.path_params["path"]
        )
        headers = {
            "accept-ranges": "bytes",
            "etag": found.etag,
            "vary": "authorization",
            # Every use asks again, which an entity tag makes cheap: volumes can be deleted, members removed.
            "cache-control": "private, no-cache",
        }
        if _is_known(request.headers.get("if-none-match", ""), found.etag):
            return Response(status_code=304, headers=headers)
        try:
            wanted = parse_range(_range_header(request, found), found.size)
        except UnsatisfiableRange:
            headers["content-range"] = f"bytes */{found.size}"
            return Response(status_code=416, headers=headers)
        return await self._answer(request, found, wanted, headers)

    async def _answer(
        self, request: Request, found: StoredObject, wanted: tuple[int, int] | None, headers: dict[str, str]
    ) -> Response:
        start, stop = wanted or (0, found.size)
        if wanted is not None:
            headers["content-range"] = f"bytes {start}-{stop - 1}/{found.size}"
        headers["content-length"] = str(stop - start)
        status = 200 if wanted is None else 206
        media_type = "application/json" if found.key.endswith(".json") else "application/octet-stream"
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type=media_type)
        pieces = self._reader.read(found, start, stop)
        # Read before anything is answered: what fails here still gets a status of its own.
        first = await anext(pieces, b"")
        if len(first) == stop - start:
            return Response(first, status, headers, media_type)
        return StreamingResponse(_joined(first, pieces), status, headers, media_type)


def _name(parameters: dict[str, Any]) -> str:
    name = f"projects/{parameters['project']}/volumes/{parameters['volume']}"
    return f"{name}/layers/{parameters['layer']}" if "layer" in parameters else name


def _range_header(request: Request, found: StoredObject) -> str:
    """The range that counts: for GET only, and only of the version that the client knows, if it says one."""
    if request.method != "GET":
        return ""
    condition = request.headers.get("if-range")
    if condition is not None and (condition != found.etag or condition.startswith("W/")):
        return ""
    return request.headers.get("range", "")


def _is_known(if_none_match: str, etag: str) -> bool:
    known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag.removeprefix("W/") in known or "*" in known


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
