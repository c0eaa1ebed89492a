"""Who is a member, remembered for a few seconds since every call asks."""

from __future__ import annotations

from biosegment.auth import Role
from biosegment.expiring import Expiring
from biosegment_datastore.sql.project import SqlProjects


class CachedMemberships:
    """`biosegment.auth.Memberships` from our own tables."""

    def __init__(self, projects: SqlProjects, lifetime_s: float = 2.0) -> None:
        self._projects = projects
        self._known: Expiring[tuple[str, str], Role | None] = Expiring(lifetime_s, 4096)

    async def role(self, user: str, project_id: str) -> Role | None:
        """The role of a user in a project, None when they are no member; NotFound PROJECT_NOT_FOUND."""
        return await self._known.get((user, project_id), lambda: self._projects.role(user, project_id))

    def forget(self) -> None:
        self._known.forget_all()
