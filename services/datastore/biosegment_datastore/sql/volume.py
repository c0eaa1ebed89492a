"""Volumes in SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.database import Database
from biosegment.errors import AlreadyExists, FailedPrecondition
from biosegment.volume import Index, VoxelSize
from biosegment_datastore.clock import now_us
from biosegment_datastore.layer import edits_key
from biosegment_datastore.page import Page, PageRequest
from biosegment_datastore.reference import Reference
from biosegment_datastore.sql.layer import edited_layers
from biosegment_datastore.sql.request import doom, lock_project, take, volume_not_found
from biosegment_datastore.sql.tables import ANNOTATIONS, DRAFTS, LAYERS, VOLUMES
from biosegment_datastore.volume import DisplayWindow, Level, SliceStatistics, Volume


class SqlVolumes:
    """Volumes and their slice statistics."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, volume: Volume, statistics: SliceStatistics, owner: str) -> None:
        """Store a volume whose voxels are complete; its prefix, reserved by `owner`, is garbage no longer.

        Raises:
            AlreadyExists: VOLUME_EXISTS.
            Conflict: ATTEMPT_OUTDATED when the prefix is somebody else's now.
            NotFound: PROJECT_NOT_FOUND when the project was deleted meanwhile.
        """
        async with self._database.write() as connection:
            await lock_project(connection, volume.project_id)
            if await _find(connection, volume.project_id, volume.id) is not None:
                raise volume_exists(volume.name)
            row = {
                **_row_of(volume),
                "slice_mean": list(statistics.mean),
                "slice_std": list(statistics.std),
            }
            await connection.execute(sa.insert(VOLUMES).values(**row))
            await take(connection, volume.key, owner)

    async def get(self, project_id: str, volume_id: str) -> Volume:
        """NotFound VOLUME_NOT_FOUND."""
        async with self._database.read() as connection:
            return await load_volume(connection, project_id, volume_id)

    async def exists(self, project_id: str, volume_id: str) -> bool:
        async with self._database.read() as connection:
            return await _find(connection, project_id, volume_id) is not None

    async def statistics(self, project_id: str, volume_id: str) -> SliceStatistics:
        """NotFound VOLUME_NOT_FOUND."""
        query = sa.select(VOLUMES.c.slice_mean, VOLUMES.c.slice_std).where(*_key(project_id, volume_id))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise volume_not_found(project_id, volume_id)
        return SliceStatistics(tuple(row.slice_mean), tuple(row.slice_std))

    async def list(self, project_id: str, page: PageRequest) -> Page[Volume]:
        """Volumes of a project by id."""
        query = _select().where(VOLUMES.c.project_id == project_id).order_by(VOLUMES.c.id)
        if page.after is not None:
            query = query.where(VOLUMES.c.id > str(page.after))
        async with self._database.read() as connection:
            found = [volume_of(row) for row in (await connection.execute(query.limit(page.size + 1))).all()]
        items = found[: page.size]
        return Page(items, page.next_token(items[-1].id) if len(found) > page.size else "")

    async def update(self, project_id: str, volume_id: str, change: Callable[[Volume], Volume]) -> Volume:
        """Change a volume; `change` gets the present one and returns the new one or raises."""
        async with self._database.write() as connection:
            await lock_project(connection, project_id)
            after = change(await load_volume(connection, project_id, volume_id))
            await connection.execute(
                sa.update(VOLUMES).where(*_key(project_id, volume_id)).values(**_row_of(after))
            )
        return after

    async def delete(self, project_id: str, volume_id: str, force: bool) -> None:
        """Delete a volume with its layers, annotations and edits of objects.

        Raises:
            FailedPrecondition: VOLUME_HAS_ANNOTATIONS, VOLUME_HAS_EDITS unless `force`.
            NotFound: VOLUME_NOT_FOUND.
        """
        of_volume = (ANNOTATIONS.c.project_id == project_id, ANNOTATIONS.c.volume_id == volume_id)
        layers = sa.select(LAYERS.c.storage_key).where(
            LAYERS.c.project_id == project_id, LAYERS.c.volume_id == volume_id
        )
        drafts = sa.select(DRAFTS.c.key).where(
            DRAFTS.c.project_id == project_id, DRAFTS.c.volume_id == volume_id
        )
        async with self._database.write() as connection:
            await lock_project(connection, project_id)
            volume = await load_volume(connection, project_id, volume_id)
            count = sa.select(sa.func.count()).select_from(ANNOTATIONS).where(*of_volume)
            annotations = (await connection.execute(count)).scalar_one()
            if annotations and not force:
                raise FailedPrecondition(
                    "VOLUME_HAS_ANNOTATIONS",
                    f"{volume.name} has {annotations} annotations; set force to delete them with it",
                )
            if not force and (edited := await edited_layers(connection, project_id, volume_id)):
                raise FailedPrecondition(
                    "VOLUME_HAS_EDITS",
                    f"objects of {edited} layers of {volume.name} were edited; set force to delete the edits with it",
                )
            doomed = [volume.key]
            for key in (await connection.execute(layers)).scalars():
                doomed += [key, edits_key(key)]
            doomed += (await connection.execute(drafts)).scalars()
            for key in doomed:
                await doom(connection, key, now_us())
            # The label blocks are found by their missing rows.
            await connection.execute(sa.delete(VOLUMES).where(*_key(project_id, volume_id)))


