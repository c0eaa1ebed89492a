"""People who go on working with the SDK while the gateway is killed: what they did is compared with what there is.

No call is repeated here: whatever the SDK does not mend by itself is a failure.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from biosegment.client import Client
from biosegment.client.resources import Annotation, JobState, Sample
from biosegment.volume import Index, Region, VoxelSize

READ = (16, 256, 256)
"""Voxels of a region that is read: several messages."""
FILE = (24, 512, 512)
"""Voxels of a file that is sent: 6 MB that do not compress."""


@dataclass(frozen=True, slots=True)
class Commit:
    """An annotation that was acknowledged, and what was sent."""

    annotation: Annotation
    sample: Sample
    labels: NDArray[np.uint8]


@dataclass
class Crowd:
    """Threads with a client each; `start`, then `stop`, then `mistakes`.

    Attributes:
        connect: Makes a client.
        project: Name; its pool takes samples of the volume alone.
        volume: Name.
        raw: Its voxels (z, y, x), uint8.
        folder: For files that are sent.
        commits: What was acknowledged.
        imported: Volumes made of files that were sent.
        counts: Finished calls.
        slowest_s: The longest call of each kind.
        failures: Errors that reached a user of the SDK.
    """

    connect: Callable[[], Client]
    project: str
    volume: str
    raw: NDArray[np.uint8]
    folder: Path
    commits: list[Commit] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    slowest_s: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, annotators: int = 3, readers: int = 2) -> None:
        """Begin to work: annotators, readers, somebody who sends files and follows their imports."""
        works = [self._annotate] * annotators + [self._read] * readers + [self._send]
        self._threads = [
            threading.Thread(target=self._work, args=(work, number)) for number, work in enumerate(works)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 180.0) -> None:
        """Let everybody finish what they are at."""
        self._stopping.set()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.failures.append(f"{thread.name} hangs")

    def mistakes(self, client: Client) -> list[str]:
        """What there is that nobody was told of, and what is not there that somebody was."""
        found = list(self.failures)
        made = Counter(one.name for one in client.annotations.list(self.project))
        told = Counter(commit.annotation.name for commit in self.commits)
        found += [f"{name} is there {made[name]} times" for name in told if made[name] != 1]
        found += [f"{name} was acknowledged to nobody" for name in made if name not in told]
        found += _shared([commit.sample for commit in self.commits])
        layer = client.volumes.read(f"{self.volume}/layers/annotations")
        expected = np.zeros_like(layer)
        for commit in self.commits:
            expected[commit.sample.region.slices] = commit.labels
        if not np.array_equal(layer, expected):
            found.append(f"the layer differs in {np.count_nonzero(layer != expected)} voxels")
        volumes = {one.name for one in client.volumes.list(self.project)} - {self.volume}
        found += [f"volume {name}" for name in volumes ^ set(self.imported)]
        imports = [job for job in client.jobs.list(self.project) if job.volume in volumes]
        if len(imports) != len(self.imported):
            found.append(f"{len(imports)} imports for {len(self.imported)} files")
        return found

    def _work(self, work: Callable[[Client, int], None], number: int) -> None:
        client = self.connect()
        try:
            while not self._stopping.is_set():
                work(client, number)
        except Exception as error:
            self.failures.append(f"{work.__name__.strip('_')}: {type(error).__name__}: {error}")
        finally:
            client.close()

    def _timed(self, what: str, began: float) -> None:
        seconds = time.monotonic() - began
        with self._lock:
            self.counts[what] += 1
            self.slowest_s[what] = max(self.slowest_s.get(what, 0.0), seconds)

    def _annotate(self, client: Client, number: int) -> None:
        began = time.monotonic()
        claim = client.samples.claim(self.project, session=f"window-{number}")
        self._timed("claim", began)
        for sample in claim.samples:
            labels = np.full(sample.region.shape, 1 + (len(self.commits) + number) % 2, np.uint8)
            began = time.monotonic()
            annotation = client.annotations.commit(labels, sample=sample)
            self._timed("commit", began)
            with self._lock:
                self.commits.append(Commit(annotation, sample, labels))
        if not claim.samples:
            self._stopping.wait(0.5)

    def _read(self, client: Client, number: int) -> None:
        random = np.random.default_rng((number, self.counts["read"]))
        shape = Index(*(min(edge, size) for edge, size in zip(READ, self.raw.shape, strict=True)))
        start = Index(
            *(
                int(random.integers(0, size - edge + 1))
                for size, edge in zip(self.raw.shape, shape, strict=True)
            )
        )
        region = Region.of_shape(shape, start)
        began = time.monotonic()
        voxels = client.volumes.read(self.volume, region)
        self._timed("read", began)
        if not np.array_equal(voxels, self.raw[region.slices]):
            self.failures.append(f"{region} is not what was imported")

    def _send(self, client: Client, number: int) -> None:
        """A file, an import, and how it goes on, to the end."""
        index = len(self.imported)
        voxels = np.random.default_rng(index).integers(0, 256, FILE, np.uint8)
        path = self.folder / f"sent-{index}.tif"
        tifffile.imwrite(path, voxels, photometric="minisblack")
        began = time.monotonic()
        upload = client.volumes.upload(self.project, path)
        self._timed("upload", began)
        began = time.monotonic()
        job = client.jobs.import_volume(
            self.project, upload=upload, volume_id=f"sent-{index}", voxel_size=VoxelSize(30, 10, 10)
        )
        done = client.jobs.wait(job.name)
        self._timed("import, followed to its end", began)
        if done.state is not JobState.SUCCEEDED:
            self.failures.append(f"{job.name} ended {done.state}")
        self.imported.append(done.volume)
        if not np.array_equal(client.volumes.read(done.volume), voxels):
            self.failures.append(f"{done.volume} is not the file that was sent")


def _shared(samples: Sequence[Sample]) -> list[str]:
    """What was given out twice, as a whole or a part of it."""
    seen: dict[tuple[str, int], list[Sample]] = {}
    found = []
    for sample in samples:
        others = seen.setdefault((sample.volume, sample.region.start.z), [])
        found += [
            f"{sample.name} {sample.region} was given out after {other.name} {other.region}"
            for other in others
            if other.region.overlaps(sample.region)
        ]
        others.append(sample)
    return found
