"""What users get wrong in calls: tables of mistakes, each with its error class, reason and a part of its message."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from biosegment.api.datastore.v1alpha1 import annotation_pb2
from biosegment.api.datastore.v1alpha1.annotation_pb2_grpc import AnnotationServiceStub
from biosegment.auth import PrincipalSigner
from biosegment.client import Client
from biosegment.client.resources import Sample
from biosegment.errors import AlreadyExists, BiosegmentError, FailedPrecondition, InvalidArgument, NotFound
from biosegment.rpc.errors import from_rpc_error
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Region
from tests.system.platform import Platform
from tests.system.tissue import VOXEL_SIZE, Bench

NOBODY = "01arz3ndektsv4rrffq69g5fav"
HERE = Region((2, 0, 0), (3, 32, 32))  # type: ignore[arg-type]
OUTSIDE = Region((2, 100, 100), (3, 132, 132))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Scene:
    platform: Platform
    bench: Bench
    folder: Path

    @property
    def client(self) -> Client:
        return self.bench.client

    def sample(self) -> Sample:
        (sample,) = self.client.samples.claim(self.bench.project, 1).samples
        return sample

    def commit(self, **changes: Any) -> Any:
        """Commit zeros of the right shape, with some things changed."""
        given: dict[str, Any] = {"volume": self.bench.volume, "region": HERE, **changes}
        shape = given["sample"].region.shape if given.get("sample") else given["region"].shape
        labels = given.pop("labels", np.ones(shape, np.uint8))
        if given.get("sample"):
            del given["volume"], given["region"]
        return self.client.annotations.commit(labels, **given)

    def lease(self, sample: Sample, holder: str = "admin", expires_in_s: float = 600.0) -> Sample:
        """The sample with a lease that the sampler's own key has signed."""
        signer = PrincipalSigner("sampler", self.platform.data_dir / "keys" / "sampler.key")
        claims: dict[str, object] = {
            "sub": holder,
            "sample": sample.name,
            "volume": sample.volume,
            "region": [list(sample.region.start), list(sample.region.stop)],
            "strategy": sample.strategy,
            "model": sample.model,
            "iat": int(time.time()) - 3600,
            "exp": int(time.time() + expires_in_s),
        }
        return replace(sample, lease_token=signer.sign_claims(claims, "datastore"))


Call = Callable[[Scene], object]


def _import(uri: Callable[[Scene], str], **options: Any) -> Call:
    return lambda scene: scene.client.jobs.import_volume(
        scene.bench.project, uri(scene), voxel_size=VOXEL_SIZE, **options
    )


