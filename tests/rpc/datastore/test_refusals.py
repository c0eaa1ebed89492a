"""Requests that cannot be, each refused with its reason, and nothing changes: one datastore for all of them."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from biosegment.api.datastore.v1alpha1 import annotation_pb2, volume_pb2
from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.errors import BiosegmentError, InvalidArgument, NotFound
from biosegment.rpc.geometry import index_to_proto, region_to_proto
from biosegment.volume import Index, Region
from tests.rpc.datastore.test_datastore_annotations import commit_request
from tests.rpc.datastore.test_datastore_layers import create
from tests.rpc.datastore.test_label_import import NOT_ANNOTATED
from tests.rpc.datastore_server import Caller, RunningDatastore, running_datastore

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZE = geometry_pb2.Index
OUTSIDE = region_to_proto(Region(Index(5, 0, 0), Index(7, 10, 10)))
HUGE = region_to_proto(Region(Index(0, 0, 0), Index(6, 70, 90)))
BOMB = zlib.compress(bytes(50_000_000))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def datastore(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> AsyncIterator[RunningDatastore]:
    async with running_datastore(tmp_path_factory.mktemp("refusals"), keys) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ada(datastore: RunningDatastore) -> Caller:
    return datastore.as_user("ada")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def project(ada: Caller) -> Any:
    return await ada.create_project("em", ("mitochondria", "membrane"))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def volume(datastore: RunningDatastore, ada: Caller, project: Any) -> Any:
    image = np.random.default_rng(1).integers(0, 256, (6, 70, 90), np.uint8)
    return await ada.import_volume(project.name, datastore.write_tiff("stack.tif", image), "brain")


@pytest.mark.parametrize(
    ("fields", "kind", "reason"),
    [
        ({"kind": volume_pb2.Layer.KIND_UNSPECIFIED}, InvalidArgument, "BAD_LAYER"),
        ({"kind": volume_pb2.Layer.KIND_ANNOTATIONS}, InvalidArgument, "BAD_LAYER"),
        ({"kind": volume_pb2.Layer.KIND_INSTANCES, "source_layer": "here"}, InvalidArgument, "BAD_NAME"),
        (
            {
                "kind": volume_pb2.Layer.KIND_INSTANCES,
                "source_layer": "projects/em/volumes/brain/layers/annotations",
            },
            InvalidArgument,
            "BAD_LAYER",
        ),
        ({"source_layer": "projects/em/volumes/brain/layers/annotations"}, InvalidArgument, "BAD_LAYER"),
        ({"kind": volume_pb2.Layer.KIND_PROBABILITIES}, InvalidArgument, "BAD_LAYER"),
        ({"kind": volume_pb2.Layer.KIND_PROBABILITIES, "class_value": 9}, InvalidArgument, "UNKNOWN_CLASS"),
        ({"kind": volume_pb2.Layer.KIND_SCORE_MAP}, InvalidArgument, "BAD_LAYER"),
        ({"measure": "entropy"}, InvalidArgument, "BAD_LAYER"),
        ({"channels": 2}, InvalidArgument, "BAD_LAYER"),
        ({"channels": -1}, InvalidArgument, "BAD_LAYER"),
        ({"data_type": geometry_pb2.DATA_TYPE_FLOAT32}, InvalidArgument, "BAD_LAYER"),
        ({"downsampling": SIZE(z=0, y=1, x=1)}, InvalidArgument, "BAD_LAYER"),
        ({"downsampling": SIZE(z=1, y=1000, x=1)}, InvalidArgument, "BAD_LAYER"),
        ({"chunk_shape": SIZE(z=0, y=1, x=1)}, InvalidArgument, "BAD_LAYER"),
        ({"chunk_shape": SIZE(z=9999, y=9999, x=9999)}, InvalidArgument, "BAD_LAYER"),
        (
            {"chunk_shape": SIZE(z=2, y=16, x=16), "shard_shape": SIZE(z=3, y=32, x=32)},
            InvalidArgument,
            "BAD_LAYOUT",
        ),
        ({"region": region_to_proto(Region.of_shape((9, 9, 9)))}, InvalidArgument, "REGION_OUT_OF_BOUNDS"),
        ({"layer_id": "annotations"}, InvalidArgument, "BAD_ID"),
        ({"layer_id": "Not An Id"}, InvalidArgument, "BAD_ID"),
    ],
)
async def test_a_wrong_layer_is_refused(
    datastore: RunningDatastore,
    volume: Any,
    fields: dict[str, Any],
    kind: type[Exception],
    reason: str,
) -> None:
    trainer = datastore.as_service("trainer")
    with pytest.raises(kind) as caught:
        await create(trainer, volume, **fields)
    assert caught.value.reason == reason  # type: ignore[attr-defined]
    assert await datastore.parts.objects.list("projects/em/layers/") == []


@pytest.mark.parametrize(
    ("changes", "kind", "reason"),
    [
        ({"labels": b"\2" * 1023}, InvalidArgument, "LABELS_WRONG_SIZE"),
        ({"labels": b""}, InvalidArgument, "LABELS_WRONG_SIZE"),
        ({"labels": b"\x09" * 1024}, InvalidArgument, "UNKNOWN_CLASS"),
        ({"class_scope": [2], "labels": b"\3" * 1024}, InvalidArgument, "UNKNOWN_CLASS"),
        ({"class_scope": [7]}, InvalidArgument, "UNKNOWN_CLASS"),
        (
            {"labels": b"junk", "encoding": annotation_pb2.LABELS_ENCODING_ZLIB},
            InvalidArgument,
            "BAD_LABELS_ENCODING",
        ),
        (
            {"labels": BOMB, "encoding": annotation_pb2.LABELS_ENCODING_ZLIB},
            InvalidArgument,
            "LABELS_WRONG_SIZE",
        ),
        ({"region": OUTSIDE}, InvalidArgument, "REGION_OUT_OF_BOUNDS"),
        ({"region": HUGE}, InvalidArgument, "LABELS_WRONG_SIZE"),
        ({"kind": annotation_pb2.Annotation.KIND_UNSPECIFIED}, InvalidArgument, "BAD_KIND"),
        ({"kind": annotation_pb2.Annotation.KIND_INSTANCES}, InvalidArgument, "BAD_SCOPE"),
        (
            {"kind": annotation_pb2.Annotation.KIND_INSTANCES, "class_scope": [2]},
            InvalidArgument,
            "LABELS_WRONG_SIZE",
        ),
        ({"draft": "projects/em/volumes/other/drafts/mine"}, InvalidArgument, "BAD_DRAFT"),
        ({"request_id": ""}, InvalidArgument, "BAD_REQUEST_ID"),
        ({"work_time_s": -1.0}, InvalidArgument, "BAD_WORK_TIME"),
        ({"parent": "projects/em/volumes/none"}, NotFound, "VOLUME_NOT_FOUND"),
        ({"parent": "projects/none/volumes/none"}, NotFound, "PROJECT_NOT_FOUND"),
        ({"parent": "nonsense"}, InvalidArgument, "BAD_NAME"),
        ({"sample": "projects/em/samples/s"}, InvalidArgument, "LEASE_MISSING"),
        ({"sample": "projects/em/samples/s", "lease_token": "x.y.z"}, InvalidArgument, "BAD_LEASE"),
    ],
)
async def test_a_wrong_commit_is_refused_and_leaves_nothing(
    datastore: RunningDatastore,
    ada: Caller,
    volume: Any,
    changes: dict[str, Any],
    kind: type[Exception],
    reason: str,
) -> None:
    with pytest.raises(kind) as caught:
        await ada.annotations.CommitAnnotation(commit_request(volume, **changes))
    assert caught.value.reason == reason  # type: ignore[attr-defined]
    assert await datastore.parts.objects.list("projects/em/annotations/") == []
    listed = await ada.annotations.ListAnnotations(
        annotation_pb2.ListAnnotationsRequest(parent="projects/em")
    )
    assert not listed.annotations


@pytest.mark.parametrize(
    ("spec", "kind", "reason"),
    [
        ({}, InvalidArgument, "SOURCE_MISSING"),
        ({"uri": "s3://somewhere/x"}, InvalidArgument, "BAD_URI"),
        ({"uri": "relative.tif"}, InvalidArgument, "BAD_URI"),
        ({"uri": "/x", "volume_id": "Not An Id"}, InvalidArgument, "BAD_ID"),
        ({"uri": "/x", "axes": "pqr"}, InvalidArgument, "BAD_AXES"),
        ({"uri": "/x", "axes": "zzyx"}, InvalidArgument, "BAD_AXES"),
        ({"uri": "/x", "channel": -1}, InvalidArgument, "BAD_CHANNEL"),
        ({"uri": "/x", "time_point": -1}, InvalidArgument, "BAD_TIME_POINT"),
        ({"upload": "projects/em/uploads/none", "reference": True}, InvalidArgument, "NOT_REFERABLE"),
        ({"uri": "/x", "voxel_size": geometry_pb2.VoxelSize()}, InvalidArgument, "BAD_VOXEL_SIZE"),
        ({"upload": "projects/em/uploads/none"}, NotFound, "UPLOAD_NOT_FOUND"),
        ({"upload": "projects/other/uploads/none"}, InvalidArgument, "OTHER_PROJECT"),
    ],
)
async def test_an_import_that_cannot_work_is_refused_at_once(
    ada: Caller, project: Any, spec: dict[str, Any], kind: type[Exception], reason: str
) -> None:
    with pytest.raises(kind) as caught:
        await ada.create_job(project.name, import_volume=job_pb2.ImportVolumeSpec(**spec))
    assert caught.value.reason == reason  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "kind", "reason"),
    [
        ({"zero_meaning": 0}, InvalidArgument, "ZERO_MEANING_MISSING"),
        ({"values": {}}, InvalidArgument, "VALUES_MISSING"),
        ({"values": {0: 2}}, InvalidArgument, "BAD_VALUES"),
        ({"values": {1: 256}}, InvalidArgument, "BAD_VALUES"),
        ({"values": {1: 9}}, InvalidArgument, "UNKNOWN_CLASS"),
        ({"class_scope": [9]}, InvalidArgument, "UNKNOWN_CLASS"),
        ({"class_scope": [3]}, InvalidArgument, "UNKNOWN_CLASS"),
        ({"values": {1: 1}, "as_annotations": True}, InvalidArgument, "SCOPE_MISSING"),
        ({"instances": True}, InvalidArgument, "BAD_LABELS"),
        ({"instances": True, "values": {}, "class_scope": [2, 3]}, InvalidArgument, "BAD_LABELS"),
        ({"instances": True, "values": {}, "class_scope": [9]}, InvalidArgument, "UNKNOWN_CLASS"),
        ({"layer_id": "l", "as_annotations": True}, InvalidArgument, "BAD_LABELS"),
        ({"layer_id": "annotations"}, InvalidArgument, "BAD_ID"),
        ({"layer_id": "Not An Id"}, InvalidArgument, "BAD_ID"),
        ({"offset": index_to_proto((-1, 0, 0))}, InvalidArgument, "BAD_OFFSET"),
        ({"extent": region_to_proto(Region.of_shape((7, 1, 1)))}, InvalidArgument, "REGION_OUT_OF_BOUNDS"),
        ({"volume": "projects/em/volumes/none"}, NotFound, "VOLUME_NOT_FOUND"),
        ({"volume": "projects/other/volumes/brain"}, InvalidArgument, "OTHER_PROJECT"),
        ({"uri": "/etc/passwd"}, InvalidArgument, "PATH_NOT_ALLOWED"),
        ({"uri": ""}, InvalidArgument, "SOURCE_MISSING"),
    ],
)
async def test_an_import_of_labels_that_cannot_work_is_refused_at_once(
    datastore: RunningDatastore,
    ada: Caller,
    project: Any,
    volume: Any,
    fields: dict[str, Any],
    kind: type[BiosegmentError],
    reason: str,
) -> None:
    given = {
        "volume": volume.name,
        "uri": str(datastore.imports / "stack.tif"),
        "values": {5: 2},
        "zero_meaning": NOT_ANNOTATED,
        **fields,
    }
    with pytest.raises(kind) as caught:
        await ada.create_job(project.name, import_labels=job_pb2.ImportLabelsSpec(**given))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("paths", "values", "reason"),
    [
        (["shape"], {}, "BAD_UPDATE_MASK"),
        ([], {}, "BAD_UPDATE_MASK"),
        (["display_name"], {"display_name": ""}, "BAD_TEXT"),
        (["voxel_size"], {"voxel_size": geometry_pb2.VoxelSize(z_nm=-1, y_nm=1, x_nm=1)}, "BAD_VOXEL_SIZE"),
        (
            ["display_window"],
            {"display_window": volume_pb2.DisplayWindow(low=2, high=1)},
            "BAD_DISPLAY_WINDOW",
        ),
    ],
)
async def test_a_wrong_update_is_refused(
    ada: Caller, volume: Any, paths: list[str], values: dict[str, Any], reason: str
) -> None:
    request = pb.UpdateVolumeRequest(volume=volume_pb2.Volume(name=volume.name, **values))
    request.update_mask.paths.extend(paths)
    with pytest.raises(InvalidArgument) as caught:
        await ada.datastore.UpdateVolume(request)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("region", "level", "kind", "reason"),
    [
        (((0, 0, 0), (7, 10, 10)), 0, InvalidArgument, "REGION_OUT_OF_BOUNDS"),
        (((0, 5, 0), (1, 5, 10)), 0, InvalidArgument, "BAD_REGION"),
        (((-1, 0, 0), (1, 5, 10)), 0, InvalidArgument, "BAD_REGION"),
        (None, 99, InvalidArgument, "BAD_LEVEL"),
    ],
)
async def test_a_wrong_region_is_refused(
    ada: Caller, volume: Any, region: Any, level: int, kind: type[Exception], reason: str
) -> None:
    request = pb.ReadRegionRequest(name=volume.name, level=level)
    if region:
        (z, y, x), (zz, yy, xx) = region
        request.region.start.CopyFrom(geometry_pb2.Index(z=z, y=y, x=x))
        request.region.stop.CopyFrom(geometry_pb2.Index(z=zz, y=yy, x=xx))
    with pytest.raises(kind) as caught:
        async for _ in ada.datastore.ReadRegion(request):
            pass
    assert caught.value.reason == reason  # type: ignore[attr-defined]
