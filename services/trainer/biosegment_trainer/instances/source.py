"""Which layers objects can be found in, and the settings for one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.ids import parse_name
from biosegment.volume import FIRST_CLASS, Index, Region
from biosegment_trainer.datastore_client import DatastoreClient, LayerView, VolumeView
from biosegment_trainer.instances.block import BlockCut
from biosegment_trainer.instances.separation import MAX_REACH, WATERSHED, Separation
from biosegment_trainer.instances.task import SourceArray
from biosegment_trainer.prediction.block import downsampled
from biosegment_trainer.request import InstancesRequest

_LARGEST_PROBABILITY = 255


@dataclass(frozen=True, slots=True)
class InstancesPlan:
    """What an instances job does, as far as it is known before the layer is made.

    Attributes:
        volume: Whose layer it is.
        layer: The source.
        class_value: Of the objects.
        class_name: For people.
        source: Voxels of the class.
        boundary: Where objects end; None when nothing says so.
        separation: How they are told apart.
    """

    volume: VolumeView
    layer: LayerView
    class_value: int
    class_name: str
    source: SourceArray
    boundary: SourceArray | None
    separation: Separation

    @property
    def domain(self) -> Region:
        """Voxels of the layer that were computed."""
        return downsampled(self.layer.region or self.volume.bounds, self.layer.downsampling)

    def cut(self, shard: Index) -> BlockCut:
        """Blocks for a layer that is stored in shards of so many voxels."""
        return BlockCut(self.layer.shape, shard, self.domain)


@dataclass(frozen=True, slots=True)
class InstanceSources:
    """Says what to do for a request, or why it cannot be done."""

    datastore: DatastoreClient

    async def plan(self, project_id: str, request: InstancesRequest) -> InstancesPlan:
        """Look at the layers that a request names, as they are now.

        Raises:
            InvalidArgument: OTHER_PROJECT, BAD_LAYER_KIND, UNKNOWN_CLASS, BAD_SPEC, OTHER_GRID.
            NotFound: LAYER_NOT_FOUND.
            FailedPrecondition: LAYER_NOT_COMMITTED.
        """
        layer = await self._layer(project_id, request.layer)
        volume = await self.datastore.volume(layer.name.rpartition("/layers/")[0])
        classes = {item.value: item.name for item in (await self.datastore.project(project_id)).classes}
        value, source = _array(layer, request.class_value, request.threshold, classes)
        boundary = None
        if request.boundary_layer:
            other = await self._layer(project_id, request.boundary_layer)
            _require_same_grid(layer, other)
            end, boundary = _array(other, request.boundary_class_value, request.threshold, classes)
            if end == value:
                raise InvalidArgument(
                    "BAD_SPEC", f"class {value} cannot be its own boundary; name another boundary_class_value"
                )
        if request.threshold and not (source.is_graded or (boundary and boundary.is_graded)):
            raise InvalidArgument(
                "BAD_SPEC", f"{layer.name} holds labels, which have no threshold; leave it out"
            )
        separation = _separation(request, volume, layer)
        return InstancesPlan(volume, layer, value, classes.get(value, ""), source, boundary, separation)

    async def _layer(self, project_id: str, name: str) -> LayerView:
        if parse_name(name, "projects/*/volumes/*/layers/*")[0] != project_id:
            raise InvalidArgument("OTHER_PROJECT", f"{name} is not of project {project_id!r}")
        layer = await self.datastore.layer(name)
        if not layer.committed:
            raise FailedPrecondition(
                "LAYER_NOT_COMMITTED", f"{name} is still being made; wait for the job that makes it"
            )
        if layer.kind not in ("labels", "probabilities"):
            raise InvalidArgument(
                "BAD_LAYER_KIND",
                f"{name} is a layer of {layer.kind}; objects are found in labels or probabilities",
            )
        return layer


def _array(
    layer: LayerView, class_value: int, threshold: float, classes: dict[int, str]
) -> tuple[int, SourceArray]:
    """A class of a layer, and the values that mean it."""
    if layer.kind == "probabilities":
        if class_value not in (0, layer.class_value):
            raise InvalidArgument(
                "UNKNOWN_CLASS",
                f"{layer.name} holds probabilities of class {layer.class_value}, not of {class_value}",
            )
        low = max(1, math.ceil((threshold or 0.5) * _LARGEST_PROBABILITY))
        return layer.class_value, SourceArray(layer.key, low, _LARGEST_PROBABILITY, is_graded=True)
    known = sorted(value for value in classes if value >= FIRST_CLASS)
    if class_value not in known:
        raise InvalidArgument(
            "UNKNOWN_CLASS", f"the project has no class {class_value} to find objects of; it has {known}"
        )
    return class_value, SourceArray(layer.key, class_value, class_value, is_graded=False)


def _require_same_grid(layer: LayerView, other: LayerView) -> None:
    def grid(view: LayerView) -> tuple[object, ...]:
        return view.name.rpartition("/layers/")[0], view.downsampling, view.region

    if grid(layer) != grid(other):
        raise InvalidArgument(
            "OTHER_GRID",
            f"{other.name} is not on the grid of {layer.name}: volume, downsampling and region must be the same",
        )


def _separation(request: InstancesRequest, volume: VolumeView, layer: LayerView) -> Separation:
    edges = volume.voxel_size.scaled(layer.downsampling)
    voxels = layer.downsampling.z * layer.downsampling.y * layer.downsampling.x
    separation = Separation(
        method=request.method,
        connectivity=request.connectivity,
        min_size=-(-request.min_size_voxels // voxels),
        seed_distance_nm=request.seed_distance_nm,
        spacing_nm=(edges.z_nm, edges.y_nm, edges.x_nm),
    )
    if request.method == WATERSHED and not max(separation.reach) <= MAX_REACH:
        most = MAX_REACH * min(separation.spacing_nm)
        raise InvalidArgument(
            "BAD_SPEC",
            f"seed_distance_nm {request.seed_distance_nm:g} is more than {MAX_REACH} voxels of {layer.name}; it may "
            f"be {most:g} at most, or take a coarser layer",
        )
    return separation
