"""The use cases of models."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from biosegment.auth import Authorizer, Kind, Permission, Principal, require_admin
from biosegment.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from biosegment.ids import new_id, parse_name
from biosegment.jobs import Progress, SqlJobs
from biosegment.storage.objects import Objects
from biosegment.volume import Region
from biosegment_trainer.datastore_client import DatastoreClient
from biosegment_trainer.registry.archive import pack, unpack
from biosegment_trainer.registry.bundle_check import check_bundle
from biosegment_trainer.registry.bundle_files import download_bundle, upload_bundle
from biosegment_trainer.registry.conversion import convert_bundle
from biosegment_trainer.registry.model import SHARED_PROJECT, Model, ModelClass, NewModel, bundle_key
from biosegment_trainer.sql import SqlModels

_PIECE_BYTES: Final = 1 << 20
_MAX_LINEAGE: Final = 10_000
_MAX_CHILDREN: Final = 2
BUNDLE: Final = "bundle"
"""Format of exports: a zip file of the MONAI bundle."""


@dataclass(frozen=True, slots=True)
class Upload:
    """The first words of an import, and the pieces of its zip file.

    Attributes:
        project_id: Where it is registered.
        display_name: For people; empty for the bundle's own.
        trusted: Evaluate `$` expressions; administrators only.
        pieces: Of the zip file.
    """

    project_id: str
    display_name: str
    trusted: bool
    pieces: AsyncIterator[bytes]


class ModelService:
    """Models for those who ask."""

    def __init__(
        self,
        models: SqlModels,
        authorizer: Authorizer,
        datastore: DatastoreClient,
        objects: Objects,
        max_bundle_bytes: int,
    ) -> None:
        self._models = models
        self._authorizer = authorizer
        self._datastore = datastore
        self._objects = objects
        self._max_bundle_bytes = max_bundle_bytes
        # Each loads torch.
        self._children = asyncio.Semaphore(_MAX_CHILDREN)

    async def get(self, principal: Principal, model_id: str) -> Model:
        """One model; NotFound MODEL_NOT_FOUND, also for those who may not see it."""
        return await self._authorized(principal, Permission.PROJECT_READ, model_id)

    async def list(
        self, principal: Principal, project_id: str, before_version: int | None, limit: int
    ) -> Sequence[Model]:
        """At most `limit` models of a project below a version, newest first; without a project the shipped ones."""
        if project_id == SHARED_PROJECT:
            _require_person_or_service(principal)
        else:
            await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        return await self._models.list(project_id, before_version, limit)

    async def rename(self, principal: Principal, model_id: str, display_name: str) -> Model:
        """Change the display name."""
        await self._authorized(principal, Permission.MODEL_WRITE, model_id)
        if not 0 < len(display_name) <= 200:
            raise InvalidArgument("BAD_DISPLAY_NAME", "display_name must have 1 to 200 characters")
        await self._models.rename(model_id, display_name)
        return await self._models.get(model_id)

    async def delete(self, principal: Principal, model_id: str) -> None:
        """Delete the weights; the record stays."""
        model = await self._authorized(principal, Permission.MODEL_WRITE, model_id)
        # The row first: nobody begins to use weights that are going away.
        await self._models.mark_deleted(model_id)
        await self._objects.delete_prefix(f"{model.bundle_key}/")

    async def lineage(self, principal: Principal, model_id: str) -> Sequence[Model]:
        """A model and its ancestors, the model first."""
        model = await self._authorized(principal, Permission.PROJECT_READ, model_id)
        found = [model]
        while found[-1].new.parent and len(found) < _MAX_LINEAGE:
            found.append(await self._models.get(found[-1].new.parent))
        return found

    async def export(
        self, principal: Principal, model_id: str, file_format: str = BUNDLE
    ) -> AsyncIterator[bytes]:
        """The pieces of a file with the model: a zip file of its bundle, or one in another format.

        Raises:
            FailedPrecondition: MODEL_DELETED; EXTRA_MISSING when this installation lacks what the format needs;
                CANNOT_EXPORT.
        """
        model = await self._authorized(principal, Permission.PROJECT_READ, model_id)
        model.require_weights()
        if model.is_click_model and file_format != BUNDLE:
            raise FailedPrecondition(
                "CANNOT_EXPORT", f"{model.name} corrects masks with clicks; it is exported as {BUNDLE} alone"
            )
        with tempfile.TemporaryDirectory(prefix="export-") as place:
            target = Path(place) / "file"
            if file_format == BUNDLE:
                await asyncio.to_thread(self._pack, model, target)
            else:
                folder = Path(place) / "bundle"
                await asyncio.to_thread(download_bundle, self._objects.blocking, model.bundle_key, folder)
                async with self._children:
                    await convert_bundle(folder, target, file_format)
            with target.open("rb") as file:
                while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
                    yield piece

    def _pack(self, model: Model, target: Path) -> None:
        with target.open("wb") as file:
            pack(self._objects.blocking, model.bundle_key, f"biosegment-{model.model_id}", file)

    async def import_bundle(self, principal: Principal, upload: Upload) -> Model:
        """Register a foreign bundle; its classes are matched with the project's by name, and those that the
        project lacks are kept without a value.
        """
        if upload.trusted:
            require_admin(principal)
        await self._authorizer.authorize(principal, Permission.MODEL_WRITE, upload.project_id)
        if len(upload.display_name) > 200:
            raise InvalidArgument("BAD_DISPLAY_NAME", "display_name may have at most 200 characters")
        with tempfile.TemporaryDirectory(prefix="bundle-") as place:
            archive, folder = Path(place) / "bundle.zip", Path(place) / "bundle"
            await self._receive(upload.pieces, archive)
            await asyncio.to_thread(unpack, archive, folder, self._max_bundle_bytes)
            project = await self._datastore.project(upload.project_id)
            ours = Path(place) / "ours"
            async with self._children:
                checked = await check_bundle(
                    folder,
                    ours,
                    {item.name: item.value for item in project.classes},
                    project.working_resolution_nm,
                    trusted=upload.trusted,
                )
            annotations, config = await asyncio.to_thread(_lineage, ours, upload.project_id)
            model_id = new_id()
            digest = await asyncio.to_thread(
                upload_bundle, self._objects.blocking, ours, bundle_key(model_id)
            )
        new = NewModel(
            model_id=model_id,
            project_id=upload.project_id,
            display_name=upload.display_name or checked.name[:200],
            parent="",
            network=checked.network,
            classes=tuple(ModelClass(value, name) for value, name in checked.classes),
            working_resolution_nm=checked.working_resolution_nm,
            weights_sha256=digest,
            annotations=annotations,
            config=config,
            author=principal.user,
            data_license=checked.data_license,
            remarks=("imported", *checked.remarks),
        )
        return await self._models.register(new)

    async def _receive(self, pieces: AsyncIterator[bytes], target: Path) -> None:
        size = 0
        with target.open("wb") as file:
            async for piece in pieces:
                size += len(piece)
                if size > self._max_bundle_bytes:
                    raise ResourceExhausted(
                        "BUNDLE_TOO_LARGE",
                        f"the file is larger than the {self._max_bundle_bytes} bytes allowed",
                    )
                await asyncio.to_thread(file.write, piece)

    async def _authorized(self, principal: Principal, permission: Permission, model_id: str) -> Model:
        model = await self._models.get(model_id)
        if model.is_shared:
            _require_person_or_service(principal)
            if permission is not Permission.PROJECT_READ:
                raise PermissionDenied(
                    "SHARED_MODEL", f"{model.name} is shipped with the platform, for all; nobody changes it"
                )
            return model
        try:
            await self._authorizer.authorize(principal, permission, model.new.project_id)
        except NotFound:
            raise NotFound(
                "MODEL_NOT_FOUND", f"there is no model models/{model_id}, or you may not see it"
            ) from None
        return model


def _lineage(folder: Path, project_id: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Annotations of the project that a bundle of ours was trained on, which must not validate its children, and
    how it was trained.
    """
    metadata = json.loads((folder / "configs/metadata.json").read_text(encoding="utf-8"))
    lineage = metadata["biosegment"]["lineage"]
    ours = (name for name in lineage["annotations"] if str(name).startswith(f"projects/{project_id}/"))
    return tuple(ours), dict(lineage["configuration"])


