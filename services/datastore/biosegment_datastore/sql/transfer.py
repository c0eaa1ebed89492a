"""Uploads, artifacts and garbage in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.database import Database
from biosegment.errors import AlreadyExists, Conflict, NotFound
from biosegment_datastore.clock import now_us
from biosegment_datastore.request import Request
from biosegment_datastore.sql.request import (
    NEVER_US,
    SWEPT,
    doom,
    lock_project,
    remember,
    replayed,
    take,
)
from biosegment_datastore.sql.tables import ARTIFACTS, GARBAGE, HOLDS, METADATA, PROJECTS, UPLOADS
from biosegment_datastore.transfer import Artifact, Upload, UploadLimits, artifact_home

_PLACES: Final = ("key", "storage_key", "prefix")
"""Columns, of whatever table, that refer to the object storage."""
_ATTEMPT_US: Final = 7 * 24 * 3600 * 1_000_000
"""A service's attempt at an artifact is given up when it has not been committed for so long."""
_LATE_US: Final = 600 * 1_000_000
"""Whoever was at work when something was deleted has noticed after so long, and writes there no more."""


class SqlTransfers:
    """Files on their way in and out."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_upload(self, upload: Upload, request: Request, limits: UploadLimits) -> Upload:
        """Store a new upload, or answer with the one that the same request made.

        Raises:
            AlreadyExists: REQUEST_ID_REUSED.
            ResourceExhausted: TOO_MANY_UPLOADS.
        """
        async with self._database.write() as connection:
            await lock_project(connection, upload.project_id)
            earlier = await replayed(connection, request)
            if earlier is not None:
                return await _load_upload(connection, upload.project_id, earlier)
            query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(UPLOADS.c.size_bytes), 0)).where(
                UPLOADS.c.project_id == upload.project_id
            )
            count, announced_bytes = (await connection.execute(query)).one()
            limits.require_room(upload, count, int(announced_bytes))
            await connection.execute(sa.insert(UPLOADS).values(**_row_of(upload)))
            await remember(connection, request, upload.id)
        return upload

    async def upload(self, project_id: str, upload_id: str) -> Upload:
        """NotFound UPLOAD_NOT_FOUND."""
        async with self._database.read() as connection:
            return await _load_upload(connection, project_id, upload_id)

    async def received(self, upload: Upload, received_bytes: int, expire_time_us: int) -> Upload:
        """Store how much has arrived; Conflict OFFSET_MISMATCH when another stream wrote meanwhile."""
        statement = (
            sa.update(UPLOADS)
            .where(UPLOADS.c.project_id == upload.project_id, UPLOADS.c.id == upload.id)
            .where(UPLOADS.c.received_bytes == upload.received_bytes)
            .values(received_bytes=received_bytes, expire_time_us=expire_time_us)
        )
        async with self._database.write() as connection:
            done = (await connection.execute(statement)).rowcount
            present = await _load_upload(connection, upload.project_id, upload.id)
        if not done:
            raise offset_mismatch(present, upload.received_bytes)
        return present

    async def delete_upload(self, project_id: str, upload_id: str) -> None:
        """Drop an upload and its bytes; NotFound UPLOAD_NOT_FOUND."""
        async with self._database.write() as connection:
            upload = await _load_upload(connection, project_id, upload_id)
            await _drop_upload(connection, upload)

    async def drop_expired_uploads(self) -> int:
        """Drop uploads that nobody continued or used; returns how many."""
        async with self._database.write() as connection:
            query = sa.select(UPLOADS).where(UPLOADS.c.expire_time_us < now_us())
            expired = [_upload(row) for row in (await connection.execute(query)).all()]
            for upload in expired:
                await _drop_upload(connection, upload)
        return len(expired)

    async def create_artifact(self, artifact: Artifact) -> None:
        """Store an artifact whose bytes are complete; its prefix is garbage no longer.

        Raises:
            Conflict: ATTEMPT_OUTDATED when the prefix is reserved no longer.
            NotFound: PROJECT_NOT_FOUND.
        """
        async with self._database.write() as connection:
            await lock_project(connection, artifact.project_id)
            await connection.execute(sa.insert(ARTIFACTS).values(**_row_of(artifact)))
            await take(connection, artifact.key)

    async def reserve_artifact(self, project_id: str, artifact_id: str, attempt: int) -> str:
        """Reserve the prefix that an attempt at an artifact writes to, and return it; earlier attempts' are due now.

        Raises:
            AlreadyExists: ARTIFACT_EXISTS when it is committed.
            Conflict: ATTEMPT_OUTDATED when a later attempt has begun.
            NotFound: PROJECT_NOT_FOUND.
        """
        async with self._database.write() as connection:
            project = await lock_project(connection, project_id)
            if await _find_artifact(connection, project_id, artifact_id) is not None:
                name = f"projects/{project_id}/artifacts/{artifact_id}"
                raise AlreadyExists("ARTIFACT_EXISTS", f"there is {name} already", resource=name)
            home = artifact_home(project.storage_key, artifact_id)
            of_it = sa.and_(
                GARBAGE.c.prefix.startswith(f"{home}/", autoescape=True), GARBAGE.c.owner != SWEPT
            )
            places = (await connection.execute(sa.select(GARBAGE.c.prefix).where(of_it))).scalars()
            newest = max((int(place.rpartition("/")[2]) for place in places), default=0)
            if newest > attempt:
                raise Conflict(
                    "ATTEMPT_OUTDATED",
                    f"attempt {newest} at artifact {artifact_id!r} has begun; write nothing more for attempt {attempt}",
                    attempt=str(newest),
                )
            await connection.execute(sa.update(GARBAGE).where(of_it).values(due_us=now_us()))
            await doom(connection, f"{home}/{attempt}", now_us() + _ATTEMPT_US)
        return f"{home}/{attempt}"

    async def commit_artifacts(self, project_id: str, artifacts: Sequence[Artifact]) -> Sequence[Artifact]:
        """Store artifacts whose bytes are complete, all or none, and return them as stored.

        Raises:
            Conflict: ATTEMPT_OUTDATED when a prefix is reserved no longer.
            NotFound: PROJECT_NOT_FOUND.
        """
        stored = []
        async with self._database.write() as connection:
            await lock_project(connection, project_id)
            for artifact in artifacts:
                known = await _find_artifact(connection, project_id, artifact.id)
                if known is None:
                    await connection.execute(sa.insert(ARTIFACTS).values(**_row_of(artifact)))
                    await take(connection, artifact.key)
                stored.append(known or artifact)
        return stored

    async def artifact(self, project_id: str, artifact_id: str) -> Artifact:
        """NotFound ARTIFACT_NOT_FOUND."""
        async with self._database.read() as connection:
            found = await _find_artifact(connection, project_id, artifact_id)
        if found is None:
            raise NotFound(
                "ARTIFACT_NOT_FOUND", f"there is no artifact projects/{project_id}/artifacts/{artifact_id}"
            )
        return found


class SqlGarbage:
    """Prefixes of the object storage that wait to be deleted."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(self, prefix: str, job_id: str, attempt: int) -> None:
        """Enter a prefix that an attempt of a job is about to write to; what earlier ones left is due now.

        An earlier attempt that lives on can `abandon` its own prefixes only, not this one.
        """
        async with self._database.write() as connection:
            await connection.execute(
                sa.update(GARBAGE).where(_of_job(job_id)).values(owner="", due_us=now_us())
            )
            await doom(connection, prefix, NEVER_US, owner_of(job_id, attempt))

    async def take_over(self, job_id: str, attempt: int, fresh: str) -> str:
        """Enter the prefix that an attempt of a job is about to write to, and return it.

        That is where the attempt before it left off, or `fresh`. What the earlier attempt may still `abandon` is its
        own, not this one's.
        """
        mine = _of_job(job_id)
        query = sa.select(GARBAGE.c.prefix).where(mine).order_by(GARBAGE.c.prefix.desc())
        async with self._database.write() as connection:
            prefix = (await connection.execute(query)).scalars().first() or fresh
            await connection.execute(sa.update(GARBAGE).where(mine).values(owner="", due_us=now_us()))
            await doom(connection, prefix, NEVER_US, owner_of(job_id, attempt))
        return prefix

    async def abandon(self, owner: str) -> None:
        """Everything that `owner` reserved and did not finish is due now."""
        async with self._database.write() as connection:
            await connection.execute(
                sa.update(GARBAGE).where(GARBAGE.c.owner == owner).values(owner="", due_us=now_us())
            )

    async def owners(self) -> Sequence[str]:
        """Jobs that reserved prefixes."""
        query = sa.select(GARBAGE.c.owner).where(GARBAGE.c.owner.not_in(["", SWEPT])).distinct()
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalars().all()

    async def due(self) -> Sequence[str]:
        """Prefixes whose time has come; none while there is a hold.

        One query for both: what a backup's snapshot refers to is doomed after its hold was made, if at all, so that
        whoever sees the doom sees the hold.
        """
        query = sa.select(GARBAGE.c.prefix).where(GARBAGE.c.due_us <= now_us(), sa.not_(_held()))
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalars().all()

    async def owned(self, owner: str) -> Sequence[str]:
        """Prefixes that `owner` reserved."""
        query = sa.select(GARBAGE.c.prefix).where(GARBAGE.c.owner == owner)
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalars().all()

    async def used(self) -> set[str]:
        """Every key and prefix that a row refers to, doomed and reserved ones included."""
        columns = [
            table.c[name]
            for table in METADATA.sorted_tables
            if table is not PROJECTS  # the place of a project is not in use as a whole
            for name in _PLACES
            if name in table.c
        ]
        # One statement sees one state on every database; in two, what is taken into use in between is in neither.
        query = sa.union_all(*(sa.select(column.label("place")) for column in columns))
        async with self._database.read() as connection:
            return set((await connection.execute(query)).scalars())

    async def is_held(self) -> bool:
        """Whether a backup asks that nothing is removed from the object storage."""
        async with self._database.read() as connection:
            return bool((await connection.execute(sa.select(_held()))).scalar_one())

    async def removed(self, prefix: str) -> None:
        """A prefix is empty now. It is due once more when nobody can be writing there any longer, and then forgotten.

        An annotation that is being laid, a chunk that a client is sending, a worker that is about to be killed: what is
        deleted under their hands they may still write to, and nothing else would find it.
        """
        mine = GARBAGE.c.prefix == prefix
        again = sa.update(GARBAGE).where(mine, GARBAGE.c.owner != SWEPT)
        # Only when that time has come: another instance may have emptied the prefix in the same moment.
        over = sa.delete(GARBAGE).where(mine, GARBAGE.c.owner == SWEPT, GARBAGE.c.due_us <= now_us())
        async with self._database.write() as connection:
            await connection.execute(over)
            await connection.execute(again.values(owner=SWEPT, due_us=now_us() + _LATE_US))


