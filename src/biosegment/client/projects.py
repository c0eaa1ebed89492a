"""Projects, their classes and members."""

from __future__ import annotations

import builtins
import uuid
from collections.abc import Sequence

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import project_pb2
from biosegment.api.datastore.v1alpha1.datastore_pb2_grpc import DatastoreServiceStub
from biosegment.client.resources import LabelClass, Member, Project
from biosegment.errors import InvalidArgument


def _class_to_proto(item: LabelClass | str) -> project_pb2.LabelClass:
    if isinstance(item, str):
        return project_pb2.LabelClass(display_name=item)
    return project_pb2.LabelClass(value=item.value, display_name=item.display_name, color_rgb=item.color_rgb)


class Projects:
    """Projects of the caller."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = DatastoreServiceStub(channel)

    async def create(
        self,
        project_id: str = "",
        *,
        classes: Sequence[LabelClass | str],
        display_name: str = "",
        description: str = "",
        working_resolution_nm: float = 0.0,
    ) -> Project:
        """Make a project, with the caller as its owner.

        Args:
            project_id: 1 to 63 of a-z, 0-9, '-'; made up when empty.
            classes: What to segment, names or `LabelClass`; values from 2 on are given in order.
            display_name: For people; the id when empty.
            description: For people.
            working_resolution_nm: nm per pixel at which to sample, train and predict; 0 for the default.
        """
        request = pb.CreateProjectRequest(
            project_id=project_id,
            project=project_pb2.Project(
                display_name=display_name or project_id,
                description=description,
                classes=[_class_to_proto(item) for item in classes],
                working_resolution_nm=working_resolution_nm,
            ),
            request_id=str(uuid.uuid4()),
        )
        return Project.from_proto((await self._stub.CreateProject(request)).project)

    async def get(self, name: str) -> Project:
        """Return a project by its name `projects/{id}`."""
        return Project.from_proto((await self._stub.GetProject(pb.GetProjectRequest(name=name))).project)

    async def list(self) -> builtins.list[Project]:
        """Return all projects that the caller is a member of."""
        found: builtins.list[Project] = []
        token = ""
        while True:
            page = await self._stub.ListProjects(pb.ListProjectsRequest(page_size=500, page_token=token))
            found.extend(map(Project.from_proto, page.projects))
            token = page.next_page_token
            if not token:
                return found

    async def update(
        self,
        name: str,
        *,
        display_name: str | None = None,
        description: str | None = None,
        classes: Sequence[LabelClass | str] | None = None,
        working_resolution_nm: float | None = None,
        etag: str = "",
    ) -> Project:
        """Change the fields that are given; Conflict ETAG_MISMATCH when `etag` is not the present one."""
        message = project_pb2.Project(name=name, etag=etag)
        paths = []
        if display_name is not None:
            message.display_name = display_name
            paths.append("display_name")
        if description is not None:
            message.description = description
            paths.append("description")
        if classes is not None:
            message.classes.extend(_class_to_proto(item) for item in classes)
            paths.append("classes")
        if working_resolution_nm is not None:
            message.working_resolution_nm = working_resolution_nm
            paths.append("working_resolution_nm")
        request = pb.UpdateProjectRequest(project=message, update_mask=FieldMask(paths=paths))
        return Project.from_proto((await self._stub.UpdateProject(request)).project)

    async def delete(self, name: str, *, force: bool = False) -> None:
        """Delete a project; with `force` also one that has volumes."""
        await self._stub.DeleteProject(pb.DeleteProjectRequest(name=name, force=force))

    async def members(self, name: str) -> builtins.list[Member]:
        """Return the members of a project."""
        answer = await self._stub.ListMembers(pb.ListMembersRequest(parent=name))
        return [Member.from_proto(member) for member in answer.members]

    async def set_member(self, name: str, user_id: str, role: str) -> Member:
        """Add a member or change their role: owner, manager, annotator, reviewer or viewer."""
        key = f"ROLE_{role.upper()}"
        if key not in project_pb2.Role.keys() or key == "ROLE_UNSPECIFIED":
            raise InvalidArgument(
                "UNKNOWN_ROLE", f"role {role!r} is none of owner, manager, annotator, reviewer, viewer"
            )
        member = project_pb2.Member(name=f"{name}/members/{user_id}", role=key)
        return Member.from_proto((await self._stub.SetMember(pb.SetMemberRequest(member=member))).member)

    async def remove_member(self, name: str, user_id: str) -> None:
        """Remove a member."""
        await self._stub.RemoveMember(pb.RemoveMemberRequest(name=f"{name}/members/{user_id}"))
