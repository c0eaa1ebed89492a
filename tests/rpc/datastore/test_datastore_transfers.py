from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import tifffile

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import volume_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.errors import (
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unimplemented,
)
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Index, Region
from tests.rpc.datastore.test_datastore_layers import commit, create, write
from tests.rpc.datastore_server import Caller, RunningDatastore, running_datastore

OME_TIFF = job_pb2.ExportSpec.FORMAT_OME_TIFF


async def begin(caller: Caller, project: Any, size: int, name: str = "stack.tif", **fields: Any) -> Any:
    upload = volume_pb2.Upload(file_name=name, size_bytes=size)
    request = pb.CreateUploadRequest(parent=project.name, upload=upload, **fields)
    return (await caller.datastore.CreateUpload(request)).upload


async def send(caller: Caller, name: str, data: bytes, offset: int = 0, crc_of: bytes | None = None) -> Any:
    async def requests() -> AsyncIterator[pb.WriteUploadRequest]:
        for start in range(0, len(data), 1 << 20):
            piece = data[start : start + (1 << 20)]
            yield pb.WriteUploadRequest(
                name=name, offset=offset + start, data=piece, crc32c=google_crc32c.value(crc_of or piece)
            )

    return (await caller.datastore.WriteUpload(requests())).upload


async def test_a_file_is_uploaded_in_pieces_resumed_and_imported(
    datastore: RunningDatastore, ada: Caller, project: Any, image: Any
) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, image, photometric="minisblack")
    data = file.getvalue()
    upload = await begin(ada, project, len(data))
    half = await send(ada, upload.name, data[:20_000])
    assert half.received_bytes == 20_000
    spec = job_pb2.ImportVolumeSpec(
        upload=upload.name, voxel_size=geometry_pb2.VoxelSize(z_nm=1, y_nm=1, x_nm=1)
    )
    with pytest.raises(FailedPrecondition) as early:
        await ada.create_job(project.name, import_volume=spec)
    assert early.value.reason == "UPLOAD_INCOMPLETE"
    with pytest.raises(Conflict) as offset:
        await send(ada, upload.name, data[10_000:], 10_000)
    assert (offset.value.reason, offset.value.metadata["received_bytes"]) == ("OFFSET_MISMATCH", "20000")
    with pytest.raises(InvalidArgument) as checksum:
        await send(ada, upload.name, data[20_000:], 20_000, crc_of=b"other")
    assert checksum.value.reason == "CHECKSUM_MISMATCH"
    assert (await send(ada, upload.name, data[20_000:], 20_000)).received_bytes == len(data)
    job = await ada.finished(await ada.create_job(project.name, import_volume=spec))
    assert job.state == job_pb2.Job.STATE_SUCCEEDED, job.error
    assert (await ada.read(job.result.volume) == image).all()
    with pytest.raises(NotFound):
        await ada.datastore.GetUpload(pb.GetUploadRequest(name=upload.name))
    await datastore.parts.collector.collect()
    assert await datastore.parts.objects.list("projects/em/uploads/") == []
    assert list(Path(datastore.settings.scratch_dir).iterdir()) == []


@pytest.mark.parametrize(
    ("name", "size", "kind", "reason"),
    [
        ("a/b.tif", 1, InvalidArgument, "BAD_FILE_NAME"),
        ("..", 1, InvalidArgument, "BAD_FILE_NAME"),
        ("", 1, InvalidArgument, "BAD_FILE_NAME"),
        ("a.tif", 0, InvalidArgument, "BAD_SIZE"),
        ("a.tif", 1 << 43, ResourceExhausted, "UPLOAD_TOO_LARGE"),
    ],
)
async def test_a_wrong_upload_is_refused(
    ada: Caller, project: Any, name: str, size: int, kind: type[Exception], reason: str
) -> None:
    with pytest.raises(kind) as caught:
        await begin(ada, project, size, name)
    assert caught.value.reason == reason  # type: ignore[attr-defined]


async def test_more_bytes_than_announced_are_refused(ada: Caller, project: Any) -> None:
    upload = await begin(ada, project, 10)
    with pytest.raises(InvalidArgument) as caught:
        await send(ada, upload.name, bytes(11))
    assert caught.value.reason == "TOO_MANY_BYTES"


async def test_uploads_expire_with_their_bytes(tmp_path: Path, keys: Path) -> None:
    async with running_datastore(tmp_path, keys, upload_lifetime_s=0.0) as datastore:
        ada = datastore.as_user("ada")
        project = await ada.create_project("em")
        upload = await begin(ada, project, 100)
        await send(ada, upload.name, bytes(50))
        await datastore.parts.collector.collect()
        with pytest.raises(NotFound) as caught:
            await ada.datastore.GetUpload(pb.GetUploadRequest(name=upload.name))
        assert caught.value.reason == "UPLOAD_NOT_FOUND"
        assert await datastore.parts.objects.list("projects/em/uploads/") == []