def owner_of(job_id: str, attempt: int) -> str:
    """Who reserves prefixes: one attempt of a job."""
    return f"{job_id}/{attempt}"


def _of_job(job_id: str) -> sa.ColumnElement[bool]:
    # Releases before this one entered the job alone.
    return sa.or_(GARBAGE.c.owner == job_id, GARBAGE.c.owner.startswith(f"{job_id}/", autoescape=True))


def _held() -> sa.Exists:
    return sa.exists().where(HOLDS.c.expire_time_us > now_us())


async def _find_artifact(connection: AsyncConnection, project_id: str, artifact_id: str) -> Artifact | None:
    query = sa.select(ARTIFACTS).where(ARTIFACTS.c.project_id == project_id, ARTIFACTS.c.id == artifact_id)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else Artifact(**row._mapping)


async def _load_upload(connection: AsyncConnection, project_id: str, upload_id: str) -> Upload:
    query = sa.select(UPLOADS).where(UPLOADS.c.project_id == project_id, UPLOADS.c.id == upload_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(
            "UPLOAD_NOT_FOUND",
            f"there is no upload projects/{project_id}/uploads/{upload_id}; it may have expired",
        )
    return _upload(row)


async def _drop_upload(connection: AsyncConnection, upload: Upload) -> None:
    await connection.execute(
        sa.delete(UPLOADS).where(UPLOADS.c.project_id == upload.project_id, UPLOADS.c.id == upload.id)
    )
    await doom(connection, upload.key, now_us())


def offset_mismatch(upload: Upload, offset: int) -> Conflict:
    return Conflict(
        "OFFSET_MISMATCH",
        f"{upload.name} has received {upload.received_bytes} bytes; go on from there, not from {offset}",
        received_bytes=str(upload.received_bytes),
    )


def _row_of(value: Upload | Artifact) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value).__dataclass_fields__}


def _upload(row: Any) -> Upload:
    return Upload(**row._mapping)
