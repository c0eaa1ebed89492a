"""Labels that a lab already has, into layers and into annotations."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from biosegment.api.datastore.v1alpha1 import annotation_pb2, project_pb2, volume_pb2
from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.client.jobs import Jobs
from biosegment.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied
from biosegment.rpc.geometry import index_to_proto, region_to_proto
from biosegment.volume import Region
from tests.rpc.datastore_server import Caller, RunningDatastore

NOT_ANNOTATED = job_pb2.ImportLabelsSpec.ZERO_MEANING_NOT_ANNOTATED
BACKGROUND = job_pb2.ImportLabelsSpec.ZERO_MEANING_BACKGROUND
SHAPE = (6, 70, 90)


@pytest.fixture
def stored() -> Any:
    """(6, 70, 90) uint16 with the values 0, 5 and 900"""
    return np.random.default_rng(3).choice(np.array([0, 5, 900], np.uint16), SHAPE)


@pytest.fixture
def path(datastore: RunningDatastore, stored: Any) -> Path:
    return datastore.write_tiff("labels.tif", stored, compression="zlib")


async def begin(caller: Caller, volume: Any, path: Path, **fields: Any) -> Any:
    fields.setdefault("zero_meaning", NOT_ANNOTATED)
    spec = job_pb2.ImportLabelsSpec(volume=volume.name, uri=str(path), **fields)
    return await caller.create_job("projects/em", import_labels=spec)


async def imported(caller: Caller, volume: Any, path: Path, **fields: Any) -> Any:
    job = await caller.finished(await begin(caller, volume, path, **fields))
    assert job.state == job_pb2.Job.STATE_SUCCEEDED, job.error
    return job


async def error_of(caller: Caller, volume: Any, path: Path, **fields: Any) -> Any:
    job = await caller.finished(await begin(caller, volume, path, **fields))
    assert job.state == job_pb2.Job.STATE_FAILED
    return job.error


async def annotations_of(caller: Caller, volume: Any) -> list[Any]:
    request = annotation_pb2.ListAnnotationsRequest(parent=volume.name)
    return list((await caller.annotations.ListAnnotations(request)).annotations)


async def layers_of(caller: Caller, volume: Any) -> list[Any]:
    found = (await caller.datastore.ListLayers(pb.ListLayersRequest(parent=volume.name))).layers
    return [layer for layer in found if layer.kind != volume_pb2.Layer.KIND_ANNOTATIONS]


async def nothing_left(datastore: RunningDatastore) -> None:
    await datastore.parts.collector.collect()
    assert await datastore.parts.objects.list("projects/em/layers/") == []
    assert await datastore.parts.objects.list("projects/em/annotations/") == []
    assert list(Path(datastore.settings.scratch_dir).iterdir()) == []


async def test_labels_become_a_layer(ada: Caller, volume: Any, stored: Any, path: Path) -> None:
    job = await imported(
        ada, volume, path, values={5: 2, 900: 3}, zero_meaning=BACKGROUND, layer_id="old", display_name="Ours"
    )
    assert list(job.result.layers) == [f"{volume.name}/layers/old"]
    (layer,) = await layers_of(ada, volume)
    assert (layer.name, layer.display_name, layer.kind) == (
        job.result.layers[0],
        "Ours",
        volume_pb2.Layer.KIND_LABELS,
    )
    assert (layer.job, layer.HasField("region")) == (job.name, False)
    expected = np.select([stored == 5, stored == 900], [2, 3], 1)
    assert (await ada.read(layer.name) == expected).all()


async def test_an_imported_layer_is_what_a_segmentation_begins_with(
    ada: Caller, project: Any, volume: Any, stored: Any, path: Path
) -> None:
    (name,) = (await imported(ada, volume, path, other_values=3)).result.layers
    spec = job_pb2.ExportSpec(
        source=volume.name, format=job_pb2.ExportSpec.FORMAT_OME_TIFF, segmentation=True
    )
    created = await ada.create_job(project.name, export=spec)
    assert created.spec.export.prediction == name
    assert (await ada.finished(created)).state == job_pb2.Job.STATE_SUCCEEDED


async def test_ids_of_objects_become_a_layer_of_instances(
    datastore: RunningDatastore, ada: Caller, volume: Any
) -> None:
    ids = np.random.default_rng(4).integers(0, 1 << 31, SHAPE).astype(np.uint32)
    path = datastore.write_tiff("ids.tif", ids)
    (name,) = (await imported(ada, volume, path, instances=True, zero_meaning=0)).result.layers
    (layer,) = await layers_of(ada, volume)
    assert layer.kind == volume_pb2.Layer.KIND_INSTANCES
    read = await ada.read(name)
    assert (read.dtype.name, (read == ids).all()) == ("uint32", True)
    assert layer.class_value == 0
    job = await imported(ada, volume, path, instances=True, zero_meaning=0, class_scope=[3], layer_id="known")
    known = (await ada.datastore.GetLayer(pb.GetLayerRequest(name=job.result.layers[0]))).layer
    assert (known.kind, known.class_value) == (volume_pb2.Layer.KIND_INSTANCES, 3)


@pytest.mark.parametrize("zero", [NOT_ANNOTATED, BACKGROUND])
async def test_labels_become_annotations_that_models_train_on(
    ada: Caller, volume: Any, stored: Any, path: Path, zero: Any
) -> None:
    job = await imported(
        ada, volume, path, values={5: 1, 900: 3}, zero_meaning=zero, class_scope=[2, 3], as_annotations=True
    )
    (made,) = await annotations_of(ada, volume)
    assert list(job.result.annotations) == [made.name]
    assert (made.author, made.comment, list(made.class_scope)) == ("ada", "labels.tif", [2, 3])
    assert made.kind == annotation_pb2.Annotation.KIND_DENSE
    assert made.state == annotation_pb2.Annotation.STATE_PENDING
    expected = np.select([stored == 5, stored == 900], [1, 3], int(zero == BACKGROUND))
    counts = {value: int((expected == value).sum()) for value in (1, 3)}
    assert dict(made.voxel_counts) == counts
    assert (await ada.read(f"{volume.name}/layers/annotations") == expected).all()


async def test_an_offset_and_an_extent_say_where_labels_lie(
    datastore: RunningDatastore, ada: Caller, volume: Any, stored: Any
) -> None:
    path = datastore.write_tiff("part.tif", stored[:4, :30, :40])
    error = await error_of(ada, volume, path, other_values=2)
    assert error.reason == "SHAPES_DIFFER"
    assert "(4, 30, 40)" in error.message
    assert "(6, 70, 90)" in error.message
    offset = index_to_proto((1, 35, 50))
    (whole,) = (await imported(ada, volume, path, other_values=2, offset=offset)).result.layers
    expected = np.zeros(SHAPE, np.uint8)
    expected[1:5, 35:65, 50:90] = np.where(stored[:4, :30, :40] > 0, 2, 0)
    assert (await ada.read(whole) == expected).all()
    extent = Region.of_shape((2, 9, 8), (2, 40, 60))
    spec = {"other_values": 2, "offset": offset, "extent": region_to_proto(extent)}
    await imported(ada, volume, path, as_annotations=True, **spec)
    inside = np.zeros(SHAPE, np.uint8)
    inside[extent.slices] = expected[extent.slices]
    assert (await ada.read(f"{volume.name}/layers/annotations") == inside).all()
    outside = await error_of(ada, volume, path, other_values=2, offset=index_to_proto((3, 0, 0)))
    assert outside.reason == "LABELS_OUT_OF_BOUNDS"


@pytest.mark.parametrize("as_annotations", [False, True])
async def test_values_that_nothing_is_said_about_fail_with_the_values_and_leave_nothing(
    datastore: RunningDatastore, ada: Caller, volume: Any, path: Path, as_annotations: bool
) -> None:
    error = await error_of(ada, volume, path, values={5: 2}, as_annotations=as_annotations)
    assert error.reason == "UNMAPPED_VALUES"
    assert "900" in error.message
    assert await layers_of(ada, volume) == []
    assert await annotations_of(ada, volume) == []
    await nothing_left(datastore)


async def test_an_uploaded_file_is_imported_and_dropped(
    datastore: RunningDatastore, ada: Caller, project: Any, volume: Any, path: Path, stored: Any
) -> None:
    from tests.rpc.datastore.test_datastore_transfers import begin as begin_upload
    from tests.rpc.datastore.test_datastore_transfers import send

    data = await asyncio.to_thread(path.read_bytes)
    upload = await begin_upload(ada, project, len(data), "mine.tif")
    await send(ada, upload.name, data)
    spec = job_pb2.ImportLabelsSpec(
        volume=volume.name,
        upload=upload.name,
        other_values=2,
        zero_meaning=NOT_ANNOTATED,
        as_annotations=True,
    )
    job = await ada.finished(await ada.create_job(project.name, import_labels=spec))
    assert job.state == job_pb2.Job.STATE_SUCCEEDED, job.error
    (made,) = await annotations_of(ada, volume)
    assert made.comment == "mine.tif"
    with pytest.raises(NotFound):
        await ada.datastore.GetUpload(pb.GetUploadRequest(name=upload.name))


async def test_a_layer_id_is_taken_once(ada: Caller, volume: Any, path: Path) -> None:
    await imported(ada, volume, path, other_values=2, layer_id="one")
    with pytest.raises(AlreadyExists) as caught:
        await begin(ada, volume, path, other_values=2, layer_id="one")
    assert caught.value.reason == "LAYER_EXISTS"


async def test_who_may_not_import_volumes_may_not_import_labels(
    datastore: RunningDatastore, ada: Caller, project: Any, volume: Any, path: Path
) -> None:
    member = project_pb2.Member(name=f"{project.name}/members/bob", role=project_pb2.ROLE_ANNOTATOR)
    await ada.datastore.SetMember(pb.SetMemberRequest(member=member))
    with pytest.raises(PermissionDenied):
        await begin(datastore.as_user("bob"), volume, path, other_values=2, as_annotations=True)


async def test_a_cancelled_import_leaves_nothing(
    datastore: RunningDatastore, ada: Caller, volume: Any, tmp_path: Path
) -> None:
    path = datastore.imports / "endless.tif"
    os.mkfifo(path)  # nobody writes to it: the parser waits for ever
    job = await begin(ada, volume, path, other_values=2)
    async for answer in ada.jobs.WatchJob(job_pb2.WatchJobRequest(name=job.name)):
        if answer.job.state == job_pb2.Job.STATE_RUNNING:
            break
    await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=job.name))
    assert (await ada.finished(job)).state == job_pb2.Job.STATE_CANCELLED
    assert await layers_of(ada, volume) == []
    await nothing_left(datastore)


async def test_an_import_over_earlier_annotations_is_laid_upon_them(
    ada: Caller, volume: Any, stored: Any, path: Path
) -> None:
    region = Region.of_shape((1, 70, 90))
    await ada.commit(volume.name, region, np.full(region.shape, 2))
    await imported(ada, volume, path, values={5: 3, 900: 0}, as_annotations=True)
    expected = np.where(stored == 5, 3, 0)
    expected[0] = np.where(stored[0] == 5, 3, 2)
    assert (await ada.read(f"{volume.name}/layers/annotations") == expected).all()


async def test_real_mitochondria_are_imported(
    datastore: RunningDatastore, ada: Caller, project: Any, shared: Path
) -> None:
    for name in ("raw", "mito"):
        data = await asyncio.to_thread(tifffile.imread, shared / f"data/vnc/{name}.tif")
        datastore.write_tiff(f"{name}.tif", data)
    volume = await ada.import_volume(project.name, datastore.imports / "raw.tif", "vnc")
    job = await imported(
        ada,
        volume,
        datastore.imports / "mito.tif",
        other_values=2,
        zero_meaning=BACKGROUND,
        as_annotations=True,
    )
    found = await annotations_of(ada, volume)
    assert sorted(job.result.annotations) == sorted(each.name for each in found)
    assert len(found) == 16  # blocks of 256 x 256 in 1024 x 1024
    read = await ada.read(f"{volume.name}/layers/annotations")
    assert (read == np.where(data > 0, 2, 1)).all()


async def test_the_client_imports_labels(
    datastore: RunningDatastore, ada: Caller, volume: Any, stored: Any
) -> None:
    path = datastore.write_tiff("part.tif", stored[:4])
    jobs = Jobs(datastore._channels[-1])
    with pytest.raises(InvalidArgument, match="not_annotated or background"):
        await jobs.import_labels(volume.name, str(path), zero="nothing", other_values=2)
    extent = Region.of_shape((2, 70, 90), (2, 0, 0))
    job = await jobs.import_labels(
        volume.name,
        str(path),
        zero="background",
        values={5: 0},
        other_values=2,
        class_scope=[2, 3],
        as_annotations=True,
        offset=(1, 0, 0),
        extent=extent,
        display_name="from the old project",
        axes="zyx",
    )
    done = await jobs.wait(job.name)
    (made,) = await annotations_of(ada, volume)
    assert (made.comment, list(made.class_scope), made.name) == (
        "from the old project",
        [2, 3],
        done.annotations[0],
    )
    expected = np.zeros(SHAPE, np.uint8)
    expected[2:4] = np.select([stored[1:3] == 5, stored[1:3] == 900], [0, 2], 1)
    assert (await ada.read(f"{volume.name}/layers/annotations") == expected).all()
