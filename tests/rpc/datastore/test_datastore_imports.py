"""Imports that are killed, cancelled and refused: what goes on, what is left, what counts as garbage."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import psutil
import pytest
import sqlalchemy as sa
import tifffile
from biosegment_datastore.scratch import remove_leftovers, scratch_folder

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import volume_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.database import Database
from biosegment.errors import NotFound, PermissionDenied
from biosegment.storage.objects import open_blocking_objects
from biosegment.volume import Region
from tests.rpc.datastore.test_datastore_kill import Process, process  # noqa: F401
from tests.rpc.datastore_server import running_datastore

SIZE = geometry_pb2.VoxelSize(z_nm=8, y_nm=8, x_nm=8)
COLLECTING = {"collect_every_s": 0.2, "orphan_grace_s": 0.0}


def stack(path: Path, shape: tuple[int, int, int] = (1100, 40, 300)) -> Any:
    """Several rows of shards."""
    data = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    tifffile.imwrite(path, data, photometric="minisblack")
    return data


def import_spec(path: Path, volume_id: str) -> Any:
    return job_pb2.ImportVolumeSpec(uri=str(path), volume_id=volume_id, voxel_size=SIZE)


async def test_nothing_is_imported_into_a_project_that_does_not_exist(tmp_path: Path, keys: Path) -> None:
    async with running_datastore(tmp_path, keys) as datastore:
        root = datastore.as_user("root", is_admin=True)
        stack(tmp_path / "imports" / "s.tif", (2, 8, 8))
        with pytest.raises(NotFound) as caught:
            await root.create_job(
                "projects/nowhere", import_volume=import_spec(tmp_path / "imports" / "s.tif", "v")
            )
        assert caught.value.reason == "PROJECT_NOT_FOUND"
        assert not (await root.jobs.ListJobs(job_pb2.ListJobsRequest())).jobs


async def log_of(caller: Any, job: Any) -> list[str]:
    answer = await caller.jobs.ListJobLogs(job_pb2.ListJobLogsRequest(name=job.name))
    return [line.text for line in answer.lines]


async def statistics_of(caller: Any, volume: str) -> Any:
    request = pb.GetSliceStatisticsRequest(name=volume)
    return (await caller.datastore.GetSliceStatistics(request)).statistics


async def collect(caller: Any, dry_run: bool = False) -> Any:
    return await caller.datastore.CollectGarbage(pb.CollectGarbageRequest(dry_run=dry_run))


async def places(database_url: str) -> set[str]:
    """Every place of the object storage that a row of any table refers to, asked of the database itself."""
    database = Database.open(database_url)
    found: set[str] = set()
    try:
        async with database.read() as connection:
            for table, column in (
                ("volumes", "key"),
                ("layers", "storage_key"),
                ("annotations", "key"),
                ("uploads", "key"),
                ("artifacts", "key"),
                ("garbage", "prefix"),
            ):
                found.update((await connection.execute(sa.text(f"select {column} from {table}"))).scalars())
    finally:
        await database.close()
    return found


async def unaccounted(settings: Any) -> list[str]:
    """Files of the store, hidden ones and locks included, that no row accounts for."""
    known = await places(settings.database_url)
    root = Path(settings.object_store_url.removeprefix("file://"))
    files = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    return [
        each for each in files if not any(each == place or each.startswith(f"{place}/") for place in known)
    ]


async def is_clean(settings: Any) -> bool:
    """Whether there is no volume any more, nor a file of one."""
    objects = open_blocking_objects(settings)
    volumes = await asyncio.to_thread(objects.list, "volumes/")
    return not volumes and not await unaccounted(settings)


async def until(condition: Any, timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.05)


@pytest.mark.system
async def test_a_killed_import_goes_on_from_the_last_durable_slice(process: Process) -> None:  # noqa: F811
    path = Path(process.settings.import_roots) / "stack.tif"
    image = await asyncio.to_thread(stack, path)
    await process.start("datastore.import.slice_1040")
    async with process.ada() as ada:
        project = await ada.create_project("em")
        job = await ada.create_job(project.name, import_volume=import_spec(path, "brain"))
        await process.killed()
    await process.start()
    async with process.ada() as ada:
        ended = await ada.finished(job)
        assert (ended.state, ended.attempt) == (job_pb2.Job.STATE_SUCCEEDED, 2), ended.error
        (line,) = [line for line in await log_of(ada, job) if line.startswith("going on")]
        start = int(line.rpartition(" ")[2])
        assert line == f"going on from slice {start}"
        assert start in (512, 768, 1024)
        assert (await ada.read(ended.result.volume) == image).all()
        unbroken = await ada.import_volume(project.name, path, "unbroken", voxel_size=SIZE)
        for level in range(1, len(unbroken.levels)):
            again = await ada.read(ended.result.volume, level=level)
            assert (again == await ada.read(unbroken.name, level=level)).all()
        assert await statistics_of(ada, ended.result.volume) == await statistics_of(ada, unbroken.name)
        volume = (await ada.datastore.GetVolume(pb.GetVolumeRequest(name=ended.result.volume))).volume
        assert volume.display_window == unbroken.display_window
    assert await unaccounted(process.settings) == []
    objects = open_blocking_objects(process.settings)
    assert not [key for key in objects.list("volumes/") if key.endswith("import.json")]


@pytest.mark.system
async def test_a_kill_before_the_row_reads_nothing_again(process: Process) -> None:  # noqa: F811
    path = Path(process.settings.import_roots) / "stack.tif"
    image = await asyncio.to_thread(stack, path)
    await process.start("datastore.import.before_row")
    async with process.ada() as ada:
        project = await ada.create_project("em")
        job = await ada.create_job(project.name, import_volume=import_spec(path, "brain"))
        await process.killed()
    await process.start()
    async with process.ada() as ada:
        ended = await ada.finished(job)
        assert "going on from slice 1100" in await log_of(ada, job)
        assert (await ada.read(ended.result.volume) == image).all()
    assert await unaccounted(process.settings) == []


@pytest.mark.system
async def test_a_file_that_changed_after_the_kill_is_imported_from_the_start(process: Process) -> None:  # noqa: F811
    path = Path(process.settings.import_roots) / "stack.tif"
    await asyncio.to_thread(stack, path)
    await process.start("datastore.import.slice_1040")
    async with process.ada() as ada:
        project = await ada.create_project("em")
        job = await ada.create_job(project.name, import_volume=import_spec(path, "brain"))
        await process.killed()
    image = await asyncio.to_thread(stack, path, (700, 30, 20))
    await process.start()
    async with process.ada() as ada:
        ended = await ada.finished(job)
        assert any(line.startswith("starting over") for line in await log_of(ada, job))
        assert (await ada.read(ended.result.volume) == image).all()
    assert await unaccounted(process.settings) == []


async def test_a_cancelled_import_ends_its_process_at_once_and_leaves_nothing(
    tmp_path: Path, keys: Path
) -> None:
    async with running_datastore(tmp_path, keys, **COLLECTING) as datastore:
        ada = datastore.as_user("ada")
        project = await ada.create_project("em")
        path = datastore.imports / "large.tif"
        # Sparse, so that it is made at once and takes long to import.
        await asyncio.to_thread(
            tifffile.imwrite,
            path,
            shape=(3000, 2000, 2000),
            dtype="uint8",
            photometric="minisblack",
            bigtiff=True,
        )
        before = {each.pid for each in psutil.Process().children()}
        job = await ada.create_job(project.name, import_volume=import_spec(path, "brain"))

        async def is_under_way() -> bool:
            answer = await ada.jobs.GetJob(job_pb2.GetJobRequest(name=job.name))
            assert answer.job.state in (job_pb2.Job.STATE_QUEUED, job_pb2.Job.STATE_RUNNING)
            return bool(answer.job.progress.done)

        await until(is_under_way, 90)
        (child,) = [each for each in psutil.Process().children() if each.pid not in before]
        await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=job.name))
        # Reading on to the end would take longer.
        await asyncio.to_thread(psutil.wait_procs, [child], 10)
        assert not child.is_running()
        ended = await ada.finished(job)
        assert ended.state == job_pb2.Job.STATE_CANCELLED
        assert not (await ada.datastore.ListVolumes(pb.ListVolumesRequest(parent=project.name))).volumes
        await until(lambda: is_clean(datastore.settings))


async def test_a_failed_import_leaves_nothing(tmp_path: Path, keys: Path) -> None:
    async with running_datastore(tmp_path, keys, **COLLECTING) as datastore:
        ada = datastore.as_user("ada")
        project = await ada.create_project("em")
        data = np.random.default_rng(0).normal(size=(600, 30, 300)).astype(np.float32)
        data[590, 3, 4] = np.inf
        path = datastore.write_tiff("bad.tif", data)
        job = await ada.finished(await ada.create_job(project.name, import_volume=import_spec(path, "v")))
        assert (job.state, job.error.reason) == (job_pb2.Job.STATE_FAILED, "NOT_FINITE")
        await until(lambda: is_clean(datastore.settings))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
async def test_the_display_window_leaves_out_the_outliers_and_the_voxels_keep_their_values(
    datastore: Any, ada: Any, project: Any, dtype: str
) -> None:
    image = np.random.default_rng(0).normal(120, 10, (9, 80, 90)).round().astype(dtype)
    image[:, 0, 0], image[:, 1, 1] = 0, 255
    path = datastore.write_tiff("stack.tif", image)
    volume = await ada.import_volume(project.name, path, "v")
    window = volume.display_window
    assert 80 < window.low < 110 < 130 < window.high < 160
    if dtype != "int16":
        assert (await ada.read(volume.name) == image).all()


async def test_a_volume_of_one_value_gets_a_window_of_some_width(
    datastore: Any, ada: Any, project: Any
) -> None:
    path = datastore.write_tiff("stack.tif", np.full((4, 30, 40), 7, np.uint8))
    window = (await ada.import_volume(project.name, path, "v")).display_window
    assert window.low == 7 < window.high


async def test_only_administrators_collect_garbage(datastore: Any, ada: Any) -> None:
    with pytest.raises(PermissionDenied):
        await collect(ada, dry_run=True)
    assert (await collect(datastore.as_user("root", is_admin=True))).objects == 0


async def test_garbage_is_what_no_row_refers_to_and_nothing_else(tmp_path: Path, keys: Path) -> None:
    async with running_datastore(tmp_path, keys, collect_every_s=3600, orphan_grace_s=0) as datastore:
        ada, root = datastore.as_user("ada"), datastore.as_user("root", is_admin=True)
        project = await ada.create_project("em")
        image = np.random.default_rng(0).integers(0, 256, (6, 70, 90), np.uint8)
        path = datastore.write_tiff("stack.tif", image)
        kept = await ada.import_volume(project.name, path, "kept")
        gone = await ada.import_volume(project.name, path, "gone")
        await ada.commit(kept.name, Region.of_shape((1, 4, 4)), np.full((1, 4, 4), 2))
        # What is read is laid into the layer first, which nothing does later then.
        await ada.read(f"{kept.name}/layers/annotations")
        upload = await _upload(ada, project.name, b"x" * 1000)
        dropped = await _upload(ada, project.name, b"y" * 1000)
        export = job_pb2.ExportSpec(source=kept.name, format=job_pb2.ExportSpec.FORMAT_OME_TIFF)
        exported = await ada.finished(await ada.create_job(project.name, export=export))
        assert exported.state == job_pb2.Job.STATE_SUCCEEDED
        assert await unaccounted(datastore.settings) == []

        objects = open_blocking_objects(datastore.settings)
        before = set(objects.list(""))
        assert (await collect(root, dry_run=True)).objects == 0
        await ada.datastore.DeleteVolume(pb.DeleteVolumeRequest(name=gone.name, force=True))
        await ada.datastore.DeleteUpload(pb.DeleteUploadRequest(name=dropped.name))
        strays = {
            f"volumes/{'0' * 26}-1.ome.zarr/0/zarr.json": b"12345",
            f"volumes/{'0' * 26}-1.ome.zarr/0/c/0/0/0": b"1",
            f"projects/em/layers/{'0' * 26}/1/zarr.json": b"12",
            f"projects/gone/annotations/{'0' * 26}": b"123",
        }
        for key, data in strays.items():
            objects.put(key, data)
        objects.put("models/of-the-trainer", b"not ours")
        found = await collect(root, dry_run=True)
        assert set(objects.list("")) == before | set(strays) | {"models/of-the-trainer"}
        assert {
            "volumes/00000000000000000000000000-1.ome.zarr",
            "projects/gone/annotations/" + "0" * 26,
        } <= set(found.prefixes)
        removed = await collect(root)
        assert (removed.objects, removed.size_bytes) == (found.objects, found.size_bytes)
        after = set(objects.list(""))
        assert len(before) + len(strays) + 1 - len(after) == removed.objects > len(strays)
        assert "models/of-the-trainer" in after
        objects.delete("models/of-the-trainer")
        assert (await collect(root)).objects == 0
        assert await unaccounted(datastore.settings) == []
        assert (await ada.read(kept.name) == image).all()
        request = pb.GetUploadRequest(name=upload.name)
        assert (await ada.datastore.GetUpload(request)).upload.received_bytes == 1000


async def _upload(caller: Any, project: str, data: bytes) -> Any:
    request = pb.CreateUploadRequest(
        parent=project,
        upload=volume_pb2.Upload(file_name="a.tif", size_bytes=len(data)),
        request_id=str(uuid.uuid4()),
    )
    upload = (await caller.datastore.CreateUpload(request)).upload

    async def pieces() -> Any:
        yield pb.WriteUploadRequest(name=upload.name, offset=0, data=data, crc32c=google_crc32c.value(data))

    return (await caller.datastore.WriteUpload(pieces())).upload


_LEAVING = """
import sys
from pathlib import Path
from biosegment_datastore.scratch import scratch_folder

folder = scratch_folder(Path(sys.argv[1]), "import")
(folder.__enter__() / "file").write_bytes(b"left")
print("!", flush=True)
sys.stdin.read()
"""


def test_folders_of_killed_processes_are_removed_and_those_in_use_are_not(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _LEAVING, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.read(1) == b"!"
    with scratch_folder(tmp_path, "export") as mine:
        (mine / "file").write_bytes(b"in use")
        assert remove_leftovers(tmp_path) == 0
        child.kill()
        child.communicate()
        assert remove_leftovers(tmp_path) == 1
        assert list(tmp_path.iterdir()) == [mine]
    assert list(tmp_path.iterdir()) == []
