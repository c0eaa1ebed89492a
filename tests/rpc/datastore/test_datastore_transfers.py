from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import google_crc32c
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
)
from tests.rpc.datastore_server import Caller, RunningDatastore, running_datastore


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


async def download(caller: Caller, name: str, offset: int = 0) -> bytes:
    data = bytearray()
    async for answer in caller.datastore.ReadArtifact(pb.ReadArtifactRequest(name=name, offset=offset)):
        assert answer.offset == offset + len(data)
        data += answer.data
    return bytes(data)
