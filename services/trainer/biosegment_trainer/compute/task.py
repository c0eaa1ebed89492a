"""What a worker is told to do and what it answers: plain values that travel through Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from biosegment.settings import ObjectStoreSettings
from biosegment.volume import Region
from biosegment_trainer.registry.model import ModelClass
from biosegment_trainer.training.option import Option


@dataclass(frozen=True, slots=True)
class Callback:
    """Where and as whom a worker reports.

    Attributes:
        address: Of the trainer.
        token: Credential of this job and nothing else.
        job_id: The job.
        attempt: Its attempt.
        first: Fraction of the job at which the task begins.
        last: Fraction at which it ends.
    """

    address: str
    token: str = field(repr=False)
    job_id: str = ""
    attempt: int = 0
    first: float = 0.0
    last: float = 1.0


@dataclass(frozen=True, slots=True)
class VolumeArray:
    """A volume's finest level.

    Attributes:
        name: Resource name of the volume.
        key: Of the Zarr array in the object store; '' when it is a reference, whose voxels come through the trainer.
        shape: (z, y, x) voxels.
        voxel_bytes: Of one voxel.
        mean: Of each slice.
        std: Of each slice.
    """

    name: str
    key: str
    shape: tuple[int, int, int]
    voxel_bytes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def is_reference(self) -> bool:
        return not self.key


@dataclass(frozen=True, slots=True)
class AnnotationBlock:
    """One annotation; `labels` is the zlib stream of uint8 in C order, `scope` the classes looked for."""

    name: str
    volume_id: str
    region: Region
    labels: bytes = field(repr=False)
    scope: frozenset[int]
    seen_by_parent: bool


@dataclass(frozen=True, slots=True)
class Parent:
    """A model to start from."""

    name: str
    key: str
    classes: tuple[ModelClass, ...]


@dataclass(frozen=True, slots=True)
class TrainTask:
    """Train a model and write its bundle below `bundle_key`.

    Attributes:
        volumes: By id, with the factor of level-0 voxels per working pixel.
        checkpoints: Prefix of the job's checkpoints, of all attempts.
    """

    store: ObjectStoreSettings
    callback: Callback
    threads: int
    display_name: str
    bundle_key: str
    checkpoints: str
    classes: tuple[ModelClass, ...]
    working_resolution_nm: float
    annotations: tuple[AnnotationBlock, ...]
    volumes: Mapping[str, tuple[VolumeArray, int]]
    parent: Parent | None
    seed: int
    max_steps: int
    max_seconds: float
    options: Mapping[str, Option]


Task = TrainTask


@dataclass(frozen=True, slots=True)
class TrainedBundle:
    """What a training left in the object store, for the registry."""

    weights_sha256: str
    network: str
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended.

    Attributes:
        bundle: Of a training that succeeded.
        cancelled: It stopped because it was asked to.
        error: The error that ended it; of `biosegment.errors`.
    """

    bundle: TrainedBundle | None = None
    cancelled: bool = False
    error: Exception | None = None
