"""A region of 1 GB through the datastore, against a bare grpc.aio stream of the same messages.

usage: python -m benchmarks.stream

Four processes: the datastore of an embedded platform, a bare server, and two clients, one with the malloc settings
that the platform gives its services and one without, as a viewer would be. Each client reads from both servers in turn,
so that other load on the machine meets both alike. The datastore decodes the region from its array and the client
assembles it; the bare server has the same voxels in memory and its client drops them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tifffile

from benchmarks.report import Target, finish, print_header, print_samples
from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import datastore_pb2_grpc
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.auth import Kind, Principal, PrincipalSigner
from biosegment.client import AsyncClient, aconnect
from biosegment.client.connection import Connection
from biosegment.rpc.call import MAX_MESSAGE_BYTES
from biosegment.rpc.stream import CHUNK_BYTES
from biosegment.supervisor import MALLOC, Supervisor
from biosegment.volume import VoxelSize

SHAPE = (60, 4096, 4096)
GIGABYTES = SHAPE[0] * SHAPE[1] * SHAPE[2] / 1e9
REPEATS = 7
TARGET = 0.6


def texture(shape: tuple[int, int, int], seed: int = 0) -> Any:
    """Smooth noise (z, y, x) uint8 that compresses like an electron micrograph (about 1.4 : 1)."""
    rng = np.random.default_rng(seed)
    tile = tuple(min(size, edge) for size, edge in zip(shape, (64, 512, 512), strict=True))
    image = rng.normal(128, 24, tile).astype(np.float32)
    for axis in (1, 2):
        image = 0.5 * image + 0.25 * (np.roll(image, 1, axis) + np.roll(image, -1, axis))
    counts = [-(-size // edge) for size, edge in zip(shape, tile, strict=True)]
    whole = np.tile(np.clip(image, 0, 255).astype(np.uint8), counts)
    return whole[tuple(slice(0, size) for size in shape)]


def bare_handler() -> grpc.GenericRpcHandler:
    """Answers every ReadRegion with the messages that carry the region, from memory."""
    voxels = texture(SHAPE).reshape(-1)

    async def read_region(
        request: pb.ReadRegionRequest, context: Any
    ) -> AsyncIterator[pb.ReadRegionResponse]:
        for offset in range(0, voxels.size, CHUNK_BYTES):
            data = voxels[offset : offset + CHUNK_BYTES].tobytes()
            yield pb.ReadRegionResponse(chunk=geometry_pb2.ArrayChunk(offset=offset, data=data))

    method = grpc.unary_stream_rpc_method_handler(
        read_region,
        request_deserializer=pb.ReadRegionRequest.FromString,
        response_serializer=pb.ReadRegionResponse.SerializeToString,
    )
    service = "biosegment.api.datastore.v1alpha1.DatastoreService"
    return grpc.method_handlers_generic_handler(service, {"ReadRegion": method})


async def serve_bare() -> None:
    """Serve until killed; prints the port."""
    server = grpc.aio.server(options=[("grpc.max_send_message_length", MAX_MESSAGE_BYTES)])
    server.add_generic_rpc_handlers((bare_handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


async def read_both(bare: str, address: str, token: str, name: str) -> dict[str, list[float]]:
    """Seconds of each read, in turn, after one that warms up."""
    seconds: dict[str, list[float]] = {"bare": [], "datastore": []}
    options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    async with (
        grpc.aio.insecure_channel(bare, options=options) as channel,
        AsyncClient(Connection(address, token, "")) as client,
    ):
        stub = datastore_pb2_grpc.DatastoreServiceStub(channel)
        for _ in range(1 + REPEATS):
            began, received = time.perf_counter(), 0
            async for answer in stub.ReadRegion(pb.ReadRegionRequest(name=name)):
                received += len(answer.chunk.data)
            seconds["bare"].append(time.perf_counter() - began)
            began = time.perf_counter()
            array = await client.volumes.read(name)
            seconds["datastore"].append(time.perf_counter() - began)
            assert received == array.nbytes == np.prod(SHAPE)
            del array
    return {side: samples[1:] for side, samples in seconds.items()}


def run_client(arguments: list[str], tuned: bool) -> dict[str, list[float]]:
    """One client process; its samples."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.stream", "--client", *arguments],
        env={**inherited, **(MALLOC if tuned else {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    samples: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return samples


def start_bare() -> tuple[subprocess.Popen[str], str]:
    """The bare server with the malloc settings, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.stream", "--serve"],
        env={**os.environ, **MALLOC},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, f"127.0.0.1:{int(process.stdout.readline())}"


async def measure(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Samples by client (tuned, untuned) and side (bare, datastore)."""
    tifffile.imwrite(folder / "raw.tif", texture(SHAPE), bigtiff=True)
    supervisor = Supervisor(
        folder / "data", grpc_port=0, http_port=0, import_roots=[folder], say=lambda _: None
    )
    addresses = await supervisor.start()
    bare, bare_address = start_bare()
    try:
        async with aconnect(data_dir=folder / "data") as client:
            project = await client.projects.create("bench", classes=["thing"])
            job = await client.jobs.import_volume(
                project.name, str(folder / "raw.tif"), voxel_size=VoxelSize(5, 5, 5)
            )
            name = (await client.jobs.wait(job.name)).volume
        (folder / "raw.tif").unlink()
        signer = PrincipalSigner("gateway", folder / "data" / "keys" / "gateway.key")
        token = signer.sign(Principal(Kind.USER, "bench", is_admin=True), "datastore", 3600)
        arguments = [bare_address, addresses.grpc["datastore"], token, name]
        return {
            "tuned": await asyncio.to_thread(run_client, arguments, True),
            "untuned": await asyncio.to_thread(run_client, arguments, False),
        }
    finally:
        bare.kill()
        bare.wait()
        await supervisor.stop()


def targets() -> list[Target]:
    """Measure, print the samples and return the rows."""
    with tempfile.TemporaryDirectory() as folder:
        samples = asyncio.run(measure(Path(folder)))
    speed: dict[tuple[str, str], float] = {}
    for client, sides in samples.items():
        for side, seconds in sides.items():
            rates = [GIGABYTES / value for value in seconds]
            speed[client, side] = print_samples(f"{side}, {client} client", rates, "GB/s")
    ratio = speed["untuned", "datastore"] / speed["untuned", "bare"]
    print(f"untuned client: datastore / bare {ratio:.2f} (no target)")
    return [
        Target(
            "1 GB region through the datastore / bare grpc.aio stream, both with the malloc settings",
            speed["tuned", "datastore"] / speed["tuned", "bare"],
            "times",
            TARGET,
            at_most=False,
        )
    ]


def main() -> int:
    """Measure, or be one of the processes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--client", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve_bare())
        return 0
    if options.client:
        print(json.dumps(asyncio.run(read_both(*options.client))))
        return 0
    print_header("stream")
    return finish(targets())


if __name__ == "__main__":
    sys.exit(main())
