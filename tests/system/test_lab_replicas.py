"""Several datastore processes on one PostgreSQL and one bucket, as the lab's deployment runs them."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from biosegment.api.datastore.v1alpha1 import annotation_pb2, datastore_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.errors import Unavailable
from biosegment.volume import Region
from tests.rpc.datastore_server import Caller
from tests.system.lab import Backends, Replica, replicas
from tests.system.tissue import Labels, Tissue, write_tissue

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

SHAPE = (16, 128, 128)
SIZE = geometry_pb2.VoxelSize(z_nm=12, y_nm=8, x_nm=8)


@dataclass
class Pair:
    """Two datastores and a caller of each."""

    backends: Backends
    tissue: Tissue
    replicas: list[Replica]
    callers: list[Caller] = field(default_factory=list)

    async def answering(self, number: int) -> None:
        """Return when a replica answers."""
        async with asyncio.timeout(60):
            while True:
                try:
                    await self.callers[number].datastore.ListProjects(datastore_pb2.ListProjectsRequest())
                    return
                except Unavailable:
                    await asyncio.sleep(0.1)

    def owner(self) -> str:
        """Which instance may write an annotations layer now; '' when nobody."""
        with psycopg.connect(self.backends.postgres.url("replicas")) as connection:
            rows = connection.execute("SELECT owner FROM projections WHERE owner <> ''").fetchall()
        assert len(rows) <= 1
        return str(rows[0][0]) if rows else ""


@pytest.fixture
async def pair(backends: Backends, tmp_path: Path) -> AsyncIterator[Pair]:
    tissue = write_tissue(tmp_path / "in", SHAPE)
    pair = Pair(backends, tissue, replicas(tmp_path, backends, tmp_path / "in"))
    for replica in pair.replicas:
        # Both at once: both migrate.
        replica.start()
        pair.callers.append(replica.caller("ada"))
    try:
        for number in range(len(pair.replicas)):
            await pair.answering(number)
        yield pair
    finally:
        for caller in pair.callers:
            await caller.channel.close()
        codes = [replica.stop() for replica in pair.replicas]
    assert codes == [0, 0]
    for replica in pair.replicas:
        log = replica.log.read_text()
        assert "Traceback" not in log
        assert not [secret for secret in backends.secrets if secret in log]


async def _annotate(
    pair: Pair, volume: str, count: int, seed: int, made: list[tuple[Any, Labels, Region]]
) -> None:
    """Commit overlapping regions through both replicas in turn; repeat what was not acknowledged."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        z, y, x = (int(rng.integers(0, size - edge)) for size, edge in zip(SHAPE, (2, 40, 40), strict=True))
        region = Region((z, y, x), (z + 2, y + 40, x + 40))
        labels = rng.integers(0, 3, region.shape, np.uint8)
        request_id = str(uuid.uuid4())

        async def commit(
            turn: int, region: Region = region, labels: Labels = labels, request_id: str = request_id
        ) -> Any:
            caller = pair.callers[(seed + turn) % 2]
            return await caller.commit(volume, region, labels, request_id=request_id)

        made.append((await _patient(commit, number), labels, region))


async def _patient(call: Callable[[int], Awaitable[Any]], turn: int) -> Any:
    """Repeat a call, by the other replica each time."""
    async with asyncio.timeout(90):
        while True:
            try:
                return await call(turn)
            except Unavailable:
                turn += 1
                await asyncio.sleep(0.1)


def _composed(made: list[tuple[Any, Labels, Region]]) -> Labels:
    layer = np.zeros(SHAPE, np.uint8)
    for _, labels, region in sorted(made, key=lambda item: item[0].sequence):
        np.copyto(layer[region.slices], labels, where=labels != 0)
    return layer


