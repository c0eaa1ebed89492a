"""What users get wrong: each mistake has its error class, code and message, and leaves nothing behind."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tifffile

from biosegment import connect
from biosegment.api.datastore.v1alpha1 import annotation_pb2
from biosegment.api.datastore.v1alpha1.annotation_pb2_grpc import AnnotationServiceStub
from biosegment.auth import PrincipalSigner
from biosegment.client import Client
from biosegment.client.resources import JobState, Sample
from biosegment.errors import (
    AlreadyExists,
    BiosegmentError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unauthenticated,
)
from biosegment.rpc.errors import from_rpc_error
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Region
from tests.system.platform import Platform, running, until
from tests.system.tissue import SAMPLE_SHAPE, VOXEL_SIZE, Bench, set_up, write_tissue

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


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("bad-input")
    tissue = write_tissue(folder / "in")
    with running(folder, import_root=folder / "in") as platform, platform.connect() as client:
        yield Scene(platform, set_up(client, tissue, "em", SAMPLE_SHAPE), folder)


STACK = np.random.default_rng(0).integers(0, 255, (6, 40, 48), dtype=np.uint8)


def _cut(path: Path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def _truncated(path: Path) -> None:
    tifffile.imwrite(path, STACK, photometric="minisblack")
    _cut(path, 0.6)


def _truncated_with_tiles(path: Path) -> None:
    tifffile.imwrite(path, STACK, photometric="minisblack", tile=(16, 16), compression="zlib")
    _cut(path, 0.6)


def _text(path: Path) -> None:
    path.write_text("these are no voxels\n" * 50)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _image(**options: Any) -> Callable[[np.ndarray], Callable[[Path], None]]:
    return lambda array: lambda path: tifffile.imwrite(path, array, **options)


_GREY = _image(photometric="minisblack")

BAD_FILES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "truncated": (_truncated, "TRUNCATED_FILE", "copy it again"),
    "truncated-tiles": (_truncated_with_tiles, "TRUNCATED_FILE", "copy it again"),
    "text": (_text, "UNKNOWN_FORMAT", "neither a TIFF file nor an OME-Zarr folder"),
    "empty": (_empty, "UNKNOWN_FORMAT", "neither a TIFF file nor an OME-Zarr folder"),
    "float64": (_GREY(STACK.astype(np.float64)), "BAD_DTYPE", "float64"),
    "complex64": (_GREY(STACK.astype(np.complex64)), "BAD_DTYPE", "complex64"),
    "rgb": (_image(photometric="rgb")(np.stack([STACK] * 3, -1)), "NOT_A_VOLUME", "colour"),
    "two-dimensions": (_GREY(STACK[0]), "NOT_A_VOLUME", "2D"),
    "four-dimensions": (
        _image(photometric="minisblack", metadata={"axes": "TZYX"})(np.stack([STACK] * 2)),
        "NOT_A_VOLUME",
        "axes",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_fails_its_import_and_leaves_nothing_behind(scene: Scene, case: str) -> None:
    write, reason, message = BAD_FILES[case]
    path = scene.folder / "in" / f"{case}.tif"
    write(path)
    before = scene.platform.objects()
    volume_id = f"bad-{case}"
    job = scene.client.jobs.import_volume(
        scene.bench.project, str(path), volume_id=volume_id, voxel_size=VOXEL_SIZE
    )
    with pytest.raises(FailedPrecondition) as raised:
        scene.client.jobs.wait(job.name)
    assert raised.value.reason == reason
    _require_failed(scene, job.name, reason, [message, path.name])
    _require_no_volume(scene, volume_id)
    assert scene.platform.objects() == before


def _require_failed(scene: Scene, job_name: str, reason: str, messages: list[str]) -> None:
    ended = scene.client.jobs.get(job_name)
    assert ended.state is JobState.FAILED
    assert ended.volume == ""
    assert ended.error is not None
    assert ended.error.reason == reason
    for message in messages:
        assert message in ended.error.message


def _require_no_volume(scene: Scene, volume_id: str) -> None:
    assert [item.name for item in scene.client.volumes.list(scene.bench.project)] == [scene.bench.volume]
    with pytest.raises(NotFound):
        scene.client.volumes.get(f"{scene.bench.project}/volumes/{volume_id}")


def test_a_file_that_does_not_say_its_voxel_size_needs_one(scene: Scene) -> None:
    before = scene.platform.objects()
    job = scene.client.jobs.import_volume(
        scene.bench.project, str(scene.bench.tissue.path), volume_id="sizeless"
    )
    with pytest.raises(FailedPrecondition) as raised:
        scene.client.jobs.wait(job.name)
    assert raised.value.reason == "VOXEL_SIZE_MISSING"
    _require_failed(scene, job.name, "VOXEL_SIZE_MISSING", ["voxel_size", "nanometres"])
    _require_no_volume(scene, "sizeless")
    assert scene.platform.objects() == before


@pytest.mark.system
@pytest.mark.timeout(240)
def test_a_file_that_is_damaged_in_its_midst_leaves_no_voxels(scene: Scene) -> None:
    path = scene.folder / "in" / "damaged.tif"
    stack = np.random.default_rng(1).integers(0, 255, (200, 64, 64), dtype=np.uint8)
    tifffile.imwrite(path, stack, photometric="minisblack", compression="zlib")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        start = file.pages[150].dataoffsets[0]  # type: ignore[union-attr]
    data[start : start + 100] = bytes(100)
    path.write_bytes(data)
    before = scene.platform.objects()
    job = scene.client.jobs.import_volume(
        scene.bench.project, str(path), volume_id="damaged", voxel_size=VOXEL_SIZE
    )
    with pytest.raises(FailedPrecondition):
        scene.client.jobs.wait(job.name)
    _require_failed(scene, job.name, "UNREADABLE_FILE", ["damaged.tif", "150"])
    _require_no_volume(scene, "damaged")
    until(lambda: scene.platform.objects() == before, 180, "what was written is removed")


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


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_and_changes_nothing(scene: Scene, mistake: str) -> None:
    call, kind, reason, message = MISTAKES[mistake]
    _require_error(scene, call, kind, reason, message)


def _require_error(scene: Scene, call: Call, kind: type[BiosegmentError], reason: str, message: str) -> None:
    before = _state(scene)
    with pytest.raises(BiosegmentError) as raised:
        call(scene)
    error = raised.value
    assert (type(error), error.reason) == (kind, reason)
    assert message in error.message
    if isinstance(error.__cause__, grpc.RpcError):  # the SDK itself refuses some, before anything is sent
        assert error.__cause__.code().name == kind.grpc_code  # type: ignore[attr-defined]
    assert _state(scene) == before


def _state(scene: Scene) -> tuple[object, ...]:
    client, project = scene.client, scene.bench.project
    holding = [item.name for item in client.annotations.list(project) if item.state != "reverted"]
    blocks = {name for name in scene.platform.objects() if not _of_reverted(scene, name)}
    jobs = [job.name for job in client.jobs.list(project)]
    return holding, blocks, jobs, [item.name for item in client.volumes.list(project)]


def _of_reverted(scene: Scene, name: str) -> bool:
    """Blocks and layer of an annotation that was taken back stay, for the record."""
    known = {item.name.rpartition("/")[2] for item in scene.client.annotations.list(scene.bench.project)}
    return name.rpartition("/")[2] in known or "/layers/" in name


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


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_there_is_not_found(scene: Scene, what: str) -> None:
    call, reason = UNKNOWN[what]
    _require_error(scene, call, NotFound, reason, "nobody" if what in ("member", "user") else NOBODY)


def test_without_a_good_token_nothing_answers(scene: Scene) -> None:
    made = scene.client.platform.create_token(display_name="short-lived")
    scene.client.platform.revoke_token(made.name)
    address = scene.client.connection.address
    for token, reason in (
        ("bsg_0000000000_wrong", "BAD_TOKEN"),
        (scene.client.connection.token[:-1] + "#", "BAD_TOKEN"),
        (made.secret, "TOKEN_REVOKED"),
    ):
        with connect(address, token=token) as stranger:
            for call in (stranger.projects.list, stranger.jobs.list, stranger.platform.self):
                with pytest.raises(Unauthenticated) as raised:
                    call()
                assert raised.value.reason == reason
                assert token not in raised.value.message
                assert raised.value.__cause__.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[union-attr]


def test_a_missing_token_is_refused(scene: Scene) -> None:
    method = "/biosegment.api.datastore.v1alpha1.DatastoreService/ListProjects"
    with grpc.insecure_channel(scene.client.connection.address) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary(method)(b"", timeout=20)
    error = from_rpc_error(raised.value)
    assert (type(error), error.reason) == (Unauthenticated, "NO_TOKEN")


def test_no_mistake_left_a_traceback_in_a_log(scene: Scene) -> None:
    for service in ("datastore", "sampler", "trainer", "gateway"):
        assert "Traceback" not in scene.platform.log(service)
