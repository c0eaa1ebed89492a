"""Consensus of three planes: a 2D network looks along every axis of a near-isotropic volume, and the mean counts.

The network knows images of one voxel's thickness whose pixels are means over `factor` x `factor` voxels. It is shown
the same in the other two planes: cuts of one voxel (the middle of a working pixel) at right angles to y or x, whose
pixels are means over `depth_factor` slices and `factor` voxels, each slice brought to mean 0 and deviation 1 by its own
statistics before. What it answers there is interpolated linearly along z, back to one value a slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.volume import Index, Region
from biosegment_trainer.learning.frame import Frame, default_tiling
from biosegment_trainer.learning.measures import entropy_of
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.learning.normalisation import LIMIT, SliceStatistics, standardise
from biosegment_trainer.learning.prediction import Prediction, PredictionConfig, Predictor
from biosegment_trainer.learning.resolution import mean_along
from biosegment_trainer.learning.slab import Reader, SliceStream
from biosegment_trainer.learning.tiling import (
    ORTHO_TILE,
    AxisTile,
    Span,
    TilingConfig,
    axis_tiles,
    cut_window,
    mirrored,
)
from biosegment_trainer.learning.trail import Trail

Float32 = NDArray[np.float32]
_COMPARED = ("probabilities", "pass_entropy", "pass_squares")
"""What is averaged over the planes; everything else is told by the plane of the slices."""
_WRITTEN_AT_ONCE = 16


class OrthoPredictor(Predictor):
    """As `Predictor`, along all three axes; with the same results however the volume is cut.

    Tiles are cubes of working pixels: blocks should be multiples of `tiling.tile[1]` of them along all three axes,
    which is `depth_factor` times as many slices. Memory grows with the volume of a tile, not of the block.

    Args:
        models: As for `Predictor`; 2D.
        config: What to compute. The planes count as passes: their disagreement can be measured.
        depth_factor: Slices per working pixel in the other two planes: the nearest whole number to the working
            resolution by the slices' thickness.
        device: As for `Predictor`.

    Raises:
        FailedPrecondition: As `Predictor`; NOT_PLANAR for a 3D network.
    """

    _planes = 3

    def __init__(
        self,
        models: NetworkModel | Sequence[NetworkModel],
        config: PredictionConfig,
        depth_factor: int,
        device: str | None = None,
    ) -> None:
        found = (models,) if isinstance(models, NetworkModel) else tuple(models)
        if any(model.network.spatial_dims != 2 for model in found):
            raise FailedPrecondition("NOT_PLANAR", "only 2D networks can look along all three axes")
        if depth_factor < 1:
            raise InvalidArgument("BAD_PREDICTION", f"depth_factor {depth_factor} must be at least 1")
        if config.tiling is None:
            usual = default_tiling(found, config.factor)
            step = found[0].network.stride[1]
            config = replace(config, tiling=TilingConfig.flat(-(-ORTHO_TILE // step) * step, usual.halo[1]))
        self._depth_factor = depth_factor
        super().__init__(found, config, device)

    def reads(self, block: Region, volume_shape: tuple[int, int, int]) -> Region:
        """All that `predict` reads for a block, level-0 voxels."""
        shape = Index(*volume_shape)
        deep = list(self._deep(block, shape))
        frame = self._frame(block, shape)
        start = min(self._slices_read(deep[0], shape).start, frame.reads.start.z)
        stop = max(self._slices_read(deep[-1], shape).stop, frame.reads.stop.z)
        return _with_slices(frame.reads, Span(start, stop))

    def predict(
        self, read: Reader, block: Region, volume_shape: tuple[int, int, int], statistics: SliceStatistics
    ) -> Iterator[Prediction]:
        """As `Predictor.predict`, but as many slices at a time as lie in a tile; slices in the halos of two tiles are
        read twice.
        """
        self._require_block(block, volume_shape, statistics)
        shape = Index(*volume_shape)
        for deep in self._deep(block, shape):
            g = self._depth_factor
            low, high = max(block.start.z, deep.keep.start * g), min(block.stop.z, deep.keep.stop * g)
            part = _with_slices(block, Span(low, high))
            with torch.inference_mode():
                result = self._predict_tile(read, part, deep, shape, statistics)
            yield result

    def _deep(self, block: Region, shape: Index) -> Iterator[AxisTile]:
        """The tiles along z, in working pixels of the other planes."""
        g, tiling = self._depth_factor, self._tiling
        span = Span(block.start.z // g, -(-block.stop.z // g))
        edge, halo, stride = tiling.tile[1], tiling.halo[1], self._network.stride[1]
        yield from axis_tiles(span, -(-shape.z // g), edge, halo, stride)

    def _slices_read(self, deep: AxisTile, shape: Index) -> Span:
        g = self._depth_factor
        return Span(deep.source.start * g, min(deep.source.stop * g, shape.z))

    def _predict_tile(
        self, read: Reader, part: Region, deep: AxisTile, shape: Index, statistics: SliceStatistics
    ) -> Prediction:
        frame = self._frame(part, shape)
        seen = Span(part.start.z, part.stop.z).grown(self._margin, shape.z)
        slices = self._slices_read(deep, shape)
        context = self._committee.context
        span = Span(
            min(slices.start, max(seen.start - context, 0)),
            max(slices.stop, min(seen.stop + context, shape.z)),
        )
        tiles = [
            _Sums(seen, row, column, self._wide(row, column))
            for row in frame.rows
            for column in frame.columns
        ]
        cuts = _Cuts(frame, deep, self._config.factor, self._depth_factor, context, tiles)
        region = _with_slices(frame.reads, span)
        config = self._config
        stream = SliceStream(read, region, config.slices_at_once, config.factor, statistics, cuts.add)
        try:
            self._look_along_z(stream, frame, span, seen, tiles)
        finally:
            stream.close()
        for tile in tiles:
            self._look_along_y_and_x(cuts, deep, tile)
        result = self._writer.begin(part)
        for tile in tiles:
            self._write_tile(result, tile, frame)
        return self._writer.finish(result)

    def _look_along_z(
        self, stream: SliceStream, frame: Frame, span: Span, seen: Span, tiles: Sequence[_Sums]
    ) -> None:
        depth, context = frame.shape.z, self._committee.context
        for z in range(seen.start, seen.stop):
            low, high = max(z - context, 0), min(z + context + 1, depth)
            planes = dict(zip(range(low, high), stream.planes(low, high), strict=True))
            around = [planes[mirrored(at, depth)] for at in range(z - context, z + context + 1)]
            for tile in tiles:
                window = cut_window(around, frame.corner, tile.row, tile.column)
                tile.add_slice(z, self._look(window, 1, tile.row, tile.column, z))
        # The cuts need what lies beyond as well.
        stream.planes(span.stop - 1, span.stop)

    def _look_along_y_and_x(self, cuts: _Cuts, deep: AxisTile, tile: _Sums) -> None:
        for axis, across, at in ((1, tile.column, tile.wide[0]), (2, tile.row, tile.wide[1])):
            crop = (deep.within(deep.source), across.within(tile.wide[2 - axis]))
            for position in range(at.start, at.stop):
                planes = cuts.planes(axis, position)
                window = cut_window(planes, cuts.corner(axis), deep, across)
                images = self._tensor(window)[None]
                place = f"{'zyx'[axis]}{position}/{deep.window.start}/{across.window.start}"
                answer = self._patiently(images, crop, place)
                tile.add_cut(axis, position, answer, deep.source, self._depth_factor)

    def _write_tile(self, result: Prediction, tile: _Sums, frame: Frame) -> None:
        wanted = Span(result.region.start.z, result.region.stop.z)
        held = tile.means(self._planes)
        for first in range(wanted.start, wanted.stop, _WRITTEN_AT_ONCE):
            now = Span(first, min(first + _WRITTEN_AT_ONCE, wanted.stop))
            around = now.grown(self._margin, frame.shape.z)
            trail = Trail(around.start, complete=True)
            inside = slice(around.start - tile.slices.start, around.stop - tile.slices.start)
            trail.add({name: tensor[inside] for name, tensor in held.items()}, around.stop)
            self._write(result, trail, frame, tile.row, tile.column, now)


def _with_slices(region: Region, slices: Span) -> Region:
    return Region(Index(slices.start, *region.start[1:]), Index(slices.stop, *region.stop[1:]))


class _Sums:
    """What the planes say of the slices of one tile, added up.

    Args:
        slices: Of the volume.
        row: The tile along y.
        column: Along x.
        wide: What is known of both: what is kept and a margin for labels.
    """

    def __init__(self, slices: Span, row: AxisTile, column: AxisTile, wide: tuple[Span, Span]) -> None:
        self.slices, self.row, self.column, self.wide = slices, row, column, wide
        self._sums: dict[str, Tensor] = {}

    def add_slice(self, z: int, seen: dict[str, Tensor]) -> None:
        """The answer for a slice, which leads the tensors."""
        for name, tensor in seen.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros(len(self.slices), *tensor.shape[1:], device=tensor.device)
            self._sums[name][z - self.slices.start] = tensor[0]

    def add_cut(
        self, axis: int, position: int, answer: dict[str, Tensor], deep: Span, depth_factor: int
    ) -> None:
        """The answer for a cut at right angles to an axis, (1, channels, depth, along) each."""
        low, high, weight = (
            part.to(answer["probabilities"].device) for part in self._weights(deep, depth_factor)
        )

        def on_slices(values: Tensor) -> Tensor:
            return torch.lerp(values[:, :, low], values[:, :, high], weight[:, None])[0].transpose(0, 1)

        p = on_slices(answer["probabilities"])
        found = {"probabilities": p}
        if "pass_entropy" in answer:
            # What passes disagree about within the plane is interpolated; the rest follows from the mean.
            spread = answer["pass_squares"] - answer["probabilities"].square()
            doubt = entropy_of(answer["probabilities"]) - answer["pass_entropy"]
            found["pass_squares"] = p.square() + on_slices(spread)
            found["pass_entropy"] = entropy_of(p) - on_slices(doubt.unsqueeze(1))[:, 0]
        at = position - self.wide[axis - 1].start
        for name, values in found.items():
            total = self._sums[name]
            (total[..., at, :] if axis == 1 else total[..., at]).add_(values)

    def means(self, planes: int) -> dict[str, Tensor]:
        """Means of what the planes were asked for, as in `Evidence`; slices lead."""
        for name in _COMPARED:
            if name in self._sums:
                self._sums[name] /= planes
        return self._sums

    def _weights(self, deep: Span, depth_factor: int) -> tuple[Tensor, Tensor, Tensor]:
        centres = (torch.arange(self.slices.start, self.slices.stop) + 0.5) / depth_factor - 0.5
        centres = centres.clamp(deep.start, deep.stop - 1) - deep.start
        low = centres.floor().long()
        return low, (low + 1).clamp(max=len(deep) - 1), (centres - low).float()


@dataclass(eq=False)
class _Cuts:
    """Cuts of one voxel's thickness at right angles to y and x, gathered while the slices pass by.

    Attributes:
        frame: Where the tiles lie.
        deep: The tile along z.
        factor: Level-0 voxels per working pixel in y and x.
        depth_factor: Slices per working pixel.
        context: Neighbouring cuts that the network sees on each side, one voxel apart.
        tiles: Whose cuts are wanted.
    """

    frame: Frame
    deep: AxisTile
    factor: int
    depth_factor: int
    context: int
    tiles: Sequence[_Sums]

    def __post_init__(self) -> None:
        reads, f = self.frame.reads, self.factor
        sizes = (-(-reads.shape.y // f), -(-reads.shape.x // f))
        self._voxels: list[list[int]] = []
        self._rows: list[dict[int, int]] = []
        self._images: list[Float32] = []
        for axis in (0, 1):
            wanted = {
                position
                for tile in self.tiles
                for position in range(tile.wide[axis].start, tile.wide[axis].stop)
            }
            voxels = sorted({v for position in wanted for v in self._around(axis + 1, position)})
            self._voxels.append([v - reads.start[axis + 1] for v in voxels])
            self._rows.append({v: i for i, v in enumerate(voxels)})
            self._images.append(np.zeros((len(voxels), len(self.deep.source), sizes[1 - axis]), np.float32))
        self._counts = np.zeros(len(self.deep.source), np.float32)

    def add(self, z: int, raw: NDArray[np.generic], statistics: SliceStatistics) -> None:
        """A slice of `frame.reads`, raw (y, x)."""
        layer = z // self.depth_factor - self.deep.source.start
        if not 0 <= layer < len(self.deep.source):
            return
        for image, cut in zip(self._images, (raw[self._voxels[0]], raw[:, self._voxels[1]].T), strict=True):
            means = mean_along(np.ascontiguousarray(cut, np.float32), 1, self.factor)
            image[:, layer] += standardise(means[None], statistics)[0]
        self._counts[layer] += 1

    def planes(self, axis: int, position: int) -> list[Float32]:
        """The cut at a working pixel and its neighbours, float32 (depth, along) each, as the network knows images."""
        rows = self._rows[axis - 1]
        return [
            np.clip(self._images[axis - 1][rows[v]] / self._counts[:, None], -LIMIT, LIMIT)
            for v in self._around(axis, position)
        ]

    def corner(self, axis: int) -> tuple[int, int]:
        """Where the cuts begin: along z and along the other axis."""
        return self.deep.source.start, self.frame.corner[2 - axis]

    def _around(self, axis: int, position: int) -> list[int]:
        """Voxels of the cut in the middle of a working pixel and of its neighbours."""
        size = self.frame.shape[axis]
        centre = min(position * self.factor + (self.factor - 1) // 2, size - 1)
        return [mirrored(centre + offset, size) for offset in range(-self.context, self.context + 1)]
