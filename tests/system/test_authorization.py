"""Who may call what, on a whole platform: every RPC of the contract, every kind of caller, both ways in."""

from __future__ import annotations

import base64
import importlib
import io
import json
import pkgutil
import time
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import numpy as np
import pytest
import tifffile
from biosegment_gateway.http.api import Api
from biosegment_gateway.http.zarr import ZarrEndpoint
from biosegment_trainer.learning.bundle import ModelBundle, write_bundle
from biosegment_trainer.learning.network import LabelClass, NetworkConfig, NetworkModel
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

import biosegment.api
from biosegment.auth import SERVICES as SERVICE_NAMES
from biosegment.auth import Kind, Principal, PrincipalSigner, generate_key
from biosegment.client.connection import find_connection
from biosegment.rpc.errors import from_rpc_error
from tests.system.platform import running
from tests.system.rights import ROWS, SERVICES, USERS, Right, Row

SHAPE = (4, 160, 160)
ABSENT = {"PROJECT_NOT_FOUND", "JOB_NOT_FOUND", "MODEL_NOT_FOUND"}
"""Reasons that hide a project, and what is in it, from those who are no members."""
SERVED = [row for row in ROWS if row.right is not Right.WORKER]


def _methods() -> dict[str, MethodDescriptor]:
    found = {}
    for module in pkgutil.walk_packages(biosegment.api.__path__, "biosegment.api."):
        if module.name.endswith("_pb2"):
            for service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values():
                found |= {f"{service.name}.{method.name}": method for method in service.methods}
    return found


METHODS = _methods()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a gRPC code, the reason of the error, and the first message."""

    code: str
    reason: str = ""
    message: Any = None


@dataclass
class World:
    """A platform with a project that has something of everything, users in each role, and other people's projects.

    Attributes:
        names: What the braces in requests stand for.
        tokens: API tokens by user, and some that are good for nothing.
    """

    addresses: dict[str, str]
    http_url: str
    keys: Path
    names: dict[str, str]
    tokens: dict[str, str] = field(default_factory=dict)
    channels: dict[str, grpc.Channel] = field(default_factory=dict)

    def ask(self, service: str, rpc: str, request: dict[str, Any], token: str | None) -> Answer:
        """Make a call to a service's own port, and take the first answer."""
        channel = self.channels.setdefault(service, grpc.insecure_channel(self.addresses[service]))
        method = METHODS[rpc]
        message = ParseDict(self.filled(request), GetMessageClass(method.input_type)())
        metadata = [("authorization", f"Bearer {token}")] if token is not None else []
        path = f"/{method.containing_service.full_name}/{method.name}"
        call = channel.stream_stream(path)(iter([message.SerializeToString()]), timeout=30, metadata=metadata)
        try:
            for data in call:
                return Answer("OK", message=GetMessageClass(method.output_type).FromString(data))
            return Answer("OK")
        except grpc.RpcError as error:
            return Answer(error.code().name, from_rpc_error(error).reason)
        finally:
            call.cancel()

    def filled(self, value: Any) -> Any:
        """A request with names in place of braces."""
        if isinstance(value, dict):
            return {key: self.filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        return value.format(**self.names, unique=uuid.uuid4().hex) if isinstance(value, str) else value

    def get(self, user: str, rpc: str, **request: Any) -> Any:
        """Make a call that must succeed."""
        answer = self.ask("gateway", rpc, request, self.tokens[user])
        assert answer.code == "OK", (rpc, answer)
        return answer.message

    def ended(self, user: str, job: str) -> Any:
        """A job when it has ended."""
        deadline = time.monotonic() + 60
        while True:
            found = self.get(user, "JobService.GetJob", name=job).job
            if found.HasField("end_time"):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    def job(self, user: str, project: str, **spec: Any) -> str:
        request = {"project": project, "spec": spec, "requestId": "{unique}"}
        return str(self.get(user, "JobService.CreateJob", **request).job.name)

    def sign(self, issuer: str, principal: Principal, audience: str, lifetime_s: float = 60.0) -> str:
        return PrincipalSigner(issuer, self.keys / f"{issuer}.key").sign(principal, audience, lifetime_s)

    def close(self) -> None:
        for channel in self.channels.values():
            channel.close()


def _bundle(folder: Path) -> bytes:
    config = NetworkConfig(channels=(8, 16), strides=(2,), num_res_units=1)
    model = NetworkModel(config, (LabelClass(2, "mitochondria"),), config.build(1).state_dict())
    write_bundle(ModelBundle("random", "1.0.0", model, 10.0), folder)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder.parent))
    return file.getvalue()


