from __future__ import annotations

import asyncio
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from benchmarks.partition import same_partition
from biosegment.api.datastore.v1alpha1 import datastore_pb2, volume_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.client.jobs import Jobs
from biosegment.client.volumes import Volumes
from biosegment.volume import Region

SHAPE = (6, 300, 520)
BLOCKS = 6
BACKGROUND_ZERO = job_pb2.ImportLabelsSpec.ZERO_MEANING_BACKGROUND
MANY = {"BIOSEGMENT_TRAINER__RAY_CPUS": "2", "BIOSEGMENT_TRAINER__TORCH_THREADS": "1"}


def mask() -> Any:
    """Discs of two classes, some over the faces and corners of blocks; and a bar over three blocks."""
    rng = np.random.default_rng(5)
    z, y, x = np.indices(SHAPE)
    values = np.zeros(SHAPE, np.uint8)
    for number in range(60):
        cz, cy, cx = rng.uniform((0, 0, 0), SHAPE)
        disc = ((z - cz) * 4) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(6, 14) ** 2
        values[disc] = 3 if number % 4 == 0 else 2
    values[2, 255:257, 250:515] = 2
    return values


async def import_layers(datastore: Any, project_id: str = "em") -> tuple[Any, str]:
    """Volume `em` of a new project with a labels layer and a layer of instances of somebody else's."""
    ada = datastore.as_user("ada")
    project = await ada.create_project(project_id, ("mitochondria", "vesicle"))
    rng = np.random.default_rng(0)
    path = datastore.write_tiff("em.tif", rng.integers(0, 255, SHAPE, np.uint8))
    size = geometry_pb2.VoxelSize(z_nm=40, y_nm=10, x_nm=10)
    volume = await ada.import_volume(project.name, path, "em", voxel_size=size)
    labels = datastore.write_tiff("labels.tif", mask())
    spec = job_pb2.ImportLabelsSpec(
        volume=volume.name,
        uri=str(labels),
        values={2: 2, 3: 3},
        zero_meaning=BACKGROUND_ZERO,
        layer_id="labels",
    )
    job = await ada.finished(await ada.create_job(project.name, import_labels=spec))
    assert job.state == job_pb2.Job.STATE_SUCCEEDED, job
    return volume, f"{volume.name}/layers/labels"


@pytest.fixture
def trainer(stopped_trainer) -> Any:
    return stopped_trainer


async def again(trainer: Any, **environment: str) -> Any:
    await trainer.stop()
    await trainer.start(**environment)
    return trainer.as_user("ada")


def arm(folder: Path, point: str) -> dict[str, str]:
    (folder / "failpoint").write_text(point)
    return {"BIOSEGMENT_FAILPOINT_FILE": str(folder / "failpoint")}


def spec(layer: str, **fields: Any) -> Any:
    fields = {"class_value": 2, "method": "connected_components", "connectivity": 6} | fields
    return job_pb2.InstancesSpec(layer=layer, **fields)


def expected(min_size: int = 1) -> Any:
    ids = ndimage.label(mask() == 2)[0]
    sizes = np.bincount(ids.ravel())
    return np.where(sizes[ids] >= min_size, ids, 0)


async def wait_for_piece(folder: Path, stage: str) -> None:
    async with asyncio.timeout(100):
        while not list((folder / "objects" / "jobs").rglob(f"instances/*/{stage}/*")):
            await asyncio.sleep(0.02)


async def try_probabilities_and_a_boundary(ada: Any, reader: Any, labels: str) -> None:
    """Objects in probabilities at half the resolution, and what a membrane parts."""
    volumes, jobs = Volumes(reader.channel), Jobs(ada.channel)
    volume = labels.rpartition("/layers/")[0]
    likely = np.where(mask()[:, ::2, ::2] == 2, np.uint8(180), np.uint8(140))
    coarse = await volumes.write_layer(
        volume, likely, kind="probabilities", class_value=2, downsampling=(1, 2, 2)
    )
    for threshold, truth in ((0.7, likely == 180), (0.5, likely > 0)):
        asked = await jobs.instances(coarse.name, threshold=threshold, connectivity=6)
        found = (await ada.succeeded(await ada.job(asked.name))).result.layers[0]
        assert (await volumes.layer(found)).downsampling == (1, 2, 2)
        assert same_partition(await reader.read(found), ndimage.label(truth)[0])

    whole = expected()
    largest = int(np.bincount(whole.ravel())[1:].argmax()) + 1
    middle = round(np.nonzero(whole == largest)[2].mean())
    membrane = np.zeros(SHAPE, np.uint8)
    membrane[:, :, middle - 1 : middle + 2] = 255
    ends = await volumes.write_layer(volume, membrane, kind="probabilities", class_value=3)
    asked = await jobs.instances(labels, class_value=2, method="watershed", boundary_layer=ends.name)
    parted = await reader.read((await ada.succeeded(await ada.job(asked.name))).result.layers[0])
    left, right = (
        parted[part][whole[part] == largest]
        for part in (np.s_[:, :, : middle - 1], np.s_[:, :, middle + 2 :])
    )
    assert not set(left[left > 0]) & set(right[right > 0])
    assert (left > 0).any()
    assert (right > 0).any()


