"""What every route of the MONAI Label API demands, looked at before anything of a request is read.

The use cases and the services behind them look again, next to the data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from biosegment.auth import Authorizer, Permission, Principal

_P: Final = Permission
_READ: Final = (
    "/info/",
    "/settings",
    "/datastore/",
    "/datastore/image",
    "/datastore/image/info",
    "/datastore/label",
    "/datastore/label/info",
    "/datastore/dataset",
    "/session/{session}",
    "/batch/infer",
    "/train/",
    "/scoring/",
    "/model/info/{model}",
    "/model/{model}",
    "/logs/gpu",
)
_DEMANDS: Final[dict[tuple[str, str], Permission | None]] = {
    **{("GET", path): _P.PROJECT_READ for path in _READ},
    # Nothing of any project.
    ("GET", "/auth/"): None,
    ("POST", "/auth/token"): None,
    ("GET", "/auth/token/valid"): None,
    ("GET", "/openapi.json"): None,
    ("PUT", "/settings"): _P.PROJECT_UPDATE,
    ("GET", "/logs/"): _P.PROJECT_UPDATE,
    ("POST", "/activelearning/{strategy}"): _P.ANNOTATE,
    ("PUT", "/datastore/image/info"): _P.ANNOTATE,
    ("PUT", "/datastore/label"): _P.ANNOTATE,
    ("DELETE", "/datastore/label"): _P.ANNOTATE,
    ("PUT", "/datastore/label/info"): _P.ANNOTATE,
    ("PUT", "/datastore/updatelabelinfo"): _P.ANNOTATE,
    ("PUT", "/session/"): _P.ANNOTATE,
    ("DELETE", "/session/{session}"): _P.ANNOTATE,
    ("POST", "/infer/wsi/{model}"): _P.ANNOTATE,
    ("POST", "/infer/wsi_v2/{model}"): _P.ANNOTATE,
    ("POST", "/infer/{model}"): _P.ANNOTATE,
    **{
        (method, path): _P.VOLUME_WRITE
        for path in ("/datastore/", "/datastore/image")
        for method in ("PUT", "DELETE")
    },
    ("DELETE", "/batch/infer"): _P.MODEL_WRITE,
    ("POST", "/batch/infer/{model}"): _P.MODEL_WRITE,
    ("POST", "/train/{model}"): _P.MODEL_WRITE,
    ("POST", "/scoring/{method}"): _P.MODEL_WRITE,
    **{(method, path): _P.MODEL_WRITE for path in ("/train/", "/scoring/") for method in ("POST", "DELETE")},
    ("PUT", "/model/{model}"): _P.MODEL_WRITE,
    ("DELETE", "/model/{model}"): _P.MODEL_WRITE,
}


class MonaiLabelGuard:
    """Lets those through to one route who may use it.

    Args:
        authorizer: Decides.
        path: Of the route, below the address of a project.
        methods: Of the route; each must have an entry above.
    """

    def __init__(self, authorizer: Authorizer, path: str, methods: Iterable[str]) -> None:
        self._authorizer = authorizer
        self._demands = {method: _DEMANDS[method, path] for method in methods if method != "HEAD"}

    @property
    def is_open(self) -> bool:
        """Whether the route demands nothing at all."""
        return not any(self._demands.values())

    async def require(self, principal: Principal, method: str, project_id: str) -> None:
        """Return when the caller may; the errors of `Authorizer.authorize` otherwise."""
        permission = self._demands["GET" if method == "HEAD" else method]
        if permission is not None:
            await self._authorizer.authorize(principal, permission, project_id)
