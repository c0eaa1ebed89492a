"""What the workers of a prediction are told: plain values that travel through Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from biosegment.settings import ObjectStoreSettings
from biosegment.volume import Index
from biosegment_trainer.compute.task import Callback, VolumeArray
from biosegment_trainer.prediction.block import BlockPlan, VolumeBlocks
from biosegment_trainer.registry.model import ModelClass

MODEL_VERSION = "model_version"
"""The score map that says which version of the project's models scored a cell."""


def score_dtype(measure: str) -> str:
    """Type of a score map's values: half precision has no whole numbers of its own beyond 2048."""
    return "float32" if measure == MODEL_VERSION else "float16"


@dataclass(frozen=True, slots=True)
class LayerArray:
    """Where a layer is written.

    Attributes:
        key: Of its array in the object storage.
        downsampling: Level-0 voxels per voxel of the layer.
        shard: Voxels of the layer in one object.
        dtype: Of its values.
        channels: Values per voxel, beside each other along x of the array.
    """

    key: str
    downsampling: Index
    shard: Index
    dtype: str
    channels: int = 1


@dataclass(frozen=True, slots=True)
class VolumePart:
    """A volume of a job and the arrays of the layers to fill.

    Attributes:
        depth_factor: Slices per working pixel, for networks that look along all three axes.
        probabilities: By class value.
        scores: By measure.
    """

    volume: VolumeArray
    plan: BlockPlan
    depth_factor: int
    labels: LayerArray | None
    probabilities: Mapping[int, LayerArray]
    scores: Mapping[str, LayerArray]

    @property
    def blocks(self) -> VolumeBlocks:
        return VolumeBlocks(Index(*self.volume.shape), self.plan)

    @property
    def arrays(self) -> dict[str, LayerArray]:
        """All of them, by a name that is the same in every attempt."""
        found = {f"score/{measure}": array for measure, array in self.scores.items()}
        found |= {f"probability/{value}": array for value, array in self.probabilities.items()}
        return found | ({"labels": self.labels} if self.labels else {})


@dataclass(frozen=True, slots=True)
class Member:
    """A network that takes part: where its bundle lies, and what its outputs mean."""

    bundle_key: str
    classes: tuple[ModelClass, ...]


@dataclass(frozen=True, slots=True)
class PredictTask:
    """Blocks of volumes into layers that exist.

    Attributes:
        threads: CPU threads of a worker.
        members: The model, and after it the others of an ensemble.
        version: Of the model, for `MODEL_VERSION`.
        parts: The volumes.
        mc_dropout: Passes with dropout switched on.
        test_time_augmentation: Passes over turned and mirrored copies.
        ortho_planes: Predict in all three planes.
        backend: Of `learning.backend`; the same for all blocks of a job.
    """

    store: ObjectStoreSettings
    callback: Callback
    threads: int
    members: tuple[Member, ...]
    version: int
    parts: tuple[VolumePart, ...]
    mc_dropout: int = 0
    test_time_augmentation: int = 0
    ortho_planes: bool = False
    backend: str = "auto"
