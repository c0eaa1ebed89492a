"""Prediction inside of a worker: the voxels of a block through the network into Zarr."""

from __future__ import annotations

import contextlib
import ctypes
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from biosegment.failpoint import failpoint
from biosegment.storage.arrays import Array, Arrays
from biosegment.storage.objects import open_blocking_objects
from biosegment.volume import Index, Region
from biosegment_trainer.compute.report import Reporter
from biosegment_trainer.compute.voxel import VoxelReader, open_voxels
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.ortho import OrthoPredictor
from biosegment_trainer.learning.passes import PassesConfig
from biosegment_trainer.learning.prediction import Prediction, PredictionConfig, Predictor
from biosegment_trainer.prediction.block import BlockId, downsampled
from biosegment_trainer.prediction.ledger import BlockLedger
from biosegment_trainer.prediction.slab import SlabReader
from biosegment_trainer.prediction.task import MODEL_VERSION, LayerArray, PredictTask, VolumePart
from biosegment_trainer.training.worker import load_model

Voxels = NDArray[np.generic]


class BlockWorker:
    """Loaded models and the arrays of a job; for one thread.

    Args:
        task: The job.
        reporter: Asked, every few slices, whether to go on.
    """

    def __init__(self, task: PredictTask, reporter: Reporter) -> None:
        self._task = task
        self._reporter = reporter
        self._arrays = Arrays(task.store, cache_bytes=64 << 20)
        self._objects = open_blocking_objects(task.store)
        self._models = [
            load_model(self._objects, member.bundle_key, member.classes) for member in task.members
        ]
        self._channels = {item.value: channel for channel, item in enumerate(self._models[0].classes)}
        self._ledger = BlockLedger(self._objects, task.callback.job_id, task.callback.attempt)
        self._predictors: dict[tuple[PredictionConfig, int], Predictor] = {}
        self._open: _OpenVolume | None = None

    def predict(self, block: BlockId) -> None:
        """Compute, write and record a block; nothing outside of the region that is wanted is touched.

        Raises:
            Stopped: The job was cancelled.
            Conflict: ATTEMPT_OUTDATED.
            BiosegmentError: What reading, computing or writing met with.
        """
        self._reporter.check()
        volume = self._volume(block.part)
        part = volume.blocks.computed(block.number)
        volume.reader.move_to(part)
        result = volume.block(part, self._channels)
        for prediction in volume.predictor.predict(
            volume.reader.read, part, volume.blocks.shape, volume.statistics
        ):
            self._reporter.check()
            result.add(prediction)
        if MODEL_VERSION in result.scores:
            result.scores[MODEL_VERSION][:] = self._task.version
        self._reporter.check()
        volume.write(result, volume.blocks.written(block.number))
        failpoint("trainer.predict.before_ledger")
        self._ledger.record(volume.part, block.number)
        failpoint("trainer.predict.block_written")
        _return_memory()

    def _volume(self, number: int) -> _OpenVolume:
        """Open a volume; the one before is closed, for a job may have thousands."""
        if self._open is None or self._open.number != number:
            if self._open is not None:
                self._open.close()
            part = self._task.parts[number]
            config = _config(self._task, part)
            key = (config, part.depth_factor if self._task.ortho_planes else 0)
            if key not in self._predictors:
                self._predictors = {key: self._predictor(*key)}
            voxels = open_voxels(part.volume, self._arrays, self._task.callback, self._reporter)
            self._open = _OpenVolume(number, part, self._arrays, voxels, self._predictors[key])
        return self._open

    def _predictor(self, config: PredictionConfig, depth_factor: int) -> Predictor:
        if depth_factor:
            return OrthoPredictor(self._models, config, depth_factor)
        return Predictor(self._models, config)