@pytest.mark.timeout(400)
async def test_objects_of_a_layer_are_found_by_workers_that_die_and_can_be_read_and_exported(
    datastore, trainer, tmp_path
):
    _, labels = await import_layers(datastore)
    reader = datastore.as_user("ada")
    ada = await again(trainer, **MANY, **arm(tmp_path, "trainer.instances.label_done"))
    job = await ada.succeeded(await ada.create_job(instances=spec(labels, min_size_voxels=200)), 300)
    assert not (tmp_path / "failpoint").exists()
    assert job.attempt == 1
    pieces = 2 * BLOCKS + 1
    assert (job.progress.done, job.progress.total) == (pieces, pieces)
    (name,) = job.result.layers
    layer = (await reader.datastore.GetLayer(datastore_pb2.GetLayerRequest(name=name))).layer
    assert (layer.kind, layer.state) == (volume_pb2.Layer.KIND_INSTANCES, volume_pb2.Layer.STATE_COMMITTED)
    assert (layer.class_value, layer.source_layer, layer.job) == (2, labels, job.name)
    ids = await reader.read(name)
    assert ids.dtype == np.uint32
    truth = expected(200)
    assert same_partition(ids, truth)
    found = len(np.unique(truth)) - 1
    dropped = len(np.unique(expected())) - 1 - found
    assert dropped
    assert f"{found} objects; {dropped} of fewer than 200 voxels were dropped" in await ada.log(job.name)
    assert ids.max() == found
    assert not list((tmp_path / "objects" / "jobs").rglob("*.*"))

    # On a Ray that is warm: a watershed, and an export of the ids.
    asked = await Jobs(ada.channel).instances(labels, class_value=3, method="watershed", seed_distance_nm=60)
    parted = await ada.succeeded(await ada.job(asked.name))
    objects = await reader.read(parted.result.layers[0])
    assert ((objects > 0) == (mask() == 3)).all()
    await try_probabilities_and_a_boundary(ada, reader, labels)
    region = Region((0, 200, 200), (6, 300, 520))
    export = job_pb2.ExportSpec(source=name, format=job_pb2.ExportSpec.FORMAT_TIFF)
    export.region.start.CopyFrom(geometry_pb2.Index(z=0, y=200, x=200))
    export.region.stop.CopyFrom(geometry_pb2.Index(z=6, y=300, x=520))
    done = await reader.finished(await reader.create_job("projects/em", export=export))
    assert done.state == job_pb2.Job.STATE_SUCCEEDED, done
    request = datastore_pb2.ReadArtifactRequest(name=done.result.artifact)
    data = b"".join([piece.data async for piece in reader.datastore.ReadArtifact(request)])
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(data)), ids[region.slices])


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_a_killed_trainer_goes_on_with_what_is_missing(datastore, trainer, tmp_path):
    _, labels = await import_layers(datastore)
    ada = await again(trainer, **MANY, **arm(tmp_path, "trainer.instances.before_commit"))
    job = await ada.create_job(instances=spec(labels, method="watershed", seed_distance_nm=60))
    async with asyncio.timeout(200):
        await trainer.process.wait()
    await trainer.start(**MANY)
    last = await ada.succeeded(job, 200)
    assert last.attempt == 2
    counts = re.search(r"(\d+) pieces of work were done before; (\d+) are left", await ada.log(job.name))
    assert counts
    # Only the layer is written anew.
    assert (int(counts[1]), int(counts[2])) == (2 * BLOCKS + 2, BLOCKS)
    ids = await datastore.as_user("ada").read(last.result.layers[0])
    assert ((ids > 0) == (mask() == 2)).all()


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_a_search_that_is_cancelled_leaves_nothing_and_can_be_tried_again(datastore, trainer, tmp_path):
    volume, labels = await import_layers(datastore)
    ada = await again(trainer, **MANY)
    job = await ada.create_job(instances=spec(labels))
    await wait_for_piece(tmp_path, "label")
    await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=job.name))
    last = await ada.finished(job)
    assert last.state == job_pb2.Job.STATE_CANCELLED
    service = datastore.as_service("trainer").datastore
    listed = (await service.ListLayers(datastore_pb2.ListLayersRequest(parent=volume.name))).layers
    assert [layer.name for layer in listed] == [labels]
    assert not [path for path in (tmp_path / "objects" / "jobs").rglob("*") if path.is_file()]
    await ada.jobs.RetryJob(job_pb2.RetryJobRequest(name=job.name))
    ended = await ada.succeeded(await ada.job(job.name))
    assert same_partition(await datastore.as_user("ada").read(ended.result.layers[0]), expected())
