"""The layers that a prediction or a scoring makes in a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from biosegment.errors import FailedPrecondition
from biosegment.jobs import Job
from biosegment.volume import Index, Region
from biosegment_trainer.compute.task import VolumeArray
from biosegment_trainer.datastore_client import LayerView, NewLayer, VolumeView
from biosegment_trainer.learning.factor import other_size, working_factor
from biosegment_trainer.learning.tiling import ORTHO_TILE, default_tile
from biosegment_trainer.prediction.block import BlockPlan
from biosegment_trainer.prediction.measure import INFOS
from biosegment_trainer.prediction.network import NetworkFacts
from biosegment_trainer.prediction.task import LayerArray, VolumePart, score_dtype
from biosegment_trainer.registry.model import Model


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job makes in one volume.

    Attributes:
        depth_factor: Slices per working pixel.
        region: What is asked for; None for all of the volume.
        layers: To make, in the order of the job's result.
    """

    volume: VolumeView
    plan: BlockPlan
    depth_factor: int
    region: Region | None
    layers: Sequence[NewLayer]

    def part(self, array: VolumeArray, made: Sequence[LayerView]) -> VolumePart:
        """What the workers are told, once the layers are made."""
        arrays = [
            (layer, LayerArray(view.key, view.downsampling, view.shard, view.dtype, view.channels))
            for layer, view in zip(self.layers, made, strict=True)
        ]
        return VolumePart(
            array,
            self.plan,
            self.depth_factor,
            next((where for layer, where in arrays if layer.kind == "labels"), None),
            {layer.class_value: where for layer, where in arrays if layer.kind == "probabilities"},
            {layer.measure: where for layer, where in arrays if layer.kind == "score_map"},
        )


def require_layout(layers: Sequence[NewLayer], made: Sequence[LayerView]) -> None:
    """Refuse to go on in layers that an earlier attempt made for other blocks, as an older release may have.

    Blocks that are not whole shards would overwrite each other, and the numbers of those that are done mean others.

    Raises:
        FailedPrecondition: OTHER_LAYOUT.
    """
    for layer, view in zip(layers, made, strict=True):
        # In a small volume shards are cut to its size.
        is_larger = any(there > wanted for there, wanted in zip(view.shard, layer.shard, strict=True))
        if is_larger and not view.committed:
            raise FailedPrecondition(
                "OTHER_LAYOUT",
                f"{view.name} was begun with shards of {tuple(view.shard)} voxels, and blocks are now shards of "
                f"{tuple(layer.shard)}: another release began this job; cancel it and start it anew",
            )


def wanted_layers(
    job: Job,
    model: Model,
    volume: VolumeView,
    region: Region | None,
    *,
    labels: bool,
    class_values: Sequence[int],
    measures: Sequence[str],
    network: NetworkFacts,
    ortho_planes: bool = False,
) -> Wanted:
    """The layers of a job in one volume; their ids follow from the job, so that every attempt means the same.

    Args:
        job: Whose layers they are.
        model: That makes them.
        volume: Where they are.
        region: What of it; None for all.
        labels: Whether to make a labels layer.
        class_values: Classes whose probabilities to keep.
        measures: Score maps to make.
        network: The model's.
        ortho_planes: Whether it looks along all three axes.
    """
    plan = block_plan(model, network, volume, region, ortho_planes)
    ulid = job.job_id.partition("-")[2]

    def layer(
        suffix: str,
        what: str,
        kind: str,
        dtype: str,
        downsampling: Index,
        layout: tuple[Index, Index],
        class_value: int = 0,
        measure: str = "",
        channels: int = 1,
    ) -> NewLayer:
        return NewLayer(
            layer_id=f"{ulid}-{suffix}",
            display_name=f"{what} by {model.display_name}"[:200],
            kind=kind,
            dtype=dtype,
            downsampling=downsampling,
            chunk=layout[0],
            shard=layout[1],
            region=region,
            model=model.name,
            job=job.name,
            class_value=class_value,
            measure=measure,
            channels=channels,
        )

    names = {item.value: item.name for item in model.new.classes}
    found: list[NewLayer] = []
    if labels:
        found.append(layer("labels", "Labels", "labels", "uint8", Index(1, 1, 1), plan.labels_layout))
    for value in class_values:
        down, layout = plan.probabilities_downsampling, plan.probabilities_layout
        what = f"Probability of {names[value]}"
        found.append(layer(f"p{value}", what, "probabilities", "uint8", down, layout, class_value=value))
    for measure in measures:
        down, layout = plan.scores_downsampling, plan.scores_layout
        suffix = measure.replace("_", "-")
        channels = INFOS[measure].channels(len(model.new.classes)) if measure in INFOS else 1
        found.append(
            layer(
                suffix,
                measure,
                "score_map",
                score_dtype(measure),
                down,
                layout,
                measure=measure,
                channels=channels,
            )
        )
    return Wanted(volume, plan, depth_factor(model, volume), region, found)


def depth_factor(model: Model, volume: VolumeView) -> int:
    """Slices per working pixel: the nearest whole number, at least 1."""
    return working_factor(model.new.working_resolution_nm, volume.voxel_size.z_nm)


def size_remarks(model: Model, volume: VolumeView) -> list[str]:
    """What to say when the model sees a volume at another pixel size than its own."""
    return other_size(volume.name, volume.voxel_size.y_nm, model.new.working_resolution_nm, model.name)


def block_plan(
    model: Model,
    network: NetworkFacts,
    volume: VolumeView,
    region: Region | None = None,
    ortho_planes: bool = False,
) -> BlockPlan:
    """How a volume is cut for a model."""
    factor = working_factor(model.new.working_resolution_nm, volume.voxel_size.y_nm)
    tile = default_tile(network.spatial_dims, factor)
    if ortho_planes:
        tile = (ORTHO_TILE * depth_factor(model, volume), ORTHO_TILE, ORTHO_TILE)
    return BlockPlan.of(factor, region or volume.bounds, tile)
