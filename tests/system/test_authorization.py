"""Who may call what over gRPC, on a whole platform: every RPC of the contract, every kind of caller, both ways in.

Over HTTP: `test_http_authorization.py`; with tokens that are limited: `test_limited_tokens.py`.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from biosegment_gateway.gateway import open_gateway
from biosegment_gateway.settings import GatewaySettings

from biosegment.auth import SERVICES as SERVICE_NAMES
from biosegment.auth import Kind, Principal, PrincipalSigner, generate_key
from tests.system.rights import ROWS, SERVICES, USERS, Right, Row
from tests.system.routes import ROUTES, routes_of
from tests.system.world import METHODS, USELESS, World, check, inhabited, named

pytestmark = pytest.mark.timeout(300)
SERVED = [row for row in ROWS if row.right is not Right.WORKER]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with inhabited(tmp_path_factory.mktemp("platform")) as world:
        yield world


def test_every_rpc_of_the_contract_has_a_row():
    assert {row.rpc for row in ROWS} == set(METHODS)


def test_every_route_over_http_has_a_row(tmp_path: Path):
    served = asyncio.run(_served(tmp_path))
    assert {row.key for row in ROUTES} == served


async def _served(folder: Path) -> set[tuple[str, str]]:
    """What a gateway with all of its settings on answers."""
    for service in SERVICE_NAMES:
        generate_key(service, folder)
    settings = GatewaySettings(
        object_store_url=f"file://{folder}/objects",
        database_url=f"sqlite+aiosqlite:///{folder}/gateway.sqlite",
        signing_key_file=folder / "gateway.key",
        public_keys_dir=folder,
        monailabel_project="alpha",
        **{f"{name}_address": "127.0.0.1:9" for name in ("datastore", "sampler", "trainer")},
    )
    async with open_gateway(settings) as gateway:
        return set(routes_of(gateway.application.routes))


@named(ROWS)
def test_the_gateway_answers_nobody_without_a_valid_api_token(world: World, row: Row):
    principal = world.sign("gateway", Principal(Kind.USER, "owner", is_admin=True), "gateway")
    tokens = world.tokens
    for token in (None, f"{tokens['owner']}x", principal, *(tokens[name] for name in USELESS)):
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


@named(ROWS)
def test_a_service_answers_nobody_without_a_valid_principal(world: World, row: Row, forged: Any):
    (service,) = row.at
    for fault in FORGED_EVERYWHERE:
        answer = world.ask(service, row.rpc, row.request, forged[service][fault])
        assert answer.code == "UNAUTHENTICATED", fault


@named([next(row for row in ROWS if row.at == (service,)) for service in SERVICE_NAMES])
def test_no_forged_principal_gets_into_a_service(world: World, row: Row, forged: Any):
    (service,) = row.at
    for fault, token in forged[service].items():
        if (service, fault) != ("gateway", "an API token"):
            assert world.ask(service, row.rpc, row.request, token).code == "UNAUTHENTICATED", fault


@named(SERVED)
def test_users_may_do_what_their_role_says(world: World, row: Row):
    for user, rights in USERS.items():
        answer = world.ask("gateway", row.rpc, row.request, world.tokens[user])
        is_outside = user == "stranger" and row.right is not Right.ADMIN
        check(row, answer, user, row.right in rights, hidden=is_outside)


BEHIND = [row for row in SERVED if row.at != ("gateway",)]


@named(BEHIND)
def test_services_may_do_what_they_are_for_and_jobs_nothing(world: World, row: Row):
    (service,) = row.at
    for name, rights in SERVICES.items():
        # Whoever caused the call, it is the service that makes it.
        token = world.sign(name, Principal(Kind.SERVICE, name, on_behalf_of="owner"), service)
        check(row, world.ask(service, row.rpc, row.request, token), name, row.right in rights)
    token = world.sign("trainer", Principal(Kind.JOB, "trainer-a", on_behalf_of="owner"), service)
    answer = world.ask(service, row.rpc, row.request, token)
    check(row, answer, "a job", row.rpc in ("SamplerService.ListStrategies", "TrainerService.ListMeasures"))


@named([row for row in ROWS if row.right is Right.WORKER])
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


@named([row for row in ROWS if any(f"{name}}}" in json.dumps(row.request) for name in NESTED)])
def test_names_of_one_project_mean_nothing_in_another(world: World, row: Row):
    moved = {name: value.replace("projects/alpha", "projects/beta") for name, value in world.names.items()}
    beta = replace(world, names=moved)
    answer = beta.ask("gateway", row.rpc, row.request, world.tokens["stranger"])
    if row.rpc == "SamplerService.CreateSample":
        assert (answer.code, answer.reason) == ("INVALID_ARGUMENT", "UNKNOWN_VOLUME")
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
