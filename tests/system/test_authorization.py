"""Who may call what, on a whole platform: every RPC of the contract, every kind of caller, both ways in."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from biosegment_gateway.http.api import Api
from biosegment_gateway.http.zarr import ZarrEndpoint

from biosegment.auth import SERVICES as SERVICE_NAMES
from biosegment.auth import Kind, Principal, PrincipalSigner, generate_key
from tests.system.rights import ROWS, SERVICES, USERS, Right, Row
from tests.system.world import METHODS, Answer, World, inhabited

ABSENT = {"PROJECT_NOT_FOUND", "JOB_NOT_FOUND", "MODEL_NOT_FOUND"}
"""Reasons that hide a project, and what is in it, from those who are no members."""
SERVED = [row for row in ROWS if row.right is not Right.WORKER]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with inhabited(tmp_path_factory.mktemp("platform")) as world:
        yield world


def _named(rows: list[Row]) -> pytest.MarkDecorator:
    """Parametrise with rows; ids say which RPC, and which of its rows."""
    return pytest.mark.parametrize(
        "row", rows, ids=[f"{row.rpc}-{row.right.name}-{row.at[0]}" for row in rows]
    )


def test_every_rpc_of_the_contract_has_a_row():
    assert {row.rpc for row in ROWS} == set(METHODS)


@_named(ROWS)
def test_the_gateway_answers_nobody_without_a_valid_api_token(world: World, row: Row):
    principal = world.sign("gateway", Principal(Kind.USER, "owner", is_admin=True), "gateway")
    tokens = world.tokens
    for token in (None, f"{tokens['owner']}x", tokens["revoked"], tokens["expired"], principal):
        assert world.ask("gateway", row.rpc, row.request, token).code == "UNAUTHENTICATED", token


def _forged(world: World, audience: str, folder: Path) -> dict[str, str | None]:
    """Tokens that must not work at a service's own port, by what is wrong with them; `folder` for another key."""
    owner, now = Principal(Kind.USER, "owner", is_admin=True), int(time.time())
    claims: dict[str, object] = {"sub": "owner", "kind": "user", "adm": True, "exp": now + 60}
    gateway = PrincipalSigner("gateway", world.keys / "gateway.key")
    generate_key("gateway", folder)
    sample = world.get("owner", "SamplerService.RenewLease", name="{sample}").sample
    elsewhere = "trainer" if audience != "trainer" else "datastore"
    return {
        "none": None,
        "junk": "junk",
        "an API token": world.tokens["admin"],
        "a lease": sample.lease.token,
        "for another service": world.sign("gateway", owner, elsewhere),
        "expired": gateway.sign_claims({**claims, "exp": now - 60}, audience),
        "for ever": jwt.encode(
            {**claims, "exp": None, "iss": "gateway", "aud": audience},
            (world.keys / "gateway.key").read_text(),
            "EdDSA",
        ),
        "without a signature": jwt.encode({**claims, "iss": "gateway", "aud": audience}, None, "none"),
        "of another key": PrincipalSigner("gateway", folder / "gateway.key").sign(owner, audience),
        "of no service": jwt.encode({**claims, "iss": "nobody", "aud": audience}, None, "none"),
        **{
            f"a user, by the {issuer}": world.sign(issuer, owner, audience)
            for issuer in SERVICE_NAMES
            if issuer != "gateway"
        },
        **{
            f"a job, by the {issuer}": world.sign(issuer, Principal(Kind.JOB, "trainer-a"), audience)
            for issuer in SERVICE_NAMES
            if issuer != "trainer"
        },
        "the trainer, by the sampler": world.sign("sampler", Principal(Kind.SERVICE, "trainer"), audience),
        "an administrating service": world.sign(
            "trainer", Principal(Kind.SERVICE, "trainer", is_admin=True), audience
        ),
    }


@pytest.fixture(scope="module")
def forged(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str | None]]:
    folder = tmp_path_factory.mktemp("keys")
    return {service: _forged(world, service, folder) for service in SERVICE_NAMES}


FORGED_EVERYWHERE = ("none", "for another service", "expired", "a user, by the sampler")


@_named(ROWS)
def test_a_service_answers_nobody_without_a_valid_principal(world: World, row: Row, forged: Any):
    (service,) = row.at
    for fault in FORGED_EVERYWHERE:
        answer = world.ask(service, row.rpc, row.request, forged[service][fault])
        assert answer.code == "UNAUTHENTICATED", fault