async def _require_layer(pair: Pair, volume: str, made: list[tuple[Any, Labels, Region]]) -> None:
    """Both replicas show what a direct composition of all acknowledged annotations gives, and lost none."""
    for caller in pair.callers:
        request = annotation_pb2.ListAnnotationsRequest(parent=volume, page_size=1000)
        found = (await caller.annotations.ListAnnotations(request)).annotations
        assert {item.name for item in found} == {item.name for item, _, _ in made}
        np.testing.assert_array_equal(await caller.read(f"{volume}/layers/annotations"), _composed(made))


async def test_two_datastores_share_volumes_commits_projections_and_jobs(pair: Pair) -> None:
    one, two = pair.callers
    project = await one.create_project("em")
    volume = (await two.import_volume(project.name, pair.tissue.path, "tissue", voxel_size=SIZE)).name
    for caller in pair.callers:
        np.testing.assert_array_equal(await caller.read(volume), pair.tissue.raw)
    made: list[tuple[Any, Labels, Region]] = []

    owners: set[str] = set()
    watching = asyncio.create_task(_watch(pair, owners))
    await asyncio.gather(*(_annotate(pair, volume, 12, seed, made) for seed in range(4)))
    assert sorted(item.sequence for item, _, _ in made) == list(range(1, 49))
    await _require_layer(pair, volume, made)
    began = time.monotonic()
    while not owners - {""} and time.monotonic() - began < 60:
        # It is held for a moment only, and nobody may have looked then.
        await _annotate(pair, volume, 2, 4 + len(made), made)
        await _require_layer(pair, volume, made)
    watching.cancel()
    assert owners - {""}, "nobody was seen to write the layer"

    await _one_dies_while_it_projects(pair, volume, made)
    await _one_dies_while_it_imports(pair, project.name)
    await _require_layer(pair, volume, made)


async def _watch(pair: Pair, owners: set[str]) -> None:
    """Note who holds the claim on the layer, while commits gather and while somebody reads what they make."""
    while True:
        owners.add(await asyncio.to_thread(pair.owner))


async def _one_dies_while_it_projects(pair: Pair, volume: str, made: list[Any]) -> None:
    """Whichever replica lays the next records into the layer dies before it can say so; the other one takes over."""
    first, second = pair.replicas
    first.arm("datastore.projection.applied")
    begun = time.monotonic()
    while not first.has_died:
        assert time.monotonic() - begun < 60
        # Until the first replica is the one that projects: who reads has what was committed laid into the layer first.
        await _annotate(pair, volume, 2, 40 + len(made), made)
        with contextlib.suppress(Unavailable):
            await pair.callers[0].read(f"{volume}/layers/annotations")
    await _annotate(pair, volume, 6, 7, made)
    expected = _composed(made)
    np.testing.assert_array_equal(await pair.callers[1].read(f"{volume}/layers/annotations"), expected)
    first.start()
    await pair.answering(0)
    assert second.process is not None
    assert second.process.poll() is None
    await _require_layer(pair, volume, made)


async def _one_dies_while_it_imports(pair: Pair, project: str) -> None:
    """A replica that is killed in the middle of imports leaves them to the other, within its minute of grace."""
    first = pair.replicas[0]
    first.arm("datastore.import.before_row")
    jobs = []
    begun = time.monotonic()
    while not first.has_died:
        assert time.monotonic() - begun < 60
        spec = job_pb2.ImportVolumeSpec(uri=str(pair.tissue.path), voxel_size=SIZE)
        jobs.append(await pair.callers[1].create_job(project, import_volume=spec))
        await asyncio.sleep(0.5)
    ended = [await pair.callers[1].finished(job, 300) for job in jobs]
    assert {job.state for job in ended} == {job_pb2.Job.STATE_SUCCEEDED}, ended
    assert sorted(job.attempt for job in ended)[-1] == 2
    for job in ended:
        np.testing.assert_array_equal(await pair.callers[1].read(job.result.volume), pair.tissue.raw)
    first.start()
    await pair.answering(0)
