"""The real process, killed at named points: what was acknowledged is there afterwards, what was not leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biosegment.api.datastore.v1alpha1 import annotation_pb2
from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.auth import Kind, Principal, PrincipalSigner
from biosegment.client.annotations import Annotations
from biosegment.client.instances import Instances
from biosegment.client.volumes import Volumes
from biosegment.errors import Unavailable
from biosegment.failpoint import VARIABLE as failpoint_variable
from biosegment.rpc.channel import CallPolicy, ServiceCredentials, connect
from biosegment.rpc.geometry import region_from_proto
from biosegment.storage.objects import open_blocking_objects
from biosegment.volume import Region
from tests.rpc.datastore_server import Caller, datastore_settings
from tests.servers.port import free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

SIZE = geometry_pb2.VoxelSize(z_nm=30, y_nm=8, x_nm=8)
REGION = Region.of_shape((1, 20, 20), (2, 5, 5))


class Process:
    """A datastore in a process of its own, on a port that it keeps over restarts."""

    def __init__(self, folder: Path, keys: Path) -> None:
        self.settings = datastore_settings(folder, keys, listen=f"127.0.0.1:{free_port()}")
        self._marker = folder / "failpoint"
        self._keys = keys
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, failpoint: str = "") -> None:
        values = {
            f"BIOSEGMENT_DATASTORE__{name.upper()}": str(getattr(self.settings, name))
            for name in (
                "listen",
                "object_store_url",
                "database_url",
                "signing_key_file",
                "public_keys_dir",
                "import_roots",
                "scratch_dir",
                "orphan_grace_s",
            )
        }
        environment = {
            **os.environ,
            **values,
            "BIOSEGMENT_DATASTORE__PROJECTION_LEASE_S": "1",
            # What a killed attempt left is doomed by the next attempt, that is after the first collection.
            "BIOSEGMENT_DATASTORE__COLLECT_EVERY_S": "0.5",
        }
        environment[failpoint_variable] = str(self._marker)
        if failpoint:
            await asyncio.to_thread(self._marker.write_text, failpoint)
        command = [sys.executable, "-m", "biosegment_datastore"]
        self._process = await asyncio.create_subprocess_exec(
            *command, env=environment, stderr=asyncio.subprocess.PIPE
        )
        assert self._process.stderr is not None
        async with asyncio.timeout(90):
            while b'"serving"' not in (line := await self._process.stderr.readline()):
                assert line, "the datastore did not start"
        self._reader = asyncio.create_task(self._process.stderr.read())

    def arm(self, failpoint: str) -> None:
        """Have it die at a point, from now on."""
        # In one step, since the process looks into the file all the time.
        new = self._marker.with_suffix(".new")
        new.write_text(failpoint)
        new.replace(self._marker)

    async def killed(self) -> None:
        """Return when the failpoint has killed it."""
        assert self._process is not None
        async with asyncio.timeout(90):
            assert await self._process.wait() == -9
        await self._reader
        assert not self._marker.exists()

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
            await self._reader

    @asynccontextmanager
    async def ada(self) -> AsyncIterator[Caller]:
        signer = PrincipalSigner("gateway", self._keys / "gateway.key")
        credentials = ServiceCredentials(signer, "datastore")
        principal = Principal(Kind.USER, "ada")
        policy = CallPolicy(attempts=1)
        async with connect(
            self.settings.listen, credentials=lambda: credentials.token(principal), policy=policy
        ) as channel:
            caller = Caller(channel)
            # gRPC waits a little before it tries an address again that refused it a moment ago.
            async with asyncio.timeout(90):
                while True:
                    with contextlib.suppress(Unavailable):
                        await caller.datastore.ListProjects(pb.ListProjectsRequest())
                        break
                    await asyncio.sleep(0.05)
            yield caller


@pytest.fixture
async def process(tmp_path: Path, keys: Path) -> AsyncIterator[Process]:
    process = Process(tmp_path, keys)
    yield process
    await process.stop()


@pytest.fixture
def path(process: Process, image: Any) -> Path:
    import tifffile

    path = Path(process.settings.import_roots) / "stack.tif"
    tifffile.imwrite(path, image, photometric="minisblack")
    return path


@pytest.mark.parametrize(
    "failpoint",
    [
        "datastore.annotation.block_written",
        "datastore.annotation.row_written",
        "datastore.projection.applied",
    ],
)
async def test_a_kill_around_a_commit_loses_no_acknowledged_annotation(
    process: Process, path: Path, image: Any, failpoint: str
) -> None:
    await process.start()
    async with process.ada() as ada:
        project = await ada.create_project("em")
        volume = await ada.import_volume(project.name, path, "brain")
        acknowledged = [await ada.commit(volume.name, Region.of_shape((1, 4, 4)), np.full((1, 4, 4), 2))]
        assert (await ada.read(f"{volume.name}/layers/annotations")).any()
    await process.stop()
    await process.start(failpoint)
    labels = np.full(REGION.shape, 2, np.uint8)
    async with process.ada() as ada:
        try:
            acknowledged.append(await ada.commit(volume.name, REGION, labels, request_id="the-one"))
        except Unavailable:
            assert failpoint != "datastore.projection.applied"
        await process.killed()
    await process.start()
    async with process.ada() as ada:
        # The client does not know whether it was stored, and says it again.
        again = await ada.commit(volume.name, REGION, labels, request_id="the-one")
        request = annotation_pb2.ListAnnotationsRequest(parent=project.name)
        stored = list((await ada.annotations.ListAnnotations(request)).annotations)
        assert len(stored) == 2
        assert all(each in stored for each in (*acknowledged, again))
        expected = np.zeros_like(image)
        expected[0, :4, :4] = 2
        expected[REGION.slices] = 2
        assert (await ada.read(f"{volume.name}/layers/annotations") == expected).all()


@pytest.mark.parametrize(
    "failpoint",
    [
        "datastore.annotation.block_written",
        "datastore.annotation.rows_inserted",
        "datastore.annotation.row_written",
    ],
)
async def test_a_kill_in_a_storm_of_commits_loses_none_that_was_acknowledged(
    process: Process, path: Path, image: Any, failpoint: str
) -> None:
    await process.start()
    acknowledged: dict[str, Any] = {}
    async with process.ada() as ada:
        project = await ada.create_project("em")
        volume = await ada.import_volume(project.name, path, "brain")

        async def work(writer: int) -> None:
            for step in range(100):
                name = f"{writer}-{step}"
                made = await ada.commit(volume.name, _place(writer, step), _painted(writer), request_id=name)
                acknowledged[name] = made

        writers = [asyncio.create_task(work(writer)) for writer in range(16)]
        while len(acknowledged) < 100:
            await asyncio.sleep(0.01)
        process.arm(failpoint)
        await process.killed()
        ended = await asyncio.gather(*writers, return_exceptions=True)
        assert all(isinstance(each, Unavailable) for each in ended)
    await process.start()
    async with process.ada() as ada:
        request = annotation_pb2.ListAnnotationsRequest(parent=project.name, page_size=1000)
        stored = {each.name: each for each in (await ada.annotations.ListAnnotations(request)).annotations}
        for name, made in acknowledged.items():
            assert stored[made.name] == made
            writer, step = map(int, name.split("-"))
            again = await ada.commit(volume.name, _place(writer, step), _painted(writer), request_id=name)
            assert again == made
        expected = np.zeros_like(image)
        for made in sorted(stored.values(), key=lambda each: each.sequence):
            get = annotation_pb2.GetAnnotationRequest(name=made.name, with_labels=True)
            labels = zlib.decompress((await ada.annotations.GetAnnotation(get)).labels)
            region = region_from_proto(made.region)
            expected[region.slices] = np.frombuffer(labels, np.uint8).reshape(region.shape)
        assert len(stored) >= len(acknowledged) >= 100
        assert (await ada.read(f"{volume.name}/layers/annotations") == expected).all()


def _place(writer: int, step: int) -> Region:
    return Region.of_shape((1, 8, 8), (writer % 6, step % 60, 5 * writer))


def _painted(writer: int) -> Any:
    return np.full((1, 8, 8), 1 + writer % 2, np.uint8)


@pytest.mark.parametrize("failpoint", ["datastore.draft.block_written", "datastore.draft.row_written"])
async def test_a_kill_while_a_draft_is_saved_keeps_the_old_one_or_the_new_one(
    process: Process, path: Path, failpoint: str
) -> None:
    await process.start()
    async with process.ada() as ada:
        project = await ada.create_project("em")
        volume = await ada.import_volume(project.name, path, "brain")
        name = f"{volume.name}/drafts/mine"
        client = Annotations(ada.channel)
        old, new = np.full(REGION.shape, 1, np.uint8), np.full(REGION.shape, 2, np.uint8)
        saved = await client.save_draft(name, old, region=REGION)
        process.arm(failpoint)
        with pytest.raises(Unavailable):
            await client.save_draft(name, new, region=REGION, etag=saved.etag)
        await process.killed()
    await process.start()
    async with process.ada() as ada:
        client = Annotations(ada.channel)
        _, labels = await client.draft(name)
        assert (labels == (old if failpoint.endswith("block_written") else new)).all()
        # The answer was lost; saying it again is right in both cases.
        await client.save_draft(name, new, region=REGION, etag=saved.etag)
        assert ((await client.draft(name))[1] == new).all()


@pytest.mark.parametrize(
    "failpoint",
    [
        "datastore.instances.block_written",
        "datastore.instances.rows_inserted",
        "datastore.instances.row_written",
    ],
)
async def test_a_kill_around_an_edit_of_objects_leaves_all_of_it_or_nothing(
    process: Process, path: Path, image: Any, failpoint: str
) -> None:
    await process.start()
    objects = np.ones(image.shape, np.uint32)
    where, mask = REGION, np.ones(REGION.shape, bool)
    async with process.ada() as ada:
        project = await ada.create_project("em")
        volume = await ada.import_volume(project.name, path, "brain")
        layer = (await Volumes(ada.channel).write_layer(volume.name, objects, kind="instances")).name
        client = Instances(ada.channel)
        first = await client.reassign(layer, mask, region=where)
        process.arm(failpoint)
        with pytest.raises(Unavailable):
            await client.reassign(layer, mask, region=where.shifted((1, 0, 0)), request_id="the-one")
        await process.killed()
    await process.start()
    store = open_blocking_objects(process.settings)
    async with process.ada() as ada:
        client = Instances(ada.channel)
        was_stored = failpoint.endswith("row_written")
        assert len(await client.list(layer)) == (2 if was_stored else 1)
        read = await Volumes(ada.channel).read(layer, with_edits=True)
        assert (read[where.shifted((1, 0, 0)).slices] == 3).any() == was_stored
        # A block that no row knows is there, and nobody's; it is younger than what is collected.
        assert len(store.list("projects/em/edits/")) == 2
        # The answer was lost; saying it again is right in all cases.
        again = await client.reassign(layer, mask, region=where.shifted((1, 0, 0)), request_id="the-one")
        assert (first.new_instances, again.new_instances) == ((2,), (3,))
        assert await client.list(layer) == [first, again]
        objects[where.slices] = 2
        objects[where.shifted((1, 0, 0)).slices] = 3
        assert (await Volumes(ada.channel).read(layer, with_edits=True) == objects).all()
    await process.stop()
    process.settings = process.settings.model_copy(update={"orphan_grace_s": 0.0})
    await process.start()
    await _until(lambda: len(store.list("projects/em/edits/")) == 2)


@pytest.mark.parametrize("failpoint", ["datastore.import.slab_written", "datastore.import.before_row"])
async def test_a_kill_during_an_import_ends_in_a_second_attempt_and_one_volume(
    process: Process, path: Path, image: Any, failpoint: str
) -> None:
    await process.start(failpoint)
    async with process.ada() as ada:
        project = await ada.create_project("em")
        spec = job_pb2.ImportVolumeSpec(uri=str(path), volume_id="brain", voxel_size=SIZE)
        job = await ada.create_job(project.name, import_volume=spec)
        await process.killed()
    await process.start()
    async with process.ada() as ada:
        ended = await ada.finished(job)
        assert (ended.state, ended.attempt) == (job_pb2.Job.STATE_SUCCEEDED, 2), ended.error
        assert (await ada.read(ended.result.volume) == image).all()
    objects = open_blocking_objects(process.settings)
    await _until(lambda: len({key.split("/")[1] for key in objects.list("volumes/")}) == 1)


async def test_a_kill_before_the_row_of_an_export_ends_in_one_artifact(process: Process, path: Path) -> None:
    await process.start("datastore.export.before_row")
    async with process.ada() as ada:
        project = await ada.create_project("em")
        volume = await ada.import_volume(project.name, path, "brain")
        spec = job_pb2.ExportSpec(source=volume.name, format=job_pb2.ExportSpec.FORMAT_OME_TIFF)
        job = await ada.create_job(project.name, export=spec)
        await process.killed()
    await process.start()
    async with process.ada() as ada:
        ended = await ada.finished(job)
        assert (ended.state, ended.attempt) == (job_pb2.Job.STATE_SUCCEEDED, 2), ended.error
        request = pb.GetArtifactRequest(name=ended.result.artifact)
        assert (await ada.datastore.GetArtifact(request)).artifact.size_bytes
    objects = open_blocking_objects(process.settings)
    await _until(lambda: len({key.split("/")[3] for key in objects.list("projects/em/artifacts/")}) == 1)


async def test_the_parser_dies_with_the_datastore(process: Process) -> None:
    pipe = Path(process.settings.import_roots) / "endless.tif"
    os.mkfifo(pipe)
    await process.start()
    async with process.ada() as ada:
        project = await ada.create_project("em")
        spec = job_pb2.ImportVolumeSpec(uri=str(pipe), voxel_size=SIZE)
        await ada.create_job(project.name, import_volume=spec)
        assert process._process is not None
        pid = process._process.pid
        await _until(lambda: bool(_children(pid)))
        (child,) = _children(pid)
        process._process.kill()
        await process._process.wait()
        await process._reader
    await _until(lambda: not Path(f"/proc/{child}").exists() or _is_zombie(child))


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def _until(condition: Any, timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)
