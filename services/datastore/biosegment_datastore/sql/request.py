"""What every table module shares: remembered requests, doomed prefixes, row locks. All run inside of a transaction."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from biosegment.errors import Conflict, NotFound
from biosegment_datastore.clock import now_us
from biosegment_datastore.request import Request
from biosegment_datastore.sql.tables import GARBAGE, PROJECTS, REQUESTS, VOLUMES

NEVER_US = 1 << 62
"""Due time of what is being written."""
SWEPT = "swept"
"""Owner of a prefix that was emptied and waits to be emptied once more."""


async def replayed(connection: AsyncConnection, request: Request) -> str | None:
    """The resource that an earlier request with this id made, None when it is the first."""
    if not request.id:
        return None
    query = sa.select(REQUESTS.c.digest, REQUESTS.c.resource).where(
        REQUESTS.c.scope == request.scope, REQUESTS.c.request_id == request.id
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else request.check_same(row.digest, row.resource)


async def remember(connection: AsyncConnection, request: Request, resource: str) -> None:
    """Keep what a request made."""
    if request.id:
        await connection.execute(
            sa.insert(REQUESTS).values(
                scope=request.scope, request_id=request.id, digest=request.digest, resource=resource
            )
        )


async def lock_project(connection: AsyncConnection, project_id: str) -> Any:
    """The project's row, locked until the transaction ends; NotFound PROJECT_NOT_FOUND."""
    query = sa.select(PROJECTS).where(PROJECTS.c.id == project_id).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise project_not_found(project_id)
    return row


async def require_volume(connection: AsyncConnection, project_id: str, volume_id: str) -> None:
    """NotFound VOLUME_NOT_FOUND unless there is this volume."""
    query = sa.select(VOLUMES.c.id).where(VOLUMES.c.project_id == project_id, VOLUMES.c.id == volume_id)
    if (await connection.execute(query)).one_or_none() is None:
        raise volume_not_found(project_id, volume_id)


async def doom(connection: AsyncConnection, prefix: str, due_us: int, owner: str = "") -> None:
    """Have everything below `prefix/` deleted at `due_us`."""
    await connection.execute(sa.delete(GARBAGE).where(GARBAGE.c.prefix == prefix))
    await connection.execute(sa.insert(GARBAGE).values(prefix=prefix, due_us=due_us, owner=owner))


async def take(connection: AsyncConnection, prefix: str, owner: str | None = None) -> None:
    """Take a reserved prefix into use.

    Args:
        connection: In a transaction, which fails with this.
        prefix: Where everything is written.
        owner: Who must have reserved it; None for anybody.

    Raises:
        Conflict: ATTEMPT_OUTDATED when it is reserved no longer: what was written there may be gone.
    """
    reserved = sa.delete(GARBAGE).where(
        GARBAGE.c.prefix == prefix, GARBAGE.c.due_us > now_us(), GARBAGE.c.owner != SWEPT
    )
    if owner is not None:
        reserved = reserved.where(GARBAGE.c.owner == owner)
    if not (await connection.execute(reserved)).rowcount:
        raise Conflict(
            "ATTEMPT_OUTDATED",
            f"{prefix} is reserved no longer: a newer attempt took over, or it took too long; begin again",
        )


def project_not_found(project_id: str) -> NotFound:
    return NotFound("PROJECT_NOT_FOUND", f"there is no project {project_id!r}, or you are not a member of it")


def volume_not_found(project_id: str, volume_id: str) -> NotFound:
    return NotFound("VOLUME_NOT_FOUND", f"there is no volume projects/{project_id}/volumes/{volume_id}")
