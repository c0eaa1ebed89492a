"""OME-Zarr over HTTP: GET and HEAD of the objects of volumes and layers, with ranges and entity tags."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from biosegment.auth import Principal
from biosegment_gateway.http.access import principal_of
from biosegment_gateway.http.byte_range import UnsatisfiableRange, parse_range
from biosegment_gateway.http.entity import ASK_AGAIN, KEEP, is_known
from biosegment_gateway.http.tile import name_of
from biosegment_gateway.viewing.zarr import StoredObject, ZarrReader


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
        name, path = name_of(request.path_params), request.path_params["path"]
        return await self.answer(request, principal_of(request), name, path)

    async def answer(
        self,
        request: Request,
        principal: Principal,
        name: str,
        path: str,
        chosen: Collection[str] | None = None,
    ) -> Response:
        """Answer a GET or HEAD of an object, in somebody's name; arguments as of `ZarrReader.find`."""
        found = await self._reader.find(principal, name, path, chosen)
        headers = {
            "accept-ranges": "bytes",
            "etag": found.etag,
            "vary": "authorization, cookie",
            "cache-control": KEEP if found.is_final else ASK_AGAIN,
        }
        if is_known(request.headers.get("if-none-match", ""), found.etag):
            return Response(status_code=304, headers=headers)
        try:
            wanted = parse_range(_range_header(request, found), found.size)
        except UnsatisfiableRange:
            headers["content-range"] = f"bytes */{found.size}"
            return Response(status_code=416, headers=headers)
        return await self._send(request, found, wanted, headers)

    async def _send(
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


def _range_header(request: Request, found: StoredObject) -> str:
    """The range that counts: for GET only, and only of the version that the client knows, if it says one."""
    if request.method != "GET":
        return ""
    condition = request.headers.get("if-range")
    if condition is not None and (condition != found.etag or condition.startswith("W/")):
        return ""
    return request.headers.get("range", "")


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
