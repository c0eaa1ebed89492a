"""Blockwise inference: probabilities, labels and score maps of a block in one pass, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biosegment.errors import InvalidArgument
from biosegment.volume import Index, Region
from biosegment_trainer.learning.measures import CELL, Measure, pool, require_measures
from biosegment_trainer.learning.network import NetworkModel, pick_device
from biosegment_trainer.learning.normalisation import SliceStatistics, normalise
from biosegment_trainer.learning.resolution import downsample_raw, to_tensor, upsample_probabilities
from biosegment_trainer.learning.tiling import AxisTile, Span, TilingConfig, axis_tiles, reflect_into_window

Reader = Callable[[Region], NDArray[np.generic]]
"""Reads raw voxels of a level-0 region inside the volume: (z, y, x), any real dtype."""


@dataclass(frozen=True, slots=True)
class PredictionConfig:
    """What to compute and how much of it at once.

    Attributes:
        factor: Level-0 voxels per working pixel in y and x.
        tiling: Tiles and halo.
        measures: Names of the score maps to compute.
        slices_at_once: Slices that are read, held and yielded together; 16 is the depth of a stored chunk, which a
            reader would otherwise decode for every slice again.
        batch: Tiles in a forward pass; None: 1 on a CPU, where batches cost time, 32 on a GPU.
        with_labels: False leaves out level-0 labels, as scoring between rounds does.
    """

    factor: int = 1
    tiling: TilingConfig = field(default_factory=TilingConfig)
    measures: tuple[str, ...] = ("entropy",)
    slices_at_once: int = 16
    batch: int | None = None
    with_labels: bool = True

    def __post_init__(self) -> None:
        require_measures(self.measures)
        if self.factor < 1 or self.slices_at_once < 1 or (self.batch is not None and self.batch < 1):
            raise InvalidArgument("BAD_PREDICTION", "factor, slices_at_once and batch must be at least 1")


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The result for some slices of a block.

    Attributes:
        region: The slices that it covers, level-0 voxels of the volume.
        probabilities: uint8 (C, z, ceil(y / f), ceil(x / f)), 255 = certain, one array a class.
        labels: uint8 (z, y, x) at level 0: 1 background, else the class's value; None if not asked for.
        scores: For each measure float16 (z, ceil(y / 16f), ceil(x / 16f)).
    """

    region: Region
    probabilities: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None
    scores: dict[str, NDArray[np.float16]]


