"""Neuroglancer, as its wheel brings it: files that never change, served to everybody; what they show needs a link."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import importlib.util
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from biosegment.errors import NotFound
from biosegment_gateway.http.entity import is_known

PREFIX: Final = "/neuroglancer/"
PAGE: Final = f"{PREFIX}v/1/"
"""The wheel's client is made to be opened by a Python program, and asks for an address of this form."""

_INDEX: Final = "index.html"
_SHIM: Final = "biosegment.js"
_SHIM_CODE: Final = b"""// This client waits for the Python program that opened it; here its address says it all.
window.EventSource = class {
  constructor() {
    queueMicrotask(() => this.onopen?.());
  }
  close() {}
};
if (!location.hash) location.replace("/");
"""
_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_WORKER_POLICY: Final = (
    "default-src 'none'; script-src 'self' blob: 'unsafe-eval'; worker-src 'self' blob:; connect-src 'self'"
)
"""Of everything but the page: its workers write parts of their code at run time. They see neither page nor cookies."""
_NEVER_SENT: Final = (".map",)
_SMALLEST: Final = 1024
"""Bytes; less is not worth being compressed."""


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    compressed: bytes
    media_type: str
    etag: str


class NeuroglancerEndpoint:
    """Serves the folder of the client below `/neuroglancer/`.

    Args:
        folder: With `index.html` and what that loads; None where the wheel is not installed.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        # Known before anybody asks: no path leads out of the folder.
        paths = folder.iterdir() if folder is not None else ()
        self._names = frozenset(path.name for path in paths if path.suffix not in _NEVER_SENT)
        self._files: dict[str, _File] = {}

    @property
    def is_there(self) -> bool:
        """Whether there is a viewer to serve."""
        return _INDEX in self._names

    @property
    def routes(self) -> list[Route]:
        return [
            Route(PAGE + "{name}", self.read),
            Route(PAGE, self.read),
            Route(f"{PREFIX}{{path:path}}", self.enter),
        ]

    async def enter(self, request: Request) -> Response:
        """Lead whoever comes to the bare address to the page; browsers keep what comes after the '#'."""
        self._require()
        if request.path_params["path"]:
            raise _absent(request.url.path)
        return RedirectResponse(PAGE)

    async def read(self, request: Request) -> Response:
        """Answer a GET or HEAD of a file."""
        self._require()
        name = request.path_params.get("name", _INDEX)
        if name not in self._names and name != _SHIM:
            raise _absent(request.url.path)
        file = self._files.get(name)
        if file is None:
            file = await asyncio.to_thread(self._load, name)
            self._files[name] = file
        headers = {
            "etag": file.etag,
            "vary": "accept-encoding",
            "content-security-policy": _POLICY if name == _INDEX else _WORKER_POLICY,
            # Names hold a digest of the content, all but these two.
            "cache-control": "no-cache" if name in (_INDEX, _SHIM) else "public, max-age=31536000, immutable",
        }
        if is_known(request.headers.get("if-none-match", ""), file.etag):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", "") and file.compressed:
            headers["content-encoding"] = "gzip"
            return Response(file.compressed, headers=headers, media_type=file.media_type)
        return Response(file.content, headers=headers, media_type=file.media_type)

    def _load(self, name: str) -> _File:
        assert self._folder is not None
        content = _SHIM_CODE if name == _SHIM else (self._folder / name).read_bytes()
        if name == _INDEX:
            content = content.replace(
                b"<head>", f'<head><link rel="icon" href="data:,"><script src="{_SHIM}"></script>'.encode(), 1
            )
        compressed = gzip.compress(content, 6, mtime=0) if len(content) >= _SMALLEST else b""
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return _File(content, compressed, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')

    def _require(self) -> None:
        if not self.is_there:
            raise NotFound(
                "NO_NEUROGLANCER",
                "Neuroglancer is not installed with this gateway; an administrator does it by "
                "`pip install 'biosegment[neuroglancer]'`",
            )


def client_folder() -> Path | None:
    """Where the wheel `neuroglancer` keeps its client; None where it is not installed. Imports nothing of it."""
    found = importlib.util.find_spec("neuroglancer")
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0]) / "static" / "client"
    return folder if folder.is_dir() else None


def _absent(path: str) -> NotFound:
    return NotFound("NO_SUCH_FILE", f"Neuroglancer has no file {path[:200]!r}")
