"""Prediction inside of a worker: voxels through the network into Zarr, block by block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment.failpoint import failpoint
from biosegment.storage.arrays import Array, Arrays
from biosegment.storage.objects import open_blocking_objects
from biosegment.volume import BlockGrid, Index, Region
from biosegment_trainer.compute.report import Reporter
from biosegment_trainer.compute.task import PredictTask, VolumeArray
from biosegment_trainer.compute.voxel import VoxelReader, open_voxels
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.prediction import PredictionConfig, Predictor
from biosegment_trainer.prediction.block import CELL, aligned, downsampled
from biosegment_trainer.training.worker import load_model

Voxels = NDArray[np.generic]
_CHUNK_DEPTH: Final = 16
_SLAB_BYTES: Final = 256 << 20


def predict_layers(task: PredictTask, reporter: Reporter) -> None:
    """Fill the layers that the task names; nothing outside of its region is touched."""
    arrays = Arrays(task.store, cache_bytes=64 << 20)
    writer = _Writer(task, arrays)
    model = load_model(open_blocking_objects(task.store), task.bundle_key, task.classes)
    config = PredictionConfig(
        factor=task.plan.factor, measures=tuple(task.scores), with_labels=bool(task.labels)
    )
    predictor = Predictor(model, config)
    statistics = SliceStatistics(np.array(task.volume.mean), np.array(task.volume.std))
    whole = Region(Index(0, 0, 0), Index(*task.volume.shape))
    region = aligned(task.plan.region, CELL * task.plan.factor, whole)
    grid = BlockGrid(whole.stop, task.plan.block)
    parts = [part for number in grid.overlapping(region) if (part := grid[number].intersection(region))]
    total = sum(part.shape.z for part in parts)
    done = 0
    with open_voxels(task.volume, arrays, task.callback, reporter) as voxels:
        reader = _SlabReader(voxels, task.volume, config)
        for part in parts:
            reader.move_to(part)
            block = writer.begin(part)
            for prediction in predictor.predict(reader.read, part, whole.shape, statistics):
                reporter.check()
                block.add(prediction.region, prediction.labels, prediction.probabilities, prediction.scores)
                done += prediction.region.shape.z
                reporter.progress(done / total, "predicting", done, total, "slices of blocks")
            reporter.check()
            writer.write(block)
            failpoint("trainer.predict.block_written")


class _SlabReader:
    """Reads raw voxels, keeping some slices of a block and its surroundings, since tiles and their halos overlap.

    Of our own arrays it keeps the slices of one row of chunks. The chunks of a reference may be deeper, and whoever
    reads a part of one decodes it whole: of these it keeps as many slices as fit into `_SLAB_BYTES`.
    """

    def __init__(self, voxels: VoxelReader, volume: VolumeArray, config: PredictionConfig) -> None:
        self._reader = voxels
        self._volume = volume
        self._tile = config.tiling.tile * config.factor
        self._halo = config.tiling.halo * config.factor
        self._depth = _CHUNK_DEPTH
        self._whole = Region(Index(0, 0, 0), Index(*volume.shape))
        self._part = self._whole
        self._held: Region | None = None
        self._voxels: Voxels = np.empty((0, 0, 0))

    def move_to(self, part: Region) -> None:
        """Prepare for a block."""
        # All that the tiles see which touch it.
        tiles = aligned(part, self._tile, self._whole)
        self._part = tiles.padded((0, self._halo, self._halo), self._whole)
        self._held, self._voxels = None, np.empty((0, 0, 0))
        self._depth = _CHUNK_DEPTH
        if self._volume.is_reference:
            slice_bytes = self._part.shape.y * self._part.shape.x * self._volume.voxel_bytes
            while self._depth < part.shape.z and 2 * self._depth * slice_bytes <= _SLAB_BYTES:
                self._depth *= 2

    def read(self, region: Region) -> Voxels:
        if self._held is None or not self._held.contains(region):
            # Before the next slices come.
            self._held, self._voxels = None, np.empty((0, 0, 0))
            start_z = max(region.start.z - region.start.z % self._depth, self._part.start.z)
            stop_z = min(-(-region.stop.z // self._depth) * self._depth, self._part.stop.z)
            held = Region(Index(start_z, *self._part.start[1:]), Index(stop_z, *self._part.stop[1:]))
            if not held.contains(region):
                return self._reader.read(region)
            self._voxels = self._reader.read(held)
            self._held = held
        return self._voxels[region.relative_to(self._held).slices]


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """The results of one block, in the frames of the layers.

    Attributes:
        region: Level-0 voxels.
        labels: uint8 (z, y, x), None when not wanted.
        probabilities: uint8 by class value, at working resolution.
        scores: float16 by measure, on the score grid.
    """

    region: Region
    factor: int
    labels: NDArray[np.uint8] | None
    probabilities: dict[int, NDArray[np.uint8]]
    scores: dict[str, NDArray[np.float16]]
    channels: dict[int, int]

    def add(
        self,
        part: Region,
        labels: NDArray[np.uint8] | None,
        probabilities: NDArray[np.uint8],
        scores: dict[str, NDArray[np.float16]],
    ) -> None:
        """Copy the results of some slices in."""
        z = slice(part.start.z - self.region.start.z, part.stop.z - self.region.start.z)
        if self.labels is not None and labels is not None:
            self.labels[z] = labels
        for value, target in self.probabilities.items():
            target[z] = probabilities[self.channels[value]]
        for measure, cells in self.scores.items():
            cells[z] = scores[measure]


class _Writer:
    """Writes blocks into the task's layers."""

    def __init__(self, task: PredictTask, arrays: Arrays) -> None:
        self._plan = task.plan
        self._channels = {item.value: channel for channel, item in enumerate(task.classes)}
        self._labels = arrays.open(task.labels) if task.labels else None
        self._probabilities = {value: arrays.open(key) for value, key in task.probabilities.items()}
        self._scores = {measure: arrays.open(key) for measure, key in task.scores.items()}

    def begin(self, part: Region) -> _Block:
        working = downsampled(part, self._plan.probabilities_downsampling).shape
        cells = downsampled(part, self._plan.scores_downsampling).shape
        return _Block(
            part,
            self._plan.factor,
            np.zeros(part.shape, np.uint8) if self._labels else None,
            {value: np.zeros(working, np.uint8) for value in self._probabilities},
            {measure: np.full(cells, math.nan, np.float16) for measure in self._scores},
            self._channels,
        )

    def write(self, block: _Block) -> None:
        """Write what lies inside of the region that was asked for."""
        wanted = block.region.intersection(self._plan.region)
        if wanted is None:
            return
        if self._labels is not None and block.labels is not None:
            self._labels.write(wanted, block.labels[wanted.relative_to(block.region).slices])
        for value, array in self._probabilities.items():
            _write_part(
                array, block, wanted, self._plan.probabilities_downsampling, block.probabilities[value]
            )
        for measure, array in self._scores.items():
            _write_part(array, block, wanted, self._plan.scores_downsampling, block.scores[measure])


def _write_part(array: Array, block: _Block, wanted: Region, factor: Index, result: Voxels) -> None:
    target = downsampled(wanted, factor)
    array.write(target, result[target.relative_to(downsampled(block.region, factor)).slices])