def _send_raw_labels(scene: Scene, data: bytes, encoding: int) -> None:
    """Past the checks of the SDK."""
    request = annotation_pb2.CommitAnnotationRequest(
        parent=scene.bench.volume,
        annotation=annotation_pb2.Annotation(region=region_to_proto(HERE), kind="KIND_DENSE"),
        labels=data,
        encoding=encoding,  # type: ignore[arg-type]
        request_id="raw",
    )
    connection = scene.client.connection
    with grpc.insecure_channel(connection.address) as channel:
        try:
            AnnotationServiceStub(channel).CommitAnnotation(
                request, metadata=[("authorization", f"Bearer {connection.token}")], timeout=20
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


def _repeat_with_other_labels(scene: Scene) -> None:
    first = scene.commit(request_id="once")
    try:
        scene.commit(request_id="once", labels=np.full(HERE.shape, 2, np.uint8))
    finally:
        assert np.all(scene.client.annotations.labels(first.name) == 1)
        scene.client.annotations.revert(first.name)


MISTAKES: dict[str, tuple[Call, type[BiosegmentError], str, str]] = {
    "import from outside of the import roots": (
        _import(lambda scene: "/etc/passwd"),
        InvalidArgument,
        "PATH_NOT_ALLOWED",
        "import roots",
    ),
    "import from outside by dots": (
        _import(lambda scene: f"{scene.folder}/in/../data/token"),
        InvalidArgument,
        "PATH_NOT_ALLOWED",
        "import roots",
    ),
    "import of a file that is not there": (
        _import(lambda scene: f"{scene.folder}/in/nothing.tif"),
        NotFound,
        "FILE_NOT_FOUND",
        "nothing.tif",
    ),
    "import into a volume that is there": (
        _import(lambda scene: str(scene.bench.tissue.path), volume_id="tissue"),
        AlreadyExists,
        "VOLUME_EXISTS",
        "choose another volume_id",
    ),
    "read outside of the volume": (
        lambda scene: scene.client.volumes.read(scene.bench.volume, OUTSIDE),
        InvalidArgument,
        "REGION_OUT_OF_BOUNDS",
        "(16, 128, 128)",
    ),
    "annotate outside of the volume": (
        lambda scene: scene.commit(region=OUTSIDE),
        InvalidArgument,
        "REGION_OUT_OF_BOUNDS",
        "(16, 128, 128)",
    ),
    "choose a sample outside of the volume": (
        lambda scene: scene.client.samples.create(scene.bench.project, scene.bench.volume, OUTSIDE),
        InvalidArgument,
        "REGION_OUT_OF_BOUNDS",
        "(16, 128, 128)",
    ),
    "export outside of the volume": (
        lambda scene: scene.client.jobs.export(scene.bench.volume, region=OUTSIDE),
        InvalidArgument,
        "REGION_OUT_OF_BOUNDS",
        "(16, 128, 128)",
    ),
    "labels of the wrong shape": (
        lambda scene: scene.commit(labels=np.ones((1, 32, 31), np.uint8)),
        InvalidArgument,
        "LABELS_WRONG_SIZE",
        "(1, 32, 31)",
    ),
    "labels of the wrong dtype": (
        lambda scene: scene.commit(labels=np.ones(HERE.shape, np.int64)),
        InvalidArgument,
        "LABELS_WRONG_SIZE",
        "int64",
    ),
    "labels of the wrong size past the SDK": (
        lambda scene: _send_raw_labels(
            scene, zlib.compress(bytes(1000)), annotation_pb2.LABELS_ENCODING_ZLIB
        ),
        InvalidArgument,
        "LABELS_WRONG_SIZE",
        "1024 voxels",
    ),
    "labels that are no zlib stream": (
        lambda scene: _send_raw_labels(scene, b"x" * 1024, annotation_pb2.LABELS_ENCODING_ZLIB),
        InvalidArgument,
        "BAD_LABELS_ENCODING",
        "zlib",
    ),
    "labels of an unknown class": (
        lambda scene: scene.commit(labels=np.full(HERE.shape, 7, np.uint8)),
        InvalidArgument,
        "UNKNOWN_CLASS",
        "[7]",
    ),
    "a scope with an unknown class": (
        lambda scene: scene.commit(class_scope=[2, 9]),
        InvalidArgument,
        "UNKNOWN_CLASS",
        "[9]",
    ),
    "an expired lease": (
        lambda scene: scene.commit(sample=scene.lease(scene.sample(), expires_in_s=-60)),
        FailedPrecondition,
        "LEASE_EXPIRED",
        "renew",
    ),
    "the lease of somebody else": (
        lambda scene: scene.commit(sample=scene.lease(scene.sample(), holder="somebody")),
        FailedPrecondition,
        "LEASE_MISMATCH",
        "'somebody'",
    ),
    "a lease that is no token": (
        lambda scene: scene.commit(sample=replace(scene.sample(), lease_token="trust me")),
        InvalidArgument,
        "BAD_LEASE",
        "claim again",
    ),
    "a sample without its lease": (
        lambda scene: scene.commit(sample=replace(scene.sample(), lease_token="")),
        InvalidArgument,
        "LEASE_MISSING",
        "lease_token",
    ),
    "a request id with other content": (
        _repeat_with_other_labels,
        AlreadyExists,
        "REQUEST_ID_REUSED",
        "'once'",
    ),
    "a project twice": (
        lambda scene: scene.client.projects.create("em", classes=["a"]),
        AlreadyExists,
        "PROJECT_EXISTS",
        "'em'",
    ),
    "train on nothing": (
        lambda scene: scene.client.jobs.train(scene.bench.project),
        FailedPrecondition,
        "NO_ANNOTATIONS",
        "annotate",
    ),
    "predict without a model": (
        lambda scene: scene.client.jobs.predict(scene.bench.volume),
        FailedPrecondition,
        "NO_MODEL",
        "train one first",
    ),
    "an unknown strategy": (
        lambda scene: scene.client.samples.claim(scene.bench.project, 1, strategy="astrology"),
        InvalidArgument,
        "UNKNOWN_STRATEGY",
        "astrology",
    ),
    "a name that is none": (
        lambda scene: scene.client.volumes.get("volume 7"),
        InvalidArgument,
        "BAD_NAME",
        "projects/*/volumes/*",
    ),
}


UNKNOWN: dict[str, tuple[Call, str]] = {
    "project": (lambda scene: scene.client.projects.get(f"projects/{NOBODY}"), "PROJECT_NOT_FOUND"),
    "volume": (
        lambda scene: scene.client.volumes.get(f"{scene.bench.project}/volumes/{NOBODY}"),
        "VOLUME_NOT_FOUND",
    ),
    "voxels of a volume": (
        lambda scene: scene.client.volumes.read(f"{scene.bench.project}/volumes/{NOBODY}"),
        "VOLUME_NOT_FOUND",
    ),
    "layer": (
        lambda scene: scene.client.volumes.layer(f"{scene.bench.volume}/layers/{NOBODY}"),
        "LAYER_NOT_FOUND",
    ),
    "annotation": (
        lambda scene: scene.client.annotations.get(f"{scene.bench.volume}/annotations/{NOBODY}"),
        "ANNOTATION_NOT_FOUND",
    ),
    "sample": (
        lambda scene: scene.client.samples.get(f"{scene.bench.project}/samples/{NOBODY}"),
        "SAMPLE_NOT_FOUND",
    ),
    "pool": (lambda scene: scene.client.samples.pool(f"projects/{NOBODY}"), "PROJECT_NOT_FOUND"),
    "model": (lambda scene: scene.client.models.get(f"models/{NOBODY}"), "MODEL_NOT_FOUND"),
    "parent of a training": (
        lambda scene: scene.client.jobs.train(scene.bench.project, parent=f"models/{NOBODY}"),
        "MODEL_NOT_FOUND",
    ),
    "job of the datastore": (
        lambda scene: scene.client.jobs.get(f"jobs/datastore-{NOBODY}"),
        "JOB_NOT_FOUND",
    ),
    "job of the trainer": (lambda scene: scene.client.jobs.get(f"jobs/trainer-{NOBODY}"), "JOB_NOT_FOUND"),
    "artifact": (
        lambda scene: scene.client.volumes.download(
            f"{scene.bench.project}/artifacts/{NOBODY}", scene.folder / "artifact"
        ),
        "ARTIFACT_NOT_FOUND",
    ),
    "upload": (
        lambda scene: scene.client.jobs.import_volume(
            scene.bench.project, upload=f"{scene.bench.project}/uploads/{NOBODY}", voxel_size=VOXEL_SIZE
        ),
        "UPLOAD_NOT_FOUND",
    ),
    "member": (
        lambda scene: scene.client.projects.remove_member(scene.bench.project, "nobody"),
        "MEMBER_NOT_FOUND",
    ),
    "user": (lambda scene: scene.client.platform.tokens("nobody"), "USER_NOT_FOUND"),
    "token": (
        lambda scene: scene.client.platform.revoke_token(f"users/admin/tokens/{NOBODY}"),
        "TOKEN_NOT_FOUND",
    ),
}
