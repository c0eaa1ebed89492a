"""Projects and members in SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.auth import Role
from biosegment.database import Database
from biosegment.errors import AlreadyExists, FailedPrecondition, NotFound
from biosegment.jobs.tables import job_log_table, job_table
from biosegment_datastore.clock import now_us
from biosegment_datastore.page import Page, PageRequest
from biosegment_datastore.project import LabelClass, Member, Project
from biosegment_datastore.request import Request
from biosegment_datastore.sql.request import doom, lock_project, project_not_found, remember, replayed
from biosegment_datastore.sql.tables import (
    ANNOTATIONS,
    DELETED_PROJECTS,
    LAYERS,
    MEMBERS,
    PROJECTS,
    REQUESTS,
    VOLUMES,
)

_JOB_METADATA = sa.MetaData()
_JOBS = job_table(_JOB_METADATA)
_JOB_LOGS = job_log_table(_JOB_METADATA)


_ROLE: Final = (
    sa.select(PROJECTS.c.id, MEMBERS.c.role)
    .outerjoin(
        MEMBERS,
        sa.and_(MEMBERS.c.project_id == PROJECTS.c.id, MEMBERS.c.user_id == sa.bindparam("user_id")),
    )
    .where(PROJECTS.c.id == sa.bindparam("project_id"))
)
"""Looked up with most calls. Putting it together takes as long as carrying it out."""


class SqlProjects:
    """Projects and who belongs to them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, project: Project, owner: str, request: Request) -> Project:
        """Store a new project with its owner, or answer with the one that the same request made before.

        Raises:
            AlreadyExists: PROJECT_EXISTS, also for the id of a deleted one; REQUEST_ID_REUSED.
        """
        try:
            async with self._database.write() as connection:
                earlier = await replayed(connection, request)
                if earlier is not None:
                    return await load_project(connection, earlier)
                if await _was_deleted(connection, project.id):
                    raise _project_exists(project.id)
                key = f"projects/{project.id}"
                row = {**_project_row(project), "storage_key": key, "last_sequence": 0}
                await connection.execute(sa.insert(PROJECTS).values(**row))
                if owner:
                    await connection.execute(
                        sa.insert(MEMBERS).values(
                            project_id=project.id,
                            user_id=owner,
                            role=Role.OWNER.value,
                            create_time_us=project.create_time_us,
                        )
                    )
                await remember(connection, request, project.id)
                return await load_project(connection, project.id)
        except sa.exc.IntegrityError as error:
            raise _project_exists(project.id) from error

    async def get(self, project_id: str) -> Project:
        """NotFound PROJECT_NOT_FOUND."""
        async with self._database.read() as connection:
            return await load_project(connection, project_id)

    async def list(
        self, page: PageRequest, user: str | None, among: frozenset[str] | None = None
    ) -> Page[Project]:
        """Projects by id; those of a user, or all with None; of those `among` alone, unless that is None."""
        query = sa.select(PROJECTS).order_by(PROJECTS.c.id).limit(page.size + 1)
        if page.after is not None:
            query = query.where(PROJECTS.c.id > str(page.after))
        if user is not None:
            mine = sa.select(MEMBERS.c.project_id).where(MEMBERS.c.user_id == user)
            query = query.where(PROJECTS.c.id.in_(mine))
        if among is not None:
            query = query.where(PROJECTS.c.id.in_(sorted(among)))
        async with self._database.read() as connection:
            found = [project_of(row) for row in (await connection.execute(query)).all()]
        items = found[: page.size]
        return Page(items, page.next_token(items[-1].id) if len(found) > page.size else "")

    async def update(self, project_id: str, change: Callable[[Project, frozenset[int]], Project]) -> Project:
        """Change a project; `change` gets it and the class values in use, and returns the new one or raises."""
        async with self._database.write() as connection:
            before = project_of(await lock_project(connection, project_id))
            after = change(before, await _used_values(connection, project_id))
            await connection.execute(
                sa.update(PROJECTS).where(PROJECTS.c.id == project_id).values(**_project_row(after))
            )
        return after

    async def delete(self, project_id: str, force: bool) -> None:
        """Delete a project with everything in it.

        Raises:
            FailedPrecondition: PROJECT_NOT_EMPTY when it has volumes, unless `force`.
        """
        async with self._database.write() as connection:
            row = await lock_project(connection, project_id)
            keys = sa.select(VOLUMES.c.key).where(VOLUMES.c.project_id == project_id)
            volume_keys = (await connection.execute(keys)).scalars().all()
            if volume_keys and not force:
                raise FailedPrecondition(
                    "PROJECT_NOT_EMPTY",
                    f"project {project_id!r} has {len(volume_keys)} volumes; set force to delete them with it",
                )
            for key in (row.storage_key, *volume_keys):
                await doom(connection, key, now_us())
            jobs = sa.select(_JOBS.c.job_id).where(_JOBS.c.project_id == project_id)
            await connection.execute(sa.delete(_JOB_LOGS).where(_JOB_LOGS.c.job_id.in_(jobs)))
            await connection.execute(sa.delete(_JOBS).where(_JOBS.c.project_id == project_id))
            await connection.execute(sa.delete(REQUESTS).where(REQUESTS.c.scope == project_id))
            await connection.execute(sa.delete(PROJECTS).where(PROJECTS.c.id == project_id))
            deleted = sa.insert(DELETED_PROJECTS).values(id=project_id, delete_time_us=now_us())
            await connection.execute(deleted)

    async def role(self, user: str, project_id: str) -> Role | None:
        """The role of a user, None when they are no member; NotFound PROJECT_NOT_FOUND."""
        values = {"project_id": project_id, "user_id": user}
        row = await self._database.read_at_once(
            lambda connection: connection.execute(_ROLE, values).one_or_none()
        )
        if row is None:
            raise project_not_found(project_id)
        return Role(row.role) if row.role else None

    async def members(self, project_id: str) -> Sequence[Member]:
        """All members, by user id."""
        query = sa.select(MEMBERS).where(MEMBERS.c.project_id == project_id).order_by(MEMBERS.c.user_id)
        async with self._database.read() as connection:
            return [_member(row) for row in (await connection.execute(query)).all()]

    async def member(self, project_id: str, user: str) -> Member:
        """One membership; NotFound PROJECT_NOT_FOUND or MEMBER_NOT_FOUND."""
        async with self._database.read() as connection:
            await load_project(connection, project_id)
            return await _load_member(connection, project_id, user)

    async def set_member(self, project_id: str, user: str, role: Role) -> Member:
        """Add a member or change their role; FailedPrecondition LAST_OWNER."""
        key = (MEMBERS.c.project_id == project_id, MEMBERS.c.user_id == user)
        async with self._database.write() as connection:
            await lock_project(connection, project_id)
            if role is not Role.OWNER:
                await _require_other_owner(connection, project_id, user)
            changed = await connection.execute(sa.update(MEMBERS).where(*key).values(role=role.value))
            if not changed.rowcount:
                await connection.execute(
                    sa.insert(MEMBERS).values(
                        project_id=project_id, user_id=user, role=role.value, create_time_us=now_us()
                    )
                )
            return await _load_member(connection, project_id, user)

    async def remove_member(self, project_id: str, user: str) -> None:
        """FailedPrecondition LAST_OWNER, NotFound MEMBER_NOT_FOUND."""
        async with self._database.write() as connection:
            await lock_project(connection, project_id)
            await _load_member(connection, project_id, user)
            await _require_other_owner(connection, project_id, user)
            await connection.execute(
                sa.delete(MEMBERS).where(MEMBERS.c.project_id == project_id, MEMBERS.c.user_id == user)
            )


