"""Parts with a digest are kept in memory while they come: so many of one user, and no more."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from typing import Any

import grpc
import pytest
from biosegment_gateway.http.uploads import Uploads
from biosegment_gateway.local_call import LocalCalls
from starlette.requests import Request

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import volume_pb2
from biosegment.auth import Kind, Principal
from biosegment.errors import InvalidArgument, ResourceExhausted

SERVICE = "biosegment.api.datastore.v1alpha1.DatastoreService"
DIGEST = base64.b64encode(hashlib.sha256(b"abc").digest())


async def get_upload(request: pb.GetUploadRequest, context: Any) -> pb.GetUploadResponse:
    return pb.GetUploadResponse(upload=volume_pb2.Upload(name=request.name, size_bytes=100))


@pytest.fixture
def uploads() -> Uploads:
    calls = LocalCalls(10.0)
    method: Any = grpc.unary_unary_rpc_method_handler(
        get_upload,
        request_deserializer=pb.GetUploadRequest.FromString,
        response_serializer=pb.GetUploadResponse.SerializeToString,
    )
    calls.add_generic(grpc.method_handlers_generic_handler(SERVICE, {"GetUpload": method}))
    return Uploads(calls)


class Part:
    """A request whose body comes when it is told to."""

    def __init__(self, user: str) -> None:
        self.waits, self.go_on = asyncio.Event(), asyncio.Event()
        scope = {
            "type": "http",
            "method": "PUT",
            "path": "/api/uploads/projects/p/uploads/u",
            "path_params": {"project": "p", "upload": "u"},
            "query_string": b"",
            "headers": [(b"content-digest", b"sha-256=:" + DIGEST + b":")],
            "client": ("10.0.0.1", 5),
            "state": {"principal": Principal(Kind.USER, user)},
        }
        self.request = Request(scope, self._receive)

    async def _receive(self) -> Any:
        self.waits.set()
        await self.go_on.wait()
        return {"type": "http.request", "body": b"another", "more_body": False}


async def test_one_user_sends_four_at_a_time_and_holds_up_nobody_else(uploads: Uploads) -> None:
    async with contextlib.AsyncExitStack() as stack:
        parts = [Part("ann") for _ in range(4)]
        running = [asyncio.create_task(uploads.write(part.request)) for part in parts]
        for task in running:
            stack.callback(task.cancel)
        await asyncio.wait_for(asyncio.gather(*(part.waits.wait() for part in parts)), 10)
        with pytest.raises(ResourceExhausted) as caught:
            await uploads.write(Part("ann").request)
        assert caught.value.reason == "TOO_MANY_PARTS"
        other = Part("bob")
        other.go_on.set()
        with pytest.raises(InvalidArgument, match="does not have its digest"):
            await uploads.write(other.request)
        parts[0].go_on.set()
        with pytest.raises(InvalidArgument):
            await running[0]
        fifth = Part("ann")
        fifth.go_on.set()
        with pytest.raises(InvalidArgument):
            await uploads.write(fifth.request)