async def load_volume(connection: AsyncConnection, project_id: str, volume_id: str) -> Volume:
    """NotFound VOLUME_NOT_FOUND."""
    row = await _find(connection, project_id, volume_id)
    if row is None:
        raise volume_not_found(project_id, volume_id)
    return volume_of(row)


def volume_exists(name: str) -> AlreadyExists:
    return AlreadyExists("VOLUME_EXISTS", f"there is already a volume {name}; choose another volume_id")


def _select() -> sa.Select[Any]:
    # The statistics may be long, and hardly anybody wants them.
    large = ("slice_mean", "slice_std")
    return sa.select(*(column for column in VOLUMES.c if column.name not in large))


def _key(project_id: str, volume_id: str) -> tuple[Any, ...]:
    return (VOLUMES.c.project_id == project_id, VOLUMES.c.id == volume_id)


async def _find(connection: AsyncConnection, project_id: str, volume_id: str) -> Any:
    return (await connection.execute(_select().where(*_key(project_id, volume_id)))).one_or_none()


def _row_of(volume: Volume) -> dict[str, Any]:
    return {
        "project_id": volume.project_id,
        "id": volume.id,
        "display_name": volume.display_name,
        "shape": list(volume.shape),
        "data_type": volume.data_type,
        "voxel_size_nm": list(volume.voxel_size),
        "levels": [[list(level.shape), list(level.downsampling), level.path] for level in volume.levels],
        "key": volume.key,
        "source": volume.source,
        "display_window": [volume.display_window.low, volume.display_window.high],
        "creator": volume.creator,
        "create_time_us": volume.create_time_us,
        "update_time_us": volume.update_time_us,
        "version": volume.version,
        "reference": volume.reference.written() if volume.reference is not None else None,
    }


def volume_query(project_id: str, volume_id: str) -> sa.Select[Any]:
    """What `volume_of` needs."""
    return _select().where(*_key(project_id, volume_id))


def volume_of(row: Any) -> Volume:
    """The volume that a row says."""
    return Volume(
        project_id=row.project_id,
        id=row.id,
        display_name=row.display_name,
        shape=Index(*row.shape),
        data_type=row.data_type,
        voxel_size=VoxelSize(*row.voxel_size_nm),
        levels=tuple(Level(Index(*shape), Index(*factor), path) for shape, factor, path in row.levels),
        key=row.key,
        source=row.source,
        display_window=DisplayWindow(*row.display_window),
        creator=row.creator,
        create_time_us=row.create_time_us,
        update_time_us=row.update_time_us,
        version=row.version,
        reference=Reference.read(row.reference) if row.reference else None,
    )
