"""What every HTTP route of the gateway demands of its caller, written down from `docs/operations.md` and
`docs/monailabel.md`.

Addresses are filled in as those of `tests.system.rights`: names in braces are those of `tests.system.world.World`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.routing import BaseRoute, Mount, Route

from biosegment.errors import BY_GRPC_CODE
from tests.system.rights import ROWS as RPC_ROWS
from tests.system.rights import Right
from tests.system.world import METHODS

R: Final = Right


@dataclass(frozen=True, slots=True)
class RouteRow:
    """One method of one route, with a request.

    Attributes:
        method: Of HTTP.
        path: Of the route, as the application writes it.
        right: What it demands; None for what answers everybody.
        address: Path and query of a request that comes as far as authorization.
        answers: Statuses that those who are allowed may get.
        options: Of the request: `json`, which is filled in as well, `data`, `content`.
    """

    method: str
    path: str
    right: Right | None
    address: str
    answers: tuple[int, ...] = (200,)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.path

    def __str__(self) -> str:
        return f"{self.method} {self.address.partition('?')[0]}"


def routes_of(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of everything that an application answers; HEAD goes with GET."""
    for route in routes:
        if isinstance(route, Mount):
            yield from routes_of(route.routes, prefix + route.path)
        else:
            assert isinstance(route, Route), f"{route} is of a kind that this table does not know"
            for method in sorted((route.methods or {"*"}) - {"HEAD"}):
                yield method, prefix + route.path


_NO_FORM: Final = (400,)
_ABSENT: Final = (404,)
_EMPTY: Final = {"content": b""}


_OPEN: Final[list[tuple[Any, ...]]] = [
    ("GET", "/healthz", "/healthz"),
    ("GET", "/", "/"),
    ("GET", "/icon.svg", "/icon.svg"),
    ("GET", "/assets/{name:path}", "/assets/absent.js", _ABSENT),
    ("GET", "/projects", "/projects"),
    ("GET", "/projects/{path:path}", "/projects/alpha"),
    ("GET", "/administration", "/administration"),
    ("GET", "/administration/{path:path}", "/administration/users"),
    ("GET", "/account", "/account"),
    ("GET", "/account/{path:path}", "/account/tokens"),
    ("GET", "/auth/methods", "/auth/methods"),
    # Whoever comes with a wrong token, a link that nobody made, or for a provider that there is not.
    ("POST", "/auth/login", "/auth/login", (401,), {"json": {"token": "bsg_wrong"}}),
    ("POST", "/auth/logout", "/auth/logout", (204,)),
    ("GET", "/zarr/l/{path:path}", "/zarr/l/absent/stack.zarr/zarr.json", (401,)),
    ("GET", "/neuroglancer/{path:path}", "/neuroglancer/absent", _ABSENT),
    ("GET", "/neuroglancer/v/1/{name}", "/neuroglancer/v/1/absent", _ABSENT),
    ("GET", "/neuroglancer/v/1/", "/neuroglancer/v/1/", (200, 404)),
]
"""What answers everybody."""


def _own() -> list[RouteRow]:
    volume, layer = (
        "projects/{project}/volumes/{volume}",
        "projects/{project}/volumes/{volume}/layers/{layer}",
    )
    artifact, upload = (f"projects/{{project}}/{kind}s/{{{kind}}}" for kind in ("artifact", "upload"))
    link = {"json": {"name": "{volume}", "layers": []}}
    return [
        *(RouteRow(method, path, None, *rest) for method, path, *rest in _OPEN),
        RouteRow("GET", "/version", R.ANYBODY, "/version"),
        RouteRow("GET", "/auth/self", R.ANYBODY, "/auth/self"),
        RouteRow("GET", "/audit/events.jsonl", R.ADMIN, "/audit/events.jsonl"),
        RouteRow("GET", "/api/openapi.json", R.ANYBODY, "/api/openapi.json"),
        RouteRow("GET", "/api/events/jobs", R.READ, "/api/events/jobs?project={project}"),
        RouteRow("GET", "/api/events/samples", R.READ, "/api/events/samples?project={project}"),
        RouteRow("GET", "/api/models/{model}", R.READ, "/api/{model}", (200, 409)),
        RouteRow("GET", f"/api/artifacts/{artifact}", R.READ, "/api/artifacts/{artifact}"),
        RouteRow("PUT", f"/api/uploads/{upload}", R.VOLUMES, "/api/uploads/{upload}?offset=5", (404, 409)),
        RouteRow("GET", f"/zarr/{volume}/{{path:path}}", R.READ, "/zarr/{volume}/zarr.json"),
        RouteRow("GET", f"/zarr/{layer}/{{path:path}}", R.READ, "/zarr/{layer}/zarr.json"),
        RouteRow("GET", f"/tiles/{volume}/{{path:path}}", R.READ, "/tiles/{volume}/xy/0/1/0/0.png"),
        RouteRow("GET", f"/tiles/{layer}/{{path:path}}", R.READ, "/tiles/{layer}/xy/0/1/0/0.png"),
        RouteRow("GET", f"/thumbnails/{volume}.jpg", R.READ, "/thumbnails/{volume}.jpg"),
        RouteRow("POST", "/links", R.READ, "/links", (200,), link),
    ]


def _status(code: str) -> int:
    return 200 if code == "OK" else BY_GRPC_CODE[code].http_status


def _json() -> list[RouteRow]:
    """Every RPC with one answer, and what the address of a service says to other methods of HTTP."""
    found = []
    for row in RPC_ROWS:
        method = METHODS[row.rpc]
        if row.rpc.startswith("WorkerService.") or method.client_streaming or method.server_streaming:
            continue
        service = method.containing_service.name
        statuses = tuple(_status(code) for code in row.answers)
        address = f"/api/{service}/{method.name}"
        options = {"json": row.request}
        found.append(RouteRow("POST", f"/api/{service}/{{method}}", row.right, address, statuses, options))
    for service in sorted({row.path for row in found}):
        address = service.replace("{method}", "Get")
        for verb in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS"):
            found.append(RouteRow(verb, service, R.ANYBODY, address, (404,)))
    return found


