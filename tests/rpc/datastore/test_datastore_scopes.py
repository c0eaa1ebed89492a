from __future__ import annotations

from typing import Any

import pytest

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.auth import Kind, Limit, Principal
from biosegment.errors import PermissionDenied
from tests.rpc.datastore_server import Caller, RunningDatastore


@pytest.fixture
def limited(datastore: RunningDatastore) -> Any:
    """Callers in the name of Ada, the owner of everything, with tokens for some things alone."""

    def make(*scopes: str, is_admin: bool = False) -> Caller:
        limits = tuple(map(Limit.parse, scopes))
        return datastore.caller("gateway", Principal(Kind.USER, "ada", is_admin, limits=limits))

    return make


async def listed(caller: Caller) -> list[str]:
    names, token = [], ""
    while True:
        page = await caller.datastore.ListProjects(pb.ListProjectsRequest(page_size=1, page_token=token))
        names += [project.name.removeprefix("projects/") for project in page.projects]
        token = page.next_page_token
        if not token:
            return names


async def test_a_token_lists_the_projects_that_it_is_for(
    datastore: RunningDatastore, ada: Caller, limited: Any
) -> None:
    for name in ("one", "three", "two"):
        await ada.create_project(name)
    await datastore.as_user("bob").create_project("other")
    assert await listed(limited("read")) == ["one", "three", "two"]
    assert await listed(limited("read:projects/one", "annotate:projects/two", "read:projects/other")) == [
        "one",
        "two",
    ]
    assert await listed(limited("read:projects/two", "manage")) == ["one", "three", "two"]
    assert await listed(limited("read:projects/other", is_admin=True)) == ["other"]
    assert await listed(limited("read:projects/gone", is_admin=True)) == []


async def test_a_token_makes_projects_only_if_it_manages_all(limited: Any) -> None:
    for scopes in (("read",), ("annotate",), ("manage:projects/new",), ("read", "manage:projects/new")):
        with pytest.raises(PermissionDenied) as caught:
            await limited(*scopes, is_admin=True).create_project("new")
        assert caught.value.reason == "OUT_OF_SCOPE"
    assert (await limited("manage").create_project("new")).name == "projects/new"


async def test_a_token_of_one_project_tells_nothing_of_others(ada: Caller, limited: Any) -> None:
    await ada.create_project("mine")
    caller = limited("manage:projects/mine", is_admin=True)
    await caller.datastore.GetProject(pb.GetProjectRequest(name="projects/mine"))
    answers = set()
    await ada.create_project("there")
    for name in ("projects/there", "projects/nowhere"):
        with pytest.raises(PermissionDenied) as caught:
            await caller.datastore.GetProject(pb.GetProjectRequest(name=name))
        answers.add(caught.value.message.replace(name.partition("/")[2], ""))
    assert len(answers) == 1


async def test_a_token_for_reading_deletes_nothing_and_collects_no_garbage(ada: Caller, limited: Any) -> None:
    await ada.create_project("mine")
    reader = limited("read", is_admin=True)
    for method, request in (
        ("DeleteProject", pb.DeleteProjectRequest(name="projects/mine")),
        ("CollectGarbage", pb.CollectGarbageRequest(dry_run=True)),
    ):
        with pytest.raises(PermissionDenied) as caught:
            await getattr(reader.datastore, method)(request)
        assert caught.value.reason == "OUT_OF_SCOPE"
    await limited("admin", is_admin=True).datastore.CollectGarbage(pb.CollectGarbageRequest(dry_run=True))
