"""What a prediction gives, and how it is filled tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biosegment.volume import Region
from biosegment_trainer.learning.measures import CELL, Evidence, Measure, pool
from biosegment_trainer.learning.resolution import upsample_probabilities
from biosegment_trainer.learning.tiling import Span

_ROWS = 64
_LABEL_ROWS = 256
"""Rows of working pixels, and of labels, that are made at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The result for some slices of a block.

    Attributes:
        region: The slices that it covers, level-0 voxels of the volume.
        probabilities: uint8 (C, z, ceil(y / f), ceil(x / f)), 255 = certain, one array a class.
        labels: uint8 (z, y, x) at level 0: 1 background, else the class's value; None if not asked for.
        scores: For each measure float16 (z, cells y, cells x * channels), of ceil(y / 16f) and ceil(x / 16f) cells,
            whose channels lie side by side.
    """

    region: Region
    probabilities: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None
    scores: dict[str, NDArray[np.float16]]


class ResultWriter:
    """Turns what is known of tiles into the arrays of a `Prediction`.

    Args:
        label_values: What each channel writes into labels, uint8.
        measures: What to score.
        factor: Level-0 voxels per working pixel.
        with_labels: Whether labels are wanted.
    """

    def __init__(
        self, label_values: Sequence[int], measures: Sequence[Measure], factor: int, with_labels: bool
    ) -> None:
        self._values = tuple(label_values)
        self._measures = tuple(measures)
        self._factor = factor
        self._with_labels = with_labels
        self._underway: list[tuple[NDArray[np.generic], Tensor, torch.cuda.Event]] = []

    def begin(self, region: Region) -> Prediction:
        """Empty arrays for a region, whose y and x start at multiples of the score cell."""
        f = self._factor
        z, y, x = region.shape
        height, width = -(-y // f), -(-x // f)
        classes = len(self._values) - 1
        rows, columns = -(-height // CELL), -(-width // CELL)
        return Prediction(
            region=region,
            probabilities=np.empty((classes, z, height, width), np.uint8),
            labels=np.empty((z, y, x), np.uint8) if self._with_labels else None,
            scores={
                measure.name: np.empty((z, rows, columns * measure.channels(classes)), np.float16)
                for measure in self._measures
            },
        )

    def margin(self, keep: Span, source: Span) -> Span:
        """What must be known of an axis to write `keep`.

        One pixel more feeds the interpolation of labels at its edge, but not beyond the volume: the network's answer to
        the mirrored image is nobody's neighbour.
        """
        if not self._with_labels or self._factor == 1:
            return keep
        return Span(max(keep.start - 1, source.start), min(keep.stop + 1, source.stop))

    def fill(
        self,
        result: Prediction,
        first: int,
        rows: Span,
        columns: Span,
        wide: tuple[Span, Span],
        seen: Evidence,
    ) -> None:
        """Write some slices of a tile.

        Args:
            result: Where to.
            first: The slice of the volume that `seen` begins with.
            rows: Working pixels of the volume that are written.
            columns: Likewise along x.
            wide: What `seen` holds of both axes, from `margin`; its cells are those of rows and columns.
            seen: What is known.
        """
        self._flush()
        f, region = self._factor, result.region
        count = len(seen.probabilities)
        z = slice(first - region.start.z, first - region.start.z + count)
        y, x = rows.start - region.start.y // f, columns.start - region.start.x // f
        cut = (
            slice(rows.start - wide[0].start, rows.stop - wide[0].start),
            slice(columns.start - wide[1].start, columns.stop - wide[1].start),
        )
        inner = _cropped(seen, cut)
        bytes_ = torch.add(0.5, inner.probabilities[:, 1:], alpha=255).to(torch.uint8)
        place = (slice(None), z, slice(y, y + len(rows)), slice(x, x + len(columns)))
        self._put(result.probabilities[place], bytes_.transpose(0, 1))
        self._score(result, z, y, x, inner)
        if result.labels is not None:
            self._label(result.labels[z], (y, x), wide[0], (rows, cut[1]), seen.probabilities)

    def finish(self, result: Prediction) -> Prediction:
        """The result, once all that was on its way has arrived."""
        self._flush()
        return result

    def _score(self, result: Prediction, z: slice, y: int, x: int, inner: Evidence) -> None:
        height, width = inner.probabilities.shape[2:]
        top, left = y // CELL, x // CELL
        rows, columns = -(-height // CELL), -(-width // CELL)
        for measure in self._measures:
            values = measure.compute(inner)
            if measure.is_pooled:
                cells = values.half()
            elif values.ndim == 4:
                cells = torch.stack([pool(channel) for channel in values.unbind(1)], 1)
            else:
                cells = pool(values).unsqueeze(1)
            channels = cells.shape[1]
            side_by_side = cells.permute(0, 2, 3, 1).flatten(2)
            target = result.scores[measure.name][z, top : top + rows]
            self._put(target[:, :, left * channels : (left + columns) * channels], side_by_side)

    def _label(
        self,
        target: NDArray[np.uint8],
        corner: tuple[int, int],
        known: Span,
        kept: tuple[Span, slice],
        p: Tensor,
    ) -> None:
        """Write level-0 labels; on a CPU some rows at a time, which stay in its cache."""
        f, (rows, columns) = self._factor, kept
        step = len(rows) if p.device.type == "cuda" else min(_ROWS, max(1, _LABEL_ROWS // f))
        for top in range(rows.start, rows.stop, step):
            part = Span(top, min(top + step, rows.stop))
            near = Span(max(part.start - 1, known.start), min(part.stop + 1, known.stop))
            strip = p[:, :, near.start - known.start : near.stop - known.start]
            labels = self._labels(strip, (slice(part.start - near.start, part.stop - near.start), columns))
            y, x = (corner[0] + top - rows.start) * f, corner[1] * f
            place = target[:, y : y + labels.shape[1], x : x + labels.shape[2]]
            self._put(place, labels[:, : place.shape[1], : place.shape[2]])

    def _labels(self, p: Tensor, cut: tuple[slice, slice]) -> Tensor:
        """Level-0 label values, uint8 (N, y, x); a tie goes to the background."""
        f = self._factor
        part = (slice(None), slice(None), *(slice(s.start * f, s.stop * f) for s in cut))
        if len(self._values) == 2:
            wide = upsample_probabilities(p[:, 1:], f)[part][:, 0]
            return (wide > 0.5).to(torch.uint8).mul_(self._values[1] - 1).add_(1)
        wide = upsample_probabilities(p, f)[part]
        # torch's argmax over a leading axis takes as long as the network; this does not.
        best, labels = wide[:, 0], torch.ones(wide[:, 0].shape, dtype=torch.uint8, device=p.device)
        for channel in range(1, wide.shape[1]):
            wins = wide[:, channel] > best
            labels.masked_fill_(wins, self._values[channel])
            best = torch.maximum(best, wide[:, channel])
        return labels

    def _put(self, target: NDArray[np.generic], values: Tensor) -> None:
        if values.device.type != "cuda":
            target[...] = values.numpy()
            return
        # Into pinned memory, while the GPU goes on with the next windows; `_flush` brings it home.
        host = values.to("cpu", non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._underway.append((target, host, event))

    def _flush(self) -> None:
        for target, host, event in self._underway:
            event.synchronize()
            target[...] = host.numpy()
        self._underway.clear()


def _cropped(seen: Evidence, cut: tuple[slice, slice]) -> Evidence:
    def part(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[..., cut[0], cut[1]]

    return Evidence(
        probabilities=seen.probabilities[..., cut[0], cut[1]],
        before=part(seen.before),
        after=part(seen.after),
        pass_entropy=part(seen.pass_entropy),
        pass_squares=part(seen.pass_squares),
        reach=part(seen.reach),
        cells=seen.cells,
    )
