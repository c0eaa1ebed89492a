"""Image tiles and thumbnails over HTTP."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from biosegment_gateway.http.access import principal_of
from biosegment_gateway.http.entity import ASK_AGAIN, is_known
from biosegment_gateway.viewing.tile import Plane, parse_tile
from biosegment_gateway.viewing.tile_reader import Drawing, TileReader

_VOLUME: Final = "projects/{project}/volumes/{volume}"
_TYPES: Final = {"png": "image/png", "jpg": "image/jpeg"}


class TileEndpoint:
    """Serves `/tiles/{volume or layer}/...` and `/thumbnails/{volume}.jpg`."""

    def __init__(self, reader: TileReader) -> None:
        self._reader = reader

    @property
    def routes(self) -> list[Route]:
        # Layers first: the path of the second route would match them too.
        return [
            Route(f"/tiles/{_VOLUME}/layers/{{layer}}/{{path:path}}", self.tile),
            Route(f"/tiles/{_VOLUME}/{{path:path}}", self.tile),
            Route(f"/thumbnails/{_VOLUME}.jpg", self.thumbnail),
        ]

    @property
    def paths(self) -> dict[str, Any]:
        """What OpenAPI says of tiles."""
        place = "{plane}/{level}/{index}/{row}/{column}.{format}"
        owners = (_VOLUME, f"{_VOLUME}/layers/{{layer}}")
        return {f"/tiles/{owner}/{place}": {"get": _operation(owner)} for owner in owners}

    async def tile(self, request: Request) -> Response:
        """Answer a GET or HEAD of a tile or of `info.json`."""
        principal, name = principal_of(request), name_of(request.path_params)
        path = request.path_params["path"]
        if path == "info.json":
            info = json.dumps(await self._reader.info(principal, name)).encode()
            return _answer(request, info, _etag(info), "application/json")
        tile, extension = parse_tile(name, path)
        return await self._draw(request, await self._reader.tile(principal, name, tile, extension))

    async def thumbnail(self, request: Request) -> Response:
        """Answer a GET or HEAD of a volume's thumbnail."""
        name = name_of(request.path_params)
        return await self._draw(request, await self._reader.thumbnail(principal_of(request), name))

    async def _draw(self, request: Request, wanted: Drawing) -> Response:
        media_type = _TYPES[wanted.extension]
        if wanted.etag and is_known(request.headers.get("if-none-match", ""), wanted.etag):
            return _answer(request, b"", wanted.etag, media_type)
        content = await self._reader.draw(wanted)
        return _answer(request, content, wanted.etag or _etag(content), media_type)


def _operation(owner: str) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {
        "plane": {"type": "string", "enum": [plane.value for plane in Plane]},
        **{key: {"type": "integer", "minimum": 0} for key in ("level", "index", "row", "column")},
        "format": {"type": "string", "enum": sorted(_TYPES)},
        **{key: {"type": "string"} for key in re.findall(r"{(\w+)}", owner)},
    }
    return {
        "summary": "A tile of 256 x 256 pixels, through the display window or in the colours of the classes.",
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": schema} for name, schema in kinds.items()
        ],
        "responses": {
            "200": {"description": "Drawn.", "content": {each: {} for each in _TYPES.values()}},
            "304": {"description": "As the client knows it."},
        },
    }


def name_of(parameters: dict[str, Any]) -> str:
    """Resource name of the volume or layer that a path speaks of."""
    name = f"projects/{parameters['project']}/volumes/{parameters['volume']}"
    return f"{name}/layers/{parameters['layer']}" if "layer" in parameters else name


def _answer(request: Request, content: bytes, etag: str, media_type: str) -> Response:
    headers = {"etag": etag, "vary": "authorization, cookie", "cache-control": ASK_AGAIN}
    if is_known(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'
