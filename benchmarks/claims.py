"""How long a room of annotators waits for samples, while a network is trained beside them.

usage: python -m benchmarks.claims [--annotators 50] [--interval 5] [--seconds 120] [--annotations 100000]
                                   [--no-training] [--ahead] [--json FILE]

An embedded platform (SQLite) with a volume of 64 x 1024 x 1024 voxels and samples of 16 x 16 pixels: 1 032 256
candidates. Score maps are written by the storage layer and put into the sampler's tables as the loop puts them, and so
are annotations from earlier; everything else goes the usual way. Claims at the sampler's own port, then through the
gateway. Each answer is committed, or every fourth time given back. With --ahead the scheduler prefers the platform and
the annotators to whatever else runs on the machine, so that a busy machine can be used; the training is not preferred.
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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import sqlalchemy as sa
import tifffile
from biosegment_sampler import rows, tables
from biosegment_sampler.domain.annotation import Annotation
from biosegment_sampler.ports import ScoreLayer

from benchmarks.claim_load import Specification
from benchmarks.report import Target, finish, print_header, print_samples
from biosegment.client import aconnect
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.supervisor import Supervisor
from biosegment.volume import Index, Region, VoxelSize

SHAPE, SAMPLE, CELL = (64, 1024, 1024), (1, 16, 16), 16
PROJECT = "bench"
MODEL = "models/bench"
P99_MS = 20.0
SERVICES = ("sampler", "datastore", "gateway")

TRAINING = """
import os, torch
os.setpriority(os.PRIO_PROCESS, 0, 15)
from biosegment_trainer.learning.network import NetworkConfig
arguments = {"channels": (16, 32, 64, 128), "strides": (2, 2, 2), "num_res_units": 2}
network = NetworkConfig("UNet", 2, 1, arguments).build(1)
optimizer = torch.optim.Adam(network.parameters())
while True:
    loss = network(torch.rand(8, 1, 128, 128)).square().mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
"""
"""Trains a network of the usual size for ever, on all cores."""


async def set_up(folder: Path, annotators: int) -> dict[str, str]:
    """A project with its volume and its people; returns their tokens."""
    tifffile.imwrite(
        folder / "raw.tif", np.zeros(SHAPE, np.uint8), compression="zlib", photometric="minisblack"
    )
    supervisor = Supervisor(
        folder / "data", grpc_port=0, http_port=0, import_roots=[folder], say=lambda _: None
    )
    await supervisor.start()
    try:
        async with aconnect(data_dir=folder / "data") as client:
            project = await client.projects.create(
                PROJECT, classes=["mitochondria"], working_resolution_nm=10
            )
            job = await client.jobs.import_volume(
                project.name, str(folder / "raw.tif"), voxel_size=VoxelSize(30, 10, 10), volume_id="v"
            )
            await client.jobs.wait(job.name)
            await client.samples.configure(project.name, sample_shape=SAMPLE, manual_training=True)
            tokens = {}
            for number in range(annotators):
                user = f"user{number}"
                await client.platform.create_user(user)
                await client.projects.set_member(project.name, user, "annotator")
                tokens[user] = (await client.platform.create_token(user_id=user)).secret
            return tokens
    finally:
        await supervisor.stop()


def fill(data: Path, annotations: int) -> None:
    """Scores in use, and annotations from earlier; while nothing runs."""
    random = np.random.default_rng(0)
    shape = (SHAPE[0], SHAPE[1] // CELL, SHAPE[2] // CELL)
    url = f"file://{data / 'objects'}"
    layers = []
    for measure in ("entropy", "class_probability"):
        array = Arrays(ObjectStoreSettings(object_store_url=url)).create(
            f"bench/{measure}", shape, "float16", fill=float("nan")
        )
        array.write(tuple(slice(0, size) for size in shape), random.random(shape).astype(np.float16))
        name = f"projects/{PROJECT}/volumes/v/layers/{measure.replace('_', '-')}"
        layers.append(ScoreLayer(name, "v", measure, f"{url}/bench/{measure}", Index(1, CELL, CELL)))
    starts = [
        random.integers(0, size - edge + 1, annotations) for size, edge in zip(SHAPE, SAMPLE, strict=True)
    ]
    labelled = [
        Annotation(
            name=f"projects/{PROJECT}/volumes/v/annotations/earlier{number}",
            sequence=0,
            volume_id="v",
            region=Region.of_shape(SAMPLE, Index(*map(int, start))),
            author=f"user{number % 50}",
            sample_id="",
            work_time_s=10.0,
            voxel_counts={1: 256},
            created_at=1.0,
            in_latest_model=number >= annotations // 100,
        )
        for number, start in enumerate(zip(*starts, strict=True))
    ]
    engine = sa.create_engine(f"sqlite:///{data / 'db' / 'sampler'}.db")
    with engine.begin() as connection:
        connection.execute(sa.update(tables.pools).values(scored_model=MODEL))
        for each in layers:
            connection.execute(sa.insert(tables.score_layers).values(rows.layer_values(PROJECT, MODEL, each)))
        if labelled:
            connection.execute(
                sa.insert(tables.annotation_table),
                [rows.annotation_values(PROJECT, each) for each in labelled],
            )
    engine.dispose()


def train() -> subprocess.Popen[bytes]:
    """A training at the priority of Ray's workers, in the session of the services, as those are."""
    return subprocess.Popen([sys.executable, "-c", TRAINING])


