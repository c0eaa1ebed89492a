"""What callers may do with volumes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from biosegment.auth import Authorizer, Permission, Principal
from biosegment.expiring import Expiring
from biosegment.storage import multiscale
from biosegment.storage.objects import Objects
from biosegment.volume import Region
from biosegment_datastore.admission import Admission
from biosegment_datastore.clock import now_us
from biosegment_datastore.page import Page, PageRequest
from biosegment_datastore.project_service import require_etag
from biosegment_datastore.reading import OpenArrays, RegionRead, require_size
from biosegment_datastore.reference_array import ReferenceArrays
from biosegment_datastore.sql.volume import SqlVolumes
from biosegment_datastore.volume import SliceStatistics, Volume, VolumeField

_KNOWN_S = 2.0


class VolumeService:
    """Volumes for those who ask.

    Args:
        volumes: The rows.
        authorizer: Decides who may do what.
        arrays: Where voxels are read.
        references: Where those of others are read.
        objects: Where the metadata of the images is.
        max_region_bytes: Largest region of one read.
        admission: Memory for reads.
    """

    def __init__(
        self,
        volumes: SqlVolumes,
        authorizer: Authorizer,
        arrays: OpenArrays,
        references: ReferenceArrays,
        objects: Objects,
        max_region_bytes: int,
        admission: Admission,
    ) -> None:
        self._volumes = volumes
        self._authorizer = authorizer
        self._arrays = arrays
        self._references = references
        self._objects = objects
        self._max_region_bytes = max_region_bytes
        self._admission = admission
        self._known: Expiring[tuple[str, str], Volume] = Expiring(_KNOWN_S, 1024)

    async def get(self, principal: Principal, project_id: str, volume_id: str) -> Volume:
        """One volume."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        return await self._volumes.get(project_id, volume_id)

    async def list(
        self, principal: Principal, project_id: str, page_size: int, page_token: str
    ) -> Page[Volume]:
        """The volumes of a project by name."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        return await self._volumes.list(
            project_id, PageRequest.of(page_size, page_token, "volumes", project_id)
        )

    async def update(
        self,
        principal: Principal,
        project_id: str,
        volume_id: str,
        wanted: Volume,
        fields: Sequence[VolumeField],
        etag: str,
    ) -> Volume:
        """Change fields of a volume; Conflict ETAG_MISMATCH when somebody was faster."""
        await self._authorizer.authorize(principal, Permission.VOLUME_WRITE, project_id)

        def change(present: Volume) -> Volume:
            require_etag(present.name, present.etag, etag)
            return present.changed(wanted, fields, now_us())

        changed = await self._volumes.update(project_id, volume_id, change)
        self._known.forget_all()
        if VolumeField.VOXEL_SIZE in fields and changed.reference is None:
            await self._write_metadata(changed)
        return changed

    async def delete(self, principal: Principal, project_id: str, volume_id: str, force: bool) -> None:
        """Delete a volume with its layers."""
        await self._authorizer.authorize(principal, Permission.VOLUME_WRITE, project_id)
        await self._volumes.delete(project_id, volume_id, force)
        self._known.forget_all()

    async def statistics(self, principal: Principal, project_id: str, volume_id: str) -> SliceStatistics:
        """Intensity of every slice."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        return await self._volumes.statistics(project_id, volume_id)

    async def read(
        self, principal: Principal, project_id: str, volume_id: str, level: int, region: Region | None
    ) -> RegionRead:
        """Prepare to read a region of a level; all of it with None. Errors as in the contract."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        volume = await self._known.get(
            (project_id, volume_id), lambda: self._volumes.get(project_id, volume_id)
        )
        wanted = volume.level(level)
        region = region or Region.of_shape(wanted.shape)
        region.require_within(wanted.shape, f"level {level} of {volume.name}")
        referenced = volume.referenced(wanted)
        if referenced is not None:
            array = await self._references.get(referenced)
        else:
            array = await self._arrays.get(f"{volume.key}/{wanted.path}", immutable=True)
        require_size(region, array.dtype.itemsize, self._max_region_bytes)
        return RegionRead(array, region, self._admission)

    async def _write_metadata(self, volume: Volume) -> None:
        levels = tuple(
            multiscale.Level(level.path, level.shape, level.downsampling) for level in volume.levels
        )
        await asyncio.to_thread(
            multiscale.write_multiscale_metadata,
            self._objects.blocking,
            volume.key,
            volume.display_name,
            levels,
            volume.voxel_size,
        )
