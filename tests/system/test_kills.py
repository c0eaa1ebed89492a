"""Kill -9 at named points of each service and of Ray's workers; nothing acknowledged may be lost.

One platform lives through all of it. Each test arms one point, does what leads there, and waits until the
supervisor has brought the service back; then everything that was acknowledged until now is compared, and the loop
must go on.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np
import pytest

from biosegment import connect
from biosegment.auth import SERVICES
from biosegment.client import Client
from biosegment.client.resources import Job, JobState
from biosegment.errors import BiosegmentError
from tests.system.platform import COLLECT_OFTEN, Platform, running, until
from tests.system.tissue import QUICK, SAMPLE_SHAPE, VOXEL_SIZE, Bench, persistent, set_up, write_tissue
from tests.system.witness import Witness

pytestmark = [pytest.mark.system, pytest.mark.timeout(420)]


@dataclass(slots=True)
class Scene:
    """The platform, the project and what was acknowledged.

    Attributes:
        model: A model that was made before anything was killed.
        reference: What it predicts for the whole volume.
        volumes: Ids of volumes that must exist, besides the first.
    """

    platform: Platform
    bench: Bench
    witness: Witness
    model: str = ""
    reference: np.ndarray = field(default_factory=lambda: np.empty(0))
    volumes: int = 0

    @property
    def client(self) -> Client:
        return self.bench.client

    def serving(self) -> bool:
        """Whether all four services serve."""
        try:
            return all(item.health == "serving" for item in self.client.platform.status())
        except BiosegmentError:
            return False

    def until_serving(self) -> None:
        until(self.serving, 90, "all services serve again")

    def dying_at(self, point: str, act: Callable[[], None]) -> None:
        """Do something on the way to a point; the process that reaches it dies there."""
        service = point.partition(".")[0]
        before = self.platform.process(service).pid
        self.platform.arm(point)
        act()
        until(lambda: self.platform.fired, 90, f"{point} was reached")
        self.until_serving()
        in_worker = point in WORKER_POINTS
        assert (self.platform.process(service).pid == before) is in_worker

    def start(self, create: Callable[[], Job]) -> Job:
        """Create a job through thick and thin."""
        return persistent(create)

    def train(self) -> Job:
        return self.start(
            lambda: self.client.jobs.train(
                self.bench.project, max_steps=3, options={**QUICK, "checkpoint_steps": 1}
            )
        )

    def scorings(self) -> list[Job]:
        return [job for job in self.client.jobs.list(self.bench.project) if job.kind == "score"]

    def predict(self) -> Job:
        return self.start(lambda: self.client.jobs.predict(self.bench.volume, model=self.model))

    def import_again(self) -> Job:
        self.volumes += 1
        return self.start(
            lambda: self.client.jobs.import_volume(
                self.bench.project,
                str(self.bench.tissue.path),
                volume_id=f"copy-{self.volumes}",
                voxel_size=VOXEL_SIZE,
            )
        )

    def check_loop(self) -> None:
        """Annotate, train, score, claim: the loop finishes."""
        assert self.witness.annotate_next() is not None
        done = self.witness.finish(self.train())
        assert done.state is JobState.SUCCEEDED, done.error
        self.bench.until_scored(done.model)
        assert self.client.samples.claim(self.bench.project, 1).samples


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("kills")
    tissue = write_tissue(folder / "in")
    with (
        running(folder, import_root=folder / "in", environment=COLLECT_OFTEN) as platform,
        platform.connect() as client,
    ):
        bench = set_up(client, tissue, "em", SAMPLE_SHAPE)
        scene = Scene(platform, bench, Witness(bench))
        for _ in range(3):
            scene.witness.annotate_next()
        scene.model = bench.train().model
        bench.until_scored(scene.model)
        done = client.jobs.wait(scene.predict().name)
        scene.reference = client.volumes.read(done.layers[0])
        yield scene


def _commit(scene: Scene) -> None:
    entry = scene.witness.annotate_next()
    assert entry is not None
    assert scene.witness.commit_again(entry).name == entry.annotation.name


def _import(scene: Scene) -> None:
    done = scene.witness.finish(scene.import_again())
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 2), done.error
    volumes = scene.client.volumes.list(scene.bench.project)
    assert len(volumes) == 1 + scene.volumes
    np.testing.assert_array_equal(scene.client.volumes.read(done.volume), scene.bench.tissue.raw)


def _export(scene: Scene) -> None:
    create = lambda: scene.client.jobs.export(scene.bench.volume)  # noqa: E731
    done = scene.witness.finish(scene.start(create))
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 2), done.error
    assert done.artifact


def _claim(scene: Scene) -> None:
    held = {one.name for one in scene.client.samples.list(scene.bench.project, state="leased")}
    claimed = persistent(lambda: scene.client.samples.claim(scene.bench.project, len(held) + 2)).samples
    # Those of a claim whose answer was lost come first; never are there two sets of them.
    now = {one.name for one in scene.client.samples.list(scene.bench.project, state="leased")}
    assert {one.name for one in claimed} == now
    assert len(now) == len(held) + 2
    for sample in claimed:
        scene.witness.annotate(sample)


def _ask_for_training(scene: Scene) -> None:
    before = {job.name for job in scene.client.jobs.list(scene.bench.project)}
    wanted = persistent(lambda: scene.client.samples.train(scene.bench.project, force=True))
    scene.until_serving()
    until(
        lambda: scene.client.samples.pool(scene.bench.project).active_job == wanted,
        60,
        "the sampler follows the job that it had asked for",
    )
    new = {job.name for job in scene.client.jobs.list(scene.bench.project)} - before
    assert new == {wanted}
    scene.client.jobs.cancel(wanted)
    assert scene.witness.finish(scene.client.jobs.get(wanted)).state is JobState.CANCELLED
    until(
        lambda: not scene.client.samples.pool(scene.bench.project).active_job,
        60,
        "the sampler knows that the training was cancelled",
    )


def _train_and_score(scene: Scene) -> None:
    before = {job.name for job in scene.scorings()}
    done = scene.witness.finish(scene.train())
    assert done.state is JobState.SUCCEEDED, done.error
    until(
        lambda: persistent(lambda: scene.client.samples.pool(scene.bench.project)).scored_model == done.model,
        120,
        "the new scores are in use",
    )
    (scoring,) = [job for job in scene.scorings() if job.name not in before]
    assert scoring.state is JobState.SUCCEEDED
    assert scene.client.volumes.layer(scoring.layers[0]).model == done.model


def _train(scene: Scene) -> None:
    done = scene.witness.finish(scene.train())
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 2), done.error
    models = [model for model in scene.client.models.list(scene.bench.project) if model.job == done.name]
    assert [model.name for model in models] == [done.model]
    model = scene.client.models.get(done.model)
    assert set(model.annotations) == {entry.annotation.name for entry in scene.witness.acknowledged}


def _predict(scene: Scene) -> None:
    done = scene.witness.finish(scene.predict())
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 2), done.error
    _compare_prediction(scene, done)


def _predict_with_another_worker(scene: Scene) -> None:
    """A worker of a prediction costs a block, and no attempt."""
    done = scene.witness.finish(scene.predict())
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 1), done.error
    _compare_prediction(scene, done)


def _compare_prediction(scene: Scene, done: Job) -> None:
    layers = [one for one in scene.client.volumes.layers(scene.bench.volume) if one.job == done.name]
    assert [one.name for one in layers] == list(done.layers)
    np.testing.assert_array_equal(scene.client.volumes.read(done.layers[0]), scene.reference)


def _commit_layer(scene: Scene) -> None:
    """The trainer is told that the datastore went away; whatever it makes of it, trying again gives the layer."""
    job = scene.predict()
    done = scene.witness.finish(job)
    if done.state is JobState.FAILED:
        assert done.error is not None
        assert done.error.reason == "SERVICE_UNAVAILABLE"
        scene.until_serving()
        done = scene.witness.finish(scene.client.jobs.retry(job.name))
    assert done.state is JobState.SUCCEEDED, done.error
    _compare_prediction(scene, done)


def _make_token(scene: Scene) -> None:
    made = persistent(lambda: scene.client.platform.create_token(display_name="spare"))
    scene.until_serving()
    assert made.name in {token.name for token in scene.client.platform.tokens()}
    with connect(scene.client.connection.address, token=made.secret) as other:
        assert other.platform.self().name == "users/admin"
        scene.client.platform.revoke_token(made.name)


def _list_jobs(scene: Scene) -> None:
    before = set(scene.witness.jobs)
    found = persistent(lambda: scene.client.jobs.list(scene.bench.project))
    assert before <= {job.name for job in found}


POINTS: dict[str, Callable[[Scene], None]] = {
    "datastore.annotation.block_written": _commit,
    "datastore.annotation.row_written": _commit,
    "datastore.projection.applied": _commit,
    "datastore.import.slab_written": _import,
    "datastore.import.before_row": _import,
    "datastore.export.before_row": _export,
    "datastore.layer.before_commit": _commit_layer,
    "datastore.layer.committed": _commit_layer,
    "datastore.job.before_finish": _import,
    "sampler.claim.before_commit": _claim,
    "sampler.claim.after_commit": _claim,
    "sampler.feed.applied": _commit,
    "sampler.training.requested": _ask_for_training,
    "sampler.scoring.requested": _train_and_score,
    "sampler.scores.switched": _train_and_score,
    "trainer.train.planned": _train,
    "trainer.train.before_register": _train,
    "trainer.predict.layers_made": _predict,
    "trainer.predict.before_commit": _predict,
    "trainer.job.before_finish": _train,
    "trainer.worker.began": _train,
    "trainer.checkpoint.before_write": _train,
    "trainer.checkpoint.after_write": _train,
    "trainer.worker.bundle_written": _train,
    "trainer.predict.block_written": _predict_with_another_worker,
    "gateway.call.before_forward": _commit,
    "gateway.call.before_answer": _commit,
    "gateway.audit.before_write": _commit,
    "gateway.audit.after_write": _commit,
    "gateway.token.row_written": _make_token,
    "gateway.jobs.gathered": _list_jobs,
}

WORKER_POINTS = {
    "trainer.worker.began",
    "trainer.checkpoint.before_write",
    "trainer.checkpoint.after_write",
    "trainer.worker.bundle_written",
    "trainer.predict.block_written",
}
"""Reached in a process of Ray; the trainer itself lives on."""


def in_turn() -> list[str]:
    """One point of each process after the other: one that dies again within a minute is started ever later."""
    rows = [
        [point for point in POINTS if point not in WORKER_POINTS and point.startswith(f"{service}.")]
        for service in SERVICES
    ]
    rounds = zip_longest(*rows, [point for point in POINTS if point in WORKER_POINTS])
    found = [point for each in rounds for point in each if point]
    assert sorted(found) == sorted(POINTS)
    return found


@pytest.mark.parametrize("point", in_turn())
def test_nothing_acknowledged_is_lost_when_a_process_dies_at(scene: Scene, point: str) -> None:
    scene.dying_at(point, lambda: POINTS[point](scene))
    scene.witness.compare()
    scene.witness.compare_jobs()
    scene.witness.compare_samples()
    scene.check_loop()


def test_every_service_dies_at_five_points_or_more() -> None:
    for service in SERVICES:
        assert sum(point.startswith(f"{service}.") for point in POINTS) >= 5
    assert len(WORKER_POINTS) == 5


def test_services_may_be_killed_at_any_time_while_several_people_annotate(scene: Scene) -> None:
    stop, failures = threading.Event(), []

    def annotate(client: Client) -> None:
        try:
            while not stop.is_set() and scene.witness.annotate_next(client) is not None:
                pass
        except BaseException as error:
            failures.append(error)

    people = [_annotator(scene, f"person-{number}") for number in range(3)]
    before = len(scene.witness.acknowledged)
    threads = [threading.Thread(target=annotate, args=(client,)) for client in people]
    for thread in threads:
        thread.start()
    chance = random.Random(20)
    for service in SERVICES:
        time.sleep(chance.uniform(0.5, 2.0))
        scene.platform.kill(service)
        scene.until_serving()
    stop.set()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert not failures, failures
    assert len(scene.witness.acknowledged) > before
    scene.witness.compare()
    scene.witness.compare_jobs()
    scene.witness.compare_samples()
    for client in people:
        client.close()


def _annotator(scene: Scene, user_id: str) -> Client:
    scene.client.platform.create_user(user_id)
    scene.client.projects.set_member(scene.bench.project, user_id, "annotator")
    token = scene.client.platform.create_token(user_id=user_id)
    return connect(scene.client.connection.address, token=token.secret)


def test_what_killed_imports_left_behind_is_removed(scene: Scene) -> None:
    known = {one.uri.rpartition("/")[2] for one in scene.client.volumes.list(scene.bench.project)}

    def kept() -> set[str]:
        return {name.split("/")[1] for name in scene.platform.objects() if name.startswith("volumes/")}

    until(lambda: kept() == known, 180, "only the voxels of volumes are kept")