def prefer(process_id: int) -> None:
    """Have the scheduler prefer a process: its session, where Linux shares the processor among sessions."""
    os.setpriority(os.PRIO_PROCESS, process_id, -10)
    session = Path(f"/proc/{process_id}/autogroup")
    if session.exists():
        session.write_text("-15")


def run_load(folder: Path, specification: Specification) -> dict[str, Any]:
    """The load generator's answer."""
    path = folder / "load.json"
    path.write_text(json.dumps(asdict(specification)))
    command = [sys.executable, "-m", "benchmarks.claim_load", str(path)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


async def measure(folder: Path, options: argparse.Namespace) -> list[Target]:
    """Both ways of claiming."""
    tokens = await set_up(folder, options.annotators)
    began = time.perf_counter()
    await asyncio.to_thread(fill, folder / "data", options.annotations)
    print(f"scores and {options.annotations} annotations written in {time.perf_counter() - began:.0f} s")
    supervisor = Supervisor(
        folder / "data", grpc_port=0, http_port=0, import_roots=[folder], say=lambda _: None
    )
    addresses = await supervisor.start()
    if options.ahead:
        for process_id in (os.getpid(), *map(supervisor.process_id, (*SERVICES, "trainer"))):
            prefer(process_id)
    training = None if options.no_training else train()
    targets = []
    try:
        async with aconnect(data_dir=folder / "data") as client:
            began = time.perf_counter()
            pool = await client.samples.pool(f"projects/{PROJECT}")
            print(
                f"pool of {pool.open_candidates} open candidates: {time.perf_counter() - began:.2f} s at first"
            )
            began = time.perf_counter()
            (sample,) = (await client.samples.claim(f"projects/{PROJECT}")).samples
            print(f"first claim after the start, by {sample.strategy}: {time.perf_counter() - began:.2f} s")
            await client.samples.release(sample.name)
            times = []
            for _ in range(20):
                began = time.perf_counter()
                await client.samples.pool(f"projects/{PROJECT}")
                times.append(1e3 * (time.perf_counter() - began))
            print_samples("GetPool with open candidates, one after the other", times, "ms")
        for way in ("at the sampler", "through the gateway"):
            specification = Specification(
                gateway=addresses.grpc["gateway"],
                sampler=addresses.grpc["sampler"] if way == "at the sampler" else "",
                signing_key=str(folder / "data" / "keys" / "gateway.key"),
                project=f"projects/{PROJECT}",
                tokens=tokens,
                interval_s=options.interval,
                seconds=options.seconds,
            )
            processes = {name: psutil.Process(supervisor.process_id(name)) for name in SERVICES}
            before = {name: sum(each.cpu_times()[:2]) for name, each in processes.items()}
            load_before = psutil.getloadavg()[0]
            found = await asyncio.to_thread(run_load, folder, specification)
            spent = {name: sum(each.cpu_times()[:2]) - before[name] for name, each in processes.items()}
            targets.append(report(way, found, spent, load_before, options))
    finally:
        if training is not None:
            training.kill()
            training.wait()
        await supervisor.stop()
    assert_disjoint(folder / "data")
    return targets


def report(
    way: str, found: dict[str, Any], spent: dict[str, float], load: float, options: argparse.Namespace
) -> Target:
    """Print what a load met with; its row."""
    claims = found["claims_ms"]
    rate = options.annotators / options.interval
    print(
        f"-- claims {way}: {options.annotators} annotators, one claim each {options.interval:g} s ({rate:g}/s)"
    )
    print(f"load average {load:.1f} before, {psutil.getloadavg()[0]:.1f} after; counts {found['counts']}")
    spent = {**spent, "the generator": found["processor_s"]}
    parts = ", ".join(f"{name} {1e3 * seconds / max(1, len(claims)):.1f}" for name, seconds in spent.items())
    print(f"processor time for each claim and what follows it: {parts} ms")
    print_samples(f"claim {way}", claims, "ms")
    late = np.percentile(found["late_ms"], 99)
    print(
        f"claim {way}: "
        + ", ".join(f"p{q} {np.percentile(claims, q):.1f}" for q in (50, 90, 95, 99, 100))
        + f" ms; the generator itself began 99 % of them less than {late:.1f} ms late"
    )
    return Target(f"claim {way}, p99", float(np.percentile(claims, 99)), "ms", P99_MS)


def assert_disjoint(data: Path) -> None:
    """No two samples that are held or annotated overlap."""
    engine = sa.create_engine(f"sqlite:///{data / 'db' / 'sampler'}.db")
    with engine.connect() as connection:
        query = sa.select(tables.samples).where(tables.samples.c.state.in_(["leased", "annotated"]))
        regions = [rows.region_from_row(dict(row)) for row in connection.execute(query).mappings()]
    engine.dispose()
    regions.sort(key=lambda region: region.start.z)
    by_slice: dict[int, list[Region]] = {}
    for region in regions:
        others = by_slice.setdefault(region.start.z, [])
        assert not any(region.overlaps(other) for other in others), region
        others.append(region)
    print(f"{len(regions)} samples are held or annotated, and none of them overlap")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--interval", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--annotations", type=int, default=100_000)
    parser.add_argument("--no-training", action="store_true")
    parser.add_argument("--ahead", action="store_true", help="needs the right to raise priorities")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print_header("claims")
    with tempfile.TemporaryDirectory(prefix="claims-") as folder:
        return finish(asyncio.run(measure(Path(folder), options)), options.json)


if __name__ == "__main__":
    sys.exit(main())
