from __future__ import annotations

import time
from typing import Any

import pytest

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.datastore.v1alpha1 import project_pb2
from biosegment.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from biosegment.volume import Region
from tests.rpc.datastore_server import Caller, RunningDatastore

LabelClass = project_pb2.LabelClass


async def test_a_project_gets_defaults_and_its_maker_as_owner(ada: Caller) -> None:
    project = await ada.create_project("em", ("mitochondria", "membrane"))
    assert project.name == "projects/em"
    assert [(each.value, each.display_name) for each in project.classes] == [
        (2, "mitochondria"),
        (3, "membrane"),
    ]
    assert all(each.color_rgb for each in project.classes)
    assert project.working_resolution_nm == 10
    members = (await ada.datastore.ListMembers(pb.ListMembersRequest(parent=project.name))).members
    assert [(member.name, member.role) for member in members] == [
        ("projects/em/members/ada", project_pb2.ROLE_OWNER)
    ]
    assert (await ada.datastore.GetProject(pb.GetProjectRequest(name=project.name))).project == project


@pytest.mark.parametrize(
    ("project_id", "fields", "reason"),
    [
        ("Bad Id", {}, "BAD_ID"),
        ("x", {"display_name": ""}, "BAD_TEXT"),
        ("x", {"display_name": "a" * 201}, "BAD_TEXT"),
        ("x", {"display_name": "bell\a"}, "BAD_TEXT"),
        ("x", {"description": "a" * 10_001}, "BAD_TEXT"),
        ("x", {"classes": []}, "BAD_CLASSES"),
        ("x", {"classes": [LabelClass(display_name="a"), LabelClass(display_name="a")]}, "BAD_CLASSES"),
        ("x", {"classes": [LabelClass(display_name="a", value=1)]}, "BAD_CLASSES"),
        ("x", {"classes": [LabelClass(display_name="a", value=256)]}, "BAD_CLASSES"),
        ("x", {"classes": [LabelClass(display_name="a", color_rgb=1 << 24)]}, "BAD_CLASSES"),
        ("x", {"classes": [LabelClass(display_name="")]}, "BAD_TEXT"),
        ("x", {"classes": [LabelClass(display_name=str(i)) for i in range(255)]}, "BAD_CLASSES"),
        ("x", {"working_resolution_nm": -1}, "BAD_RESOLUTION"),
        ("x", {"working_resolution_nm": float("nan")}, "BAD_RESOLUTION"),
    ],
)
async def test_a_wrong_project_is_refused(
    ada: Caller, project_id: str, fields: dict[str, Any], reason: str
) -> None:
    values = {"display_name": "a", "classes": [LabelClass(display_name="a")], **fields}
    request = pb.CreateProjectRequest(project_id=project_id, project=project_pb2.Project(**values))
    with pytest.raises(InvalidArgument) as caught:
        await ada.datastore.CreateProject(request)
    assert caught.value.reason == reason
    assert not (await ada.datastore.ListProjects(pb.ListProjectsRequest())).projects


async def test_a_repeated_creation_answers_the_same(ada: Caller) -> None:
    project = project_pb2.Project(display_name="a", classes=[LabelClass(display_name="a")])
    request = pb.CreateProjectRequest(project=project, request_id="once")
    first = (await ada.datastore.CreateProject(request)).project
    assert (await ada.datastore.CreateProject(request)).project == first
    request.project.display_name = "b"
    with pytest.raises(AlreadyExists) as reused:
        await ada.datastore.CreateProject(request)
    assert reused.value.reason == "REQUEST_ID_REUSED"
    with pytest.raises(AlreadyExists) as exists:
        await ada.create_project(first.name.removeprefix("projects/"))
    assert exists.value.reason == "PROJECT_EXISTS"


def update(project: Any, *paths: str, **fields: Any) -> pb.UpdateProjectRequest:
    request = pb.UpdateProjectRequest(project=project_pb2.Project(name=project.name, **fields))
    request.update_mask.paths.extend(paths)
    return request