class Predictor:
    """A model made ready for many blocks; not for several threads at once."""

    def __init__(self, model: NetworkModel, config: PredictionConfig, device: str | None = None) -> None:
        self._config = config
        self._device = pick_device(device)
        self._module = model.build(self._device)
        self._stride = model.network.stride[1]
        if config.tiling.halo % self._stride or config.tiling.tile % self._stride:
            raise InvalidArgument(
                "BAD_TILING", f"tile and halo {config.tiling} must be multiples of the stride {self._stride}"
            )
        self._batch = config.batch or (32 if self._device.type == "cuda" else 1)
        self._mixed = self._device.type == "cuda" and torch.cuda.is_bf16_supported()
        self._measures: dict[str, Measure] = require_measures(config.measures)
        self._values = torch.tensor(
            [1, *(c.value for c in model.classes)], dtype=torch.uint8, device=self._device
        )

    def predict(
        self, read: Reader, block: Region, volume_shape: tuple[int, int, int], statistics: SliceStatistics
    ) -> Iterator[Prediction]:
        """Predict a block, a few slices at a time; the results in order cover the block.

        Args:
            read: Called once a few slices and tile, with the tile's halo; never outside the volume.
            block: Level-0 voxels; starts in y and x at a multiple of 16 x factor, ends at one or at the
                border.
            volume_shape: Of level 0.
            statistics: Of every slice of the volume, shape (volume z,).

        Raises:
            InvalidArgument: REGION_OUT_OF_BOUNDS, UNALIGNED_BLOCK, BAD_STATISTICS.
        """
        self._require_block(block, volume_shape, statistics)
        step = self._config.slices_at_once
        # In steps of the stored chunks, wherever the block begins.
        for first in range(block.start.z - block.start.z % step, block.stop.z, step):
            z, stop = max(first, block.start.z), min(first + step, block.stop.z)
            part = Region(Index(z, *block.start[1:]), Index(stop, *block.stop[1:]))
            yield self._predict_slices(read, part, Index(*volume_shape), statistics[z:stop])

    def _require_block(self, block: Region, shape: tuple[int, int, int], statistics: SliceStatistics) -> None:
        block.require_within(shape, "the volume")
        edge = CELL * self._config.factor
        for low, high, size in zip(block.start[1:], block.stop[1:], shape[1:], strict=True):
            if low % edge or (high % edge and high != size):
                raise InvalidArgument(
                    "UNALIGNED_BLOCK", f"block {block} must lie on multiples of {edge} voxels in y and x"
                )
        if len(statistics) != shape[0]:
            raise InvalidArgument(
                "BAD_STATISTICS", f"{shape[0]} slices need as many statistics, got {len(statistics)}"
            )

    def _predict_slices(
        self, read: Reader, part: Region, volume_shape: Index, statistics: SliceStatistics
    ) -> Prediction:
        f = self._config.factor
        rows = Span(part.start.y // f, -(-part.stop.y // f))
        columns = Span(part.start.x // f, -(-part.stop.x // f))
        result = self._empty(part, len(rows), len(columns))
        tiling, stride = self._config.tiling, self._stride
        for row in axis_tiles(rows, -(-volume_shape.y // f), tiling, stride):
            for column in axis_tiles(columns, -(-volume_shape.x // f), tiling, stride):
                image = self._read_tile(read, part, row, column, volume_shape, statistics)
                for z in range(0, len(image), self._batch):
                    planes = slice(z, z + self._batch)
                    self._fill(result, planes, self._probabilities(image[planes]), row, column)
        return result

    def _empty(self, part: Region, height: int, width: int) -> Prediction:
        z, y, x = part.shape
        count = len(self._values) - 1
        cells = (z, -(-height // CELL), -(-width // CELL))
        return Prediction(
            region=part,
            probabilities=np.empty((count, z, height, width), np.uint8),
            labels=np.empty((z, y, x), np.uint8) if self._config.with_labels else None,
            scores={name: np.empty(cells, np.float16) for name in self._measures},
        )

    def _read_tile(
        self,
        read: Reader,
        part: Region,
        row: AxisTile,
        column: AxisTile,
        volume_shape: Index,
        statistics: SliceStatistics,
    ) -> NDArray[np.float32]:
        f = self._config.factor
        start = Index(part.start.z, row.source.start * f, column.source.start * f)
        stop = Index(
            part.stop.z, min(row.source.stop * f, volume_shape.y), min(column.source.stop * f, volume_shape.x)
        )
        image = normalise(downsample_raw(read(Region(start, stop)), f), statistics)
        return reflect_into_window(image, row, column)

    def _probabilities(self, image: NDArray[np.float32]) -> Tensor:
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
            logits: Tensor = self._module(to_tensor(image, self._device))
        return torch.softmax(logits.float(), dim=1)

    def _fill(self, result: Prediction, z: slice, p: Tensor, row: AxisTile, column: AxisTile) -> None:
        f = self._config.factor
        inner = p[
            :,
            :,
            row.keep.start - row.window.start : row.keep.stop - row.window.start,
            column.keep.start - column.window.start : column.keep.stop - column.window.start,
        ]
        top, left = result.region.start.y // f, result.region.start.x // f
        y, x = row.keep.start - top, column.keep.start - left
        place = (z, slice(y, y + len(row.keep)), slice(x, x + len(column.keep)))
        scaled = (inner[:, 1:] * 255).round().to(torch.uint8)
        result.probabilities[(slice(None), *place)] = scaled.transpose(0, 1).cpu().numpy()
        cells = (z, slice(y // CELL, -(-place[1].stop // CELL)), slice(x // CELL, -(-place[2].stop // CELL)))
        for name, measure in self._measures.items():
            result.scores[name][cells] = pool(measure(inner)).cpu().numpy()
        if result.labels is not None:
            labels = self._labels(p, row, column)
            y, x = y * f, x * f
            target = result.labels[z, y : y + len(row.keep) * f, x : x + len(column.keep) * f]
            target[:] = labels[:, : target.shape[1], : target.shape[2]].cpu().numpy()

    def _labels(self, p: Tensor, row: AxisTile, column: AxisTile) -> Tensor:
        """Level-0 label values of what is kept of a tile.

        One pixel of halo feeds the interpolation at its edge, but not beyond the volume: the network's answer to
        the mirrored image is nobody's neighbour.
        """
        f = self._config.factor
        ranges, cut = [], []
        for axis in (row, column):
            before, after = axis.keep.start > axis.source.start, axis.keep.stop < axis.source.stop
            start, stop = axis.keep.start - axis.window.start, axis.keep.stop - axis.window.start
            ranges.append(slice(start - before, stop + after))
            cut.append(slice(before * f, (before + len(axis.keep)) * f))
        wide = upsample_probabilities(p[:, :, ranges[0], ranges[1]], f)[:, :, cut[0], cut[1]]
        # torch's argmax over a leading axis of two takes as long as the network; this does not.
        best, labels = wide[:, 0], self._values[0].expand(wide[:, 0].shape)
        for channel in range(1, wide.shape[1]):
            wins = wide[:, channel] > best
            best = torch.where(wins, wide[:, channel], best)
            labels = torch.where(wins, self._values[channel], labels)
        return labels


def predict_block(
    model: NetworkModel,
    read: Reader,
    block: Region,
    volume_shape: tuple[int, int, int],
    statistics: SliceStatistics,
    config: PredictionConfig | None = None,
    device: str | None = None,
) -> Prediction:
    """A whole block in one piece, for small blocks; `Predictor.predict` bounds the memory."""
    parts: Sequence[Prediction] = list(
        Predictor(model, config or PredictionConfig(), device).predict(read, block, volume_shape, statistics)
    )
    labels = [part.labels for part in parts if part.labels is not None]
    return Prediction(
        region=block,
        probabilities=np.concatenate([part.probabilities for part in parts], axis=1),
        labels=np.concatenate(labels) if labels else None,
        scores={name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores},
    )
