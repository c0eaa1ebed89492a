"""Files to and from the platform: checked piece by piece, and resumed where they broke off, also by another process."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import google_crc32c

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import volume_pb2
from biosegment.errors import (
    AlreadyExists,
    BiosegmentError,
    Conflict,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from biosegment.rpc.stream import CHUNK_BYTES

Progress = Callable[[int, int], None]

_CALL_BYTES: Final = 64 << 20
"""Sent in one call: what a break costs at most, and what has to arrive within `_CALL_TIMEOUT_S`."""

_CALL_TIMEOUT_S: Final = 900.0
_ATTEMPTS: Final = 6
"""In a row without any progress."""

_READ_BYTES: Final = 4 << 20
_IDENTITY_BYTES: Final = 1 << 20


async def send_file(stub: Any, project: str, path: Path, name: str, on_progress: Progress | None) -> str:
    """Send a file; see `Volumes.upload`."""
    size = (await asyncio.to_thread(path.stat)).st_size
    if name:
        upload = await _present(stub, name)
        if (upload.file_name, upload.size_bytes) != (path.name, size):
            raise FailedPrecondition(
                "OTHER_FILE",
                f"{name} is for {upload.file_name!r} of {upload.size_bytes} bytes; {path} has {size}: give that file",
            )
    else:
        upload = await _begun(stub, project, path, size)
    failures = 0
    while upload.received_bytes < size:
        if on_progress is not None:
            on_progress(upload.received_bytes, size)
        before = upload.received_bytes
        try:
            upload = (
                await stub.WriteUpload(_requests(upload.name, path, before), timeout=_CALL_TIMEOUT_S)
            ).upload
        except (Unavailable, DeadlineExceeded, Conflict, InvalidArgument) as error:
            failures += 1
            if failures >= _ATTEMPTS or not _is_mended_by_repeating(error):
                raise
            upload = await _present(stub, upload.name)
        if upload.received_bytes > before:
            failures = 0
    if on_progress is not None:
        on_progress(size, size)
    return str(upload.name)


async def fetch_file(stub: Any, name: str, path: Path) -> Path:
    """Fetch an artifact; see `Volumes.download`."""
    artifact = (await stub.GetArtifact(pb.GetArtifactRequest(name=name))).artifact
    part = path.with_name(path.name + ".part")
    for is_last in (False, True):
        await _fetch_rest(stub, artifact, part)
        if await asyncio.to_thread(_sha256, part) == artifact.sha256:
            await asyncio.to_thread(part.replace, path)
            return path
        # What was there before may be the beginning of another file: once more from its start.
        await asyncio.to_thread(part.unlink)
        if is_last:
            break
    raise Unavailable(
        "DOWNLOAD_DAMAGED", f"{name} came without an error but does not have its SHA-256; fetch it again"
    )


async def _present(stub: Any, name: str) -> Any:
    return (await stub.GetUpload(pb.GetUploadRequest(name=name))).upload


async def _begun(stub: Any, project: str, path: Path, size: int) -> Any:
    """The upload of this very file that another process began and did not finish, or a new one."""
    upload = volume_pb2.Upload(file_name=path.name, size_bytes=size)
    identity = await asyncio.to_thread(_identity, project, path)
    try:
        request = pb.CreateUploadRequest(parent=project, upload=upload, request_id=identity)
        found = (await stub.CreateUpload(request)).upload
        # A complete one may be what an import is about to read, and to drop at its end.
        if found.received_bytes < size:
            return found
    except (AlreadyExists, NotFound) as error:
        # It was imported or has expired, or somebody else sends the same file.
        if error.reason not in ("UPLOAD_NOT_FOUND", "REQUEST_ID_REUSED"):
            raise
    request = pb.CreateUploadRequest(parent=project, upload=upload, request_id=str(uuid.uuid4()))
    return (await stub.CreateUpload(request)).upload


def _identity(project: str, path: Path) -> str:
    """The same for the same file as long as it is not changed."""
    status = path.stat()
    with path.open("rb") as file:
        head = hashlib.sha256(file.read(_IDENTITY_BYTES)).hexdigest()
    parts = (project, str(path.resolve()), str(status.st_size), str(status.st_mtime_ns), head)
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "\n".join(parts)))


def _is_mended_by_repeating(error: BiosegmentError) -> bool:
    if isinstance(error, Conflict):
        return error.reason == "OFFSET_MISMATCH"
    if isinstance(error, InvalidArgument):
        return error.reason == "CHECKSUM_MISMATCH"
    return True


async def _requests(name: str, path: Path, offset: int) -> AsyncIterator[pb.WriteUploadRequest]:
    yield pb.WriteUploadRequest(name=name, offset=offset)
    end = offset + _CALL_BYTES
    with path.open("rb") as file:
        file.seek(offset)
        while offset < end and (data := await asyncio.to_thread(file.read, CHUNK_BYTES)):
            yield pb.WriteUploadRequest(offset=offset, data=data, crc32c=google_crc32c.value(data))
            offset += len(data)


async def _fetch_rest(stub: Any, artifact: Any, part: Path) -> None:
    failures = 0
    while True:
        offset = await asyncio.to_thread(_size, part)
        if offset > artifact.size_bytes:
            await asyncio.to_thread(part.unlink)
            offset = 0
        if part.exists() and offset == artifact.size_bytes:  # noqa: ASYNC240 (one system call)
            return
        try:
            with part.open("ab") as file:
                async for answer in stub.ReadArtifact(
                    pb.ReadArtifactRequest(name=artifact.name, offset=offset)
                ):
                    _check(artifact.name, answer, offset)
                    file.write(answer.data)
                    offset += len(answer.data)
                    failures = 0
            if offset < artifact.size_bytes:
                raise Unavailable(
                    "DOWNLOAD_ENDED_EARLY", f"{artifact.name} ended at byte {offset}; try again"
                )
        except Unavailable:
            failures += 1
            if failures >= _ATTEMPTS:
                raise


def _check(name: str, answer: Any, offset: int) -> None:
    if answer.offset != offset or google_crc32c.value(answer.data) != answer.crc32c:
        raise Unavailable(
            "DOWNLOAD_DAMAGED",
            f"a piece of {name} at byte {offset} does not have its checksum; fetch it again",
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()