@_named([next(row for row in ROWS if row.at == (service,)) for service in SERVICE_NAMES])
def test_no_forged_principal_gets_into_a_service(world: World, row: Row, forged: Any):
    (service,) = row.at
    for fault, token in forged[service].items():
        if (service, fault) != ("gateway", "an API token"):
            assert world.ask(service, row.rpc, row.request, token).code == "UNAUTHENTICATED", fault


def _check(row: Row, answer: Answer, who: object, allowed: bool, *, hidden: bool = False) -> None:
    if allowed:
        assert answer.code in row.answers, (who, answer)
        assert answer.reason not in ABSENT, who
    elif hidden:
        assert answer.code == "NOT_FOUND", (who, answer)
        assert answer.reason in ABSENT, who
    else:
        assert answer.code == "PERMISSION_DENIED", (who, answer)


@_named(SERVED)
def test_users_may_do_what_their_role_says(world: World, row: Row):
    for user, rights in USERS.items():
        answer = world.ask("gateway", row.rpc, row.request, world.tokens[user])
        is_outside = user == "stranger" and row.right is not Right.ADMIN
        _check(row, answer, user, row.right in rights, hidden=is_outside)


BEHIND = [row for row in SERVED if row.at != ("gateway",)]


@_named(BEHIND)
def test_services_may_do_what_they_are_for_and_jobs_nothing(world: World, row: Row):
    (service,) = row.at
    for name, rights in SERVICES.items():
        # Whoever caused the call, it is the service that makes it.
        token = world.sign(name, Principal(Kind.SERVICE, name, on_behalf_of="owner"), service)
        _check(row, world.ask(service, row.rpc, row.request, token), name, row.right in rights)
    token = world.sign("trainer", Principal(Kind.JOB, "trainer-a", on_behalf_of="owner"), service)
    answer = world.ask(service, row.rpc, row.request, token)
    _check(row, answer, "a job", row.rpc in ("SamplerService.ListStrategies", "TrainerService.ListMeasures"))


@_named([row for row in ROWS if row.right is Right.WORKER])
def test_only_the_worker_of_a_job_speaks_for_it_and_not_through_the_gateway(world: World, row: Row):
    for user in USERS:
        assert world.ask("gateway", row.rpc, row.request, world.tokens[user]).code == "UNIMPLEMENTED"
    job_id = world.names["training"].removeprefix("jobs/")
    strangers = [Principal(Kind.SERVICE, name) for name in SERVICES]
    strangers += [Principal(Kind.USER, "owner", is_admin=True), Principal(Kind.JOB, "trainer-a")]
    for principal in strangers:
        issuer = {Kind.USER: "gateway", Kind.JOB: "trainer"}.get(principal.kind, principal.subject)
        token = world.sign(issuer, principal, "trainer")
        assert world.ask("trainer", row.rpc, row.request, token).code == "PERMISSION_DENIED", principal
    token = world.sign("trainer", Principal(Kind.JOB, job_id), "trainer")
    answer = world.ask("trainer", row.rpc, row.request, token)
    assert (answer.code, answer.reason) == ("ABORTED", "ATTEMPT_OUTDATED")


NESTED = ("volume", "layer", "writing", "annotation", "sample", "upload", "artifact")


@_named([row for row in ROWS if any(f"{name}}}" in json.dumps(row.request) for name in NESTED)])
def test_names_of_one_project_mean_nothing_in_another(world: World, row: Row):
    moved = {name: value.replace("projects/alpha", "projects/beta") for name, value in world.names.items()}
    beta = replace(world, names=moved)
    answer = beta.ask("gateway", row.rpc, row.request, world.tokens["stranger"])
    if row.rpc == "SamplerService.CreateSample":
        assert (answer.code, answer.reason) == ("INVALID_ARGUMENT", "UNKNOWN_VOLUME")
    elif row.rpc == "SamplerService.TakeOverLease":
        assert answer.code == "UNIMPLEMENTED"
    else:
        assert answer.code == "NOT_FOUND", answer


def _in_beta(**spec: Any) -> tuple[str, dict[str, Any]]:
    return "JobService.CreateJob", {"project": "{beta}", "spec": spec, "requestId": "{unique}"}