async def exported(caller: Caller, project: Any, **spec: Any) -> tuple[Any, bytes]:
    """The artifact and its bytes."""
    created = await caller.create_job(project.name, export=job_pb2.ExportSpec(format=OME_TIFF, **spec))
    job = await caller.finished(created)
    assert job.state == job_pb2.Job.STATE_SUCCEEDED, job.error
    request = pb.GetArtifactRequest(name=job.result.artifact)
    artifact = (await caller.datastore.GetArtifact(request)).artifact
    data = await download(caller, artifact.name)
    assert (len(data), hashlib.sha256(data).hexdigest()) == (artifact.size_bytes, artifact.sha256)
    return artifact, data


async def download(caller: Caller, name: str, offset: int = 0) -> bytes:
    data = bytearray()
    async for answer in caller.datastore.ReadArtifact(pb.ReadArtifactRequest(name=name, offset=offset)):
        assert answer.offset == offset + len(data)
        data += answer.data
    return bytes(data)


async def test_an_exported_volume_is_the_same_with_its_voxel_size(
    ada: Caller, project: Any, volume: Any, image: Any
) -> None:
    artifact, data = await exported(ada, project, source=volume.name)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert (file.asarray() == image).all()
        xml = file.ome_metadata
    assert xml is not None
    assert 'PhysicalSizeZ="30.0"' in xml
    assert 'PhysicalSizeXUnit="nm"' in xml
    assert (artifact.file_name, artifact.media_type) == ("brain.ome.tif", "image/tiff")
    assert await download(ada, artifact.name, 1000) == data[1000:]
    with pytest.raises(InvalidArgument) as caught:
        await download(ada, artifact.name, len(data) + 1)
    assert caught.value.reason == "BAD_OFFSET"


async def test_a_segmentation_is_the_prediction_under_the_annotations_that_hold(
    datastore: RunningDatastore, ada: Caller, project: Any, volume: Any, image: Any
) -> None:
    trainer = datastore.as_service("trainer")
    prediction = np.where(image > 128, 2, 1).astype(np.uint8)
    layer = await create(trainer, volume, "prediction")
    await write(trainer, layer, prediction)
    await commit(trainer, layer)
    region = Region(Index(1, 10, 10), Index(2, 30, 30))
    painted = np.tile(np.array([0, 1, 3, 2], np.uint8), (1, 20, 5))
    await ada.commit(volume.name, region, painted)
    _, data = await exported(ada, project, source=volume.name, segmentation=True)
    expected = prediction.copy()
    expected[region.slices] = np.where(painted == 0, expected[region.slices], painted)
    expected[expected == 1] = 0
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert (file.asarray() == expected).all()
        assert "mitochondria" in (file.ome_metadata or "")
    part = Region(Index(1, 0, 5), Index(3, 40, 50))
    _, cut = await exported(
        ada,
        project,
        source=volume.name,
        segmentation=True,
        prediction=layer.name,
        region=region_to_proto(part),
    )
    assert (tifffile.imread(io.BytesIO(cut)) == expected[part.slices]).all()
    _, alone = await exported(ada, project, source=f"{volume.name}/layers/annotations")
    assert (tifffile.imread(io.BytesIO(alone))[region.slices] == painted).all()


@pytest.mark.parametrize(
    ("spec", "kind", "reason"),
    [
        ({"format": 0}, InvalidArgument, "BAD_FORMAT"),
        ({"format": job_pb2.ExportSpec.FORMAT_MRC}, Unimplemented, "FORMAT_NOT_SUPPORTED"),
        ({"as_of": {"seconds": 1}}, Unimplemented, "AS_OF"),
        ({"source": "nonsense"}, InvalidArgument, "BAD_NAME"),
        ({"source": "projects/other/volumes/brain"}, InvalidArgument, "OTHER_PROJECT"),
        ({"source": "projects/em/volumes/none"}, NotFound, "VOLUME_NOT_FOUND"),
        ({"source": "projects/em/volumes/brain/layers/none"}, NotFound, "LAYER_NOT_FOUND"),
        ({"segmentation": True}, FailedPrecondition, "NOTHING_SEGMENTED"),
        ({"prediction": "projects/em/volumes/brain/layers/l"}, InvalidArgument, "BAD_SOURCE"),
        ({"region": region_to_proto(Region.of_shape((7, 7, 7)))}, InvalidArgument, "REGION_OUT_OF_BOUNDS"),
    ],
)
async def test_an_export_that_cannot_work_is_refused_at_once(
    ada: Caller, project: Any, volume: Any, spec: dict[str, Any], kind: type[Exception], reason: str
) -> None:
    values = {"source": volume.name, "format": OME_TIFF, **spec}
    with pytest.raises(kind) as caught:
        await ada.create_job(project.name, export=job_pb2.ExportSpec(**values))
    assert caught.value.reason == reason  # type: ignore[attr-defined]


async def test_importing_labels_says_that_it_is_not_in_this_release(ada: Caller, project: Any) -> None:
    with pytest.raises(Unimplemented) as caught:
        await ada.create_job(project.name, import_labels=job_pb2.ImportLabelsSpec())
    assert caught.value.reason == "KIND_NOT_IMPLEMENTED"