async def load_project(connection: AsyncConnection, project_id: str) -> Project:
    """NotFound PROJECT_NOT_FOUND."""
    row = (await connection.execute(sa.select(PROJECTS).where(PROJECTS.c.id == project_id))).one_or_none()
    if row is None:
        raise project_not_found(project_id)
    return project_of(row)


async def _load_member(connection: AsyncConnection, project_id: str, user: str) -> Member:
    query = sa.select(MEMBERS).where(MEMBERS.c.project_id == project_id, MEMBERS.c.user_id == user)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound("MEMBER_NOT_FOUND", f"user {user!r} is no member of project {project_id!r}")
    return _member(row)


async def _require_other_owner(connection: AsyncConnection, project_id: str, user: str) -> None:
    query = sa.select(MEMBERS.c.user_id).where(
        MEMBERS.c.project_id == project_id, MEMBERS.c.role == Role.OWNER.value
    )
    if list((await connection.execute(query)).scalars()) == [user]:
        raise FailedPrecondition(
            "LAST_OWNER",
            f"{user!r} is the last owner of project {project_id!r}; make somebody else an owner first",
        )


async def _was_deleted(connection: AsyncConnection, project_id: str) -> bool:
    query = sa.select(DELETED_PROJECTS.c.id).where(DELETED_PROJECTS.c.id == project_id)
    return (await connection.execute(query)).one_or_none() is not None


def _project_exists(project_id: str) -> AlreadyExists:
    return AlreadyExists(
        "PROJECT_EXISTS", f"there is, or was, a project {project_id!r}; choose another id: none is used twice"
    )


async def _used_values(connection: AsyncConnection, project_id: str) -> frozenset[int]:
    annotations = (
        sa.select(ANNOTATIONS.c.class_scope).where(ANNOTATIONS.c.project_id == project_id).distinct()
    )
    if connection.dialect.name == "postgresql":
        # JSON has no equality there.
        scope = sa.cast(ANNOTATIONS.c.class_scope, sa.Text)
        annotations = (
            sa.select(sa.cast(scope, sa.JSON)).where(ANNOTATIONS.c.project_id == project_id).group_by(scope)
        )
    scopes = (await connection.execute(annotations)).scalars().all()
    layers = sa.select(LAYERS.c.class_value).where(LAYERS.c.project_id == project_id).distinct()
    values = set((await connection.execute(layers)).scalars())
    return frozenset(values.union(*scopes)) - {0}


def _project_row(project: Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "display_name": project.display_name,
        "description": project.description,
        "classes": [[label.value, label.display_name, label.color_rgb] for label in project.classes],
        "retired_values": list(project.retired_values),
        "working_resolution_nm": project.working_resolution_nm,
        "storage_key": project.storage_key,
        "create_time_us": project.create_time_us,
        "update_time_us": project.update_time_us,
        "version": project.version,
    }


def project_of(row: Any) -> Project:
    """The project that a row says."""
    return Project(
        id=row.id,
        display_name=row.display_name,
        description=row.description,
        classes=tuple(LabelClass(*label) for label in row.classes),
        working_resolution_nm=row.working_resolution_nm,
        storage_key=row.storage_key,
        create_time_us=row.create_time_us,
        update_time_us=row.update_time_us,
        retired_values=tuple(row.retired_values),
        version=row.version,
    )


def _member(row: Any) -> Member:
    return Member(row.project_id, row.user_id, Role(row.role), row.create_time_us)
