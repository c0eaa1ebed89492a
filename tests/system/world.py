"""A platform with people in every role, a project that has something of everything, and others beside it."""

from __future__ import annotations

import base64
import importlib
import io
import pkgutil
import time
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tifffile
from biosegment_trainer.learning.bundle import ModelBundle, write_bundle
from biosegment_trainer.learning.network import LabelClass, NetworkConfig, NetworkModel
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

import biosegment.api
from biosegment.auth import Principal, PrincipalSigner
from biosegment.client.connection import find_connection
from biosegment.rpc.errors import from_rpc_error
from tests.system.platform import running, until
from tests.system.rights import ROWS, USERS, Row

ABSENT = {"PROJECT_NOT_FOUND", "JOB_NOT_FOUND", "MODEL_NOT_FOUND"}
"""Reasons that hide a project, and what is in it, from those who are no members."""
SHAPE = (4, 160, 160)
"""Of the volumes, zyx."""


def _methods() -> dict[str, MethodDescriptor]:
    found: dict[str, MethodDescriptor] = {}
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


def named(rows: list[Row]) -> pytest.MarkDecorator:
    """Parametrise with rows; ids say which RPC, and which of its rows."""
    return pytest.mark.parametrize(
        "row", rows, ids=[f"{row.rpc}-{row.right.name}-{row.at[0]}" for row in rows]
    )


def check(row: Row, answer: Answer, who: object, allowed: bool, *, hidden: bool = False) -> None:
    """Compare an answer with what somebody may; `hidden`: they must not even learn that there is such a thing."""
    if allowed:
        assert answer.code in row.answers, (who, answer)
        assert answer.reason not in ABSENT, who
    elif hidden:
        assert answer.code == "NOT_FOUND", (who, answer)
        assert answer.reason in ABSENT, who
    else:
        assert answer.code == "PERMISSION_DENIED", (who, answer)


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
        try:
            data = _first(channel, method, path, message.SerializeToString(), metadata)
        except grpc.RpcError as error:
            return Answer(error.code().name, from_rpc_error(error).reason)
        return Answer("OK", message=GetMessageClass(method.output_type).FromString(data))

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
        deadline = time.monotonic() + 240
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


def _first(
    channel: grpc.Channel, method: MethodDescriptor, path: str, request: bytes, metadata: Any
) -> bytes:
    """The first answer to one request."""
    if not (method.client_streaming or method.server_streaming):
        return bytes(channel.unary_unary(path)(request, timeout=120, metadata=metadata))
    call: Any = channel.stream_stream(path)(iter([request]), timeout=120, metadata=metadata)
    try:
        return bytes(next(call))
    finally:
        call.cancel()


def _bundle(folder: Path) -> bytes:
    config = NetworkConfig.unet(channels=(8, 16), strides=(2,), num_res_units=1)
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
    soon = {"expireTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 10))}
    expiring = world.get("leaver", "IdentityService.CreateToken", token=soon).secret
    world.get("admin", "IdentityService.CreateUser", userId="disabled")
    disabled = world.get("admin", "IdentityService.CreateToken", parent="users/disabled").secret
    change = {"user": {"name": "users/disabled", "disabled": True}, "updateMask": "disabled"}
    assert world.ask("gateway", "IdentityService.UpdateUser", change, world.tokens["admin"]).code == "OK"
    world.tokens |= {"revoked": made.secret, "expired": expiring, "disabled": disabled}


USELESS = ("revoked", "expired", "disabled")


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
    _edited(world)
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


def _edited(world: World) -> None:
    kind = {"kind": "KIND_INSTANCES", "dataType": "DATA_TYPE_UINT32"}
    world.get("owner", "DatastoreService.CreateLayer", parent="{volume}", layerId="objects", layer=kind)
    world.get("owner", "DatastoreService.CommitLayer", name="{objects}", attempt=1)
    commit = next(row.request for row in ROWS if row.rpc == "InstanceEditService.CommitInstanceEdit")
    for name in ("edit", "spare_edit"):
        made = world.get("owner", "InstanceEditService.CommitInstanceEdit", **commit)
        world.names[name] = made.edit.name


def _committed_and_claimed(world: World) -> None:
    commit = next(row.request for row in ROWS if row.rpc == "AnnotationService.CommitAnnotation")
    for name in ("annotation", "spare_annotation"):
        made = world.get("owner", "AnnotationService.CommitAnnotation", **commit)
        world.names[name] = made.annotation.name
    for name, z in (("sample", 2), ("spare_sample", 3)):
        region = {"start": {"z": z}, "stop": {"z": z + 1, "y": 9, "x": 9}}
        request = {"parent": "{project}", "volume": "{volume}", "region": region}
        world.names[name] = world.get("owner", "SamplerService.CreateSample", **request).sample.name


def _imported(world: World, bundle: bytes) -> str:
    data = base64.b64encode(bundle).decode()
    return str(world.get("owner", "TrainerService.ImportModel", project="{project}", data=data).model.name)


@contextmanager
def inhabited(folder: Path, environment: dict[str, str] | None = None) -> Iterator[World]:
    """Start a platform in `folder` and fill it; takes some ten seconds. `environment`: more settings."""
    with running(folder, import_root=folder, environment=environment) as platform:
        found = find_connection(data_dir=platform.data_dir)
        names = {name: f"projects/{name}" for name in ("alpha", "beta", "empty")}
        volume = "projects/alpha/volumes/stack"
        layers = {"layer": "shown", "writing": "writing", "spare_layer": "spare", "objects": "objects"}
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
        expired = world.tokens["expired"]
        until(
            lambda: world.ask("gateway", "IdentityService.GetSelf", {}, expired).code == "UNAUTHENTICATED",
            60,
            "a token has expired",
        )
        yield world
        world.close()
