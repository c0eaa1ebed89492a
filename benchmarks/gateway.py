"""The gateway: whether anybody waits for it, and what it costs to go through it.

usage: python -m benchmarks.gateway [PART ...] [--short] [--json FILE]

Parts, all of them when none is named; one embedded platform (SQLite) with a volume of 128 x 1024 x 1024 voxels that is
offered to MONAI Label clients in 512 images:

overhead  a small RPC (GetProject) through the gateway and straight to the datastore, in turn
stream    the whole volume through the gateway and straight from the datastore, in turn
info      `/info/` for 20 MONAI Label clients, a call a second each, while the volume is predicted and a network trained
next      next samples for 50 MONAI Label clients, one each 5 s; each fetches the image, every fourth submits a label
tiles     200 web viewers, a tile a second each, somewhere new after 16 slices
kill      clients of the SDK annotate, read, send files and follow imports while the gateway is killed

Whoever asks in `info`, `next` and `tiles` is a process of its own. `--short` runs each part for some seconds, to see
that it works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import tifffile

from benchmarks.gateway_crowd import Crowd
from benchmarks.gateway_load import Specification
from benchmarks.gateway_stage import PROJECT, SHAPE, VOLUME, Stage, stage, training
from benchmarks.gateway_stream import run_client
from benchmarks.report import Target, finish, print_header, print_samples
from biosegment.api.datastore.v1alpha1 import datastore_pb2
from biosegment.api.datastore.v1alpha1.datastore_pb2_grpc import DatastoreServiceStub
from biosegment.auth import Kind, Principal, PrincipalSigner
from biosegment.client import connect as connect_client
from biosegment.client.connection import Connection
from biosegment.rpc.channel import connect
from biosegment.volume import VoxelSize

PEOPLE: Final = {"info": 20, "next": 50, "tiles": 200}
SECONDS: Final = {"info": 60.0, "next": 90.0, "tiles": 40.0}
INTERVAL_S: Final = {"info": 1.0, "next": 5.0, "tiles": 1.0}
P99_MS: Final = {"info": 50.0, "next": 40.0, "tiles": 250.0}
ARRIVAL_S: Final = 5.0
"""Within which all come; nobody's clock strikes at the same moment as another's."""
SHORT_S: Final = 10.0
CALLS, REPEATS, KILLS = 2000, 7, 3
OVERHEAD_MS, SHARE = 1.0, 0.7
UPTIME_S: Final = 6.0
"""From one death of the gateway that has come back to the next."""

Part = Callable[[Stage, bool], Awaitable[list[Target]]]


async def overhead(stage: Stage, is_short: bool) -> list[Target]:
    """A small RPC, both ways in turn."""
    signer = PrincipalSigner("gateway", stage.data / "keys" / "gateway.key")
    principal = signer.sign(Principal(Kind.USER, "user0"), "datastore", 3600)
    ways = {
        "direct": (stage.addresses.grpc["datastore"], principal),
        "gateway": (stage.addresses.grpc["gateway"], stage.tokens[0]),
    }
    channels = {
        way: connect(address, credentials=lambda token=token: token)  # type: ignore[misc]
        for way, (address, token) in ways.items()
    }
    stubs: dict[str, Any] = {way: DatastoreServiceStub(channel) for way, channel in channels.items()}
    request = datastore_pb2.GetProjectRequest(name=PROJECT)
    samples: dict[str, list[float]] = {way: [] for way in ways}
    count = CALLS // 10 if is_short else CALLS
    before = stage.spent()
    for _ in range(count):
        for way, stub in stubs.items():
            began = time.perf_counter()
            await stub.GetProject(request)
            samples[way].append(1e3 * (time.perf_counter() - began))
    spent = {name: 1e3 * (now - before[name]) / count for name, now in stage.spent().items()}
    for channel in channels.values():
        await channel.close()
    print(
        f"processor time: gateway {spent['gateway']:.2f} ms by call, datastore {spent['datastore'] / 2:.2f} ms"
    )
    direct, gateway = (print_samples(f"GetProject, {way}", samples[way], "ms") for way in ways)
    return [
        Target("GetProject through the gateway, p50 more than direct", gateway - direct, "ms", OVERHEAD_MS)
    ]


async def stream(stage: Stage, is_short: bool) -> list[Target]:
    """The volume, both ways in turn."""
    signer = PrincipalSigner("gateway", stage.data / "keys" / "gateway.key")
    principal = signer.sign(Principal(Kind.USER, "user0"), "datastore", 3600)
    direct = Connection(stage.addresses.grpc["datastore"], principal)
    gateway = Connection(stage.addresses.grpc["gateway"], stage.tokens[0])
    repeats, before = 2 if is_short else REPEATS, stage.spent()
    samples = await asyncio.to_thread(run_client, direct, gateway, VOLUME, repeats)
    reads = 1 + repeats
    spent = {name: 1e3 * (now - before[name]) / reads for name, now in stage.spent().items()}
    print(
        f"processor time of a read: gateway {spent['gateway']:.0f} ms, datastore {spent['datastore'] / 2:.0f} ms"
    )
    gigabytes = float(np.prod(SHAPE)) / 1e9
    rates = {
        way: print_samples(f"{gigabytes:.2f} GB, {way}", [gigabytes / each for each in found], "GB/s")
        for way, found in samples.items()
    }
    share = rates["gateway"] / rates["direct"]
    return [Target("region through the gateway, of the rate direct", share, "times", SHARE, at_most=False)]


async def info(stage: Stage, is_short: bool) -> list[Target]:
    """`/info/` beside a prediction and a training."""
    async with stage.predicting():
        with training():
            return await _loaded("info", stage, is_short)


async def next_sample(stage: Stage, is_short: bool) -> list[Target]:
    """Next samples, after one that has the sampler rank its pool."""
    began = time.perf_counter()
    (sample,) = (await stage.client.samples.claim(PROJECT)).samples
    print(f"first claim after the start: {time.perf_counter() - began:.2f} s")
    await stage.client.samples.release(sample.name)
    return await _loaded("next", stage, is_short)


async def tiles(stage: Stage, is_short: bool) -> list[Target]:
    """Tiles."""
    return await _loaded("tiles", stage, is_short)


async def _loaded(kind: str, stage: Stage, is_short: bool) -> list[Target]:
    people, interval = PEOPLE[kind], INTERVAL_S[kind]
    seconds = SHORT_S if is_short else SECONDS[kind]
    specification = Specification(
        kind, stage.http, VOLUME, SHAPE, stage.tokens[:people], interval, seconds, ARRIVAL_S
    )
    found = await stage.load(specification)
    times, late = found["times_ms"], np.percentile(found["late_ms"], 99)
    print_samples(kind, times, "ms")
    shown = ", ".join(f"p{each} {np.percentile(times, each):.1f}" for each in (50, 90, 95, 99, 100))
    print(f"{kind}: {shown} ms; the generator itself began 99 % of them less than {late:.1f} ms late")
    wrong = sum(
        count for what, count in found["counts"].items() if what.startswith(("error", "wrong", "nothing"))
    )
    name = f"{kind}, {people} clients, one call each {interval:g} s"
    return [
        Target(f"{name}, p99", float(np.percentile(times, 99)), "ms", P99_MS[kind]),
        Target(f"{name}, errors and wrong answers", wrong, "", 0),
    ]


async def kill(stage: Stage, is_short: bool) -> list[Target]:
    """The gateway dies under load."""
    address, token = stage.addresses.grpc["gateway"], (stage.data / "token").read_text().strip()
    await stage.client.projects.create("kill", classes=["mitochondria"], working_resolution_nm=10)
    volume = await _copied(stage)
    crowd = Crowd(
        lambda: connect_client(address, token=token), "projects/kill", volume, stage.raw[:32], stage.folder
    )
    crowd.start()
    outages = []
    for _ in range(1 if is_short else KILLS):
        await asyncio.sleep(UPTIME_S)
        began = time.perf_counter()
        stage.kill_gateway()
        await asyncio.sleep(0.1)
        await stage.client.platform.status()
        outages.append(time.perf_counter() - began)
    await asyncio.sleep(UPTIME_S)
    await asyncio.to_thread(crowd.stop)
    print_samples("gateway away", outages, "s")
    print(f"counts {dict(crowd.counts)}")
    print("slowest: " + ", ".join(f"{what} {each:.1f} s" for what, each in crowd.slowest_s.items()))
    with connect_client(address, token=token) as client:
        mistakes = await asyncio.to_thread(crowd.mistakes, client)
    for mistake in mistakes[:20]:
        print(f"  {mistake}")
    name = f"errors, lost, double and half-done writes of {sum(crowd.counts.values())} calls, {len(outages)} kills"
    return [Target(name, len(mistakes), "", 0)]


async def _copied(stage: Stage) -> str:
    """A smaller volume in a project of its own; returns its name."""
    path = stage.folder / "kill.tif"
    await asyncio.to_thread(tifffile.imwrite, path, stage.raw[:32], photometric="minisblack")
    job = await stage.client.jobs.import_volume(
        "projects/kill", str(path), voxel_size=VoxelSize(30, 10, 10), volume_id="v"
    )
    volume = (await stage.client.jobs.wait(job.name)).volume
    await stage.client.samples.configure(
        "projects/kill", volumes=[volume], sample_shape=(1, 32, 32), manual_training=True
    )
    return volume


PARTS: Final[dict[str, Part]] = {
    "overhead": overhead,
    "stream": stream,
    "info": info,
    "next": next_sample,
    "tiles": tiles,
    "kill": kill,
}


async def measure(folder: Path, parts: list[str], is_short: bool) -> list[Target]:
    """Run parts one after the other; a part that fails does not keep the others from running."""
    found = []
    async with stage(folder, max([PEOPLE[part] for part in parts if part in PEOPLE], default=1)) as platform:
        for part in parts:
            print(f"-- {part}", flush=True)
            try:
                found += await PARTS[part](platform, is_short)
            except Exception as error:
                print(f"{part} broke off: {type(error).__name__}: {error}")
                found.append(Target(f"{part} broke off", 1, "times", 0))
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if unknown := sorted(set(options.parts) - set(PARTS)):
        parser.error(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    print_header("gateway")
    with tempfile.TemporaryDirectory(prefix="gateway-") as folder:
        parts = options.parts or list(PARTS)
        return finish(asyncio.run(measure(Path(folder), parts, options.short)), options.json)


if __name__ == "__main__":
    sys.exit(main())
