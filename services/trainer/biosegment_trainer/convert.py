"""Between messages and the trainer's values."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from google.protobuf import json_format, struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2
from biosegment.errors import InvalidArgument
from biosegment.ids import parse_name
from biosegment.jobs import Resources
from biosegment.jobs.convert import kind_of, resources_from_proto, spec_of
from biosegment.rpc.geometry import region_from_proto
from biosegment_trainer.instances.separation import CONNECTIVITIES, METHODS, WATERSHED
from biosegment_trainer.registry.model import Model
from biosegment_trainer.request import (
    InstancesRequest,
    MeasureRequest,
    MeshFormat,
    Passes,
    PredictRequest,
    PretrainRequest,
    ScoreRequest,
    TrainRequest,
)
from biosegment_trainer.training.option import check_options

_MESH_FORMATS: Final = {
    getattr(job_pb2.MeasureObjectsSpec, f"MESH_FORMAT_{each.name}"): each for each in MeshFormat
}
SEED_DISTANCE_NM: Final = 20.0
"""Of a watershed that is told none; larger ones parted mitochondria that are one."""
MAX_PASSES: Final = 64
"""Passes with dropout of one prediction."""


def model_id_of(name: str) -> str:
    """`models/m` -> `m`; InvalidArgument BAD_NAME."""
    return parse_name(name, "models/*")[0]


def asked_resources(spec: bytes) -> Resources:
    """What a spec asks to reserve; 0 where it leaves that to the service. InvalidArgument BAD_RESOURCES."""
    message = spec_of(spec)
    return resources_from_proto(getattr(message, kind_of(message)).resources)


def train_request(spec: bytes) -> TrainRequest:
    """Raises InvalidArgument for values that can never work."""
    message = spec_of(spec).train
    if message.seed < 0 or message.max_steps < 0 or not 0 <= message.max_seconds_s < 1e9:
        raise InvalidArgument("BAD_SPEC", "seed, max_steps and max_seconds_s must not be negative")
    if message.parent and message.from_scratch:
        raise InvalidArgument("BAD_SPEC", "a training from scratch has no parent; leave one of the two out")
    if len(message.display_name) > 200:
        raise InvalidArgument("BAD_SPEC", "display_name may have at most 200 characters")
    if len(set(message.annotations)) < len(message.annotations):
        raise InvalidArgument("BAD_SPEC", "an annotation is named twice; name each once")
    return TrainRequest(
        parent=model_id_of(message.parent) if message.parent else "",
        from_scratch=message.from_scratch,
        annotations=tuple(message.annotations),
        display_name=message.display_name,
        seed=message.seed,
        max_steps=message.max_steps,
        max_seconds=message.max_seconds_s,
        options=check_options(json_format.MessageToDict(message.options)),
        interactive=message.interactive,
    )


def predict_request(spec: bytes) -> PredictRequest:
    """Raises InvalidArgument for values that can never work."""
    message = spec_of(spec).predict
    return PredictRequest(
        model=model_id_of(message.model) if message.model else "",
        volume=message.volume,
        region=region_from_proto(message.region) if message.HasField("region") else None,
        probabilities=message.probabilities,
        measures=tuple(message.measures),
        passes=_passes(message.passes),
        ortho_planes=message.ortho_planes,
    )


def score_request(spec: bytes) -> ScoreRequest:
    """Raises InvalidArgument for values that can never work."""
    message = spec_of(spec).score
    if message.max_pixels < 0:
        raise InvalidArgument("BAD_SPEC", f"max_pixels {message.max_pixels} must not be negative")
    return ScoreRequest(
        model=model_id_of(message.model),
        volumes=tuple(message.volumes),
        measures=tuple(message.measures),
        max_pixels=message.max_pixels,
        passes=_passes(message.passes),
    )


def _passes(message: job_pb2.Passes) -> Passes:
    dropout, turned = message.mc_dropout, message.test_time_augmentation
    if (dropout and not 2 <= dropout <= MAX_PASSES) or (turned and not 2 <= turned <= 8):
        raise InvalidArgument(
            "BAD_SPEC",
            f"mc_dropout {dropout} must be 0 or 2 to {MAX_PASSES}, test_time_augmentation {turned} 0 or 2 to 8",
        )
    ensemble = tuple(map(model_id_of, message.ensemble))
    if len(set(ensemble)) < len(ensemble):
        raise InvalidArgument("BAD_SPEC", "a member of the ensemble is named twice; name each once")
    return Passes(message.mc_dropout, message.test_time_augmentation, ensemble)


def pretrain_request(spec: bytes) -> PretrainRequest:
    """Raises InvalidArgument for values that can never work."""
    message = spec_of(spec).pretrain
    if message.seed < 0 or message.max_steps < 0 or not 0 <= message.max_seconds_s < 1e9:
        raise InvalidArgument("BAD_SPEC", "seed, max_steps and max_seconds_s must not be negative")
    if len(message.display_name) > 200:
        raise InvalidArgument("BAD_SPEC", "display_name may have at most 200 characters")
    if not message.volumes or len(set(message.volumes)) < len(message.volumes):
        raise InvalidArgument("BAD_SPEC", "name at least one volume, each once")
    return PretrainRequest(
        volumes=tuple(message.volumes),
        seed=message.seed,
        max_steps=message.max_steps,
        max_seconds=message.max_seconds_s,
        display_name=message.display_name,
        options=check_options(json_format.MessageToDict(message.options), pretraining=True),
    )


def instances_request(spec: bytes) -> InstancesRequest:
    """Raises InvalidArgument for values that can never work."""
    message = spec_of(spec).instances
    parse_name(message.layer, "projects/*/volumes/*/layers/*")
    if message.boundary_layer:
        parse_name(message.boundary_layer, "projects/*/volumes/*/layers/*")
    if message.method not in METHODS:
        raise InvalidArgument(
            "UNKNOWN_METHOD", f"there is no method {message.method!r}; there are {', '.join(METHODS)}"
        )
    connectivity = message.connectivity or CONNECTIVITIES[-1]
    if connectivity not in CONNECTIVITIES:
        raise InvalidArgument("BAD_SPEC", f"connectivity {connectivity} is neither 6 nor 26")
    if message.min_size_voxels < 0:
        raise InvalidArgument("BAD_SPEC", f"min_size_voxels {message.min_size_voxels} must not be negative")
    if not 0 <= message.threshold <= 1:
        raise InvalidArgument("BAD_SPEC", f"threshold {message.threshold:g} is not within 0..1")
    if not 0 <= message.seed_distance_nm < 1e9:
        raise InvalidArgument("BAD_SPEC", f"seed_distance_nm {message.seed_distance_nm:g} is no distance")
    is_watershed = message.method == WATERSHED
    if not is_watershed and (message.seed_distance_nm or message.boundary_layer):
        raise InvalidArgument(
            "BAD_SPEC",
            "seed_distance_nm and boundary_layer go with the method watershed only; leave them out",
        )
    if message.boundary_class_value and not message.boundary_layer:
        raise InvalidArgument("BAD_SPEC", "boundary_class_value needs the boundary_layer that it is in")
    if len(message.display_name) > 200:
        raise InvalidArgument("BAD_SPEC", "display_name may have at most 200 characters")
    return InstancesRequest(
        layer=message.layer,
        class_value=message.class_value,
        method=message.method,
        min_size_voxels=message.min_size_voxels,
        connectivity=connectivity,
        threshold=message.threshold,
        seed_distance_nm=(message.seed_distance_nm or SEED_DISTANCE_NM) if is_watershed else 0.0,
        boundary_layer=message.boundary_layer,
        boundary_class_value=message.boundary_class_value,
        display_name=message.display_name,
    )


def measure_request(spec: bytes) -> MeasureRequest:
    """Raises InvalidArgument for values that can never work."""
    message = spec_of(spec).measure_objects
    parse_name(message.layer, "projects/*/volumes/*/layers/*")
    if (message.mesh_formats or message.mesh_cell_nm) and not message.meshes:
        raise InvalidArgument("BAD_SPEC", "mesh_formats and mesh_cell_nm go with `meshes` only; set it too")
    if not 0 <= message.mesh_cell_nm < 1e9:
        raise InvalidArgument(
            "BAD_SPEC", f"mesh_cell_nm {message.mesh_cell_nm} is no length; 0 is the voxels' own"
        )
    known = set(_MESH_FORMATS)
    if not known.issuperset(message.mesh_formats):
        raise InvalidArgument(
            "BAD_SPEC", f"mesh_formats {[*message.mesh_formats]} has one that is not set or known"
        )
    formats = tuple(_MESH_FORMATS[each] for each in dict.fromkeys(message.mesh_formats)) or (MeshFormat.STL,)
    return MeasureRequest(message.layer, formats if message.meshes else (), message.mesh_cell_nm)


def with_model(spec: bytes, model_id: str) -> bytes:
    """The spec of a prediction that names its model."""
    message = spec_of(spec)
    message.predict.model = f"models/{model_id}"
    return message.SerializeToString(deterministic=True)


def is_interactive(spec: bytes) -> bool:
    """Whether somebody waits for a training."""
    return spec_of(spec).train.interactive


def model_to_proto(model: Model, url: str, brief: bool = False) -> trainer_pb2.Model:
    """A model as the wire shows it.

    Args:
        model: The model.
        url: Of the object store.
        brief: Leave out annotations and config, as lineages do for ancestors.
    """
    new = replace(model.new, annotations=(), config={}) if brief else model.new
    created = Timestamp()
    created.FromDatetime(model.create_time)
    return trainer_pb2.Model(
        name=model.name,
        project="" if model.is_shared else f"projects/{new.project_id}",
        display_name=model.display_name,
        version=model.version,
        parent=f"models/{new.parent}" if new.parent else "",
        network=new.network,
        class_values=[item.value for item in new.classes],
        working_resolution_nm=new.working_resolution_nm,
        annotations=new.annotations,
        annotation_count=model.annotation_count,
        config=_struct(new.config),
        metrics=new.metrics,
        job=new.job,
        author=new.author,
        create_time=created,
        uri=f"{url}/{model.bundle_key}",
        weights_sha256=new.weights_sha256,
        data_license=new.data_license,
        deleted=model.deleted,
        remarks=new.remarks,
        class_names=[item.name for item in new.classes],
        shared=model.is_shared,
    )


def _struct(values: Any) -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    # Through JSON: tuples become lists, which a Struct understands.
    message.update(json.loads(json.dumps(values)))
    return message
