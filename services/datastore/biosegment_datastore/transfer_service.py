"""What callers may do with uploads and artifacts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import google_crc32c

from biosegment.auth import Authorizer, Permission, Principal
from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound
from biosegment.failpoint import failpoint
from biosegment.ids import check_id, new_id
from biosegment.storage.objects import Objects
from biosegment.storage.parts import PART_BYTES, Parts, part_key
from biosegment_datastore.clock import now_us
from biosegment_datastore.project import check_text
from biosegment_datastore.request import Request
from biosegment_datastore.sql.project import SqlProjects
from biosegment_datastore.sql.transfer import SqlTransfers, offset_mismatch
from biosegment_datastore.transfer import (
    Artifact,
    ArtifactFile,
    Upload,
    UploadLimits,
    artifact_home,
    check_file_name,
)

_PIECE_BYTES = 1 << 20
_FILES = 100


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an upload as they came, with where they belong and their CRC-32C."""

    offset: int
    data: bytes
    crc32c: int


class TransferService:
    """Files on their way in and out, for those who ask.

    Args:
        transfers: The rows.
        projects: The rows of projects.
        authorizer: Decides who may do what.
        objects: Where the bytes are.
        limits: Of uploads.
    """

    def __init__(
        self,
        transfers: SqlTransfers,
        projects: SqlProjects,
        authorizer: Authorizer,
        objects: Objects,
        limits: UploadLimits,
    ) -> None:
        self._transfers = transfers
        self._projects = projects
        self._authorizer = authorizer
        self._objects = objects
        self._limits = limits
        self._storing = asyncio.Lock()
        self._lifetime_us = int(limits.lifetime_s * 1e6)

    async def create_upload(
        self, principal: Principal, project_id: str, file_name: str, size_bytes: int, request_id: str
    ) -> Upload:
        """Begin an upload; ResourceExhausted UPLOAD_TOO_LARGE or TOO_MANY_UPLOADS."""
        await self._authorizer.authorize(principal, Permission.VOLUME_WRITE, project_id)
        request = Request.of(project_id, request_id, "upload", principal.user, file_name, str(size_bytes))
        check_file_name(file_name)
        self._limits.require_size(file_name, size_bytes)
        project = await self._projects.get(project_id)
        upload_id = new_id()
        upload = Upload(
            project_id=project_id,
            id=upload_id,
            file_name=file_name,
            size_bytes=size_bytes,
            received_bytes=0,
            expire_time_us=now_us() + self._lifetime_us,
            key=f"{project.storage_key}/uploads/{upload_id}",
            creator=principal.user,
        )
        return await self._transfers.create_upload(upload, request, self._limits)

    async def upload(self, principal: Principal, project_id: str, upload_id: str) -> Upload:
        """One upload, as its sender sees it; for others it does not exist."""
        await self._authorizer.authorize(principal, Permission.VOLUME_WRITE, project_id)
        return await self._own(principal, project_id, upload_id)

    async def write_upload(
        self, principal: Principal, project_id: str, upload_id: str, pieces: AsyncIterator[Piece]
    ) -> Upload:
        """Append pieces; what was stored before a break is kept. Errors as in the contract."""
        await self._authorizer.authorize(principal, Permission.VOLUME_WRITE, project_id)
        upload = await self._own(principal, project_id, upload_id)
        buffer = bytearray()
        try:
            async for piece in pieces:
                _check_piece(piece, upload, len(buffer))
                buffer += piece.data
                if len(buffer) >= PART_BYTES:
                    upload, buffer = await self._store(upload, buffer), bytearray()
        except InvalidArgument:
            # The pieces before the wrong one are right.
            await self._store(upload, buffer)
            raise
        return await self._store(upload, buffer)

    async def delete_upload(self, principal: Principal, project_id: str, upload_id: str) -> None:
        """Drop an upload."""
        await self._authorizer.authorize(principal, Permission.VOLUME_WRITE, project_id)
        await self._own(principal, project_id, upload_id)
        await self._transfers.delete_upload(project_id, upload_id)

    async def create_artifact(
        self, principal: Principal, project_id: str, artifact_id: str, attempt: int
    ) -> str:
        """The prefix that an attempt at an artifact writes to. Errors as in the contract."""
        await self._authorizer.authorize(principal, Permission.LAYER_WRITE, project_id)
        check_id(artifact_id, "artifact")
        _check_attempt(attempt)
        return await self._transfers.reserve_artifact(project_id, artifact_id, attempt)

    async def commit_artifacts(
        self, principal: Principal, project_id: str, files: Sequence[ArtifactFile], attempt: int
    ) -> Sequence[Artifact]:
        """Show what an attempt wrote to readers, all of it or nothing. Errors as in the contract."""
        await self._authorizer.authorize(principal, Permission.LAYER_WRITE, project_id)
        _check_attempt(attempt)
        _check_files(project_id, files)
        project = await self._projects.get(project_id)
        artifacts = [
            Artifact(
                project_id=project_id,
                id=file.artifact_id,
                file_name=check_file_name(file.file_name),
                size_bytes=file.size_bytes,
                sha256=file.sha256,
                media_type=file.media_type,
                key=f"{artifact_home(project.storage_key, file.artifact_id)}/{attempt}",
                create_time_us=now_us(),
            )
            for file in files
        ]
        for artifact in artifacts:
            await self._require_complete(artifact)
        failpoint("datastore.artifacts.before_rows")
        return await self._transfers.commit_artifacts(project_id, artifacts)

    async def _require_complete(self, artifact: Artifact) -> None:
        """FailedPrecondition ARTIFACT_INCOMPLETE unless all bytes are there, or an earlier call committed them."""
        if await Parts(self._objects, artifact.key, artifact.size_bytes).is_complete():
            return
        try:
            await self._transfers.artifact(artifact.project_id, artifact.id)
        except NotFound:
            raise FailedPrecondition(
                "ARTIFACT_INCOMPLETE",
                f"what was written of {artifact.name} does not have {artifact.size_bytes} bytes; begin another attempt",
            ) from None

    async def artifact(self, principal: Principal, project_id: str, artifact_id: str) -> Artifact:
        """One artifact."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        return await self._transfers.artifact(project_id, artifact_id)

    async def read_artifact(
        self, principal: Principal, project_id: str, artifact_id: str, offset: int
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Offsets and pieces of at most 1 MiB, from `offset` on; InvalidArgument BAD_OFFSET beyond the end."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        artifact = await self._transfers.artifact(project_id, artifact_id)
        if not 0 <= offset <= artifact.size_bytes:
            raise InvalidArgument(
                "BAD_OFFSET",
                f"offset {offset} is not within {artifact.name}, which has {artifact.size_bytes} bytes",
            )
        async for piece in Parts(self._objects, artifact.key, artifact.size_bytes).read(offset, _PIECE_BYTES):
            yield piece

    async def _own(self, principal: Principal, project_id: str, upload_id: str) -> Upload:
        upload = await self._transfers.upload(project_id, upload_id)
        if upload.creator != principal.user and not principal.is_admin:
            raise NotFound("UPLOAD_NOT_FOUND", f"there is no upload {upload.name}; it may have expired")
        return upload

    async def _store(self, upload: Upload, buffer: bytearray) -> Upload:
        if not buffer:
            return upload
        # One at a time: of two streams for one upload the later one must not overwrite a part of the other.
        async with self._storing:
            present = await self._transfers.upload(upload.project_id, upload.id)
            if present.received_bytes != upload.received_bytes:
                raise offset_mismatch(present, upload.received_bytes)
            await self._objects.put(part_key(upload.key, upload.received_bytes), buffer)
            received = upload.received_bytes + len(buffer)
            return await self._transfers.received(upload, received, now_us() + self._lifetime_us)


def _check_attempt(attempt: int) -> None:
    if attempt < 1:
        raise InvalidArgument("BAD_ATTEMPT", f"attempt {attempt} is not 1 or more")


def _check_files(project_id: str, files: Sequence[ArtifactFile]) -> None:
    if not 1 <= len(files) <= _FILES or len({file.artifact_id for file in files}) < len(files):
        raise InvalidArgument("BAD_ARTIFACT", f"name 1 to {_FILES} artifacts, each once, not {len(files)}")
    for file in files:
        if file.project_id != project_id:
            raise InvalidArgument(
                "OTHER_PROJECT",
                f"artifact {file.artifact_id!r} is of {file.project_id!r}, not {project_id!r}",
            )
        check_text("media_type", file.media_type, 1, 100)
        if file.size_bytes < 1 or not re.fullmatch("[0-9a-f]{64}", file.sha256):
            raise InvalidArgument(
                "BAD_ARTIFACT",
                f"artifact {file.artifact_id!r} needs its size in bytes, not {file.size_bytes}, "
                f"and its SHA-256 in hexadecimal, not {file.sha256[:80]!r}",
            )


def _check_piece(piece: Piece, upload: Upload, buffered: int) -> None:
    expected = upload.received_bytes + buffered
    if piece.offset != expected:
        raise offset_mismatch(upload, piece.offset)
    if len(piece.data) > _PIECE_BYTES:
        raise InvalidArgument(
            "PIECE_TOO_LARGE", f"a piece has {len(piece.data)} bytes; send at most {_PIECE_BYTES}"
        )
    if google_crc32c.value(piece.data) != piece.crc32c:
        raise InvalidArgument(
            "CHECKSUM_MISMATCH", f"the piece at byte {piece.offset} does not have its checksum; send it again"
        )
    if expected + len(piece.data) > upload.size_bytes:
        raise InvalidArgument(
            "TOO_MANY_BYTES", f"{upload.name} was announced with {upload.size_bytes} bytes; more came"
        )