def _people(world: World) -> None:
    users = [user for user in USERS if user != "admin"]
    for user in [*users, "guest", "leaver"]:
        world.get("admin", "IdentityService.CreateUser", userId=user)
        world.tokens[user] = world.get("admin", "IdentityService.CreateToken", parent=f"users/{user}").secret
    project = {"displayName": "p", "classes": [{"displayName": "mitochondria"}], "workingResolutionNm": 10}
    for owner, name in (("owner", "alpha"), ("owner", "empty"), ("stranger", "beta")):
        world.get(owner, "DatastoreService.CreateProject", projectId=name, project=project)
    for name in ("{project}", "{empty}"):
        members = {user: user for user in users if user not in ("stranger", "owner")}
        for user, role in {**members, "second": "owner", "third": "owner"}.items():
            member = {"name": f"{name}/members/{user}", "role": f"ROLE_{role.upper()}"}
            world.get("owner", "DatastoreService.SetMember", member=member)


def _useless_tokens(world: World) -> None:
    made = world.get("leaver", "IdentityService.CreateToken")
    world.get("leaver", "IdentityService.RevokeToken", name=made.token.name)
    soon = {"expireTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))}
    expiring = world.get("leaver", "IdentityService.CreateToken", token=soon).secret
    world.tokens |= {"revoked": made.secret, "expired": expiring}


def _content(world: World, folder: Path) -> None:
    names = world.names
    tifffile.imwrite(folder / "stack.tif", np.zeros(SHAPE, np.uint8), photometric="minisblack")
    size = {"zNm": 30, "yNm": 10, "xNm": 10}
    source = {"uri": str(folder / "stack.tif"), "voxelSize": size}
    names["job"] = world.job("owner", "{project}", importVolume={**source, "volumeId": "stack"})
    other = world.job("stranger", "{beta}", importVolume={**source, "volumeId": "own"})
    for user, job in (("owner", names["job"]), ("stranger", other)):
        assert world.ended(user, job).result.volume
    retrain = {"name": "{project}/pool", "retrain": {"manual": True}}
    world.get("owner", "SamplerService.UpdatePool", pool=retrain, updateMask="retrain")
    for layer in ("shown", "writing", "spare"):
        kind = {"kind": "KIND_LABELS", "dataType": "DATA_TYPE_UINT8"}
        world.get("owner", "DatastoreService.CreateLayer", parent="{volume}", layerId=layer, layer=kind)
    world.get("owner", "DatastoreService.CommitLayer", name="{layer}", attempt=1)
    _committed_and_claimed(world)
    names["export"] = world.job(
        "owner", "{project}", export={"source": "{volume}", "format": "FORMAT_OME_TIFF"}
    )
    for name in ("upload", "spare_upload"):
        upload = {"fileName": "a.tif", "sizeBytes": "9"}
        made = world.get("owner", "DatastoreService.CreateUpload", parent="{project}", upload=upload)
        names[name] = made.upload.name
    names["artifact"] = world.ended("owner", names["export"]).result.artifact
    # Cancelled before it begins, or as it does.
    names["training"] = world.job("owner", "{project}", train={})
    world.get("owner", "JobService.CancelJob", name="{training}")


def _committed_and_claimed(world: World) -> None:
    commit = next(row.request for row in ROWS if row.rpc == "AnnotationService.CommitAnnotation")
    for name in ("annotation", "spare_annotation"):
        made = world.get("owner", "AnnotationService.CommitAnnotation", **commit)
        world.names[name] = made.annotation.name
    for name, z in (("sample", 2), ("spare_sample", 3)):
        region = {"start": {"z": z}, "stop": {"z": z + 1, "y": 9, "x": 9}}
        request = {"parent": "{project}", "volume": "{volume}", "region": region}
        world.names[name] = world.get("owner", "SamplerService.CreateSample", **request).sample.name


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("platform")
    with running(folder, import_root=folder) as platform:
        found = find_connection(data_dir=platform.data_dir)
        names = {name: f"projects/{name}" for name in ("alpha", "beta", "empty")}
        volume = "projects/alpha/volumes/stack"
        layers = {"layer": "shown", "writing": "writing", "spare_layer": "spare"}
        names |= {"project": names.pop("alpha"), "volume": volume, "imports": str(folder)}
        names |= {name: f"{volume}/layers/{layer}" for name, layer in layers.items()}
        world = World({"gateway": found.address}, found.http_url, platform.data_dir / "keys", names)
        world.tokens["admin"] = found.token
        status = world.get("admin", "PlatformService.GetStatus")
        world.addresses |= {service.service: service.address for service in status.services}
        _people(world)
        _useless_tokens(world)
        _content(world, folder)
        world.names["model"] = _imported(world, _bundle(folder / "bundle"))
        world.ended("owner", names["training"])
        yield world
        world.close()


def _imported(world: World, bundle: bytes) -> str:
    data = base64.b64encode(bundle).decode()
    return str(world.get("owner", "TrainerService.ImportModel", project="{project}", data=data).model.name)


def _named(rows: list[Row]) -> Any:
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
    for token in (None, "", "junk", f"{tokens['owner']}x", tokens["revoked"], tokens["expired"], principal):
        assert world.ask("gateway", row.rpc, row.request, token).code == "UNAUTHENTICATED", token


def _forged(world: World, audience: str, folder: Path) -> dict[str, str | None]:
    """Tokens that must not work at a service's own port, by what is wrong with them."""
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


@_named(ROWS)
def test_a_service_answers_nobody_without_a_valid_principal(world: World, row: Row, tmp_path: Path):
    (service,) = row.at
    for fault, token in _forged(world, service, tmp_path).items():
        if service == "gateway" and fault == "an API token":
            continue
        assert world.ask(service, row.rpc, row.request, token).code == "UNAUTHENTICATED", fault


def _check(row: Row, answer: Answer, allowed: bool, *, hidden: bool = False) -> None:
    if allowed:
        assert answer.code in row.answers, answer
        assert answer.reason not in ABSENT
    elif hidden:
        assert answer.code == "NOT_FOUND", answer
        assert answer.reason in ABSENT
    else:
        assert answer.code == "PERMISSION_DENIED", answer


@_named(SERVED)
@pytest.mark.parametrize("user", USERS)
def test_users_may_do_what_their_role_says(world: World, row: Row, user: str):
    answer = world.ask("gateway", row.rpc, row.request, world.tokens[user])
    is_outside = user == "stranger" and row.right is not Right.ADMIN
    _check(row, answer, row.right in USERS[user], hidden=is_outside)


BEHIND = [row for row in SERVED if row.at != ("gateway",)]


@_named(BEHIND)
def test_services_may_do_what_they_are_for_and_jobs_nothing(world: World, row: Row):
    (service,) = row.at
    for name, rights in SERVICES.items():
        for user in ("", "owner"):  # whoever caused the call, it is the service that makes it
            token = world.sign(name, Principal(Kind.SERVICE, name, on_behalf_of=user), service)
            _check(row, world.ask(service, row.rpc, row.request, token), row.right in rights)
    token = world.sign("trainer", Principal(Kind.JOB, "trainer-a", on_behalf_of="owner"), service)
    answer = world.ask(service, row.rpc, row.request, token)
    _check(row, answer, row.rpc in ("SamplerService.ListStrategies", "TrainerService.ListMeasures"))


def test_only_the_worker_of_a_job_reports_for_it_and_not_through_the_gateway(world: World):
    (row,) = [row for row in ROWS if row.right is Right.WORKER]
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
    beta = World(world.addresses, world.http_url, world.keys, moved, world.tokens, world.channels)
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
    assert (answer.code in ("NOT_FOUND", "INVALID_ARGUMENT"), answer.reason) == (True, reason)


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
    for token in (None, "", "junk", world.tokens["revoked"], world.tokens["expired"], principal):
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        for method in ("GET", "HEAD", "POST"):
            answer = httpx.request(method, address, headers=headers)
            assert answer.status_code == 401
        answer = httpx.get(address, headers=headers)
        assert answer.json()["code"] == "UNAUTHENTICATED"
    assert httpx.get(f"{world.http_url}/no/such/place").status_code == 401


@pytest.mark.parametrize("route", ROUTES)
def test_http_shows_members_their_project_and_others_none(world: World, route: str):
    place, inside, outside = ROUTES[route]
    for user, status in (("viewer", inside), ("stranger", outside), ("admin", inside)):
        headers = {"authorization": f"Bearer {world.tokens[user]}"}
        answer = httpx.get(world.http_url + place, headers=headers)
        assert answer.status_code == status, answer.text
        assert user != "stranger" or "alpha" not in answer.text.replace("'alpha'", "")


def test_http_lists_all_jobs_for_administrators_only(world: World):
    for user, status in (("owner", 403), ("admin", 200)):
        headers = {"authorization": f"Bearer {world.tokens[user]}"}
        assert httpx.get(f"{world.http_url}/api/jobs", headers=headers).status_code == status