class _OpenVolume:
    """A volume that is being read, and the arrays of its layers."""

    def __init__(
        self,
        number: int,
        part: VolumePart,
        arrays: Arrays,
        voxels: AbstractContextManager[VoxelReader],
        predictor: Predictor,
    ) -> None:
        self.number = number
        self.part = part
        self.blocks = part.blocks
        self.predictor = predictor
        self.statistics = SliceStatistics(np.array(part.volume.mean), np.array(part.volume.std))
        self.reader = SlabReader(voxels.__enter__(), part.volume, predictor)
        self._voxels = voxels
        self._arrays = {name: arrays.open(array.key) for name, array in part.arrays.items()}
        self._block: _Block | None = None

    def block(self, region: Region, channels: dict[int, int]) -> _Block:
        """Where the results of a block go, which fill all of it.

        The arrays are those of the block before, when that was as large: the system clears each page of a new one.
        """
        if self._block is None or self._block.region.shape != region.shape:
            self._block = None
            self._block = _Block.empty(self.part, region, channels)
        return replace(self._block, region=region)

    def close(self) -> None:
        self._voxels.__exit__(None, None, None)

    def write(self, block: _Block, wanted: Region) -> None:
        """Write what lies inside of the region that was asked for, durably."""
        for name, array in self.part.arrays.items():
            _write(self._arrays[name], array, block, wanted, block.results[name])


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """The results of one block, in the frames of the layers.

    Attributes:
        region: Level-0 voxels.
        labels: uint8 (z, y, x), None when not wanted.
        probabilities: uint8 by class value, at working resolution.
        scores: By measure, on the score grid, of the types of their layers.
        channels: Channel of each class value.
    """

    region: Region
    labels: NDArray[np.uint8] | None
    probabilities: dict[int, NDArray[np.uint8]]
    scores: dict[str, NDArray[np.floating]]
    channels: dict[int, int]

    @classmethod
    def empty(cls, part: VolumePart, region: Region, channels: dict[int, int]) -> _Block:
        def shape(array: LayerArray) -> tuple[int, int, int]:
            z, y, x = downsampled(region, array.downsampling).shape
            return z, y, x * array.channels

        return cls(
            region,
            np.zeros(region.shape, np.uint8) if part.labels else None,
            {value: np.zeros(shape(array), np.uint8) for value, array in part.probabilities.items()},
            {measure: np.full(shape(array), math.nan, array.dtype) for measure, array in part.scores.items()},
            channels,
        )

    @property
    def results(self) -> dict[str, Voxels]:
        """By the names of `VolumePart.arrays`."""
        found: dict[str, Voxels] = {f"score/{measure}": cells for measure, cells in self.scores.items()}
        found |= {f"probability/{value}": values for value, values in self.probabilities.items()}
        return found if self.labels is None else found | {"labels": self.labels}

    def add(self, done: Prediction) -> None:
        """Copy the results of some slices in."""
        z = slice(done.region.start.z - self.region.start.z, done.region.stop.z - self.region.start.z)
        if self.labels is not None and done.labels is not None:
            self.labels[z] = done.labels
        for value, target in self.probabilities.items():
            target[z] = done.probabilities[self.channels[value]]
        for measure, cells in self.scores.items():
            if measure != MODEL_VERSION:
                cells[z] = done.scores[measure]


def _return_memory() -> None:
    """Give what was freed back to the system: in the pieces that are left the next block would find no room, and the
    process would grow by some megabytes with every block.
    """
    with contextlib.suppress(AttributeError, OSError):  # not of every C library
        ctypes.CDLL(None).malloc_trim(0)


def _config(task: PredictTask, part: VolumePart) -> PredictionConfig:
    return PredictionConfig(
        factor=part.plan.factor,
        measures=tuple(measure for measure in part.scores if measure != MODEL_VERSION),
        with_labels=part.labels is not None,
        passes=PassesConfig(task.mc_dropout, task.test_time_augmentation),
        backend=task.backend,
    )


def _write(array: Array, layer: LayerArray, block: _Block, wanted: Region, result: Voxels) -> None:
    target = downsampled(wanted, layer.downsampling)
    inner = target.relative_to(downsampled(block.region, layer.downsampling))
    array.write(_wide(target, layer.channels), result[_wide(inner, layer.channels).slices])


def _wide(region: Region, channels: int) -> Region:
    """A region of a layer as one of its array."""
    start, stop = region.start, region.stop
    return Region(Index(start.z, start.y, start.x * channels), Index(stop.z, stop.y, stop.x * channels))
