"""Images that clients upload: they become volumes of the project, under the name that the client gave them."""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from biosegment.api.datastore.v1alpha1 import datastore_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.auth import Authorizer, Permission, Principal
from biosegment.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from biosegment.ids import new_id
from biosegment.rpc.geometry import voxel_size_to_proto
from biosegment_gateway.monailabel.dataset import Dataset
from biosegment_gateway.monailabel.file_reader import read_geometry
from biosegment_gateway.monailabel.geometry import LengthUnit
from biosegment_gateway.monailabel.image import ImageName, no_image
from biosegment_gateway.monailabel.project import Projects
from biosegment_gateway.monailabel.record import ImageRecord
from biosegment_gateway.monailabel.services import Services
from biosegment_gateway.monailabel.sql import Records

_NOT_ID: Final = re.compile(r"[^a-z0-9]+")
_ID: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Uploads:
    """Adds and removes images.

    Args:
        services: The datastore, in the name of the user.
        projects: Told what has changed.
        records: Of names.
        authorizer: Decides before a file is sent anywhere.
        unit: Of lengths, where a file does not say.
    """

    def __init__(
        self,
        services: Services,
        projects: Projects,
        records: Records,
        authorizer: Authorizer,
        unit: LengthUnit,
    ) -> None:
        self._services = services
        self._projects = projects
        self._records = records
        self._authorizer = authorizer
        self._unit: LengthUnit = unit

    async def add(
        self,
        principal: Principal,
        dataset: Dataset,
        image_id: str,
        path: Path,
        name: str,
        params: Mapping[str, Any],
    ) -> str:
        """Import a file as a volume; the same file under the same name again changes nothing.

        Args:
            principal: Needs the permission to import.
            dataset: Of the project.
            image_id: Wanted name.
            path: The file.
            name: That the client gave it, whose extension says what it is.
            params: Noted with the image.

        Raises:
            AlreadyExists: IMAGE_EXISTS.
            InvalidArgument: What the import says about the file.
        """
        project = dataset.project
        await self._authorizer.authorize(principal, Permission.VOLUME_WRITE, project.project_id)
        try:
            ImageName.parse(image_id)
        except NotFound as error:
            raise InvalidArgument(
                "BAD_NAME",
                f"an image cannot be called {image_id[:200]!r}: printable, without '/', 200 at most",
            ) from error
        sha256 = await asyncio.to_thread(_sha256, path)
        if image_id in dataset.uploads:
            record = await self._records.image(project.project_id, image_id)
            if record is not None and record.info.get("sha256") == sha256:
                return image_id
        if image_id in dataset.bases or image_id in dataset.uploads:
            raise AlreadyExists(
                "IMAGE_EXISTS", f"there is an image {image_id!r} already; choose another name"
            )
        geometry, unit = await asyncio.to_thread(read_geometry, path, name)
        spec = job_pb2.ImportVolumeSpec(volume_id=_volume_id(image_id, dataset), display_name=image_id)
        if geometry is not None:
            size = geometry.voxel_size(unit or self._unit)
            spec.voxel_size.CopyFrom(voxel_size_to_proto(size))
        spec.upload = await self._services.send(principal, project.name, path, name)
        request = job_pb2.CreateJobRequest(
            project=project.name, spec=job_pb2.JobSpec(import_volume=spec), request_id=str(uuid.uuid4())
        )
        create = self._services.jobs["datastore"].CreateJob
        begun: Any = await self._services.ask("datastore", principal, create, request)
        job = await self._services.until_ended("datastore", principal, begun.job.name)
        if job.state != job_pb2.Job.STATE_SUCCEEDED:
            reason = job.error.reason or "IMPORT_FAILED"
            raise InvalidArgument(
                reason, job.error.message or f"{name!r} was not imported: {job.name} was stopped"
            )
        info = {key: value for key, value in params.items() if key not in ("strategy", "sha256")}
        made = ImageRecord(
            image_id,
            {**info, "sha256": sha256},
            job.result.volume.rpartition("/")[2],
            geometry.to_list() if geometry is not None and (unit or self._unit) == self._unit else None,
        )
        if not await self._records.put_image(project.project_id, made):
            raise AlreadyExists(
                "IMAGE_EXISTS",
                f"somebody uploaded an image {image_id!r} meanwhile; this is {job.result.volume}",
            )
        self._projects.forget(project.project_id)
        return image_id

    async def drop(self, principal: Principal, dataset: Dataset, image_id: str) -> None:
        """Delete an image that was uploaded here, with its labels and annotations.

        Raises:
            NotFound: IMAGE_NOT_FOUND.
            FailedPrecondition: NOT_UPLOADED: volumes that came in another way are nobody's to delete from here.
        """
        project_id = dataset.project.project_id
        await self._authorizer.authorize(principal, Permission.VOLUME_WRITE, project_id)
        record = dataset.uploads.get(image_id)
        if record is None:
            dataset.image(image_id, self._unit)
            raise FailedPrecondition(
                "NOT_UPLOADED",
                f"image {image_id!r} was not uploaded by a client of this API; delete its volume with "
                "`biosegment volume delete`",
            )
        if record.uploaded_volume_id not in dataset.project.volumes:
            await self._records.drop_image(project_id, image_id)
            raise no_image(image_id)
        name = f"{dataset.project.name}/volumes/{record.uploaded_volume_id}"
        request = datastore_pb2.DeleteVolumeRequest(name=name, force=True)
        await self._services.ask("datastore", principal, self._services.datastore.DeleteVolume, request)
        await self._records.drop_image(project_id, image_id)
        self._projects.forget(project_id)


def _volume_id(image_id: str, dataset: Dataset) -> str:
    """The name itself where it may be an id, else one that reminds of it."""
    if _ID.fullmatch(image_id) and image_id not in dataset.project.volumes:
        return image_id
    plain = _NOT_ID.sub("-", image_id.lower()).strip("-")[:40].strip("-")
    return f"{plain}-{new_id()[-8:]}" if plain else f"image-{new_id()[-8:]}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
