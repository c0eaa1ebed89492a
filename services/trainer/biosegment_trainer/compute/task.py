"""What a worker is told to do and what it answers: plain values that travel through Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from biosegment.settings import ObjectStoreSettings
from biosegment.volume import Region
from biosegment_trainer.objects.grid import ObjectGrid
from biosegment_trainer.registry.model import ModelClass
from biosegment_trainer.request import MeshFormat
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
    """One annotation; `labels` is the zlib stream of uint8 in C order, `scope` the classes looked for.

    Attributes:
        seen_by_parent: It shaped the parent's weights.
        new: No model of the parent's lineage was trained on it, held it out or was tested on it, nor was the parent
            trained on any voxel of its region.
    """

    name: str
    volume_id: str
    region: Region
    labels: bytes = field(repr=False)
    scope: frozenset[int]
    seen_by_parent: bool
    new: bool


@dataclass(frozen=True, slots=True)
class Parent:
    """A model to start from."""

    name: str
    key: str
    classes: tuple[ModelClass, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnTask:
    """What trainings and pretrainings have in common: make a model and write its bundle below `bundle_key`.

    Attributes:
        threads: CPU threads of each process.
        workers: Processes that share the work, each with a GPU where there are any.
        checkpoints: Prefix of the job's checkpoints, of all attempts.
        volumes: By id, with the factor of level-0 voxels per working pixel.
        voxel_size_nm: (z, y, x) of the volume that matters most.
    """

    store: ObjectStoreSettings
    callback: Callback
    threads: int
    workers: int = 1
    gpus: int = 0
    display_name: str
    bundle_key: str
    checkpoints: str
    working_resolution_nm: float
    volumes: Mapping[str, tuple[VolumeArray, int]]
    voxel_size_nm: tuple[float, float, float]
    seed: int
    max_steps: int
    max_seconds: float
    options: Mapping[str, Option]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTask(LearnTask):
    """Train a model on annotations."""

    classes: tuple[ModelClass, ...]
    annotations: tuple[AnnotationBlock, ...]
    parent: Parent | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainTask(LearnTask):
    """Pretrain a model on raw volumes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureTask:
    """Write the table of the objects of a layer, and their meshes when wanted.

    Attributes:
        threads: CPU threads.
        layer: Its name.
        layer_key: Of its array of ids in the object storage.
        edits_as_of: Edits of its objects hold as they did then, and are read through the trainer; None for no edits.
        grid: Where its voxels lie.
        volume: Whose values are measured.
        class_value: That the objects are of; 0 when the layer does not say.
        class_name: Of that class; '' when there is none.
        file_stem: What the names of files begin with.
        csv: Name of the artifact with the table as CSV, and the prefix of its parts.
        parquet: Likewise, as Parquet.
        meshes: Likewise, the zip file of meshes; None when none are wanted.
        mesh_formats: Of the meshes, at least one.
        mesh_cell_nm: Edge of the grid on which they are made; 0 for the voxels themselves.
        mesh_cells: Most cells of that grid in an object's box.
    """

    store: ObjectStoreSettings
    callback: Callback
    threads: int
    layer: str
    layer_key: str
    edits_as_of: datetime | None
    grid: ObjectGrid
    volume: VolumeArray
    class_value: int
    class_name: str
    file_stem: str
    csv: tuple[str, str]
    parquet: tuple[str, str]
    meshes: tuple[str, str] | None = None
    mesh_formats: tuple[MeshFormat, ...] = ()
    mesh_cell_nm: float = 0.0
    mesh_cells: int = 1 << 25
    workers: int = 1


Task = TrainTask | PretrainTask | MeasureTask


@dataclass(frozen=True, slots=True)
class TrainedBundle:
    """What a training left in the object store, for the registry.

    Attributes:
        parent_kept: The weights are the parent's, for nothing that was trained was as good.
        data_license: Terms of the data behind it, the parent's included.
    """

    weights_sha256: str
    network: str
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    remarks: tuple[str, ...]
    parent_kept: bool = False
    data_license: str = ""


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file that a task wrote into the object storage.

    Attributes:
        artifact: Name of the artifact that it is to become.
    """

    artifact: str
    file_name: str
    media_type: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended.

    Attributes:
        bundle: Of a training that succeeded.
        files: Of a task that writes files.
        cancelled: It stopped because it was asked to.
        error: The error that ended it; of `biosegment.errors`.
    """

    bundle: TrainedBundle | None = None
    files: tuple[MadeFile, ...] = ()
    cancelled: bool = False
    error: Exception | None = None
