"""Annotated regions, and the training patches that are drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biosegment.errors import InvalidArgument
from biosegment.volume import BACKGROUND, NOT_ANNOTATED, Region
from biosegment_trainer.learning.network import LabelClass
from biosegment_trainer.learning.normalisation import SliceStatistics, normalise
from biosegment_trainer.learning.resolution import downsample_labels, downsample_raw


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedRegion:
    """One annotation record with the image around it.

    Attributes:
        region_id: Names the record, for lineage and messages.
        volume_id: Where it lies; records of one volume may be neighbours.
        region: The annotated box, level-0 voxels of the volume.
        context: The box that `raw` covers; contains `region`, spans the same slices, and starts at a
            multiple of `factor` in y and x. A margin of half a training patch or more lets the network see
            the surroundings.
        raw: (z, y, x) of `context.shape`, any real dtype.
        labels: uint8 of `region.shape`: 0 not annotated, 1 none of the scope's classes, 2.. classes.
        scope: Class values that the annotator looked for.
        statistics: Of the whole slices that the region spans.
        factor: Level-0 voxels per working pixel in y and x.
        seen_by_parent: The parent model was trained on it; it can no longer validate a child.
    """

    region_id: str
    volume_id: str
    region: Region
    context: Region
    raw: NDArray[np.generic]
    labels: NDArray[np.uint8]
    scope: frozenset[int]
    statistics: SliceStatistics
    factor: int = 1
    seen_by_parent: bool = False

    def __post_init__(self) -> None:
        what = f"annotation {self.region_id}"
        same_slices = (self.region.start.z, self.region.stop.z) == (self.context.start.z, self.context.stop.z)
        if not self.context.contains(self.region) or not same_slices:
            raise InvalidArgument(
                "BAD_CONTEXT",
                f"{what}: context {self.context} must contain {self.region} and span its slices",
            )
        if self.factor < 1 or self.context.start.y % self.factor or self.context.start.x % self.factor:
            raise InvalidArgument(
                "BAD_CONTEXT",
                f"{what}: context {self.context} must start at a multiple of factor {self.factor}",
            )
        if self.raw.shape != tuple(self.context.shape) or self.labels.shape != tuple(self.region.shape):
            raise InvalidArgument(
                "BAD_SHAPE",
                f"{what}: raw {self.raw.shape} and labels {self.labels.shape} must fill their boxes",
            )
        if self.labels.dtype != np.uint8 or len(self.statistics) != self.region.shape.z:
            raise InvalidArgument(
                "BAD_LABELS", f"{what}: labels must be uint8 with one statistic for each slice"
            )
        odd = set(np.unique(self.labels).tolist()) - {NOT_ANNOTATED, BACKGROUND} - self.scope
        if odd:
            raise InvalidArgument(
                "UNKNOWN_CLASS",
                f"{what}: label values {sorted(odd)} are not in its scope {sorted(self.scope)}",
            )


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSlice:
    """One slice of an annotation at working resolution: float32 image and uint8 labels, both (y, x)."""

    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    scope: NDArray[np.bool_]
    annotated: NDArray[np.int64]
    """Flat positions of annotated pixels."""
    foreground: tuple[NDArray[np.int64], ...]
    """Flat positions of the pixels of each class that occurs."""


def training_slices(
    regions: Sequence[AnnotatedRegion], classes: Sequence[LabelClass]
) -> tuple[TrainingSlice, ...]:
    """Slices with at least one annotated pixel, normalised and at working resolution; float32, held in
    memory.
    """
    found: list[TrainingSlice] = []
    for region in regions:
        image = normalise(downsample_raw(region.raw, region.factor), region.statistics)
        full = np.zeros(region.context.shape, np.uint8)
        full[region.region.relative_to(region.context).slices] = region.labels
        labels = downsample_labels(full, region.factor)
        scope = np.array([True] + [c.value in region.scope for c in classes])
        for plane, marks in zip(image, labels, strict=True):
            known = np.flatnonzero(marks)
            if known.size:
                places = (np.flatnonzero(marks == c.value) for c in classes)
                found.append(TrainingSlice(plane, marks, scope, known, tuple(p for p in places if p.size)))
    return tuple(found)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Training patches: images float32 (N, 1, y, x), labels uint8 (N, y, x), scope bool (N, 1 + C)."""

    images: Tensor
    labels: Tensor
    scope: Tensor


class PatchSampler:
    """Draws square patches around annotated pixels, a set share of them around foreground.

    A slice weighs as much as the square root of its annotated pixels, so that one large annotation does not
    drown the small ones that active learning asked for.
    """

    def __init__(self, slices: Sequence[TrainingSlice], patch: int, foreground_share: float) -> None:
        if not slices:
            raise InvalidArgument(
                "NO_ANNOTATIONS", "no annotated pixel to train on; annotate at least one region"
            )
        self._slices = tuple(slices)
        self._patch = patch
        self._share = foreground_share
        self._weights = _normalised([len(s.annotated) for s in self._slices])
        self._with_foreground = [i for i, s in enumerate(self._slices) if s.foreground]
        self._foreground_weights = _normalised(
            [len(self._slices[i].annotated) for i in self._with_foreground]
        )

    def draw(self, count: int, rng: np.random.Generator) -> Batch:
        """`count` patches; the same generator state gives the same patches."""
        triples = [self._one(rng) for _ in range(count)]
        return Batch(
            torch.from_numpy(np.stack([t[0] for t in triples])).unsqueeze(1),
            torch.from_numpy(np.stack([t[1] for t in triples])),
            torch.from_numpy(np.stack([t[2] for t in triples])),
        )

    def _one(
        self, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
        if self._with_foreground and rng.random() < self._share:
            chosen = self._slices[
                self._with_foreground[rng.choice(len(self._with_foreground), p=self._foreground_weights)]
            ]
            places = chosen.foreground[int(rng.integers(len(chosen.foreground)))]
        else:
            chosen = self._slices[int(rng.choice(len(self._slices), p=self._weights))]
            places = chosen.annotated
        y, x = divmod(int(places[int(rng.integers(len(places)))]), chosen.image.shape[1])
        jitter = self._patch // 4
        centre = (y + int(rng.integers(-jitter, jitter + 1)), x + int(rng.integers(-jitter, jitter + 1)))
        rows = _window(centre[0], self._patch, chosen.image.shape[0])
        columns = _window(centre[1], self._patch, chosen.image.shape[1])
        image, labels = chosen.image[rows, columns], chosen.labels[rows, columns]
        short = [(0, self._patch - n) for n in image.shape]
        if any(after for _, after in short):
            # A context smaller than the patch: mirror the image, claim nothing about the mirrored part.
            image, labels = np.pad(image, short, mode="symmetric"), np.pad(labels, short)
        return image, labels, chosen.scope


def _normalised(sizes: Sequence[int]) -> NDArray[np.float64]:
    weights = np.sqrt(np.asarray(sizes, np.float64))
    return weights / weights.sum() if weights.size else weights


def _window(centre: int, length: int, size: int) -> slice:
    start = min(max(centre - length // 2, 0), max(size - length, 0))
    return slice(start, min(start + length, size))
