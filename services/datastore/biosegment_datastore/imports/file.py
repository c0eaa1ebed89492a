"""Where an import's file comes from: a path below an import root, or an upload that becomes a file for a while."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from biosegment.auth import Principal
from biosegment.errors import FailedPrecondition, NotFound, ResourceExhausted
from biosegment.jobs import JobContext, Progress
from biosegment.storage.objects import Objects
from biosegment.storage.parts import Parts
from biosegment_datastore.imports.path import allowed_path
from biosegment_datastore.scratch import scratch_folder
from biosegment_datastore.sql.transfer import SqlTransfers
from biosegment_datastore.transfer import Upload

_PIECE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class ImportFiles:
    """Files and folders that imports read.

    Attributes:
        transfers: Uploads that are imported.
        objects: Where uploads are.
        roots: Folders below which files may be read.
        scratch_dir: Where uploads become files.
    """

    transfers: SqlTransfers
    objects: Objects
    roots: Sequence[Path]
    scratch_dir: Path

    async def require(self, principal: Principal, project_id: str, uri: str, upload_id: str) -> None:
        """Refuse what cannot be read; errors as CreateJob answers them.

        Args:
            principal: Who asks.
            project_id: That the upload belongs to.
            uri: Path or URI; '' with an upload.
            upload_id: '' with a path.
        """
        if not upload_id:
            await asyncio.to_thread(allowed_path, uri, self.roots)
            return
        upload = await self.transfers.upload(project_id, upload_id)
        if upload.creator != principal.user and not principal.is_admin:
            raise NotFound("UPLOAD_NOT_FOUND", f"there is no upload {upload.name}; it may have expired")
        _require_complete(upload)

    @contextlib.asynccontextmanager
    async def file(self, context: JobContext, uri: str, upload_id: str) -> AsyncIterator[tuple[Path, str]]:
        """The file or folder, for as long as the context lasts, and its name for people."""
        if not upload_id:
            path = await asyncio.to_thread(allowed_path, uri, self.roots)
            yield path, path.name
            return
        upload = await self.transfers.upload(context.job.project_id, upload_id)
        _require_complete(upload)
        resources = contextlib.ExitStack()
        scratch = scratch_folder(self.scratch_dir, "import")
        folder = await asyncio.to_thread(resources.enter_context, scratch)
        try:
            path = folder / upload.file_name
            await self._assemble(context, upload, path)
            yield path, upload.file_name
        finally:
            await asyncio.to_thread(resources.close)

    async def used(self, project_id: str, upload_id: str) -> None:
        """Drop an upload whose import is done."""
        if upload_id:
            with contextlib.suppress(NotFound):
                await self.transfers.delete_upload(project_id, upload_id)

    async def _assemble(self, context: JobContext, upload: Upload, path: Path) -> None:
        try:
            with path.open("xb") as file:
                async for offset, piece in Parts(self.objects, upload.key, upload.size_bytes).read(
                    0, _PIECE_BYTES
                ):
                    context.raise_if_cancelled()
                    await asyncio.to_thread(file.write, piece)
                    done = offset + len(piece)
                    await context.progress(
                        Progress(0.0, "unpacking the upload", done, upload.size_bytes, "bytes")
                    )
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ResourceExhausted(
                "DISK_FULL",
                f"no room for {upload.file_name!r} in the scratch folder; make room and try again",
            ) from error


def _require_complete(upload: Upload) -> None:
    if not upload.is_complete:
        raise FailedPrecondition(
            "UPLOAD_INCOMPLETE",
            f"{upload.name} has {upload.received_bytes} of {upload.size_bytes} bytes; send the rest first",
        )