async def test_classes_are_added_renamed_and_never_come_back(ada: Caller, project: Any, volume: Any) -> None:
    wanted = [LabelClass(value=2, display_name="mito"), LabelClass(display_name="nucleus")]
    changed = (await ada.datastore.UpdateProject(update(project, "classes", classes=wanted))).project
    assert [(each.value, each.display_name) for each in changed.classes] == [(2, "mito"), (4, "nucleus")]
    again = [*changed.classes, LabelClass(value=3, display_name="membrane")]
    with pytest.raises(InvalidArgument) as caught:
        await ada.datastore.UpdateProject(update(project, "classes", classes=again))
    assert caught.value.reason == "CLASS_VALUE_USED"
    region = Region.of_shape((1, 2, 2))
    await ada.commit(volume.name, region, [[[2, 2], [2, 2]]], class_scope=[2])
    with pytest.raises(FailedPrecondition) as used:
        await ada.datastore.UpdateProject(update(project, "classes", classes=changed.classes[1:]))
    assert used.value.reason == "CLASS_IN_USE"
    only = (
        await ada.datastore.UpdateProject(update(project, "classes", classes=changed.classes[:1]))
    ).project
    assert [each.value for each in only.classes] == [2]


async def test_commits_follow_the_classes_of_the_project_at_once(
    ada: Caller, project: Any, volume: Any
) -> None:
    region, labels = Region.of_shape((1, 2, 2)), [[[4, 4], [2, 2]]]
    with pytest.raises(InvalidArgument) as early:
        await ada.commit(volume.name, region, labels)
    await ada.commit(volume.name, region, [[[2, 2], [2, 2]]], class_scope=[2])
    wanted = [*project.classes, LabelClass(display_name="nucleus")]
    changed = (await ada.datastore.UpdateProject(update(project, "classes", classes=wanted))).project
    nucleus = changed.classes[-1].value
    made = await ada.commit(volume.name, region, [[[nucleus, 0], [2, 2]]])
    assert nucleus in made.class_scope
    await ada.commit(volume.name, region, [[[2, 2], [2, 2]]], class_scope=[2])
    unused = [*changed.classes, LabelClass(display_name="vesicle")]
    changed = (await ada.datastore.UpdateProject(update(project, "classes", classes=unused))).project
    vesicle = changed.classes[-1].value
    await ada.commit(volume.name, region, [[[2, 2], [2, 2]]], class_scope=[2])  # now this class is remembered
    await ada.datastore.UpdateProject(update(project, "classes", classes=changed.classes[:-1]))
    with pytest.raises(InvalidArgument) as late:
        await ada.commit(volume.name, region, [[[vesicle, 0], [2, 2]]])
    assert early.value.reason == late.value.reason == "UNKNOWN_CLASS"


async def test_an_update_with_an_old_etag_is_refused(ada: Caller, project: Any) -> None:
    first = update(project, "display_name", display_name="one", etag=project.etag)
    changed = (await ada.datastore.UpdateProject(first)).project
    assert (changed.display_name, changed.description) == ("one", project.description)
    second = update(project, "display_name", display_name="two", etag=project.etag)
    with pytest.raises(Conflict) as caught:
        await ada.datastore.UpdateProject(second)
    assert caught.value.reason == "ETAG_MISMATCH"
    for wrong in (update(project, "name"), update(project)):
        with pytest.raises(InvalidArgument) as mask:
            await ada.datastore.UpdateProject(wrong)
        assert mask.value.reason == "BAD_UPDATE_MASK"


async def test_projects_are_listed_to_their_members_administrators_and_services(
    datastore: RunningDatastore, ada: Caller
) -> None:
    bob = datastore.as_user("bob")
    for caller, project_id in ((ada, "a"), (ada, "b"), (bob, "c")):
        await caller.create_project(project_id)

    async def names(caller: Caller, **query: Any) -> list[str]:
        answer = await caller.datastore.ListProjects(pb.ListProjectsRequest(**query))
        return [project.name.removeprefix("projects/") for project in answer.projects]

    assert await names(ada) == ["a", "b"]
    assert await names(bob) == ["c"]
    assert await names(datastore.as_user("root", is_admin=True)) == ["a", "b", "c"]
    assert await names(datastore.as_service("sampler")) == ["a", "b", "c"]
    page = await ada.datastore.ListProjects(pb.ListProjectsRequest(page_size=1))
    assert await names(ada, page_size=1, page_token=page.next_page_token) == ["b"]
    with pytest.raises(InvalidArgument):
        await names(bob, page_token=page.next_page_token)


