"""What is about no service: whether the gateway lives, and its version."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import biosegment


class About:
    """Answers without asking anybody."""

    @property
    def routes(self) -> list[Route]:
        return [Route("/healthz", self.health), Route("/version", self.version)]

    async def health(self, request: Request) -> Response:
        """Answers as long as the process does; needs no token and says nothing else."""
        return JSONResponse({"status": "ok"})

    async def version(self, request: Request) -> Response:
        """Version of the software, and of the API."""
        return JSONResponse({"version": biosegment.__version__, "api": "v1alpha1"})
