"""Files on their way out: artifacts (exports, tables, meshes) with ranges, and models."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import volume_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2
from biosegment.errors import InvalidArgument
from biosegment_gateway.http.byte_range import UnsatisfiableRange, parse_range
from biosegment_gateway.http.json_call import caller_of
from biosegment_gateway.local_call import Caller, LocalCalls

_DATASTORE: Final = "/biosegment.api.datastore.v1alpha1.DatastoreService/"
_EXPORT_MODEL: Final = "/biosegment.api.trainer.v1alpha1.TrainerService/ExportModel"
_FORMATS: Final = {
    "monai-bundle": ("FORMAT_MONAI_BUNDLE", "zip", "application/zip"),
    "onnx": ("FORMAT_ONNX", "onnx", "application/octet-stream"),
    "bioimage-io": ("FORMAT_BIOIMAGE_IO", "bioimage.zip", "application/zip"),
}
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,60}")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")


class Downloads:
    """Streams files from the services.

    Args:
        calls: Answer for the services.
    """

    def __init__(self, calls: LocalCalls) -> None:
        self._calls = calls

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/api/artifacts/projects/{project}/artifacts/{artifact}", self.artifact, methods=["GET"]),
            Route("/api/models/{model}", self.model, methods=["GET"]),
        ]

    async def artifact(self, request: Request) -> Response:
        """Answer a GET or HEAD of an artifact, whole or one range of it."""
        caller, parameters = caller_of(request), request.path_params
        name = f"projects/{parameters['project']}/artifacts/{parameters['artifact']}"
        found = await self._artifact(name, caller)
        etag = f'"{found.sha256}"'
        headers = {
            "accept-ranges": "bytes",
            "etag": etag,
            "vary": "authorization, cookie",
            # It never changes, but who may have it does.
            "cache-control": "private, no-cache",
            "content-disposition": _attachment(found.file_name),
        }
        if etag in [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        is_current = request.headers.get("if-range", etag) == etag
        wanted_range = request.headers.get("range", "") if is_current and request.method == "GET" else ""
        try:
            wanted = parse_range(wanted_range, found.size_bytes)
        except UnsatisfiableRange:
            return Response(
                status_code=416, headers={**headers, "content-range": f"bytes */{found.size_bytes}"}
            )
        start, stop = wanted or (0, found.size_bytes)
        headers["content-length"] = str(stop - start)
        if wanted:
            headers["content-range"] = f"bytes {start}-{stop - 1}/{found.size_bytes}"
        status, media_type = 206 if wanted else 200, _media_type(found.media_type)
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type=media_type)
        return await _streamed(self._read(name, start, stop, caller), status, headers, media_type)

    async def model(self, request: Request) -> Response:
        """Answer a GET of a model as a file, `?format=monai-bundle`, `onnx` or `bioimage-io`."""
        wanted = request.query_params.get("format", "monai-bundle")
        if wanted not in _FORMATS:
            known = ", ".join(_FORMATS)
            raise InvalidArgument("UNKNOWN_FORMAT", f"there is no format {wanted[:40]!r} of models; {known}")
        kind, extension, media_type = _FORMATS[wanted]
        caller, model_id = caller_of(request), request.path_params["model"]
        if request.method == "HEAD":
            get = trainer_pb2.GetModelRequest(name=f"models/{model_id}").SerializeToString()
            await self._calls.unary(_EXPORT_MODEL.replace("ExportModel", "GetModel"), get, caller)
            return Response(media_type=media_type)
        headers = {"content-disposition": _attachment(f"{model_id}.{extension}")}
        message = trainer_pb2.ExportModelRequest(name=f"models/{model_id}", format=kind)
        return await _streamed(self._export(message, caller), 200, headers, media_type)

    async def _artifact(self, name: str, caller: Caller) -> volume_pb2.Artifact:
        request = pb.GetArtifactRequest(name=name).SerializeToString()
        answer = await self._calls.unary(f"{_DATASTORE}GetArtifact", request, caller)
        return pb.GetArtifactResponse.FromString(answer).artifact

    async def _read(self, name: str, start: int, stop: int, caller: Caller) -> AsyncIterator[bytes]:
        request = pb.ReadArtifactRequest(name=name, offset=start).SerializeToString()
        async with aclosing(self._calls.stream(f"{_DATASTORE}ReadArtifact", request, caller)) as answers:
            async for answer in answers:
                data = pb.ReadArtifactResponse.FromString(answer).data[: stop - start]
                start += len(data)
                yield data
                if start >= stop:
                    return

    async def _export(self, message: trainer_pb2.ExportModelRequest, caller: Caller) -> AsyncIterator[bytes]:
        request = message.SerializeToString()
        async with aclosing(self._calls.stream(_EXPORT_MODEL, request, caller)) as answers:
            async for answer in answers:
                yield trainer_pb2.ExportModelResponse.FromString(answer).data


async def _streamed(
    pieces: AsyncIterator[bytes], status: int, headers: dict[str, str], media_type: str
) -> Response:
    # Read before anything is answered: what fails here still gets a status of its own.
    first = await anext(pieces, b"")
    return StreamingResponse(_joined(first, pieces), status, headers, media_type)


async def _joined(first: bytes, rest: Any) -> AsyncIterator[bytes]:
    async with aclosing(rest) as pieces:
        yield first
        async for piece in pieces:
            yield piece


def _attachment(file_name: str) -> str:
    """Of any name, as RFC 6266 has it; browsers save the file and never show it."""
    plain = _UNSAFE.sub("_", file_name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"


def _media_type(said: str) -> str:
    return said if _MEDIA_TYPE.fullmatch(said) else "application/octet-stream"
