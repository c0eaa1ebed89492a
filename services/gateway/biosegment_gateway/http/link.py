"""Links for viewers: made by `POST /links`, read below `/zarr/l/`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from biosegment.errors import InvalidArgument, NotFound
from biosegment.ids import parse_name
from biosegment.volume import Index
from biosegment_gateway.admission import Admission
from biosegment_gateway.audit import current_recording
from biosegment_gateway.http.access import LINKED, principal_of
from biosegment_gateway.http.body import BodyLimit, require_media_type
from biosegment_gateway.http.neuroglancer import PAGE
from biosegment_gateway.http.zarr import ZarrEndpoint
from biosegment_gateway.viewing.exhibit import Exhibition
from biosegment_gateway.viewing.link import MAX_LAYERS, ViewLinks
from biosegment_gateway.viewing.neuroglancer import state_fragment, viewer_state

_MAX_BODY_BYTES: Final = 16 << 10
_LIFETIME_S: Final = 3600
_FIELDS: Final = ("name", "layers", "lifetimeS", "position")

_INDEX: Final = {"type": "integer", "minimum": 0}
_BODY: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "description": "projects/{p}/volumes/{v}."},
        "layers": {
            "type": "array",
            "items": {"type": "string"},
            "maxItems": MAX_LAYERS,
            "description": "Ids or names of layers of the volume.",
        },
        "lifetimeS": {"type": "integer", "minimum": 1, "default": _LIFETIME_S, "description": "Seconds."},
        "position": {
            "type": "object",
            "required": ["z", "y", "x"],
            "additionalProperties": False,
            "properties": {"z": _INDEX, "y": _INDEX, "x": _INDEX},
            "description": "Voxel of level 0 at which Neuroglancer looks; the whole volume when there is none.",
        },
    },
}
_ANSWER: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["zarrUrl", "neuroglancerUrl", "expireTime"],
    "properties": {
        "zarrUrl": {"type": "string", "description": "OME-Zarr of the volume with the layers."},
        "neuroglancerUrl": {"type": "string", "description": "'' where Neuroglancer is not installed."},
        "expireTime": {"type": "string", "format": "date-time"},
    },
}
_OPERATION: Final[dict[str, Any]] = {
    "summary": "Make a link with which viewers read a volume and chosen layers without a token, until it ends.",
    "requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}},
    "responses": {"200": {"description": "Made.", "content": {"application/json": {"schema": _ANSWER}}}},
}


class LinkEndpoint:
    """Makes links and answers who comes with one.

    Args:
        links: The use cases.
        exhibition: Colours of classes.
        zarr: What reads objects.
        admission: How often the user of a link may ask.
        public_url: Of the gateway, as others reach it; '' for the address that is asked.
        has_viewer: Whether Neuroglancer is served.
    """

    def __init__(
        self,
        links: ViewLinks,
        exhibition: Exhibition,
        zarr: ZarrEndpoint,
        admission: Admission,
        *,
        public_url: str,
        has_viewer: bool,
    ) -> None:
        self._links = links
        self._exhibition = exhibition
        self._zarr = zarr
        self._admission = admission
        self._public_url = public_url.rstrip("/")
        self._has_viewer = has_viewer

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/links", self.make, methods=["POST"]),
            Route(f"{LINKED}{{path:path}}", self.read),
        ]

    @property
    def paths(self) -> dict[str, Any]:
        """What OpenAPI says of making a link."""
        return {"/links": {"post": _OPERATION}}

    async def make(self, request: Request) -> Response:
        """Answer `{"zarrUrl", "neuroglancerUrl", "expireTime"}`; the latter address is '' without Neuroglancer."""
        require_media_type(request, "application/json")
        body = _parsed(await BodyLimit(request, _MAX_BODY_BYTES).read())
        name, position = _name(body), _position(body)
        recording = current_recording()
        if recording is not None:
            recording.resource = name
        principal = principal_of(request)
        link, volume, layers = await self._links.make(principal, name, _layers(body), _lifetime(body))
        if position is not None and any(
            at >= size for at, size in zip(position, volume.levels[0].shape, strict=True)
        ):
            raise InvalidArgument(
                "BAD_POSITION",
                f"position {tuple(position)} is outside of {name}, whose shape is "
                f"{tuple(volume.levels[0].shape)} (zyx)",
            )
        base = self._public_url or str(request.base_url).rstrip("/")
        zarr_url = f"{base}{LINKED}{self._links.text(link)}/{link.file_name}"
        colors = await self._exhibition.colors(principal, name)
        state = viewer_state(zarr_url, volume, layers, colors, position)
        return JSONResponse(
            {
                "zarrUrl": zarr_url,
                "neuroglancerUrl": f"{base}{PAGE}#{state_fragment(state)}" if self._has_viewer else "",
                "expireTime": datetime.fromtimestamp(link.end, UTC).isoformat().replace("+00:00", "Z"),
            }
        )

    async def read(self, request: Request) -> Response:
        """Answer a GET or HEAD of an object of what a link shows."""
        link = self._links.read(request.scope["state"].get("link", ""))
        principal = await self._links.principal(link)
        structlog.contextvars.bind_contextvars(principal=str(principal))
        file_name, _, path = request.path_params["path"].partition("/")
        if file_name != link.file_name:
            raise NotFound("OBJECT_NOT_FOUND", f"the link shows {link.file_name} and not {file_name[:100]!r}")
        with self._admission.admitted(principal):
            return await self._zarr.answer(request, principal, link.volume, path, link.layers)


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("BAD_JSON", "the body is no JSON") from error
    if not isinstance(body, dict):
        raise InvalidArgument("BAD_JSON", f"the body is no object with {', '.join(_FIELDS)}")
    unknown = sorted(set(body) - set(_FIELDS))
    if unknown:
        raise InvalidArgument("UNKNOWN_FIELD", f"{unknown[0][:100]!r} is none of {', '.join(_FIELDS)}")
    return body


def _name(body: dict[str, Any]) -> str:
    name = body.get("name")
    if not isinstance(name, str):
        raise InvalidArgument("BAD_NAME", "name is to be projects/{p}/volumes/{v}")
    parse_name(name[:200], "projects/*/volumes/*")
    return name


def _layers(body: dict[str, Any]) -> tuple[str, ...]:
    layers = body.get("layers", [])
    if not isinstance(layers, list) or not all(isinstance(each, str) and each for each in layers):
        raise InvalidArgument("BAD_LAYER", "layers is to be a list of ids of layers")
    return tuple(layers)


def _lifetime(body: dict[str, Any]) -> int:
    lifetime = body.get("lifetimeS", _LIFETIME_S)
    if not isinstance(lifetime, int) or isinstance(lifetime, bool):
        raise InvalidArgument("BAD_LIFETIME", "lifetimeS is to be a whole number of seconds")
    return lifetime


def _position(body: dict[str, Any]) -> Index | None:
    position = body.get("position")
    if position is None:
        return None
    if not isinstance(position, dict) or set(position) != set("zyx"):
        raise InvalidArgument("BAD_POSITION", 'position is to be a voxel, {"z": 0, "y": 0, "x": 0}')
    values = [position[axis] for axis in "zyx"]
    if not all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in values):
        raise InvalidArgument("BAD_POSITION", "position is to be a voxel: whole numbers from 0")
    return Index(*values)
