"""Tiles of annotated parts on which a model is compared with the annotation, as many as may be computed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biosegment_trainer.learning.dataset import TrainingPart
from biosegment_trainer.learning.metrics import Confusion
from biosegment_trainer.learning.network import LabelClass, NetworkConfig, NetworkModel
from biosegment_trainer.learning.optimisation import Run

_TILE = {2: (1, 256, 256), 3: (16, 96, 96)}
"""Working voxels of a tile that count, by number of the network's axes; it sees a halo around them."""


@dataclass(frozen=True, slots=True)
class _Span:
    """One tile along one axis: `core` and `window` in the part, `inner` is the core in the window, which is
    mirrored by `fill` voxels at its end to a multiple of the network's stride.
    """

    core: slice
    window: slice
    inner: slice
    fill: int

    @property
    def length(self) -> int:
        return int(self.window.stop - self.window.start) + self.fill


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedTile:
    """A window of a held-out part, cut out when it is needed: windows overlap, and may be many.

    Attributes:
        part: What it is of.
        axes: Where, along z, y and x; a 2D network sees all slices of the part and is asked about the only one
            with labels.
        planar: Whether the network is 2D.
    """

    part: TrainingPart
    axes: tuple[_Span, _Span, _Span]
    planar: bool

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Of the core: uint8 (z, y, x)."""
        return self.part.labels[tuple(axis.core for axis in self.axes)]

    @property
    def voxels(self) -> int:
        """Working voxels that are computed."""
        deep, *wide = (axis.length for axis in self.axes)
        return int(np.prod(wide)) * (1 if self.planar else deep)

    @property
    def core(self) -> tuple[slice, ...]:
        """Where the labels lie in the window."""
        return tuple(axis.inner for axis in self.axes[self.planar :])

    def looked_for(self, classes: Sequence[LabelClass]) -> frozenset[int]:
        """Values of the classes, those that the part was made for, that its annotator looked for."""
        return frozenset(c.value for c, inside in zip(classes, self.part.scope[1:], strict=True) if inside)

    def batch(self) -> Tensor:
        """The window as a batch of one."""
        windows = [axis.window for axis in self.axes]
        after = [(0, axis.fill) for axis in self.axes]
        if self.planar:
            windows[0], after[0] = slice(None), (0, 0)
        image = torch.from_numpy(np.pad(self.part.image[tuple(windows)], after, mode="symmetric"))
        return image[None] if self.planar else image[None, None]


def tiles_of(part: TrainingPart, network: NetworkConfig) -> Iterator[AnnotatedTile]:
    """All of a part that are annotated somewhere; their cores do not overlap."""
    places = np.nonzero(part.labels)
    spans = []
    for axis, (found, size) in enumerate(zip(places, part.labels.shape, strict=True)):
        edge, stride, halo = _TILE[network.spatial_dims][axis], network.stride[axis], network.halo[axis]
        first, last = int(found.min()), int(found.max()) + 1
        spans.append([_span(at, min(at + edge, last), size, stride, halo) for at in range(first, last, edge)])
    for depth, rows, columns in itertools.product(*spans):
        tile = AnnotatedTile(part, (depth, rows, columns), network.spatial_dims == 2)
        if tile.labels.any():
            yield tile


def _span(start: int, stop: int, size: int, stride: int, halo: int) -> _Span:
    first = max(0, start - halo) // stride * stride
    last = min(size, -(-(stop + halo) // stride) * stride)
    return _Span(
        slice(start, stop), slice(first, last), slice(start - first, stop - first), (first - last) % stride
    )


def spread(tiles: Sequence[AnnotatedTile], max_voxels: int) -> list[AnnotatedTile]:
    """All tiles, or as many of them, at even distances, as cost `max_voxels` working voxels; at least one of any."""
    cost = sum(tile.voxels for tile in tiles)
    if cost <= max_voxels:
        return list(tiles)
    kept = max(1, int(len(tiles) * max_voxels / cost))
    return [tiles[i] for i in np.linspace(0, len(tiles) - 1, kept).round().astype(int)]


def count(run: Run, tile: AnnotatedTile, confusion: Confusion) -> None:
    """Compare the averaged weights of a run with one tile's annotation, in the classes that were looked for."""
    values = np.array(NetworkModel(run.network, run.classes, {}).label_values, np.uint8)
    with torch.inference_mode():
        logits = run.forward(run.teacher, run.to_device(tile.batch()))
    best = values[logits[0].argmax(0).cpu().numpy()][tile.core]
    confusion.add(tile.labels, best[None] if tile.planar else best, tile.looked_for(run.classes))
