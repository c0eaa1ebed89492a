"""The MONAI Label API: below `/monailabel/{project}/`, and for one project at the root."""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

import biosegment
from biosegment.auth import Principal, Role
from biosegment.errors import InvalidArgument, NotFound
from biosegment.ids import check_id
from biosegment_gateway.accounts.sign_in import SignIn
from biosegment_gateway.audit import Audit
from biosegment_gateway.http.access import principal_of
from biosegment_gateway.http.monailabel_data import MonaiLabelData
from biosegment_gateway.http.monailabel_form import read_form, read_object
from biosegment_gateway.http.monailabel_guard import MonaiLabelGuard
from biosegment_gateway.http.monailabel_work import MonaiLabelWork
from biosegment_gateway.monailabel.api import MonaiLabel
from biosegment_gateway.monailabel.info import info_document
from biosegment_gateway.settings import parse_part

_MAX_LOGIN_BYTES: Final = 16 << 10
_ROLES: Final = {
    Role.VIEWER: ("user",),
    Role.ANNOTATOR: ("user", "annotator"),
    Role.REVIEWER: ("user", "annotator", "reviewer"),
    Role.MANAGER: ("user", "annotator", "reviewer", "admin"),
    Role.OWNER: ("user", "annotator", "reviewer", "admin"),
}
_PARAMETER: Final = re.compile(r"{(\w+)}")


