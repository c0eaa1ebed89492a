"""A tiny volume with ground truth, and an annotator who answers from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tifffile
from numpy.typing import NDArray

from biosegment.client import Client
from biosegment.client.resources import Annotation, Claim, Job, Sample
from biosegment.errors import Unavailable
from biosegment.synthetic import generate
from biosegment.volume import BACKGROUND, FIRST_CLASS, Region, VoxelSize
from tests.system.platform import until

Labels = NDArray[np.uint8]
T = TypeVar("T")

VOXEL_SIZE = VoxelSize(12.0, 8.0, 8.0)
WORKING_RESOLUTION_NM = 8.0
SAMPLE_SHAPE = (1, 32, 32)
QUICK = {"patch_size": 32, "batch_size": 4, "learning_rate": 5e-3, "ema_decay": 0.5}
"""Options of a training that takes a second."""
TRAIN_LIMIT_S = 240.0


@dataclass(frozen=True, slots=True)
class Tissue:
    """A file with grey values, and what is in it.

    Attributes:
        path: TIFF stack without a voxel size.
        raw: (z, y, x) uint8.
        truth: (z, y, x) bool.
    """

    path: Path
    raw: Labels
    truth: NDArray[np.bool_]

    def labels(self, region: Region) -> Labels:
        """What an annotator who knows the truth answers."""
        return np.where(self.truth[region.slices], FIRST_CLASS, BACKGROUND).astype(np.uint8)


def write_tissue(folder: Path, shape: tuple[int, int, int] = (16, 128, 128), seed: int = 2) -> Tissue:
    """Write a synthetic volume into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    raw, mask = generate(shape, seed)
    path = folder / f"tissue-{seed}.tif"
    tifffile.imwrite(path, raw, compression="zlib", photometric="minisblack")
    return Tissue(path, raw, mask > 0)


@dataclass(frozen=True, slots=True)
class Bench:
    """A project with one volume on a running platform.

    Attributes:
        client: Its owner.
        tissue: What was imported.
        project: Name.
        volume: Name.
    """

    client: Client
    tissue: Tissue
    project: str
    volume: str

    def annotate(self, sample: Sample, request_id: str = "") -> Annotation:
        """Answer a sample from the truth."""
        return self.client.annotations.commit(
            self.tissue.labels(sample.region), sample=sample, request_id=request_id
        )

    def annotate_next(self, count: int) -> list[Annotation]:
        """Claim samples and answer them."""
        return [self.annotate(sample) for sample in self.client.samples.claim(self.project, count).samples]

    def claim(self, count: int, is_new: Callable[[Claim], bool]) -> Claim:
        """Claim what newer scores propose: for a moment after they were taken into use, the older proposals answer."""
        found: list[Claim] = []

        def by_newer_scores() -> bool:
            found[:] = [self.client.samples.claim(self.project, count)]
            if is_new(found[0]):
                return True
            for sample in found[0].samples:
                self.client.samples.release(sample.name)
            return False

        until(by_newer_scores, 60, "proposals by the newer scores")
        return found[0]

    def train(self, steps: int = 4, **options: Any) -> Job:
        """Train on everything; returns the job that has succeeded."""
        made = self.client.jobs.train(self.project, max_steps=steps, options={**QUICK, **options})
        return self.client.jobs.wait(made.name)

    def until_scored(self, model: str) -> None:
        """Wait until the sampler ranks its pool by that model."""
        known = self.client.samples.pool(self.project).failure

        def scored() -> bool:
            pool = self.client.samples.pool(self.project)
            assert pool.failure in ("", known), pool.failure
            return pool.scored_model == model

        until(scored, TRAIN_LIMIT_S, f"scores of {model} are in use")


def set_up(client: Client, tissue: Tissue, project_id: str, sample_shape: tuple[int, int, int]) -> Bench:
    """Make a project, import the volume and set up a pool that trains only when asked to."""
    project = client.projects.create(
        project_id, classes=["mitochondria"], working_resolution_nm=WORKING_RESOLUTION_NM
    )
    job = client.jobs.import_volume(project.name, str(tissue.path), volume_id="tissue", voxel_size=VOXEL_SIZE)
    volume = client.jobs.wait(job.name).volume
    client.samples.configure(
        project.name,
        volumes=[volume],
        sample_shape=sample_shape,
        manual_training=True,
        slice_distance=1,
        seed=1,
    )
    return Bench(client, tissue, project.name, volume)


def composed(shape: tuple[int, int, int], made: list[tuple[Annotation, Labels]]) -> Labels:
    """The annotations layer that these annotations make, in the order of their sequence numbers."""
    layer = np.zeros(shape, np.uint8)
    for annotation, labels in sorted(made, key=lambda item: item[0].sequence):
        part = layer[annotation.region.slices]
        np.copyto(part, labels, where=labels != 0)
    return layer


def persistent(call: Callable[[], T], timeout_s: float = 90.0) -> T:
    """Repeat a call while the platform is away, as a patient client does."""
    result: list[T] = []

    def answered() -> bool:
        try:
            result.append(call())
        except Unavailable:
            return False
        return True

    until(answered, timeout_s, "the call is answered")
    return result[0]
