"""JSON endpoints of the page: the messages of the API in protobuf's JSON form."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import biosegment
from biosegment.errors import InvalidArgument
from biosegment_gateway.datastore_client import DatastoreClient
from biosegment_gateway.http.access import principal_of
from biosegment_gateway.job import JobList, Query
from biosegment_gateway.servicer import PlatformServicer
from biosegment_gateway.trainer_client import TrainerClient


class Api:
    """Reads what the page shows, in the caller's name; writing goes over gRPC."""

    def __init__(
        self,
        datastore: DatastoreClient,
        trainer: TrainerClient,
        jobs: JobList[Any],
        platform: PlatformServicer,
    ) -> None:
        self._datastore = datastore
        self._trainer = trainer
        self._jobs = jobs
        self._platform = platform

    @property
    def routes(self) -> list[Route]:
        """All of them GET; lists take `page_size` and `page_token`."""
        return [
            Route("/healthz", self.health),
            Route("/version", self.version),
            Route("/api/status", self.status),
            Route("/api/projects", self.projects),
            Route("/api/projects/{project}/volumes", self.volumes),
            Route("/api/projects/{project}/models", self.models),
            Route("/api/jobs", self.jobs),
        ]

    async def health(self, request: Request) -> Response:
        """Answer as long as the process does; needs no token and says nothing else."""
        return JSONResponse({"status": "ok"})

    async def version(self, request: Request) -> Response:
        return JSONResponse({"version": biosegment.__version__, "api": "v1alpha1"})

    async def status(self, request: Request) -> Response:
        """Health and version of every service."""
        return _json(await self._platform.status())

    async def projects(self, request: Request) -> Response:
        """The caller's projects."""
        return _json(await self._datastore.list_projects(principal_of(request), *_page(request)))

    async def volumes(self, request: Request) -> Response:
        """Volumes of a project."""
        return _json(
            await self._datastore.list_volumes(principal_of(request), _project(request), *_page(request))
        )

    async def models(self, request: Request) -> Response:
        """Models of a project, newest first."""
        return _json(
            await self._trainer.list_models(principal_of(request), _project(request), *_page(request))
        )

    async def jobs(self, request: Request) -> Response:
        """Jobs, newest first; of one project with `?project=projects/{p}`."""
        query = Query(request.query_params.get("project", ""), ())
        jobs, token = await self._jobs.list(principal_of(request), query, *_page(request))
        return JSONResponse({"jobs": [_dict(job) for job in jobs], "nextPageToken": token})


def _project(request: Request) -> str:
    return f"projects/{request.path_params['project']}"


def _page(request: Request) -> tuple[int, str]:
    text = request.query_params.get("page_size", "0")
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise InvalidArgument("BAD_PAGE_SIZE", f"page_size {text[:20]!r} is no number")
    return int(text), request.query_params.get("page_token", "")


def _json(message: Any) -> JSONResponse:
    return JSONResponse(_dict(message))


def _dict(message: Any) -> dict[str, Any]:
    return MessageToDict(message, always_print_fields_with_no_presence=True)
