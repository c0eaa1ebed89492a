"""The main job, restarts and outages on PostgreSQL and Ceph's S3 gateway, with the platform's real processes."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from biosegment.client import Client
from biosegment.client.resources import Annotation, JobState
from biosegment.errors import BiosegmentError, FailedPrecondition, NotFound, Unavailable
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.objects import open_blocking_objects
from biosegment.volume import Region
from tests.system.lab import Backends, Lab, running_lab
from tests.system.platform import until
from tests.system.tissue import (
    QUICK,
    TRAIN_LIMIT_S,
    VOXEL_SIZE,
    Bench,
    Labels,
    Tissue,
    composed,
    persistent,
    set_up,
    write_tissue,
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(500)]

SAMPLE_SHAPE = (1, 64, 64)


@dataclass(slots=True)
class Story:
    """What the tests of this file did so far.

    Attributes:
        answers: Every acknowledged annotation with its labels.
        errors: Messages of all errors that callers got.
    """

    lab: Lab
    tissue: Tissue
    client: Client
    bench: Bench
    answers: dict[str, Labels] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)
    predicted: str = ""
    errors: list[str] = field(default_factory=list)

    def layer(self) -> Labels:
        """The annotations layer that the acknowledged answers must make, composed directly."""
        made = self.client.annotations.list(self.bench.volume)
        return composed(self.tissue.raw.shape, [(one, self.answers[one.name]) for one in made])

    def require_nothing_lost(self) -> None:
        known = {one.name for one in self.client.annotations.list(self.bench.project)}
        assert known == set(self.answers)
        found = self.client.volumes.read(f"{self.bench.volume}/layers/annotations")
        np.testing.assert_array_equal(found, self.layer())


@pytest.fixture(scope="module")
def story(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("lab")
    tissue = write_tissue(folder / "in")
    with running_lab(folder, backends, folder / "in") as lab:
        client = lab.connect()
        story = Story(lab, tissue, client, set_up(client, tissue, "em", SAMPLE_SHAPE))
        yield story
        story.client.close()


def _round(story: Story, strategy: str) -> None:
    bench = story.bench
    newest = story.models[-1] if story.models else ""
    samples = bench.claim(3, lambda claim: {sample.model for sample in claim.samples} == {newest}).samples
    assert {sample.strategy for sample in samples} == {strategy}
    for sample in samples:
        story.answers[bench.annotate(sample).name] = bench.tissue.labels(sample.region)
    model = bench.train(steps=8).model
    story.models.append(model)
    bench.until_scored(model)


def test_the_main_job_from_import_to_export(story: Story, tmp_path: Path) -> None:
    client, bench = story.client, story.bench
    np.testing.assert_array_equal(client.volumes.read(bench.volume), story.tissue.raw)
    _round(story, "stratified")
    _round(story, "entropy")
    assert client.models.get(story.models[1]).parent == story.models[0]
    story.predicted = client.jobs.wait(client.jobs.predict(bench.volume).name).layers[0]
    done = client.jobs.wait(client.jobs.export(bench.volume, segmentation=True).name)
    path = client.volumes.download(done.artifact, tmp_path / "segmentation.ome.tif")
    predicted, answered = client.volumes.read(story.predicted), story.layer()
    expected = np.where(answered != 0, answered, predicted)
    np.testing.assert_array_equal(tifffile.imread(path), np.where(expected == 1, 0, expected))
    story.require_nothing_lost()


def test_the_annotations_layer_is_made_anew_from_the_records(story: Story) -> None:
    layer = story.client.annotations.rebuild(story.bench.volume)
    np.testing.assert_array_equal(story.client.volumes.read(layer), story.layer())


def test_a_model_is_exported_and_imported_again(story: Story, tmp_path: Path) -> None:
    path = story.client.models.export(story.models[-1], tmp_path / "model.zip")
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert any(name.endswith("models/model.pt") for name in file.namelist())
    imported = story.client.models.import_bundle(story.bench.project, path)
    assert imported.weights_sha256 == story.client.models.get(story.models[-1]).weights_sha256
    story.models.append(imported.name)
    story.bench.until_scored(imported.name)


def test_the_volume_opens_by_its_address_with_ranges_from_the_end(story: Story) -> None:
    base = f"{story.lab.http}/zarr/t/{story.lab.token}"
    group: Any = zarr.open_group(f"{base}/{story.bench.volume}", mode="r", zarr_format=3)
    np.testing.assert_array_equal(group["0"][...], story.tissue.raw)
    layer: Any = zarr.open_array(f"{base}/{story.predicted}", mode="r")
    np.testing.assert_array_equal(layer[...], story.client.volumes.read(story.predicted))
    shard = f"{base}/{story.bench.volume}/0/c/0/0/0"
    whole, _, _ = _get(shard)
    for wanted, part in (("-52", whole[-52:]), ("7-90", whole[7:91]), (f"{len(whole) - 9}-", whole[-9:])):
        body, status, content_range = _get(shard, {"range": f"bytes={wanted}"})
        assert (body, status) == (part, 206)
        assert content_range.endswith(f"/{len(whole)}")


def _get(url: str, headers: dict[str, str] | None = None) -> tuple[bytes, int, str]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=30) as answer:
        return answer.read(), answer.status, answer.headers.get("content-range", "")


def test_a_restart_of_all_services_finds_everything_again(story: Story) -> None:
    before = _everything(story)
    story.client.close()
    story.lab.stop()
    assert story.lab.said == []
    story.lab.start()
    story.client = story.lab.connect()
    story.bench = Bench(story.client, story.tissue, story.bench.project, story.bench.volume)
    after = _everything(story)
    assert after.keys() == before.keys()
    for what, value in before.items():
        if isinstance(value, list):
            assert after[what] == value, what
        else:
            np.testing.assert_array_equal(after[what], value, err_msg=what)
    (sample,) = story.client.samples.claim(story.bench.project, 1).samples
    assert (sample.strategy, sample.model) == ("entropy", story.models[-1])
    story.client.samples.release(sample.name)


def _everything(story: Story) -> dict[str, NDArray[Any] | list[Any]]:
    client, bench = story.client, story.bench
    return {
        "volumes": client.volumes.list(bench.project),
        "layers": client.volumes.layers(bench.volume),
        "annotations": client.annotations.list(bench.project),
        "models": client.models.list(bench.project),
        "jobs": client.jobs.list(bench.project),
        "users": client.platform.users(),
        "voxels": client.volumes.read(bench.volume),
        "prediction": client.volumes.read(story.predicted),
    }


class Annotators:
    """Threads that commit small regions one after the other, each repeated until it is acknowledged."""

    def __init__(self, story: Story, count: int, seed: int) -> None:
        self._story = story
        self._stop = threading.Event()
        self.acknowledged: list[tuple[Annotation, Labels]] = []
        self.refusals: list[Unavailable] = []
        self.failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(seed + i,)) for i in range(count)]

    def __enter__(self) -> Annotators:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        for annotation, labels in self.acknowledged:
            self._story.answers[annotation.name] = labels
        self._story.errors += [error.message for error in self.refusals]

    def _run(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not self._stop.is_set():
            z, y, x = (
                int(rng.integers(0, size - edge))
                for size, edge in zip((16, 128, 128), (1, 24, 24), strict=True)
            )
            region = Region((z, y, x), (z + 1, y + 24, x + 24))
            labels = rng.integers(0, 3, region.shape, np.uint8)
            try:
                self._commit(region, labels, str(uuid.uuid4()))
            except BaseException as error:
                self.failures.append(error)
                return

    def _commit(self, region: Region, labels: Labels, request_id: str) -> None:
        commit = self._story.client.annotations.commit
        volume = self._story.bench.volume
        while True:
            try:
                made = commit(labels, volume=volume, region=region, request_id=request_id)
            except Unavailable as error:
                self.refusals.append(error)
                time.sleep(0.2)
            else:
                self.acknowledged.append((made, labels))
                return

    def until_more(self, count: int) -> None:
        wanted = len(self.acknowledged) + count
        until(
            lambda: bool(self.failures) or len(self.acknowledged) >= wanted, 60, f"{count} more annotations"
        )
        assert not self.failures


def test_postgresql_restarts_under_load_and_nothing_acknowledged_is_lost(story: Story) -> None:
    client, bench, postgres = story.client, story.bench, story.lab.backends.postgres
    training = client.jobs.train(bench.project, max_steps=60, options=QUICK)
    until(lambda: client.jobs.get(training.name).done > 0, TRAIN_LIMIT_S, "steps were made")
    with Annotators(story, 3, seed=10) as annotators:
        annotators.until_more(5)
        postgres.stop()
        until(lambda: bool(annotators.refusals), 60, "a refusal")
        with pytest.raises(Unavailable) as caught:
            client.projects.list()
        postgres.start()
        annotators.until_more(5)
    story.errors.append(caught.value.message)
    assert {error.reason for error in (*annotators.refusals, caught.value)} == {"DATABASE_UNAVAILABLE"}
    assert "try again" in caught.value.message
    persistent(lambda: client.jobs.wait(training.name))
    # An outage is nobody's crash: at most it begins another attempt, and never ends the job.
    assert client.jobs.get(training.name).state is JobState.SUCCEEDED
    assert not [line.text for line in client.jobs.log(training.name) if line.text.startswith("crashed")]
    story.require_nothing_lost()
    assert story.lab.said == []


def test_the_s3_server_stops_and_comes_back(story: Story) -> None:
    client, bench, s3 = story.client, story.bench, story.lab.backends.s3
    shard = f"{story.lab.http}/zarr/t/{story.lab.token}/{bench.volume}/0/c/0/0/0"
    training = client.jobs.train(bench.project, max_steps=60, options=QUICK)
    until(lambda: client.jobs.get(training.name).done > 0, TRAIN_LIMIT_S, "steps were made")
    with Annotators(story, 2, seed=20) as annotators:
        annotators.until_more(3)
        s3.stop()
        until(lambda: bool(annotators.refusals), 60, "a refusal")
        with pytest.raises(urllib.error.HTTPError) as caught:
            _get(shard)
        job = client.jobs.import_volume(bench.project, str(story.tissue.path), voxel_size=VOXEL_SIZE)
        with pytest.raises(FailedPrecondition) as failed:
            client.jobs.wait(job.name)
        s3.start()
        annotators.until_more(3)
    body = caught.value.read().decode()
    assert caught.value.code == 503
    assert "OBJECT_STORE_UNAVAILABLE" in body
    assert {error.reason for error in annotators.refusals} == {"OBJECT_STORE_UNAVAILABLE"}
    assert failed.value.reason == "OBJECT_STORE_UNAVAILABLE"
    story.errors += [body, failed.value.message]
    # A training that had begun waits for the store, and goes on.
    assert client.jobs.wait(training.name).state is JobState.SUCCEEDED
    assert all(s3.endpoint_url.removeprefix("http://") in error.message for error in annotators.refusals)
    client.jobs.retry(job.name)
    imported = client.jobs.wait(job.name)
    assert imported.state is JobState.SUCCEEDED
    np.testing.assert_array_equal(client.volumes.read(imported.volume), story.tissue.raw)
    story.require_nothing_lost()
    assert story.lab.said == []


def test_the_loop_goes_on_after_the_outages(story: Story) -> None:
    for sample in story.client.samples.claim(story.bench.project, 2).samples:
        story.answers[story.bench.annotate(sample).name] = story.tissue.labels(sample.region)
    model = story.bench.train(steps=2).model
    story.bench.until_scored(model)


def test_no_secret_is_in_a_log_a_file_an_error_or_the_object_storage(story: Story) -> None:
    backends = story.lab.backends
    with pytest.raises(BiosegmentError) as caught:
        story.client.volumes.get("projects/em/volumes/nothing")
    texts = {f"error {i}": text for i, text in enumerate([*story.errors, caught.value.message])}
    for job in story.client.jobs.list(story.bench.project):
        texts[job.name] = repr(job) + repr(story.client.jobs.log(job.name))
    assert story.errors
    for text in texts.values():
        assert not [secret for secret in backends.secrets if secret in text], text
    folders = (story.lab.data_dir.parent, story.lab.ray_dir)
    logs = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert any(path.is_relative_to(story.lab.ray_dir) for path in logs)
    assert {f"{service}.log" for service in ("datastore", "sampler", "trainer", "gateway")} <= {
        path.name for path in logs
    }
    wanted = [secret.encode() for secret in backends.secrets]
    for path in logs:
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # services are running, and what they wrote for a moment is gone
            continue
        assert not [secret for secret in wanted if secret in content], path
    settings = ObjectStoreSettings(
        **{name.removeprefix("BIOSEGMENT_").lower(): value for name, value in backends.shared("lab").items()}
    )
    objects = open_blocking_objects(settings)
    keys = [key for key in objects.list("") if key.endswith(".json")]
    assert any(key.endswith("zarr.json") for key in keys)
    for key in keys:
        try:
            content = objects.get(key)
        except NotFound:  # collected meanwhile
            continue
        assert not [secret for secret in (*wanted, b"test-key") if secret in content], key
    objects.close()
