"""A full disk: what does not fit is refused by name, nothing half written stays, and it works again with room."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile

from biosegment.client.resources import Job, JobState
from biosegment.errors import ResourceExhausted
from biosegment.volume import Region
from tests.system.platform import COLLECT_OFTEN, Platform, running, until
from tests.system.tissue import SAMPLE_SHAPE, VOXEL_SIZE, Bench, set_up, write_tissue

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system"),
]

DISK_BYTES = 24 << 20
NOISE = np.random.default_rng(3).integers(0, 255, (24, 512, 512), dtype=np.uint8)
"""6 MiB that do not compress."""


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        # Lazily, so that a process that still ends does not hold it up.
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Scene:
    """A platform whose objects, or whole data folder, lie on a small disk."""

    def __init__(self, platform: Platform, bench: Bench, disk: Path, folder: Path) -> None:
        self.platform, self.bench, self.client = platform, bench, bench.client
        self._filler = disk / "filler"
        self.noise = folder / "in" / "noise.tif"
        tifffile.imwrite(self.noise, NOISE, photometric="minisblack")

    @contextmanager
    def full(self, leave: int = 0) -> Iterator[None]:
        """Fill the disk but for some bytes; make room at the end."""
        try:
            with self._filler.open("wb", buffering=0) as file:
                try:
                    while file.write(bytes(64 << 10)):
                        pass
                except OSError:
                    pass
                file.truncate(max(0, file.tell() - leave))
            yield
        finally:
            self._filler.unlink()

    def objects(self) -> set[str]:
        return self.platform.objects() - {"filler"}

    def import_noise(self) -> Job:
        return self.client.jobs.import_volume(
            self.bench.project, str(self.noise), volume_id="noise", voxel_size=VOXEL_SIZE
        )

    def ended(self, job: Job) -> Job:
        until(lambda: self.client.jobs.get(job.name).state.ended, 60, f"{job.kind} job has ended")
        return self.client.jobs.get(job.name)

    def require_refused(self, job: Job) -> None:
        ended = self.ended(job)
        assert ended.state is JobState.FAILED
        assert ended.error is not None
        assert ended.error.reason == "DISK_FULL"
        assert "space" in ended.error.message


@pytest.fixture(scope="module", params=["objects", "everything"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp(f"disk-{request.param}")
    tissue = write_tissue(folder / "in")
    where = folder / "data" / "objects" if request.param == "objects" else folder / "data"
    with (
        _small_disk(where) as disk,
        running(folder, import_root=folder / "in", environment=COLLECT_OFTEN) as platform,
        platform.connect() as client,
    ):
        yield Scene(platform, set_up(client, tissue, "em", SAMPLE_SHAPE), disk, folder)


def test_an_import_that_does_not_fit_fails_and_is_removed(scene: Scene) -> None:
    before = scene.objects()
    with scene.full(leave=3 << 20):
        scene.require_refused(scene.import_noise())
        assert [item.name for item in scene.client.volumes.list(scene.bench.project)] == [scene.bench.volume]
        until(lambda: scene.objects() == before, 150, "what the import wrote is removed")
    done = scene.client.jobs.wait(scene.import_noise().name)
    np.testing.assert_array_equal(scene.client.volumes.read(done.volume), NOISE)


def test_an_annotation_that_does_not_fit_is_refused_and_accepted_with_room(scene: Scene) -> None:
    region = Region((1, 0, 0), (3, 128, 128))  # type: ignore[arg-type]
    labels = np.random.default_rng(4).integers(1, 3, region.shape).astype(np.uint8)
    request_id, before = str(uuid.uuid4()), scene.objects()

    def commit() -> str:
        return scene.client.annotations.commit(
            labels, volume=scene.bench.volume, region=region, request_id=request_id
        ).name

    with scene.full():
        _refused(commit)
        assert scene.client.annotations.list(scene.bench.project) == []
        assert scene.objects() == before
    name = commit()
    assert [item.name for item in scene.client.annotations.list(scene.bench.project)] == [name]
    np.testing.assert_array_equal(scene.client.annotations.labels(name), labels)
    layer = scene.client.volumes.read(f"{scene.bench.volume}/layers/annotations", region)
    np.testing.assert_array_equal(layer, labels)


def _refused(call: Callable[[], object]) -> None:
    with pytest.raises(ResourceExhausted) as raised:
        call()
    assert raised.value.reason == "DISK_FULL"


def test_an_export_that_does_not_fit_fails_and_is_removed(scene: Scene) -> None:
    volume, before = f"{scene.bench.project}/volumes/noise", scene.objects()
    with scene.full(leave=3 << 20):
        failed = scene.client.jobs.export(volume)
        scene.require_refused(failed)
        assert scene.client.jobs.get(failed.name).artifact == ""
        until(lambda: scene.objects() == before, 150, "what the export wrote is removed")
    done = scene.client.jobs.wait(scene.client.jobs.retry(failed.name).name)
    path = scene.client.volumes.download(done.artifact, scene.noise.with_name("again.ome.tif"))
    np.testing.assert_array_equal(tifffile.imread(path), NOISE)


def test_the_platform_works_on_after_all_this(scene: Scene) -> None:
    until(
        lambda: all(item.health == "serving" for item in scene.client.platform.status()),
        60,
        "every service answers the gateway",
    )
    assert len(scene.bench.annotate_next(2)) == 2
    assert "Traceback" not in scene.platform.log("datastore")
