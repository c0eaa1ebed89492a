"""Blockwise inference: probabilities, labels and score maps of a block in one pass, in bounded memory.

What a voxel gets depends on the volume, the models and the configuration alone: not on the block that it is
computed with, nor on the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.volume import Index, Region
from biosegment_trainer.learning.frame import Frame, cell_weights, default_tiling
from biosegment_trainer.learning.measures import CELL, require_measures
from biosegment_trainer.learning.network import NetworkModel, pick_device
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.passes import Committee, PassesConfig
from biosegment_trainer.learning.probe import Wanted
from biosegment_trainer.learning.result import Prediction, ResultWriter
from biosegment_trainer.learning.slab import Reader, SliceStream, slabs
from biosegment_trainer.learning.tiling import AxisTile, Span, TilingConfig, cut_window, mirrored
from biosegment_trainer.learning.trail import Trail

__all__ = ["Prediction", "PredictionConfig", "Predictor", "Reader", "default_tiling", "predict_block"]

Float32 = NDArray[np.float32]
_GPU_PIXELS = 16 << 20
"""Of the windows that a GPU sees at once."""


@dataclass(frozen=True, slots=True)
class PredictionConfig:
    """What to compute and how much of it at once.

    Attributes:
        factor: Level-0 voxels per working pixel in y and x.
        tiling: Tiles and halo; None takes what suits the network.
        measures: Names of the score maps to compute.
        slices_at_once: Slices that are read and yielded together; 16 is the depth of a stored chunk, which a reader
            would otherwise decode for every slice again. 3D networks yield as many as a tile has.
        batch: Windows in a forward pass; None: 1 on a CPU, where batches cost time, as many as fit on a GPU.
        with_labels: False leaves out level-0 labels, as scoring between rounds does.
        passes: Several passes, whose mean is the prediction.
        backend: What runs the networks, one of `backend.BACKENDS`. Making a network ready for an accelerator takes a
            second or two: choose `eager` for less than some 20 million working pixels.
    """

    factor: int = 1
    tiling: TilingConfig | None = None
    measures: tuple[str, ...] = ("entropy",)
    slices_at_once: int = 16
    batch: int | None = None
    with_labels: bool = True
    passes: PassesConfig = field(default_factory=PassesConfig)
    backend: str = "auto"

    def __post_init__(self) -> None:
        require_measures(self.measures)
        if self.factor < 1 or self.slices_at_once < 1 or (self.batch is not None and self.batch < 1):
            raise InvalidArgument("BAD_PREDICTION", "factor, slices_at_once and batch must be at least 1")


class Predictor:
    """Models made ready for many blocks; not for several threads at once.

    Args:
        models: One, or the members of an ensemble, which share classes and the number of axes; the mean of their
            probabilities is the prediction.
        config: What to compute.
        device: `cpu` or `cuda`; None takes CUDA where there is one.

    Raises:
        InvalidArgument: BAD_TILING, BAD_ENSEMBLE, BAD_WEIGHTS, UNKNOWN_BACKEND.
        FailedPrecondition: NO_USABLE_CLASS, NO_DROPOUT, BACKEND_MISSING; ONE_PASS when a measure compares passes and
            there is one.
    """

    _planes = 1
    """In how many planes a voxel is looked at."""

    def __init__(
        self,
        models: NetworkModel | Sequence[NetworkModel],
        config: PredictionConfig,
        device: str | None = None,
    ) -> None:
        found = (models,) if isinstance(models, NetworkModel) else tuple(models)
        self._measures = require_measures(config.measures)
        self._with_spread = any(measure.needs_passes for measure in self._measures)
        if self._with_spread and self._planes * config.passes.count(len(found)) < 2:
            names = [measure.name for measure in self._measures if measure.needs_passes]
            raise FailedPrecondition("ONE_PASS", f"{names} compare passes; ask for two or more")
        self._network = found[0].network
        self._tiling = config.tiling or default_tiling(found, config.factor)
        for model in found:
            self._tiling.require_stride(model.network.stride)
        self._config = replace(config, tiling=self._tiling)
        self._device = pick_device(device)
        self._embeds = any(measure.is_pooled for measure in self._measures)
        wanted = Wanted(any(measure.needs_reach for measure in self._measures), self._embeds)
        self._committee = Committee(found, config.passes, wanted, config.backend, self._device)
        # How many slices on each side a measure compares.
        self._margin = int(any(measure.needs_neighbours for measure in self._measures))
        self._writer = ResultWriter(found[0].label_values, self._measures, config.factor, config.with_labels)

    @property
    def tiling(self) -> TilingConfig:
        """Tiles and halo in working voxels; blocks that are multiples of tiles compute nothing twice."""
        return self._tiling

    @property
    def backend(self) -> str:
        """What runs the (first) network."""
        return self._committee.backend

    def reads(self, block: Region, volume_shape: tuple[int, int, int]) -> Region:
        """All that `predict` reads for a block, level-0 voxels: halos and neighbouring slices included."""
        return self._frame(block, Index(*volume_shape)).reads

    def predict(
        self, read: Reader, block: Region, volume_shape: tuple[int, int, int], statistics: SliceStatistics
    ) -> Iterator[Prediction]:
        """Predict a block, a few slices at a time; the results in order cover the block.

        Args:
            read: Called for a few slices of `reads(block)` at a time (some rows of them when they are very large), in
                order and each once, from a thread of its own while the network is busy; never outside the volume.
            block: Level-0 voxels; starts in y and x at a multiple of 16 x factor, ends at one or at the
                border.
            volume_shape: Of level 0.
            statistics: Of every slice of the volume, shape (volume z,).

        Raises:
            InvalidArgument: REGION_OUT_OF_BOUNDS, UNALIGNED_BLOCK, BAD_STATISTICS.
        """
        self._require_block(block, volume_shape, statistics)
        frame = self._frame(block, Index(*volume_shape))
        config = self._config
        stream = SliceStream(read, frame.reads, config.slices_at_once, config.factor, statistics)
        try:
            if self._network.spatial_dims == 3:
                yield from self._solid(frame, stream)
            else:
                yield from self._flat(frame, stream)
        finally:
            stream.close()

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

    def _frame(self, block: Region, shape: Index) -> Frame:
        margin = self._margin + self._committee.context
        return Frame.of(block, shape, self._config.factor, self._tiling, self._network, margin)

    def _flat(self, frame: Frame, stream: SliceStream) -> Iterator[Prediction]:
        """Slice by slice, with a 2D network."""
        depth, context = frame.shape.z, self._committee.context
        seen_to = max(frame.block.start.z - self._margin, 0)
        trails = {(row, column): Trail(seen_to) for row in frame.rows for column in frame.columns}
        for part in slabs(frame.block, self._config.slices_at_once):
            # Slices beyond the part are needed by it, and kept for the next.
            first, seen_to = seen_to, min(part.stop.z + self._margin, depth)
            low, high = max(first - context, 0), min(seen_to + context, depth)
            with torch.inference_mode():
                result = self._writer.begin(part)
                planes = dict(zip(range(low, high), stream.planes(low, high), strict=True))
                for (row, column), trail in trails.items():
                    wanted_z, step = Span(part.start.z, part.stop.z), self._batch(row, column)
                    # The volume's last slices may have been looked at for the part before.
                    self._write(result, trail, frame, row, column, wanted_z)
                    for z in range(first, seen_to, step):
                        stop = min(z + step, seen_to)
                        around = range(z - context, stop + context)
                        seen = [planes[mirrored(at, depth)] for at in around]
                        window = cut_window(seen, frame.corner, row, column)
                        trail.add(self._look(window, stop - z, row, column, z), stop)
                        self._write(result, trail, frame, row, column, wanted_z)
                finished = self._writer.finish(result)
            yield finished

    def _solid(self, frame: Frame, stream: SliceStream) -> Iterator[Prediction]:
        """Tile by tile, with a 3D network."""
        for deep in frame.depths:
            start, stop = frame.block.start, frame.block.stop
            part = Region(Index(deep.keep.start, *start[1:]), Index(deep.keep.stop, *stop[1:]))
            with torch.inference_mode():
                result = self._writer.begin(part)
                planes = stream.planes(deep.source.start, deep.source.stop)
                seen = [
                    planes[mirrored(at - deep.source.start, len(planes))]
                    for at in range(deep.window.start, deep.window.stop)
                ]
                for row in frame.rows:
                    for column in frame.columns:
                        window = cut_window(seen, frame.corner, row, column)
                        trail = Trail(deep.source.start, complete=True)
                        trail.add(self._look_solid(window, deep, row, column), deep.source.stop)
                        self._write(result, trail, frame, row, column, deep.keep)
                finished = self._writer.finish(result)
            yield finished

    def _batch(self, row: AxisTile, column: AxisTile) -> int:
        if self._config.passes.mc_dropout:
            return 1  # what is dropped must not depend on who is beside
        on_gpu = self._device.type == "cuda"
        return self._config.batch or (
            max(1, _GPU_PIXELS // (len(row.window) * len(column.window))) if on_gpu else 1
        )

    def _look(
        self, window: Float32, count: int, row: AxisTile, column: AxisTile, z: int
    ) -> dict[str, Tensor]:
        """What the networks say of some slices, cropped to what is written and its margin; slices lead."""
        images = self._tensor(window)
        width = 2 * self._committee.context + 1
        stacked = images.unsqueeze(1) if width == 1 else images.unfold(0, width, 1).permute(0, 3, 1, 2)
        rows, columns = self._wide(row, column)
        place = f"{z}/{row.window.start}/{column.window.start}"
        seen = self._patiently(stacked[:count], (row.within(rows), column.within(columns)), place)
        if "reach" in seen:
            seen["reach"] = seen["reach"].squeeze(1)
        if "embedding" in seen:
            seen["cells"] = self._cells(seen.pop("embedding"), row, column)
        return seen

    def _look_solid(
        self, window: Float32, deep: AxisTile, row: AxisTile, column: AxisTile
    ) -> dict[str, Tensor]:
        rows, columns = self._wide(row, column)
        crop = (deep.within(deep.source), row.within(rows), column.within(columns))
        place = f"{deep.window.start}/{row.window.start}/{column.window.start}"
        seen = self._patiently(self._tensor(window)[None, None], crop, place)
        for name in ("probabilities", "pass_squares"):
            if name in seen:
                seen[name] = seen[name][0].transpose(0, 1)
        if "pass_entropy" in seen:
            seen["pass_entropy"] = seen["pass_entropy"][0]
        if "reach" in seen:
            seen["reach"] = seen["reach"][0, 0]
        if "embedding" in seen:
            coarse = seen.pop("embedding")[0].transpose(0, 1)
            layers = (
                np.arange(deep.source.start, deep.source.stop) - deep.window.start
            ) // self._network.stride[0]
            seen["cells"] = self._cells(coarse, row, column)[torch.from_numpy(layers).to(coarse.device)]
        return seen

    def _tensor(self, window: Float32) -> Tensor:
        images = torch.from_numpy(window)
        if self._device.type != "cuda":
            return images
        return images.pin_memory().to(self._device, non_blocking=True)

    def _patiently(self, images: Tensor, crop: tuple[slice, ...], place: str) -> dict[str, Tensor]:
        """Look at half of the windows at a time when a GPU has no memory for all."""
        try:
            return self._committee.look(images, crop, place, self._with_spread)
        except torch.OutOfMemoryError:
            if len(images) == 1:
                raise
            half = len(images) // 2
            parts = [self._patiently(part, crop, place) for part in (images[:half], images[half:])]
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _wide(self, row: AxisTile, column: AxisTile) -> tuple[Span, Span]:
        return self._writer.margin(row.keep, row.source), self._writer.margin(column.keep, column.source)

    def _cells(self, coarse: Tensor, row: AxisTile, column: AxisTile) -> Tensor:
        """Means of the coarsest level's voxels over the score cells of what is kept, (N, D, cells y, cells x)."""
        _, y, x = self._network.stride
        rows, columns = (
            torch.from_numpy(cell_weights(tile, stride)).to(coarse.device, torch.float64)
            for tile, stride in ((row, y), (column, x))
        )
        # In double precision: in which order products add up depends on the shapes, and so on the tile.
        return torch.einsum("yi,ndij,xj->ndyx", rows, coarse.double(), columns).float()

    def _write(
        self, result: Prediction, trail: Trail, frame: Frame, row: AxisTile, column: AxisTile, wanted: Span
    ) -> None:
        ready = trail.take(wanted, frame.shape.z, self._margin)
        if ready is not None:
            first, seen = ready
            self._writer.fill(result, first, row.keep, column.keep, self._wide(row, column), seen)


def predict_block(
    models: NetworkModel | Sequence[NetworkModel],
    read: Reader,
    block: Region,
    volume_shape: tuple[int, int, int],
    statistics: SliceStatistics,
    config: PredictionConfig | None = None,
    device: str | None = None,
) -> Prediction:
    """A whole block in one piece, for small blocks; `Predictor.predict` bounds the memory."""
    predictor = Predictor(models, config or PredictionConfig(), device)
    parts = list(predictor.predict(read, block, volume_shape, statistics))
    labels = [part.labels for part in parts if part.labels is not None]
    return Prediction(
        region=block,
        probabilities=np.concatenate([part.probabilities for part in parts], axis=1),
        labels=np.concatenate(labels) if labels else None,
        scores={name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores},
    )