# Below the address of a project: method, path, right, query, statuses, options.
_MONAI_LABEL: Final[list[tuple[Any, ...]]] = [
    ("GET", "/info/", R.READ),
    ("GET", "/auth/", None),
    ("GET", "/auth/token/valid", R.ANYBODY),
    ("GET", "/settings", R.READ),
    ("PUT", "/settings", R.SETTINGS, "", (200,), {"json": {"description": "d"}}),
    ("GET", "/openapi.json", R.ANYBODY),
    ("POST", "/activelearning/{strategy}", R.ANNOTATE, "", (200,), {"json": {}}, "/activelearning/random"),
    ("GET", "/datastore/", R.READ),
    ("PUT", "/datastore/", R.VOLUMES, "", _NO_FORM, _EMPTY),
    ("DELETE", "/datastore/", R.VOLUMES, "?id=stack", (409,)),
    ("GET", "/datastore/image", R.READ, "?image=stack"),
    ("PUT", "/datastore/image", R.VOLUMES, "?image=new", _NO_FORM, _EMPTY),
    ("DELETE", "/datastore/image", R.VOLUMES, "?id=stack", (409,)),
    ("GET", "/datastore/image/info", R.READ, "?image=stack"),
    ("PUT", "/datastore/image/info", R.ANNOTATE, "?image=stack", (200,), {"data": {"info": "{}"}}),
    ("GET", "/datastore/label", R.READ, "?label=stack&tag=absent", _ABSENT),
    ("PUT", "/datastore/label", R.ANNOTATE, "?image=stack&tag=mine", _NO_FORM, _EMPTY),
    ("DELETE", "/datastore/label", R.ANNOTATE, "?id=stack&tag=absent", _ABSENT),
    ("GET", "/datastore/label/info", R.READ, "?label=stack&tag=absent", _ABSENT),
    ("PUT", "/datastore/label/info", R.ANNOTATE, "?label=stack&tag=absent", _ABSENT),
    ("PUT", "/datastore/updatelabelinfo", R.ANNOTATE, "?label=stack&tag=absent", _ABSENT),
    ("GET", "/datastore/dataset", R.READ),
    ("PUT", "/session/", R.ANNOTATE, "", _NO_FORM, _EMPTY),
    ("GET", "/session/{session}", R.READ, "", _ABSENT, {}, "/session/absent"),
    ("DELETE", "/session/{session}", R.ANNOTATE, "", _ABSENT, {}, "/session/absent"),
    ("POST", "/infer/wsi/{model}", R.ANNOTATE, "", _ABSENT, _EMPTY, "/infer/wsi/clicks"),
    ("POST", "/infer/wsi_v2/{model}", R.ANNOTATE, "", _ABSENT, _EMPTY, "/infer/wsi_v2/clicks"),
    (
        "POST",
        "/infer/{model}",
        R.ANNOTATE,
        "?image=absent",
        _ABSENT,
        {"data": {"params": "{}"}},
        "/infer/clicks",
    ),
    ("GET", "/batch/infer", R.READ, "?all=true"),
    ("DELETE", "/batch/infer", R.MODELS),
    ("POST", "/batch/infer/{model}", R.MODELS, "", _ABSENT, _EMPTY, "/batch/infer/absent"),
    ("GET", "/train/", R.READ, "?all=true"),
    ("POST", "/train/", R.MODELS, "", _NO_FORM, {"content": b"[]"}),
    ("DELETE", "/train/", R.MODELS),
    ("POST", "/train/{model}", R.MODELS, "", _ABSENT, {"json": {}}, "/train/absent"),
    ("GET", "/scoring/", R.READ, "?all=true"),
    ("POST", "/scoring/", R.MODELS, "", _NO_FORM, {"content": b"[]"}),
    ("DELETE", "/scoring/", R.MODELS),
    ("POST", "/scoring/{method}", R.MODELS, "", _ABSENT, {"json": {}}, "/scoring/absent"),
    ("GET", "/model/info/{model}", R.READ, "", _ABSENT, {}, "/model/info/absent"),
    ("GET", "/model/{model}", R.READ, "", _ABSENT, {}, "/model/absent"),
    ("PUT", "/model/{model}", R.MODELS, "", _ABSENT, _EMPTY, "/model/absent"),
    ("DELETE", "/model/{model}", R.MODELS, "", _ABSENT, {}, "/model/absent"),
    ("GET", "/logs/gpu", R.READ, "", _ABSENT),
    ("GET", "/logs/", R.SETTINGS),
]


def _monai_label() -> list[RouteRow]:
    """The project's own address, and the root, where one project is too."""
    project = "/monailabel/{project}"
    rows = [RouteRow("GET", f"{project}/", None, "/monailabel/alpha/")]
    for prefix, place in ((project, "/monailabel/alpha"), ("", "")):
        # The same right with nothing but a wrong password.
        login = {"data": {"username": "viewer", "password": "wrong"}}
        rows.append(RouteRow("POST", f"{prefix}/auth/token", None, f"{place}/auth/token", (401,), login))
        for method, path, right, *rest in _MONAI_LABEL:
            query, answers, options, shown = (*rest, *("", (200,), {}, path)[len(rest) :])
            rows.append(RouteRow(method, prefix + path, right, f"{place}{shown}{query}", answers, options))
    return rows


ROUTES: Final[list[RouteRow]] = [*_own(), *_json(), *_monai_label()]
