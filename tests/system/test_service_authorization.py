"""Who may call what at the services' own ports: they look at roles and scopes themselves, next to the data."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from biosegment.auth import Kind, Limit, Principal
from tests.system.rights import ROWS, SCOPES, USERS, Right, Row
from tests.system.world import World, check, inhabited, named

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

BEHIND = [row for row in ROWS if row.right is not Right.WORKER and row.at != ("gateway",)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with inhabited(tmp_path_factory.mktemp("platform")) as world:
        yield world


def _principal(user: str, *scopes: str) -> Principal:
    limits = tuple(map(Limit.parse, scopes))
    return Principal(Kind.USER, user, is_admin=user == "admin", limits=limits)


@named(BEHIND)
def test_every_service_looks_at_the_roles_itself(world: World, row: Row):
    (service,) = row.at
    for user, rights in USERS.items():
        answer = world.ask(service, row.rpc, row.request, world.sign("gateway", _principal(user), service))
        is_outside = user == "stranger" and row.right is not Right.ADMIN
        check(row, answer, user, row.right in rights, hidden=is_outside)


@named(BEHIND)
def test_every_service_keeps_tokens_within_their_scopes(world: World, row: Row):
    (service,) = row.at
    for scope, reach in SCOPES.items():
        for user in ("viewer", "annotator", "owner", "admin"):
            token = world.sign("gateway", _principal(user, scope), service)
            answer = world.ask(service, row.rpc, row.request, token)
            may = row.right in USERS[user] & reach and not (_is_elsewhere(row) and ":" in scope)
            check(row, answer, (user, scope), may)


def _is_elsewhere(row: Row) -> bool:
    """Whether a request is about another project than alpha."""
    return "{empty}" in json.dumps(row.request)


@named(BEHIND)
def test_a_scope_gives_nobody_what_their_role_does_not(world: World, row: Row):
    (service,) = row.at
    token = world.sign("gateway", _principal("stranger", "admin"), service)
    answer = world.ask(service, row.rpc, row.request, token)
    is_hidden = row.right is not Right.ADMIN
    check(row, answer, "a stranger", row.right in USERS["stranger"], hidden=is_hidden)


AT_GATEWAY = [row for row in ROWS if row.at == ("gateway",)]
FOR_EVERY_TOKEN = ("IdentityService.GetSelf", "PlatformService.GetStatus")


@named(AT_GATEWAY)
def test_users_and_tokens_are_handled_with_whole_tokens_alone(world: World, row: Row):
    for user in ("viewer", "owner", "admin"):
        for scope in SCOPES:
            token = {"displayName": f"{user} {scope}", "scopes": [scope]}
            made = world.get(user, "IdentityService.CreateToken", token=token).secret
            may = row.rpc in FOR_EVERY_TOKEN or (scope == "admin" and row.right in USERS[user])
            check(row, world.ask("gateway", row.rpc, row.request, made), (user, scope), may)


def test_lists_show_a_limited_token_its_own_projects_alone(world: World):
    for user in ("owner", "admin"):
        for scopes, shown in (
            (("read:projects/alpha",), {"projects/alpha"}),
            (("read:projects/alpha", "manage:projects/empty"), {"projects/alpha", "projects/empty"}),
            (("read:projects/absent",), set()),
        ):
            token = world.sign("gateway", _principal(user, *scopes), "datastore")
            answer = world.ask("datastore", "DatastoreService.ListProjects", {}, token)
            assert {project.name for project in answer.message.projects} == shown, (user, scopes)
