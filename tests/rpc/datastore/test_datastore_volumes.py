from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import volume_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from biosegment.volume import Index, Region
from tests.rpc.datastore_server import Caller, RunningDatastore, running_datastore


async def test_an_imported_volume_is_read_back_voxel_by_voxel(
    datastore: RunningDatastore, ada: Caller, volume: Any, image: Any
) -> None:
    assert volume.name == "projects/em/volumes/brain"
    assert (volume.shape.z, volume.shape.y, volume.shape.x) == image.shape
    assert (volume.voxel_size.z_nm, volume.source, volume.creator) == (30, "stack.tif", "ada")
    region = Region(Index(1, 10, 20), Index(4, 60, 85))
    assert (await ada.read(volume.name) == image).all()
    assert (await ada.read(volume.name, region) == image[region.slices]).all()
    coarse = volume.levels[-1]
    assert (await ada.read(volume.name, level=len(volume.levels) - 1)).shape == (
        coarse.shape.z,
        coarse.shape.y,
        coarse.shape.x,
    )
    answer = await ada.datastore.GetSliceStatistics(pb.GetSliceStatisticsRequest(name=volume.name))
    np.testing.assert_allclose(answer.statistics.mean, image.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(answer.statistics.std, image.std((1, 2)), rtol=1e-5)


async def test_a_region_larger_than_one_part_arrives_in_order(tmp_path: Path, keys: Path) -> None:
    image = np.random.default_rng(2).integers(0, 256, (40, 1100, 1000), np.uint8)
    async with running_datastore(tmp_path, keys) as datastore:
        ada = datastore.as_user("ada")
        project = await ada.create_project("large")
        volume = await ada.import_volume(project.name, datastore.write_tiff("large.tif", image))
        assert (await ada.read(volume.name) == image).all()


async def test_a_region_beyond_the_limit_is_refused_with_the_limit(
    tmp_path: Path, keys: Path, image: Any
) -> None:
    async with running_datastore(tmp_path, keys, max_region_bytes=10_000) as datastore:
        ada = datastore.as_user("ada")
        project = await ada.create_project("em")
        volume = await ada.import_volume(project.name, datastore.write_tiff("stack.tif", image))
        with pytest.raises(ResourceExhausted, match="10000") as caught:
            await ada.read(volume.name)
        assert caught.value.reason == "REGION_TOO_LARGE"
        small = Region(Index(0, 0, 0), Index(1, 70, 90))
        assert (await ada.read(volume.name, small) == image[:1]).all()


async def test_a_volume_is_changed_only_with_its_present_etag(ada: Caller, volume: Any) -> None:
    def request(etag: str) -> pb.UpdateVolumeRequest:
        changed = volume_pb2.Volume(
            name=volume.name,
            display_name="renamed",
            etag=etag,
            voxel_size=geometry_pb2.VoxelSize(z_nm=40, y_nm=4, x_nm=4),
        )
        update = pb.UpdateVolumeRequest(volume=changed)
        update.update_mask.paths.extend(["display_name", "voxel_size"])
        return update

    after = (await ada.datastore.UpdateVolume(request(volume.etag))).volume
    assert (after.display_name, after.voxel_size.z_nm) == ("renamed", 40)
    assert after.etag != volume.etag
    with pytest.raises(Conflict) as caught:
        await ada.datastore.UpdateVolume(request(volume.etag))
    assert caught.value.reason == "ETAG_MISMATCH"


async def test_volumes_are_listed_page_by_page_and_a_token_fits_its_query_only(
    datastore: RunningDatastore, ada: Caller, project: Any, image: Any
) -> None:
    path = datastore.write_tiff("stack.tif", image)
    for volume_id in ("a", "b", "c"):
        await ada.import_volume(project.name, path, volume_id)
    first = await ada.datastore.ListVolumes(pb.ListVolumesRequest(parent=project.name, page_size=2))
    rest = await ada.datastore.ListVolumes(
        pb.ListVolumesRequest(parent=project.name, page_size=2, page_token=first.next_page_token)
    )
    names = [volume.name.rpartition("/")[2] for volume in (*first.volumes, *rest.volumes)]
    assert (names, rest.next_page_token) == (["a", "b", "c"], "")
    other = await ada.create_project("other")
    for request in (
        pb.ListVolumesRequest(parent=other.name, page_token=first.next_page_token),
        pb.ListVolumesRequest(parent=project.name, page_token="nonsense"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            await ada.datastore.ListVolumes(request)
        assert caught.value.reason == "BAD_PAGE_TOKEN"


async def test_a_deleted_volume_takes_its_objects_with_it(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    region = Region(Index(0, 0, 0), Index(1, 4, 4))
    await ada.commit(volume.name, region, np.full((1, 4, 4), 2))
    with pytest.raises(FailedPrecondition) as caught:
        await ada.datastore.DeleteVolume(pb.DeleteVolumeRequest(name=volume.name))
    assert caught.value.reason == "VOLUME_HAS_ANNOTATIONS"
    await ada.datastore.DeleteVolume(pb.DeleteVolumeRequest(name=volume.name, force=True))
    with pytest.raises(NotFound):
        await ada.read(volume.name)
    await datastore.parts.collector.collect()
    assert await datastore.parts.objects.list("volumes/") == []


async def job_error(ada: Caller, project: str, **spec: Any) -> Any:
    created = await ada.create_job(project, import_volume=job_pb2.ImportVolumeSpec(**spec))
    job = await ada.finished(created)
    assert job.state == job_pb2.Job.STATE_FAILED
    return job.error


async def test_a_file_without_voxel_size_needs_one(
    datastore: RunningDatastore, ada: Caller, project: Any, image: Any
) -> None:
    path = datastore.write_tiff("stack.tif", image)
    error = await job_error(ada, project.name, uri=str(path))
    assert error.reason == "VOXEL_SIZE_MISSING"
    assert "voxel_size" in error.message


async def test_broken_files_fail_their_job_and_leave_nothing(
    datastore: RunningDatastore, ada: Caller, project: Any, image: Any
) -> None:
    whole = datastore.write_tiff("whole.tif", image)
    truncated, text = datastore.imports / "truncated.tif", datastore.imports / "text.tif"
    truncated.write_bytes(whole.read_bytes()[:9000])
    text.write_text("this is no image")
    flat = datastore.write_tiff("flat.tif", image[0])
    size = geometry_pb2.VoxelSize(z_nm=1, y_nm=1, x_nm=1)
    for path, reasons in (
        (truncated, {"TRUNCATED_FILE", "UNREADABLE_FILE"}),
        (text, {"UNKNOWN_FORMAT"}),
        (flat, {"NOT_A_VOLUME"}),
    ):
        error = await job_error(ada, project.name, uri=f"file://{path}", voxel_size=size)
        assert error.reason in reasons, error
    await datastore.parts.collector.collect()
    assert await datastore.parts.objects.list("volumes/") == []
    assert not (await ada.datastore.ListVolumes(pb.ListVolumesRequest(parent=project.name))).volumes


async def test_only_files_below_the_import_roots_are_read(
    datastore: RunningDatastore, ada: Caller, project: Any, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.tif"
    outside.write_bytes(b"secret")
    link = datastore.imports / "link.tif"
    link.symlink_to(outside)
    for uri in (str(outside), str(link), f"{datastore.imports}/../outside.tif", "/etc/passwd", "/nowhere"):
        with pytest.raises(InvalidArgument, match="imports") as caught:
            await ada.create_job(project.name, import_volume=job_pb2.ImportVolumeSpec(uri=uri))
        assert caught.value.reason == "PATH_NOT_ALLOWED"
    spec = job_pb2.ImportVolumeSpec(uri=str(datastore.imports / "missing.tif"))
    with pytest.raises(NotFound) as missing:
        await ada.create_job(project.name, import_volume=spec)
    assert missing.value.reason == "FILE_NOT_FOUND"


async def test_a_volume_id_is_taken_once(
    datastore: RunningDatastore, ada: Caller, project: Any, volume: Any
) -> None:
    spec = job_pb2.ImportVolumeSpec(uri=str(datastore.imports / "stack.tif"), volume_id="brain")
    with pytest.raises(AlreadyExists) as caught:
        await ada.create_job(project.name, import_volume=spec)
    assert caught.value.reason == "VOLUME_EXISTS"


async def test_a_repeated_import_request_makes_one_job(
    datastore: RunningDatastore, ada: Caller, project: Any, image: Any
) -> None:
    spec = job_pb2.ImportVolumeSpec(
        uri=str(datastore.write_tiff("stack.tif", image)),
        volume_id="once",
        voxel_size=geometry_pb2.VoxelSize(z_nm=1, y_nm=1, x_nm=1),
    )
    first = await ada.create_job(project.name, "the-same", import_volume=spec)
    await ada.finished(first)
    assert (await ada.create_job(project.name, "the-same", import_volume=spec)).name == first.name


async def test_a_parser_that_needs_too_much_memory_ends_its_import_alone(
    tmp_path: Path, keys: Path, image: Any
) -> None:
    async with running_datastore(tmp_path, keys, import_memory_bytes=150 << 20) as datastore:
        ada = datastore.as_user("ada")
        project = await ada.create_project("em")
        path = datastore.write_tiff("stack.tif", image)
        spec = {"uri": str(path), "voxel_size": geometry_pb2.VoxelSize(z_nm=1, y_nm=1, x_nm=1)}
        error = await job_error(ada, project.name, **spec)
        assert error.reason in ("OUT_OF_MEMORY", "WORKER_KILLED", "WORKER_FAILED"), error
        assert (await ada.datastore.GetProject(pb.GetProjectRequest(name=project.name))).project == project


async def test_a_cancelled_import_stops_its_process_and_leaves_nothing(
    datastore: RunningDatastore, ada: Caller, project: Any
) -> None:
    # A named pipe that nobody writes to: the parser waits for ever.
    path = datastore.imports / "endless.tif"
    os.mkfifo(path)
    spec = job_pb2.ImportVolumeSpec(uri=str(path))
    job = await ada.create_job(project.name, import_volume=spec)
    async for answer in ada.jobs.WatchJob(job_pb2.WatchJobRequest(name=job.name)):
        if answer.job.state == job_pb2.Job.STATE_RUNNING:
            break
    started = time.monotonic()
    await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=job.name))
    ended = await ada.finished(job)
    assert ended.state == job_pb2.Job.STATE_CANCELLED
    assert time.monotonic() - started < 30