class WorkerReports:
    """What workers say of their own job."""

    def __init__(self, jobs: SqlJobs) -> None:
        self._jobs = jobs

    async def report(
        self,
        principal: Principal,
        job_id: str,
        attempt: int,
        progress: Progress,
        metrics: Mapping[str, float],
        log: Sequence[str],
    ) -> bool:
        """Store progress and log of an attempt; True when it should stop. Conflict ATTEMPT_OUTDATED."""
        _require_worker(principal, job_id)
        if progress.step:
            job = await self._jobs.report(job_id, attempt, progress, metrics)
        else:
            # A worker among many: it only asks whether to go on.
            job = await self._jobs.get(job_id)
            job.require_attempt(attempt)
        await self._jobs.append_log(job_id, attempt, log)
        return job.cancel_requested


class WorkerReads:
    """Voxels for workers that cannot read them themselves.

    Args:
        jobs: The trainer's jobs.
        datastore: Asked in the trainer's own name, for volumes of the job's project alone.
    """

    def __init__(self, jobs: SqlJobs, datastore: DatastoreClient) -> None:
        self._jobs = jobs
        self._datastore = datastore

    async def read(
        self,
        principal: Principal,
        job_id: str,
        attempt: int,
        volume: str,
        region: Region,
        edits_as_of: Any = None,
    ) -> AsyncIterator[bytes]:
        """Serialised pieces of a region of level 0 of a volume, or of a layer with the edits of a moment.

        Raises:
            Conflict: ATTEMPT_OUTDATED.
            InvalidArgument: OTHER_PROJECT.
        """
        _require_worker(principal, job_id)
        job = await self._jobs.get(job_id)
        job.require_attempt(attempt)
        pattern = "projects/*/volumes/*" if edits_as_of is None else "projects/*/volumes/*/layers/*"
        if parse_name(volume, pattern)[0] != job.project_id:
            raise InvalidArgument("OTHER_PROJECT", f"{volume} is not of project {job.project_id!r}")
        read = self._datastore.read_region(volume, region, edits_as_of=edits_as_of)
        async with aclosing(cast(Any, read)) as pieces:
            async for piece in pieces:
                yield piece


def _require_worker(principal: Principal, job_id: str) -> None:
    if principal.kind is not Kind.JOB or principal.subject != job_id:
        raise PermissionDenied("NOT_ALLOWED", f"{principal} may not speak for job {job_id}")


def _require_person_or_service(principal: Principal) -> None:
    if principal.kind is Kind.JOB:
        raise PermissionDenied("NOT_ALLOWED", f"{principal} may not read models")


def list_token(project_id: str, version: int) -> str:
    """Page token of a list of models."""
    return f"{version}-{hashlib.sha256(project_id.encode()).hexdigest()[:8]}"


def read_list_token(project_id: str, token: str) -> int | None:
    """The version that a page token stands for; InvalidArgument BAD_PAGE_TOKEN."""
    if not token:
        return None
    version = token.partition("-")[0]
    if version.isdecimal() and len(version) < 10 and token == list_token(project_id, int(version)):
        return int(version)
    raise InvalidArgument("BAD_PAGE_TOKEN", f"page_token {token[:80]!r} is not from an answer to this query")
