"""A platform in use whose backups are made: what the tests of backups tell of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from biosegment import connect
from biosegment.client import Client
from biosegment.client.resources import Annotation, JobState
from biosegment.volume import Region
from tests.system.estate import Wire, seen
from tests.system.platform import Platform, running, until
from tests.system.tissue import QUICK, TRAIN_LIMIT_S, Bench, Labels, set_up, write_tissue

SAMPLE_SHAPE = (1, 32, 32)


@dataclass(slots=True)
class Story:
    """A platform in use, and its backups.

    Attributes:
        target: Where the backups are.
        people: Clients of members who annotate and review.
        tokens: Secrets by user; `revoked` is one that was revoked.
        answers: Labels of every acknowledged annotation, by name.
        acknowledged: Names that were acknowledged before the first backup began.
        running_job: A training that was running when the first backup was made.
        records: The whole history, at the end.
        audit: All events, at the end.
        state: What the SDK saw when the second backup was made.
        predicted: Name of the labels layer.
        made: What the backups printed.
    """

    platform: Platform
    bench: Bench
    target: Path
    people: dict[str, Client] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Labels] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    running_job: str = ""
    records: list[bytes] = field(default_factory=list)
    audit: list[bytes] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    predicted: str = ""
    made: list[dict[str, Any]] = field(default_factory=list)


def command(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `biosegment` with arguments."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BIOSEGMENT_")}
    return subprocess.run(
        [sys.executable, "-m", "biosegment.cli", *map(str, arguments)],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def succeeded(*arguments: str | Path, **environment: str) -> Any:
    """What a command that must succeed prints as JSON."""
    done = command(*arguments, "--json", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def slowed(process: psutil.Process) -> Iterator[None]:
    """Let a process work a fortieth of the time: it goes on, and outlasts what is done meanwhile."""
    stop = threading.Event()

    def run() -> None:
        with suppress(psutil.NoSuchProcess):  # that it has ended is for the test to say
            while not stop.wait(0.05):
                process.suspend()
                stop.wait(1.95)
                process.resume()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def training_worker(platform: Platform) -> psutil.Process:
    """The process that trains."""
    [found] = [process for process in platform.processes() if _name(process).startswith("ray::run")]
    return found


def _name(process: psutil.Process) -> str:
    """Empty of one that has ended meanwhile."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


class Annotators:
    """Threads that commit, review and revert, all the time but for pauses: everything is read again in the end."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._stop = threading.Event()
        self.failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(person, number))
            for number, person in enumerate(story.people.values())
        ]

    def __enter__(self) -> Annotators:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert not self.failures

    def _run(self, person: Client, seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            while not self._stop.is_set():
                mine = [commit(self._story, person, rng) for _ in range(3)]
                person.annotations.review(mine[0].name, accepted=True, comment="good")
                person.annotations.revert(mine[1].name)
                self._stop.wait(0.1)
        except BaseException as error:
            self.failures.append(error)

    def until_more(self, count: int) -> None:
        wanted = len(self._story.answers) + count
        until(
            lambda: bool(self.failures) or len(self._story.answers) >= wanted, 60, f"{count} more annotations"
        )
        assert not self.failures


def commit(story: Story, person: Client, rng: np.random.Generator) -> Annotation:
    z, y, x = (
        int(rng.integers(0, size - edge))
        for size, edge in zip(story.bench.tissue.raw.shape, (1, 24, 24), strict=True)
    )
    region = Region((z, y, x), (z + 1, y + 24, x + 24))
    labels = rng.integers(0, 3, region.shape, np.uint8)
    made = person.annotations.commit(labels, volume=story.bench.volume, region=region, comment="fire")
    story.answers[made.name] = labels
    return made


@contextmanager
def told(folder: Path) -> Iterator[Story]:
    """A round of the loop and a prediction, a backup in the middle of work, and another one in a quiet moment."""
    tissue = write_tissue(folder / "in", (8, 96, 96))
    with running(folder, import_root=folder / "in") as platform, platform.connect() as client:
        story = Story(platform, set_up(client, tissue, "em", SAMPLE_SHAPE), folder / "backups")
        try:
            _people(story)
            _round(story)
            _backup_under_fire(story)
            _backup_in_peace(story)
            yield story
        finally:
            for person in story.people.values():
                person.close()


def _people(story: Story) -> None:
    client = story.bench.client
    for user in ("ada", "bob", "cem"):
        client.platform.create_user(user, display_name=user.title())
        client.projects.set_member(story.bench.project, user, "reviewer")
        story.tokens[user] = client.platform.create_token(user_id=user).secret
        story.people[user] = connect(client.connection.address, token=story.tokens[user])
    revoked = client.platform.create_token(user_id="ada")
    client.platform.revoke_token(revoked.name)
    story.tokens |= {"revoked": revoked.secret, "admin": client.connection.token}


def _round(story: Story) -> None:
    client, bench = story.bench.client, story.bench
    for sample in client.samples.claim(bench.project, 4).samples:
        story.answers[bench.annotate(sample).name] = bench.tissue.labels(sample.region)
    model = bench.train(steps=6).model
    bench.until_scored(model)
    story.predicted = client.jobs.wait(client.jobs.predict(bench.volume).name).layers[0]
    client.jobs.wait(client.jobs.export(bench.volume, segmentation=True).name)
    client.volumes.write_layer(bench.volume, bench.tissue.raw % 3, display_name="by hand")
    held, skipped, _ = client.samples.claim(bench.project, 3).samples
    assert held.holder
    client.samples.skip(skipped.name, "blurred")
    labels = bench.tissue.labels(held.region)
    draft = client.annotations.save_draft(f"{bench.volume}/drafts/half", labels, region=held.region)
    # Saved once more, so that the first one's object is garbage.
    client.annotations.save_draft(
        draft.name, 3 - labels, region=held.region, comment="go on", etag=draft.etag
    )


def _backup_under_fire(story: Story) -> None:
    client, bench = story.bench.client, story.bench
    training = client.jobs.train(bench.project, max_steps=400, options={**QUICK, "checkpoint_steps": 5})
    until(lambda: client.jobs.get(training.name).done > 0, TRAIN_LIMIT_S, "the training makes steps")
    story.running_job = training.name
    with slowed(training_worker(story.platform)), Annotators(story) as annotators:
        annotators.until_more(20)
        story.acknowledged = set(story.answers)
        story.made.append(succeeded("backup", story.target, "--data", story.platform.data_dir))
        annotators.until_more(5)
        assert client.jobs.get(training.name).state is JobState.RUNNING


def _backup_in_peace(story: Story) -> None:
    client, bench = story.bench.client, story.bench
    assert client.jobs.wait(story.running_job).state is JobState.SUCCEEDED
    bench.until_scored(client.models.list(bench.project)[0].name)
    story.state = seen(client, bench.project)
    assert [draft.comment for draft in story.state["drafts"]] == ["go on"]
    with Wire(client.connection) as wire:
        story.records = wire.records(bench.project)
        until(lambda: len(wire.audit()) == len(wire.audit()), 10, "the audit is written")
        story.audit = wire.audit()
    story.made.append(succeeded("backup", "--data", story.platform.data_dir, story.target))