OWN = "{beta}/volumes/own"
EXPORT = {"format": "FORMAT_OME_TIFF"}
MIXED = [
    (*_in_beta(train={"parent": "{model}"}), "MODEL_NOT_FOUND"),
    (*_in_beta(train={"annotations": ["{annotation}"]}), "OTHER_PROJECT"),
    (*_in_beta(predict={"model": "{model}", "volume": OWN}), "MODEL_NOT_FOUND"),
    (*_in_beta(score={"model": "{model}", "volumes": [OWN], "measures": ["entropy"]}), "MODEL_NOT_FOUND"),
    (*_in_beta(importVolume={"upload": "{upload}"}), "OTHER_PROJECT"),
    (*_in_beta(export={**EXPORT, "source": "{volume}"}), "OTHER_PROJECT"),
    (*_in_beta(export={**EXPORT, "source": "{layer}"}), "OTHER_PROJECT"),
    (
        *_in_beta(export={**EXPORT, "source": OWN, "segmentation": True, "prediction": "{layer}"}),
        "BAD_SOURCE",
    ),
    ("SamplerService.ClaimSamples", {"parent": "{beta}", "volume": "{volume}"}, "BAD_NAME"),
    (
        "SamplerService.UpdatePool",
        {"pool": {"name": "{beta}/pool", "volumes": ["{volume}"]}, "updateMask": "volumes"},
        "BAD_NAME",
    ),
    (
        "AnnotationService.CommitAnnotation",
        {
            "parent": OWN,
            "annotation": {
                "region": {"start": {}, "stop": {"z": 1, "y": 1, "x": 1}},
                "kind": "KIND_DENSE",
                "sample": "{sample}",
            },
            "labels": "Ag==",
            "leaseToken": "{lease}",
            "requestId": "{unique}",
        },
        "LEASE_MISMATCH",
    ),
]


@pytest.mark.parametrize(("rpc", "request_", "reason"), MIXED)
def test_a_request_in_one_project_cannot_name_things_of_another(
    world: World, rpc: str, request_: dict[str, Any], reason: str
):
    lease = world.get("owner", "SamplerService.RenewLease", name="{sample}").sample.lease.token
    world.names["lease"] = lease
    answer = world.ask("gateway", rpc, request_, world.tokens["stranger"])
    assert answer.reason == reason, answer
    assert answer.code in ("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION")


def test_lists_show_nothing_of_other_projects(world: World):
    projects = world.get("stranger", "DatastoreService.ListProjects").projects
    assert projects
    assert "projects/alpha" not in {project.name for project in projects}
    assert {job.project for job in world.get("stranger", "JobService.ListJobs", project="{beta}").jobs} == {
        "projects/beta"
    }
    assert not world.get("stranger", "TrainerService.ListModels", project="{beta}").models
    assert not world.get("stranger", "SamplerService.ListSamples", parent="{beta}").samples


def test_a_lease_is_its_holder_s_alone(world: World):
    for rpc in ("RenewLease", "ReleaseSample", "SkipSample"):
        request = {"name": "{sample}", **({"reason": "mine"} if rpc == "SkipSample" else {})}
        for user in ("annotator", "admin"):
            answer = world.ask("gateway", f"SamplerService.{rpc}", request, world.tokens[user])
            assert (answer.code, answer.reason) == ("FAILED_PRECONDITION", "LEASE_LOST")
    assert world.get("owner", "SamplerService.GetSample", name="{sample}").sample.lease.token
    assert not world.get("manager", "SamplerService.GetSample", name="{sample}").sample.lease.token
    for service in SERVICES:
        principal = Principal(Kind.SERVICE, service, on_behalf_of="owner")
        token = world.sign(service, principal, "sampler")
        answer = world.ask("sampler", "SamplerService.GetSample", {"name": "{sample}"}, token)
        assert not answer.message.sample.lease.token


def test_annotators_take_back_their_own_annotations_only(world: World):
    commit = next(row.request for row in ROWS if row.rpc == "AnnotationService.CommitAnnotation")
    for author, code in (("reviewer", "PERMISSION_DENIED"), ("annotator", "OK")):
        made = world.get(author, "AnnotationService.CommitAnnotation", **commit).annotation
        request = {"name": made.name}
        answer = world.ask(
            "gateway", "AnnotationService.RevertAnnotation", request, world.tokens["annotator"]
        )
        assert answer.code == code


