"""A client that writes down everything that the platform acknowledged, to compare afterwards."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from biosegment.client import Client
from biosegment.client.resources import Annotation, Job, Sample
from biosegment.volume import Region
from tests.system.platform import until
from tests.system.tissue import Bench, Labels, composed, persistent


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An annotation that the platform said it has, and what was sent."""

    annotation: Annotation
    labels: Labels
    sample: Sample
    request_id: str


@dataclass(slots=True)
class Witness:
    """Annotates, and remembers what was acknowledged.

    Attributes:
        bench: The project.
        acknowledged: In the order of the answers.
        jobs: Names of jobs that were acknowledged.
    """

    bench: Bench
    acknowledged: list[Acknowledged] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def annotate_next(self, client: Client | None = None) -> Acknowledged | None:
        """Claim a sample and answer it, however often the platform goes away meanwhile."""
        client = client or self.bench.client
        samples = persistent(lambda: client.samples.claim(self.bench.project, 1)).samples
        return self.annotate(samples[0], client) if samples else None

    def annotate(self, sample: Sample, client: Client | None = None) -> Acknowledged:
        """Answer a sample; every try carries the same request id."""
        client = client or self.bench.client
        labels, request_id = self.bench.tissue.labels(sample.region), str(uuid.uuid4())
        made = persistent(
            lambda: client.annotations.commit(labels, sample=sample, request_id=request_id), 120
        )
        entry = Acknowledged(made, labels, sample, request_id)
        with self._lock:
            self.acknowledged.append(entry)
        return entry

    def commit_again(self, entry: Acknowledged) -> Annotation:
        """The same request once more."""
        return persistent(
            lambda: self.bench.client.annotations.commit(
                entry.labels, sample=entry.sample, request_id=entry.request_id
            )
        )

    def finish(self, job: Job) -> Job:
        """Follow a job to its end."""
        self.jobs.append(job.name)
        until(lambda: self._job(job.name).state.ended, 240, f"{job.kind} job {job.name} has ended")
        return self._job(job.name)

    def _job(self, name: str) -> Job:
        return persistent(lambda: self.bench.client.jobs.get(name))

    def compare(self) -> None:
        """Everything acknowledged is there, exactly once, exactly as it was sent; nothing else is."""
        client, bench = self.bench.client, self.bench
        found = persistent(lambda: client.annotations.list(bench.project))
        assert Counter(one.name for one in found) == Counter(
            {entry.annotation.name: 1 for entry in self.acknowledged}
        )
        by_name = {one.name: one for one in found}
        for entry in self.acknowledged:
            kept = by_name[entry.annotation.name]
            assert (kept.region, kept.sample) == (entry.sample.region, entry.sample.name)
            np.testing.assert_array_equal(client.annotations.labels(kept.name), entry.labels)
        layer = persistent(lambda: client.volumes.read(f"{bench.volume}/layers/annotations"))
        made = [(entry.annotation, entry.labels) for entry in self.acknowledged]
        expected = composed(bench.tissue.raw.shape, made)
        wrong = [
            (entry.annotation.sequence, str(entry.sample.region))
            for entry in self.acknowledged
            if (layer != expected)[entry.sample.region.slices].any()
        ]
        assert not wrong, f"the layer differs at {wrong} of {[(a.sequence, str(a.region)) for a, _ in made]}"
        np.testing.assert_array_equal(layer, expected)

    def compare_jobs(self) -> None:
        """No acknowledged job is lost, and none stays running."""
        client = self.bench.client

        # Only those of the test: the sampler may begin another one of its own at any time.
        def all_ended() -> bool:
            states = {job.name: job.state for job in persistent(lambda: client.jobs.list(self.bench.project))}
            assert set(self.jobs) <= set(states)
            return all(states[name].ended for name in self.jobs)

        until(all_ended, 240, "every job has ended")

    def compare_samples(self) -> None:
        """The sampler knows of every annotation, and nobody was given what somebody else had."""
        client, project = self.bench.client, self.bench.project
        expected = len(self.acknowledged)
        until(
            lambda: persistent(lambda: client.samples.progress(project)).annotations == expected,
            60,
            f"the sampler has learned of {expected} annotations",
        )
        annotated = {one.name: one.annotation for one in client.samples.list(project, state="annotated")}
        assert annotated == {entry.sample.name: entry.annotation.name for entry in self.acknowledged}
        assert_disjoint([entry.sample.region for entry in self.acknowledged])
        held = client.samples.list(project, state="leased")
        assert_disjoint([one.region for one in held])


def assert_disjoint(regions: list[Region]) -> None:
    """No two of them share a voxel."""
    for number, region in enumerate(regions):
        for other in regions[:number]:
            assert not region.overlaps(other), f"{region} and {other}"