class MonaiLabelEndpoint:
    """Puts the routes together, and answers what is about none of them.

    Args:
        api: The use cases.
        sign_in: For those who do.
        audit: Records what may change something.
    """

    def __init__(self, api: MonaiLabel, sign_in: SignIn, audit: Audit) -> None:
        self._api = api
        self._sign_in = sign_in
        self._audit = audit
        self._root_project = api.settings.monailabel_project
        self._is_open = api.settings.monailabel_auth == "off"
        self._data = MonaiLabelData(api, self._root_project)
        self._work = MonaiLabelWork(api, self._data)

    @property
    def routes(self) -> list[BaseRoute]:
        """Of the whole API."""
        found: list[BaseRoute] = [
            Mount("/monailabel/{project}", routes=[Route("/", self.ping), *self._below()])
        ]
        return [*found, *self._below()] if self._root_project else found

    def _below(self) -> list[Route]:
        own = [
            Route("/info/", self.info, methods=["GET"]),
            Route("/auth/", self.auth, methods=["GET"]),
            Route("/auth/token", self.sign_in, methods=["POST"]),
            Route("/auth/token/valid", self.who, methods=["GET"]),
            Route("/settings", self.project_settings, methods=["GET"]),
            Route("/settings", self.put_project_settings, methods=["PUT"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
        ]
        return [
            self._recorded(self._guarded(route)) for route in (*own, *self._data.routes, *self._work.routes)
        ]

    def _guarded(self, route: Route) -> Route:
        """The same route for those who may use it."""
        methods = sorted(route.methods or ())
        guard = MonaiLabelGuard(self._api.authorizer, route.path, methods)
        if guard.is_open:
            return route
        handler: Callable[[Request], Awaitable[Response]] = route.endpoint

        @functools.wraps(handler)
        async def guarded(request: Request) -> Response:
            project_id = self._data.project_id(request)
            check_id(project_id, "project")
            await guard.require(principal_of(request), request.method, project_id)
            return await handler(request)

        return Route(route.path, guarded, methods=methods)

    def _recorded(self, route: Route) -> Route:
        """The same route; calls that may change something are in the audit log."""
        if route.methods is None or "GET" in route.methods or route.path == "/auth/token":
            return route
        handler: Callable[[Request], Awaitable[Response]] = route.endpoint
        action = f"monailabel {'/'.join(sorted(route.methods))} {route.path}"

        @functools.wraps(handler)
        async def record(request: Request) -> Response:
            peer = f"{request.client.host}:{request.client.port}" if request.client else ""
            resource = f"projects/{self._data.project_id(request)}"
            async with self._audit.recording(action, principal_of(request), peer, resource):
                return await handler(request)

        return Route(route.path, record, methods=list(route.methods))

    async def ping(self, request: Request) -> Response:
        """Says that this is the API; the Reviewer looks whether there is an answer."""
        return Response("The MONAI Label API of a BioSegment project.\n", media_type="text/plain")

    async def info(self, request: Request) -> Response:
        """Models, trainers, strategies, labels, and how far the project is."""
        listing = await self._api.listing(principal_of(request), self._data.project_id(request))
        return JSONResponse(info_document(listing))

    async def auth(self, request: Request) -> Response:
        """Whether one has to sign in; 404 when not, as clients expect."""
        if self._is_open or request.scope["state"]["needs_no_link"]:
            raise NotFound("AUTH_OFF", "nobody has to sign in at this address")
        base = str(request.base_url).rstrip("/")
        return JSONResponse({"enabled": True, "client_id": "biosegment", "realm": base})

    async def sign_in(self, request: Request) -> Response:
        """Exchange user id and password, or an API token as password, for what later requests carry."""
        async with read_form(request, self._api.folder, _MAX_LOGIN_BYTES) as form:
            user, password = form.text("username").strip(), form.text("password").strip()
        address = request.client.host if request.client else ""
        token = await self._sign_in.of_client(user, password, address)
        return JSONResponse({"access_token": token, "token_type": "Bearer"})

    async def who(self, request: Request) -> Response:
        """The caller, with roles as MONAI Label names them."""
        principal = principal_of(request)
        role = await self._role(principal, self._data.project_id(request))
        roles = [f"monailabel-{name}" for name in _ROLES[role]] if role is not None else []
        return JSONResponse({"username": principal.user, "email": "", "name": principal.user, "roles": roles})

    async def project_settings(self, request: Request) -> Response:
        """Largest voxels of an image, `part` as `z,y,x`, and what else is chosen for this API."""
        dataset = await self._api.datasets.get(principal_of(request), self._data.project_id(request))
        return JSONResponse(self._settings(dataset.part))

    async def put_project_settings(self, request: Request) -> Response:
        """Change `part`, and the project's `name` and `description`; labels of other parts stay."""
        principal, project_id = principal_of(request), self._data.project_id(request)
        values = await read_object(request)
        unknown = sorted(set(values) - {"part", "name", "description"})
        if unknown or not values or not all(isinstance(value, str) for value in values.values()):
            raise InvalidArgument("BAD_SETTINGS", "part, name and description can be changed; each is a text")
        await self._api.projects.get(principal, project_id)  # there must be such a project
        if "part" in values:
            try:
                part = parse_part(values["part"])
            except ValueError as error:
                raise InvalidArgument("BAD_PART", str(error)) from error
            await self._api.records.set_part(project_id, part)
        await self._api.projects.describe(
            principal, project_id, values.get("name"), values.get("description")
        )
        return await self.project_settings(request)

    async def openapi(self, request: Request) -> Response:
        """What there is, in OpenAPI's words."""
        paths: dict[str, dict[str, Any]] = {}
        for route in self._below():
            for method in sorted((route.methods or set()) - {"HEAD"}):
                paths.setdefault(route.path, {})[method.lower()] = _operation(route)
        about = {"title": "BioSegment: MONAI Label API", "version": biosegment.__version__}
        return JSONResponse({"openapi": "3.1.0", "info": about, "paths": paths})

    def _settings(self, part: Any) -> dict[str, Any]:
        settings = self._api.settings
        return {
            "part": ",".join(str(size) for size in part),
            "unit": settings.monailabel_unit,
            "format": settings.monailabel_format,
        }

    async def _role(self, principal: Principal, project_id: str) -> Role | None:
        if principal.is_admin:
            return Role.OWNER
        return await self._api.memberships.role(principal.user, project_id)


def _operation(route: Route) -> dict[str, Any]:
    named = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    summary = (route.endpoint.__doc__ or "").strip()
    return {"summary": summary, "parameters": named, "responses": {"200": {"description": "Done"}}}
