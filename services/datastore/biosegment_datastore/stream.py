"""The streams of DatastoreService: regions in both directions, uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.auth import Principal
from biosegment.errors import InvalidArgument
from biosegment.ids import parse_name
from biosegment.rpc.geometry import (
    data_type_from_proto,
    data_type_to_proto,
    index_from_proto,
    index_to_proto,
    region_from_proto,
)
from biosegment.rpc.piece import write_piece
from biosegment.rpc.stream import CHUNK_BYTES, ArrayAssembler
from biosegment_datastore.layer_service import LayerService
from biosegment_datastore.reading import RegionRead
from biosegment_datastore.transfer_service import Piece


async def send_region(read: RegionRead) -> AsyncIterator[bytes]:
    """The serialised ReadRegionResponses that carry a region; the first one has the header and, to save one, data."""
    header: geometry_pb2.ArrayHeader | None = geometry_pb2.ArrayHeader(
        shape=index_to_proto(read.shape), data_type=data_type_to_proto(read.dtype)
    )
    async for offset, data in read.pieces(CHUNK_BYTES):
        message = write_piece(header, offset, data)
        # The memory of a reader that takes nothing can be given to others only while nobody holds a view of it.
        del data
        yield message
        header = None


async def receive_region(
    layers: LayerService, principal: Principal, requests: AsyncIterator[pb.WriteRegionRequest]
) -> None:
    """Take a region from its messages and store it.

    Raises:
        InvalidArgument: EMPTY_STREAM, HEADER_MISSING, ARRAY_WRONG_SIZE, BAD_DATA_TYPE, CHUNK_OUT_OF_ORDER.
    """
    first = await anext(aiter(requests), None)
    if first is None:
        raise InvalidArgument("EMPTY_STREAM", "the stream holds no message; the first one names the layer")
    if not first.HasField("region") or not first.chunk.HasField("header"):
        raise InvalidArgument(
            "HEADER_MISSING", "the first message needs name, attempt, region and the array's header"
        )
    project_id, volume_id, layer_id = parse_name(first.name, "projects/*/volumes/*/layers/*")
    name, region = (project_id, volume_id, layer_id), region_from_proto(first.region)
    # Checked before anything is allocated.
    array = await layers.open_for_writing(principal, *name, first.attempt, region)
    header = first.chunk.header
    if index_from_proto(header.shape) != region.shape:
        raise InvalidArgument(
            "ARRAY_WRONG_SIZE",
            f"the header says shape {tuple(index_from_proto(header.shape))}, region {region} has {tuple(region.shape)}",
        )
    if data_type_from_proto(header.data_type) != array.dtype:
        raise InvalidArgument(
            "BAD_DATA_TYPE", f"{first.name} holds {array.dtype}, not {data_type_from_proto(header.data_type)}"
        )
    room = await layers.reserve(array, region)
    try:
        data = await _received(np.empty(region.shape, array.dtype), first, requests)
        await layers.write(principal, name, first.attempt, array, region, data)
    finally:
        room.close()


async def _received(
    voxels: npt.NDArray[Any], first: pb.WriteRegionRequest, requests: AsyncIterator[pb.WriteRegionRequest]
) -> npt.NDArray[Any]:
    assembler = ArrayAssembler(voxels)
    try:
        _append(assembler, first.chunk)
        async for request in requests:
            _append(assembler, request.chunk)
        return assembler.finish()
    except InvalidArgument as error:
        if error.reason in ("TOO_MANY_BYTES", "TOO_FEW_BYTES"):
            raise InvalidArgument("ARRAY_WRONG_SIZE", error.message) from error
        raise


def _append(assembler: ArrayAssembler, chunk: geometry_pb2.ArrayChunk) -> None:
    if chunk.data:
        assembler.append(chunk.data, chunk.offset)


async def upload_pieces(requests: AsyncIterator[pb.WriteUploadRequest]) -> tuple[str, AsyncIterator[Piece]]:
    """The name of an upload and the pieces of a stream; InvalidArgument EMPTY_STREAM."""
    first = await anext(aiter(requests), None)
    if first is None:
        raise InvalidArgument("EMPTY_STREAM", "the stream holds no message; the first one names the upload")

    async def pieces() -> AsyncIterator[Piece]:
        if first.data:
            yield Piece(first.offset, first.data, first.crc32c)
        async for request in requests:
            if request.data:
                yield Piece(request.offset, request.data, request.crc32c)

    return first.name, pieces()