async def test_members_come_change_and_go(datastore: RunningDatastore, ada: Caller, project: Any) -> None:
    bob, name = datastore.as_user("bob"), "projects/em/members/bob"
    get = pb.GetProjectRequest(name=project.name)
    with pytest.raises(NotFound):
        await bob.datastore.GetProject(get)
    role = pb.SetMemberRequest(member=project_pb2.Member(name=name, role=project_pb2.ROLE_MANAGER))
    await ada.datastore.SetMember(role)
    await bob.datastore.GetProject(get)
    sampler = datastore.as_service("sampler")
    found = (await sampler.datastore.GetMember(pb.GetMemberRequest(name=name))).member
    assert (found.name, found.role) == (name, project_pb2.ROLE_MANAGER)
    with pytest.raises(PermissionDenied):
        await bob.datastore.DeleteProject(pb.DeleteProjectRequest(name=project.name))
    promotion = project_pb2.Member(name=name, role=project_pb2.ROLE_OWNER)
    with pytest.raises(PermissionDenied):
        await bob.datastore.SetMember(pb.SetMemberRequest(member=promotion))
    with pytest.raises(PermissionDenied):
        await bob.datastore.RemoveMember(pb.RemoveMemberRequest(name="projects/em/members/ada"))
    await ada.datastore.RemoveMember(pb.RemoveMemberRequest(name=name))
    with pytest.raises(NotFound):
        await bob.datastore.GetProject(get)
    for missing in (name, "projects/none/members/bob"):
        with pytest.raises(NotFound):
            await sampler.datastore.GetMember(pb.GetMemberRequest(name=missing))


async def test_the_last_owner_stays(ada: Caller, project: Any) -> None:
    name = "projects/em/members/ada"
    demotion = pb.SetMemberRequest(member=project_pb2.Member(name=name, role=project_pb2.ROLE_VIEWER))
    for call in (
        ada.datastore.SetMember(demotion),
        ada.datastore.RemoveMember(pb.RemoveMemberRequest(name=name)),
    ):
        with pytest.raises(FailedPrecondition) as caught:
            await call
        assert caught.value.reason == "LAST_OWNER"
    with pytest.raises(InvalidArgument) as role:
        await ada.datastore.SetMember(pb.SetMemberRequest(member=project_pb2.Member(name=name)))
    assert role.value.reason == "BAD_ROLE"


async def test_a_deleted_project_is_gone_with_everything_and_its_id_with_it(
    datastore: RunningDatastore, ada: Caller, project: Any, volume: Any
) -> None:
    request = pb.DeleteProjectRequest(name=project.name)
    with pytest.raises(FailedPrecondition) as caught:
        await ada.datastore.DeleteProject(request)
    assert caught.value.reason == "PROJECT_NOT_EMPTY"
    request.force = True
    await ada.datastore.DeleteProject(request)
    with pytest.raises(NotFound):
        await ada.datastore.GetProject(pb.GetProjectRequest(name=project.name))
    with pytest.raises(AlreadyExists) as taken:
        await ada.create_project("em")
    assert taken.value.reason == "PROJECT_EXISTS"
    # Its objects may not be removed yet: another project's must survive that.
    other = await ada.create_project("em-2")
    path = datastore.imports / "stack.tif"
    again = await ada.import_volume(other.name, path, "brain")
    await ada.commit(again.name, Region.of_shape((1, 1, 1)), [[[2]]])
    await datastore.parts.collector.collect()
    assert (await ada.read(f"{again.name}/layers/annotations"))[0, 0, 0] == 2
    assert (await ada.read(again.name)).shape == (6, 70, 90)


async def test_nothing_answers_without_a_valid_token(datastore: RunningDatastore, project: Any) -> None:
    request = pb.GetProjectRequest(name=project.name)
    expired = datastore.signer("gateway").sign_claims(
        {"sub": "ada", "kind": "user", "exp": int(time.time()) - 60}, "datastore"
    )
    elsewhere = datastore.signer("gateway").sign_claims(
        {"sub": "ada", "kind": "user", "exp": int(time.time()) + 60}, "trainer"
    )
    forged = datastore.signer("sampler").sign_claims(
        {"sub": "ada", "kind": "user", "exp": int(time.time()) + 60}, "datastore"
    )
    for token in (expired, elsewhere, forged, "junk"):
        with pytest.raises(Unauthenticated):
            await datastore.with_token(lambda token=token: token).datastore.GetProject(request)
    with pytest.raises(Unauthenticated):
        await datastore.with_token(None).datastore.GetProject(request)
