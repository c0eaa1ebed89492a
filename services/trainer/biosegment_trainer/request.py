"""What people ask of the trainer's jobs, as plain values."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from biosegment.volume import Region
from biosegment_trainer.training.option import Option


class MeshFormat(enum.StrEnum):
    """Files of meshes."""

    STL = "stl"
    PLY = "ply"
    GLB = "glb"
    PRECOMPUTED = "precomputed"
    """Neuroglancer's single-resolution ("legacy") format: a manifest and a fragment for each object."""


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """A training; fields as in `TrainSpec`, `parent` is a model id or ''."""

    parent: str = ""
    from_scratch: bool = False
    annotations: tuple[str, ...] = ()
    display_name: str = ""
    seed: int = 0
    max_steps: int = 0
    max_seconds: float = 0.0
    options: Mapping[str, Option] = field(default_factory=dict)
    interactive: bool = False


@dataclass(frozen=True, slots=True)
class Passes:
    """Several passes over the same voxels; fields as in the message, `ensemble` holds model ids."""

    mc_dropout: int = 0
    test_time_augmentation: int = 0
    ensemble: tuple[str, ...] = ()

    @property
    def are_several(self) -> bool:
        return bool(self.mc_dropout > 1 or self.test_time_augmentation > 1 or self.ensemble)


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A prediction of one volume; `model` is a model id or ''."""

    model: str
    volume: str
    region: Region | None
    probabilities: bool
    measures: tuple[str, ...]
    passes: Passes = Passes()
    ortho_planes: bool = False


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Score maps of volumes; `model` is a model id."""

    model: str
    volumes: tuple[str, ...]
    measures: tuple[str, ...]
    max_pixels: int
    passes: Passes = Passes()


@dataclass(frozen=True, slots=True)
class PretrainRequest:
    """A pretraining; fields as in `PretrainSpec`."""

    volumes: tuple[str, ...]
    seed: int
    max_steps: int
    max_seconds: float
    display_name: str
    options: Mapping[str, Option] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InstancesRequest:
    """Instances of one class; fields as in `InstancesSpec`, with defaults filled in but for `threshold`, 0 for none.

    Attributes:
        layer: Name of the source.
        boundary_layer: Name of the layer that says where objects end, or ''.
    """

    layer: str
    class_value: int
    method: str
    min_size_voxels: int
    connectivity: int
    threshold: float
    seed_distance_nm: float
    boundary_layer: str
    boundary_class_value: int
    display_name: str


@dataclass(frozen=True, slots=True)
class MeasureRequest:
    """A table of objects.

    Attributes:
        layer: Name of the layer of instances.
        mesh_formats: Of the meshes; none are wanted when empty.
        mesh_cell_nm: As in the message.
    """

    layer: str
    mesh_formats: tuple[MeshFormat, ...]
    mesh_cell_nm: float

    @property
    def volume(self) -> str:
        return self.layer.rpartition("/layers/")[0]
