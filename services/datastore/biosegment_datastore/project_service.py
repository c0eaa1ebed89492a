"""What callers may do with projects and their members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from biosegment.auth import Authorizer, Kind, Permission, Principal, Role, require_scope
from biosegment.errors import Conflict, InvalidArgument, PermissionDenied
from biosegment.ids import check_id, new_id
from biosegment_datastore.clock import now_us
from biosegment_datastore.memberships import CachedMemberships
from biosegment_datastore.page import Page, PageRequest
from biosegment_datastore.project import (
    Member,
    Project,
    ProjectField,
    check_resolution,
    check_text,
    complete_classes,
)
from biosegment_datastore.request import Request
from biosegment_datastore.sql.project import SqlProjects


class ProjectService:
    """Projects for those who ask.

    Args:
        projects: The rows.
        authorizer: Decides who may do what.
        memberships: Told when roles change.
    """

    def __init__(self, projects: SqlProjects, authorizer: Authorizer, memberships: CachedMemberships) -> None:
        self._projects = projects
        self._authorizer = authorizer
        self._memberships = memberships

    async def create(
        self, principal: Principal, project_id: str, wanted: Project, request_id: str
    ) -> Project:
        """Make a project; the caller becomes its owner. Errors as in the contract."""
        if principal.kind is not Kind.USER:
            raise PermissionDenied("NOT_ALLOWED", f"{principal} may not make projects; users may")
        require_scope(principal, Permission.PROJECT_UPDATE)
        request = Request.of(f"user:{principal.subject}", request_id, "project", project_id, repr(wanted))
        now = now_us()
        project = replace(
            wanted,
            id=check_id(project_id, "project") if project_id else new_id(),
            display_name=check_text("display_name", wanted.display_name, 1, 200),
            description=check_text("description", wanted.description, 0, 10_000),
            classes=complete_classes(wanted.classes),
            working_resolution_nm=check_resolution(wanted.working_resolution_nm),
            create_time_us=now,
            update_time_us=now,
        )
        created = await self._projects.create(project, principal.subject, request)
        self._memberships.forget()
        return created

    async def get(self, principal: Principal, project_id: str) -> Project:
        """One project."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        return await self._projects.get(project_id)

    async def list(self, principal: Principal, page_size: int, page_token: str) -> Page[Project]:
        """The caller's projects by name; all for administrators and services. A token may be for some of them."""
        if principal.kind is Kind.JOB:
            raise PermissionDenied("NOT_ALLOWED", f"{principal} may not list projects")
        sees_all = principal.is_admin or principal.kind is Kind.SERVICE
        page = PageRequest.of(page_size, page_token, "projects", str(principal), *principal.limits)
        return await self._projects.list(page, None if sees_all else principal.subject, principal.projects)

    async def update(
        self,
        principal: Principal,
        project_id: str,
        wanted: Project,
        fields: Sequence[ProjectField],
        etag: str,
    ) -> Project:
        """Change fields of a project; Conflict ETAG_MISMATCH when somebody was faster."""
        await self._authorizer.authorize(principal, Permission.PROJECT_UPDATE, project_id)

        def change(present: Project, used_values: frozenset[int]) -> Project:
            require_etag(present.name, present.etag, etag)
            return present.changed(wanted, fields, used_values, now_us())

        return await self._projects.update(project_id, change)

    async def delete(self, principal: Principal, project_id: str, force: bool) -> None:
        """Delete a project with everything in it."""
        await self._authorizer.authorize(principal, Permission.PROJECT_DELETE, project_id)
        await self._projects.delete(project_id, force)
        self._memberships.forget()

    async def members(self, principal: Principal, project_id: str) -> Sequence[Member]:
        """All members."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        return await self._projects.members(project_id)

    async def member(self, principal: Principal, project_id: str, user: str) -> Member:
        """One membership."""
        await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        return await self._projects.member(project_id, user)

    async def set_member(self, principal: Principal, project_id: str, user: str, role: Role) -> Member:
        """Add a member or change their role; only owners make and unmake owners."""
        await self._authorizer.authorize(principal, Permission.MEMBERS_UPDATE, project_id)
        if not 1 <= len(user) <= 200:
            raise InvalidArgument("BAD_USER", "a user id has 1 to 200 characters")
        await self._guard_owners(principal, project_id, user, role)
        member = await self._projects.set_member(project_id, user, role)
        self._memberships.forget()
        return member

    async def remove_member(self, principal: Principal, project_id: str, user: str) -> None:
        """Remove a member."""
        await self._authorizer.authorize(principal, Permission.MEMBERS_UPDATE, project_id)
        await self._guard_owners(principal, project_id, user, None)
        await self._projects.remove_member(project_id, user)
        self._memberships.forget()

    async def _guard_owners(
        self, principal: Principal, project_id: str, user: str, role: Role | None
    ) -> None:
        """A manager must not make themselves an owner, nor put one out."""
        if Role.OWNER in (role, await self._projects.role(user, project_id)):
            await self._authorizer.authorize(principal, Permission.PROJECT_DELETE, project_id)


def require_etag(name: str, present: str, given: str) -> None:
    """Raise Conflict ETAG_MISMATCH unless `given` is '' or the present one."""
    if given and given != present:
        raise Conflict(
            "ETAG_MISMATCH",
            f"{name} was changed by somebody else; get it again and repeat the change",
            etag=present,
        )
