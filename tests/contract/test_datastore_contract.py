"""What the datastore does with every object store: one suite, through a real server over RPC, on each of them."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biosegment.api.datastore.v1alpha1 import annotation_pb2, volume_pb2
from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.errors import NotFound
from biosegment.storage.arrays import Arrays
from biosegment.volume import Region
from tests.rpc.datastore.test_datastore_layers import commit, create, write
from tests.rpc.datastore.test_datastore_transfers import begin, download, send
from tests.rpc.datastore_server import Caller, RunningDatastore, running_datastore

pytestmark = pytest.mark.timeout(240)

SIZE = geometry_pb2.VoxelSize(z_nm=30, y_nm=8, x_nm=8)


@pytest.fixture
def store_values(store_settings: Any) -> dict[str, Any]:
    """The store as settings of a datastore."""
    return {name: getattr(store_settings, name) for name in type(store_settings).model_fields}


@pytest.fixture
async def datastore(tmp_path: Path, keys: Path, store_values: dict[str, Any]) -> Any:
    async with running_datastore(tmp_path, keys, **store_values) as running:
        yield running


@pytest.fixture
def ada(datastore: RunningDatastore) -> Caller:
    return datastore.as_user("ada")


@pytest.fixture
def image() -> Any:
    """(20, 150, 170) uint8: more than one chunk along every axis."""
    return np.random.default_rng(1).integers(0, 256, (20, 150, 170), np.uint8)


@pytest.fixture
async def project(ada: Caller) -> Any:
    return await ada.create_project("em", ("mitochondria", "membrane"))


@pytest.fixture
async def volume(datastore: RunningDatastore, ada: Caller, project: Any, image: Any) -> Any:
    return await ada.import_volume(project.name, datastore.write_tiff("stack.tif", image), "brain")


async def keys_below(datastore: RunningDatastore, prefix: str) -> list[str]:
    return await datastore.parts.objects.list(prefix)


async def test_a_volume_is_imported_read_and_deleted(
    datastore: RunningDatastore, ada: Caller, volume: Any, image: Any
) -> None:
    assert (await ada.read(volume.name) == image).all()
    region = Region.of_shape((5, 60, 70), (9, 80, 90))
    assert (await ada.read(volume.name, region) == image[region.slices]).all()
    again = Arrays(datastore.settings).open(
        f"{volume.uri.removeprefix(datastore.settings.object_store_url + '/')}/{volume.levels[0].path}"
    )
    assert (again.read(region) == image[region.slices]).all()
    await ada.datastore.DeleteVolume(pb.DeleteVolumeRequest(name=volume.name))
    with pytest.raises(NotFound):
        await ada.read(volume.name)
    await datastore.parts.collector.collect()
    assert await keys_below(datastore, "volumes/") == []


async def test_many_regions_are_read_at_once(ada: Caller, volume: Any, image: Any) -> None:
    regions = [Region.of_shape((3, 40, 50), (z, y, x)) for z in (0, 8, 16) for y in (0, 99) for x in (0, 110)]
    for region, voxels in zip(
        regions, await asyncio.gather(*(ada.read(volume.name, region) for region in regions)), strict=True
    ):
        assert (voxels == image[region.slices]).all()


async def test_a_failed_import_leaves_nothing(datastore: RunningDatastore, ada: Caller, project: Any) -> None:
    path = datastore.write_tiff("broken.tif", np.zeros((4, 90, 90), np.uint8))
    path.write_bytes(path.read_bytes()[:9000])
    spec = job_pb2.ImportVolumeSpec(uri=str(path), voxel_size=SIZE)
    job = await ada.finished(await ada.create_job(project.name, import_volume=spec))
    assert job.state == job_pb2.Job.STATE_FAILED
    await datastore.parts.collector.collect()
    assert await keys_below(datastore, "volumes/") == []


async def test_a_layer_is_written_committed_read_and_deleted(
    datastore: RunningDatastore, ada: Caller, volume: Any, image: Any
) -> None:
    trainer = datastore.as_service("trainer")
    layer = await create(trainer, volume, "prediction")
    labels = np.where(image > 128, 2, 1).astype(np.uint8)
    await write(trainer, layer, labels)
    with pytest.raises(NotFound):
        await ada.read(layer.name)
    await commit(trainer, layer)
    assert (await ada.read(layer.name) == labels).all()
    await ada.datastore.DeleteLayer(pb.DeleteLayerRequest(name=layer.name))
    await datastore.parts.collector.collect()
    assert await keys_below(datastore, "projects/em/layers/") == []


async def test_annotations_are_committed_projected_reverted_and_rebuilt(
    datastore: RunningDatastore, ada: Caller, volume: Any, image: Any
) -> None:
    first, second = Region.of_shape((1, 30, 30), (2, 5, 5)), Region.of_shape((2, 40, 40), (2, 20, 20))
    one = await ada.commit(volume.name, first, np.full(first.shape, 2))
    two = await ada.commit(volume.name, second, np.full(second.shape, 3))
    expected = np.zeros(image.shape, np.uint8)
    expected[first.slices], expected[second.slices] = 2, 3
    layer = f"{volume.name}/layers/annotations"
    assert (await ada.read(layer) == expected).all()
    await ada.annotations.RevertAnnotation(annotation_pb2.RevertAnnotationRequest(name=two.name))
    expected[second.slices] = 0
    expected[first.slices] = 2
    assert (await ada.read(layer) == expected).all()
    await ada.annotations.RebuildAnnotationsLayer(
        annotation_pb2.RebuildAnnotationsLayerRequest(parent=volume.name)
    )
    assert (await ada.read(layer) == expected).all()
    assert one.name != two.name


async def test_what_was_acknowledged_is_there_for_the_next_process(
    tmp_path: Path, keys: Path, store_values: dict[str, Any], image: Any
) -> None:
    region = Region.of_shape((1, 30, 30), (2, 5, 5))
    async with running_datastore(tmp_path, keys, **store_values) as datastore:
        ada = datastore.as_user("ada")
        project = await ada.create_project("em")
        volume = await ada.import_volume(project.name, datastore.write_tiff("stack.tif", image))
        await ada.commit(volume.name, region, np.full(region.shape, 2))
    async with running_datastore(tmp_path, keys, **store_values) as datastore:
        ada = datastore.as_user("ada")
        assert (await ada.read(volume.name) == image).all()
        assert (await ada.read(f"{volume.name}/layers/annotations"))[region.slices].min() == 2


async def test_an_upload_is_resumed_imported_and_removed(
    datastore: RunningDatastore, ada: Caller, project: Any, image: Any
) -> None:
    data = datastore.write_tiff("sent.tif", image).read_bytes()
    upload = await begin(ada, project, len(data))
    await send(ada, upload.name, data[:100_000])
    present = (await ada.datastore.GetUpload(pb.GetUploadRequest(name=upload.name))).upload
    assert present.received_bytes == 100_000
    await send(ada, upload.name, data[100_000:], 100_000)
    spec = job_pb2.ImportVolumeSpec(upload=upload.name, voxel_size=SIZE)
    job = await ada.finished(await ada.create_job(project.name, import_volume=spec))
    assert job.state == job_pb2.Job.STATE_SUCCEEDED, job.error
    assert (await ada.read(job.result.volume) == image).all()
    await datastore.parts.collector.collect()
    assert await keys_below(datastore, "projects/em/uploads/") == []


async def test_a_dropped_upload_takes_its_bytes_with_it(
    datastore: RunningDatastore, ada: Caller, project: Any
) -> None:
    upload = await begin(ada, project, 1000)
    await send(ada, upload.name, bytes(600))
    assert await keys_below(datastore, "projects/em/uploads/")
    await ada.datastore.DeleteUpload(pb.DeleteUploadRequest(name=upload.name))
    await datastore.parts.collector.collect()
    assert await keys_below(datastore, "projects/em/uploads/") == []


async def test_an_export_is_fetched_whole_and_from_an_offset(ada: Caller, project: Any, volume: Any) -> None:
    spec = job_pb2.ExportSpec(format=job_pb2.ExportSpec.FORMAT_OME_TIFF, source=volume.name)
    job = await ada.finished(await ada.create_job(project.name, export=spec))
    assert job.state == job_pb2.Job.STATE_SUCCEEDED, job.error
    artifact = (await ada.datastore.GetArtifact(pb.GetArtifactRequest(name=job.result.artifact))).artifact
    data = await download(ada, artifact.name)
    assert hashlib.sha256(data).hexdigest() == artifact.sha256
    assert await download(ada, artifact.name, 123_456) == data[123_456:]


async def test_garbage_is_told_and_removed_and_nothing_else(
    datastore: RunningDatastore, ada: Caller, volume: Any, image: Any
) -> None:
    region = Region.of_shape((1, 30, 30), (2, 5, 5))
    await ada.commit(volume.name, region, np.full(region.shape, 2))
    # What is read is laid into the layer first, and not while objects are counted.
    await ada.read(f"{volume.name}/layers/annotations")
    doomed = await ada.import_volume("projects/em", datastore.imports / "stack.tif", "doomed")
    await ada.datastore.DeleteVolume(pb.DeleteVolumeRequest(name=doomed.name))
    root = datastore.as_user("root", is_admin=True)
    told = await root.datastore.CollectGarbage(pb.CollectGarbageRequest(dry_run=True))
    before = await keys_below(datastore, "")
    removed = await root.datastore.CollectGarbage(pb.CollectGarbageRequest())
    assert told.objects == removed.objects > 0
    after = await keys_below(datastore, "")
    assert len(before) - len(after) == removed.objects
    assert (await root.datastore.CollectGarbage(pb.CollectGarbageRequest(dry_run=True))).objects == 0
    assert (await ada.read(volume.name) == image).all()
    assert (await ada.read(f"{volume.name}/layers/annotations"))[region.slices].min() == 2


async def test_a_deleted_project_leaves_no_object(
    datastore: RunningDatastore, ada: Caller, project: Any, volume: Any
) -> None:
    region = Region.of_shape((1, 8, 8))
    await ada.commit(volume.name, region, np.full(region.shape, 2))
    assert (await ada.read(f"{volume.name}/layers/annotations"))[region.slices].min() == 2
    layer = await create(datastore.as_service("trainer"), volume, kind=volume_pb2.Layer.KIND_LABELS)
    assert layer.name
    await ada.datastore.DeleteProject(pb.DeleteProjectRequest(name=project.name, force=True))
    await datastore.parts.collector.collect()
    assert await keys_below(datastore, "") == []
