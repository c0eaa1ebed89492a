"""Annotated regions, and the training patches that are drawn from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biosegment.errors import InvalidArgument
from biosegment.volume import BACKGROUND, NOT_ANNOTATED, Region
from biosegment_trainer.learning.network import LabelClass, NetworkConfig
from biosegment_trainer.learning.normalisation import SliceStatistics, normalise
from biosegment_trainer.learning.resolution import downsample_labels, downsample_raw


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedRegion:
    """One annotation record with the image around it.

    Attributes:
        region_id: Names the record, for lineage and messages.
        volume_id: Where it lies; records of one volume may be neighbours.
        region: The annotated box, level-0 voxels of the volume.
        context: The box that `raw` covers; contains `region` and starts at a multiple of `factor` in y and x.
            A margin of half a training patch or more lets the network see the surroundings; in z, networks
            that look at several slices see the margin, others do not.
        raw: (z, y, x) of `context.shape`, any real dtype.
        labels: uint8 of `region.shape`: 0 not annotated, 1 none of the scope's classes, 2.. classes.
        scope: Class values that the annotator looked for.
        statistics: Of the whole slices that the context spans.
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
        if not self.context.contains(self.region):
            raise InvalidArgument("BAD_CONTEXT", f"{what}: context {self.context} must contain {self.region}")
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
        if self.labels.dtype != np.uint8 or len(self.statistics) != self.context.shape.z:
            raise InvalidArgument(
                "BAD_LABELS",
                f"{what}: labels must be uint8, with one statistic for each slice of the context",
            )
        odd = set(np.unique(self.labels).tolist()) - {NOT_ANNOTATED, BACKGROUND} - self.scope
        if odd:
            raise InvalidArgument(
                "UNKNOWN_CLASS",
                f"{what}: label values {sorted(odd)} are not in its scope {sorted(self.scope)}",
            )


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPart:
    """What patches are cut from, at working resolution: a slice with its neighbours for 2D networks, a whole
    region for 3D ones.

    Attributes:
        image: float32 (z, y, x), normalised.
        labels: uint8 (1, y, x) of the centre slice for a 2D network, else (z, y, x).
        scope: bool (1 + C,), whether the annotator looked for the class; the background always counts as
            looked for.
        annotated: Flat positions in `labels` of annotated voxels.
        foreground: By class that occurs, flat positions of its voxels.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    scope: NDArray[np.bool_]
    annotated: NDArray[np.int64]
    foreground: Mapping[int, NDArray[np.int64]]


def training_parts(
    regions: Sequence[AnnotatedRegion], classes: Sequence[LabelClass], network: NetworkConfig
) -> tuple[TrainingPart, ...]:
    """Parts with at least one annotated voxel; float32, held in memory."""
    return tuple(part for region in regions for part in _parts(region, classes, network))


def _parts(
    region: AnnotatedRegion, classes: Sequence[LabelClass], network: NetworkConfig
) -> Iterator[TrainingPart]:
    image = normalise(downsample_raw(region.raw, region.factor), region.statistics)
    full = np.zeros(region.context.shape, np.uint8)
    full[region.region.relative_to(region.context).slices] = region.labels
    labels = downsample_labels(full, region.factor)
    scope = np.array([True] + [c.value in region.scope for c in classes])
    values = [c.value for c in classes if c.value in region.scope]
    if network.spatial_dims == 3:
        pieces = [(image, labels)]
    else:
        count = network.input_slices
        # At the volume's border the network sees mirrored slices, in prediction as here.
        deep = np.pad(image, ((count // 2, count // 2), (0, 0), (0, 0)), mode="symmetric")
        pieces = [(deep[z : z + count], labels[z : z + 1]) for z in range(len(labels))]
    for raw, marks in pieces:
        known = np.flatnonzero(marks)
        if known.size:
            places = {value: np.flatnonzero(marks == value) for value in values}
            yield TrainingPart(raw, marks, scope, known, {v: p for v, p in places.items() if p.size})


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Training patches: images float32 (N, C, y, x) or (N, 1, z, y, x), labels uint8 (N, y, x) or (N, z, y,
    x), scope bool (N, 1 + C).
    """

    images: Tensor
    labels: Tensor
    scope: Tensor


class PatchSampler:
    """Draws patches around annotated voxels, a set share of them around foreground.

    A part weighs as much as the square root of its annotated voxels, so that one large annotation does not
    drown the small ones that active learning asked for. Foreground patches take the classes in turn by chance,
    however rare they are: a class with a thousandth of the voxels is in as many patches as any other.

    Args:
        parts: Where patches come from.
        patch: Their shape, (y, x) for 2D networks, however many slices they see, else (z, y, x).
        foreground_share: Share of patches around a class.
    """

    def __init__(
        self, parts: Sequence[TrainingPart], patch: tuple[int, ...], foreground_share: float
    ) -> None:
        if not parts:
            raise InvalidArgument(
                "NO_ANNOTATIONS", "no annotated pixel to train on; annotate at least one region"
            )
        self._parts = tuple(parts)
        self._planar = len(patch) == 2
        self._patch = (1,) * self._planar + patch
        self._share = foreground_share
        self._weights = _normalised([len(p.annotated) for p in self._parts])
        self._holders: list[tuple[int, list[int], NDArray[np.float64]]] = []
        for value in sorted({value for part in self._parts for value in part.foreground}):
            holders = [i for i, part in enumerate(self._parts) if value in part.foreground]
            weights = _normalised([len(self._parts[i].annotated) for i in holders])
            self._holders.append((value, holders, weights))

    def draw(self, count: int, rng: np.random.Generator) -> Batch:
        """`count` patches; the same generator state gives the same patches."""
        triples = [self._one(rng) for _ in range(count)]
        images = torch.from_numpy(np.stack([t[0] for t in triples]))
        labels = torch.from_numpy(np.stack([t[1] for t in triples]))
        scope = torch.from_numpy(np.stack([t[2] for t in triples]))
        if self._planar:
            return Batch(images, labels.squeeze(1), scope)
        return Batch(images.unsqueeze(1), labels, scope)

    def _one(
        self, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
        if self._holders and rng.random() < self._share:
            value, holders, weights = self._holders[int(rng.integers(len(self._holders)))]
            chosen = self._parts[holders[int(rng.choice(len(holders), p=weights))]]
            places = chosen.foreground[value]
        else:
            chosen = self._parts[int(rng.choice(len(self._parts), p=self._weights))]
            places = chosen.annotated
        centre = np.unravel_index(int(places[int(rng.integers(len(places)))]), chosen.labels.shape)
        windows = []
        for place, length, size in zip(centre, self._patch, chosen.labels.shape, strict=True):
            jitter = length // 4
            windows.append(_window(int(place) + int(rng.integers(-jitter, jitter + 1)), length, size))
        depth, rows, columns = windows
        # A 2D network's labels are one slice, of which it sees all neighbours.
        image = chosen.image[slice(None) if self._planar else depth, rows, columns]
        labels = chosen.labels[depth, rows, columns]
        short = [(0, max(0, length - n)) for length, n in zip(self._patch, labels.shape, strict=True)]
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
