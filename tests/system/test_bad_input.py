"""What users get wrong: each mistake has its error class, code and message, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tifffile

from biosegment import connect
from biosegment.client.resources import JobState
from biosegment.errors import (
    BiosegmentError,
    FailedPrecondition,
    NotFound,
    Unauthenticated,
)
from biosegment.rpc.errors import from_rpc_error
from tests.system.mistake import MISTAKES, NOBODY, UNKNOWN, Call, Scene
from tests.system.platform import COLLECT_OFTEN, running, until
from tests.system.tissue import SAMPLE_SHAPE, VOXEL_SIZE, set_up, write_tissue

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("bad-input")
    tissue = write_tissue(folder / "in")
    with (
        running(folder, import_root=folder / "in", environment=COLLECT_OFTEN) as platform,
        platform.connect() as client,
    ):
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
    "text": (_text, "UNKNOWN_FORMAT", "no format that is known"),
    "empty": (_empty, "UNREADABLE_FILE", "is empty"),
    "float64": (_GREY(STACK.astype(np.float64)), "BAD_DTYPE", "float64"),
    "complex64": (_GREY(STACK.astype(np.complex64)), "BAD_DTYPE", "complex64"),
    "rgb": (_image(photometric="rgb")(np.stack([STACK] * 3, -1)), "CHANNEL_MISSING", "colour"),
    "two-dimensions": (_GREY(STACK[0]), "NOT_A_VOLUME", "axes yx"),
    "four-dimensions": (
        _image(photometric="minisblack", metadata={"axes": "TZYX"})(np.stack([STACK] * 2)),
        "TIME_POINT_MISSING",
        "2 time points",
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