def test_the_id_of_a_deleted_project_goes_to_nobody_else(world: World):
    """Models, jobs and samples of the old one are remembered elsewhere by the project's id."""
    project = {"displayName": "p", "classes": [{"displayName": "mitochondria"}]}
    name = f"gone-{uuid.uuid4().hex}"
    world.get("owner", "DatastoreService.CreateProject", projectId=name, project=project)
    world.get("owner", "DatastoreService.DeleteProject", name=f"projects/{name}")
    request = {"projectId": name, "project": project}
    answer = world.ask("gateway", "DatastoreService.CreateProject", request, world.tokens["stranger"])
    assert (answer.code, answer.reason) == ("ALREADY_EXISTS", "PROJECT_EXISTS")


def test_who_is_put_out_of_a_project_is_out_everywhere_within_seconds(world: World):
    member = {"name": "{project}/members/leaver", "role": "ROLE_VIEWER"}
    world.get("owner", "DatastoreService.SetMember", member=member)
    rpcs = ("DatastoreService.GetVolume", "SamplerService.GetPool", "TrainerService.GetModel")
    rows = [row for row in ROWS if row.rpc in rpcs]
    for row in rows:
        assert world.ask("gateway", row.rpc, row.request, world.tokens["leaver"]).code == "OK"
    world.get("owner", "DatastoreService.RemoveMember", name=member["name"])
    deadline = time.monotonic() + 20
    while any(world.ask("gateway", r.rpc, r.request, world.tokens["leaver"]).code == "OK" for r in rows):
        assert time.monotonic() < deadline
        time.sleep(0.2)


# Of each route: an address below project alpha, and what a member and a stranger get.
ROUTES = {
    "/version": ("/version", 200, 200),
    "/api/status": ("/api/status", 200, 200),
    "/api/projects": ("/api/projects", 200, 200),
    "/api/projects/{project}/volumes": ("/api/projects/alpha/volumes", 200, 404),
    "/api/projects/{project}/models": ("/api/projects/alpha/models", 200, 404),
    "/api/jobs": ("/api/jobs?project=projects/alpha", 200, 404),
    "/zarr/projects/{project}/volumes/{volume}/layers/{layer}/{path:path}": (
        "/zarr/projects/alpha/volumes/stack/layers/shown/zarr.json",
        200,
        404,
    ),
    "/zarr/projects/{project}/volumes/{volume}/{path:path}": (
        "/zarr/projects/alpha/volumes/stack/zarr.json",
        200,
        404,
    ),
}


def test_every_route_has_an_entry():
    absent: Any = None
    routes = [*Api(absent, absent, absent, absent).routes, *ZarrEndpoint(absent).routes]
    assert {route.path for route in routes} - {"/healthz"} == set(ROUTES)


@pytest.mark.parametrize("route", ROUTES)
def test_http_answers_nobody_without_a_valid_token(world: World, route: str):
    address = world.http_url + ROUTES[route][0]
    principal = world.sign("gateway", Principal(Kind.USER, "owner", is_admin=True), "gateway")
    for token in (None, "junk", world.tokens["revoked"], world.tokens["expired"], principal):
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        with httpx.Client(headers=headers) as client:
            answer = client.get(address)
            assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")
            assert {client.request(method, address).status_code for method in ("HEAD", "POST")} == {401}
    assert httpx.get(f"{world.http_url}/no/such/place").status_code == 401


@pytest.mark.parametrize("route", ROUTES)
def test_http_shows_members_their_project_and_others_none(world: World, route: str):
    place, inside, outside = ROUTES[route]
    for user, status in (("viewer", inside), ("stranger", outside), ("admin", inside)):
        headers = {"authorization": f"Bearer {world.tokens[user]}"}
        answer = httpx.get(world.http_url + place, headers=headers)
        assert answer.status_code == status, answer.text


def test_http_lists_all_jobs_for_administrators_only(world: World):
    for user, status in (("owner", 403), ("admin", 200)):
        headers = {"authorization": f"Bearer {world.tokens[user]}"}
        assert httpx.get(f"{world.http_url}/api/jobs", headers=headers).status_code == status
