"""The web page: the files that clients/web was built into, and every address that the page itself knows."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from biosegment.errors import NotFound
from biosegment_gateway.http.entity import is_known

_ASSETS: Final = "/assets/"
_ICON: Final = "/icon.svg"
_PLACES: Final = ("/projects", "/administration", "/account")
"""First parts of the addresses between which the page moves by itself (clients/web/src/app.tsx)."""
_SMALLEST: Final = 1024
"""Bytes; less is not worth being compressed."""


def is_page(path: str) -> bool:
    """Whether a path is one of the page's shell, which holds nobody's data and answers whoever asks."""
    return path in ("/", _ICON, *_PLACES) or path.startswith((_ASSETS, *(f"{place}/" for place in _PLACES)))


class DashboardEndpoint:
    """Serves the page."""

    def __init__(self) -> None:
        folder = files("biosegment_gateway.http").joinpath("page")
        self._index = _File(folder.joinpath("index.html"), "no-cache")
        self._icon = _File(folder.joinpath("icon.svg"), "no-cache")
        # Known before anybody asks: no path leads out of the folder. Names hold a digest of the content.
        self._assets = {
            file.name: _File(file, "public, max-age=31536000, immutable")
            for file in folder.joinpath("assets").iterdir()
        }

    @property
    def routes(self) -> list[Route]:
        """The page wherever somebody enters it, and what it loads."""
        return [
            Route(_ICON, self.icon),
            Route(f"{_ASSETS}{{name:path}}", self.asset),
            Route("/", self.index),
            *(Route(place, self.index) for place in _PLACES),
            *(Route(f"{place}/{{path:path}}", self.index) for place in _PLACES),
        ]

    async def index(self, request: Request) -> Response:
        """Answer with the page; which part of it is shown, it finds out itself."""
        return self._index.answer(request)

    async def icon(self, request: Request) -> Response:
        return self._icon.answer(request)

    async def asset(self, request: Request) -> Response:
        """Answer with a script or style."""
        name = request.path_params["name"]
        if name not in self._assets:
            raise NotFound("NO_SUCH_FILE", f"the page has no file {name[:200]!r}; load the page again")
        return self._assets[name].answer(request)


class _File:
    def __init__(self, file: Traversable, cache_control: str) -> None:
        self._content = file.read_bytes()
        is_small = len(self._content) < _SMALLEST
        self._compressed = b"" if is_small else gzip.compress(self._content, 9, mtime=0)
        self._media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        self._headers = {
            "cache-control": cache_control,
            "etag": f'"{hashlib.sha256(self._content).hexdigest()[:32]}"',
            "vary": "accept-encoding",
        }

    def answer(self, request: Request) -> Response:
        if is_known(request.headers.get("if-none-match", ""), self._headers["etag"]):
            return Response(status_code=304, headers=self._headers)
        if self._compressed and "gzip" in request.headers.get("accept-encoding", ""):
            headers = {**self._headers, "content-encoding": "gzip"}
            return Response(self._compressed, headers=headers, media_type=self._media_type)
        return Response(self._content, headers=self._headers, media_type=self._media_type)
