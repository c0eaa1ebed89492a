"""What predictions and scorings need before they are queued, beside a model and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.storage.objects import Objects
from biosegment_trainer.datastore_client import VolumeView
from biosegment_trainer.prediction.block import VolumeBlocks
from biosegment_trainer.prediction.layer import block_plan
from biosegment_trainer.prediction.measure import INFOS
from biosegment_trainer.prediction.network import NetworkFacts, network_facts
from biosegment_trainer.registry.model import Model
from biosegment_trainer.request import Passes, PredictRequest, ScoreRequest
from biosegment_trainer.sql import SqlModels

_NEAR_ISOTROPIC: Final = 1.5
"""Largest edge of a voxel by its smallest."""


class PredictionRequirements:
    """Says no to what cannot work; errors as in the contract of the specs.

    Args:
        models: Members of ensembles.
        objects: What bundles say of their networks.
    """

    def __init__(self, models: SqlModels, objects: Objects) -> None:
        self._models = models
        self._objects = objects

    async def predict(
        self, project_id: str, request: PredictRequest, model: Model, volume: VolumeView
    ) -> None:
        """Check a prediction."""
        network = await self._network(model, request.passes)
        self._require_measures(request.measures, request.passes, request.ortho_planes)
        await self._require_members(project_id, model, network, request.passes)
        if request.ortho_planes:
            _require_isotropic(network, volume)

    async def score(
        self, project_id: str, request: ScoreRequest, model: Model, volumes: Sequence[VolumeView]
    ) -> None:
        """Check a scoring."""
        network = await self._network(model, request.passes)
        self._require_measures(request.measures, request.passes, False)
        await self._require_members(project_id, model, network, request.passes)
        if request.max_pixels:
            _require_affordable(request.max_pixels, model, network, volumes)

    async def _network(self, model: Model, passes: Passes) -> NetworkFacts:
        network = await network_facts(self._objects, model.bundle_key)
        if passes.mc_dropout and not network.has_dropout:
            raise FailedPrecondition(
                "NO_DROPOUT",
                f"the network of {model.name} has no dropout, so that its passes are all the same; train with the "
                "option network.dropout, or ask for test_time_augmentation or an ensemble",
            )
        return network

    def _require_measures(self, names: Sequence[str], passes: Passes, ortho_planes: bool) -> None:
        comparing = [name for name in names if INFOS[name].needs_passes]
        if comparing and not passes.are_several and not ortho_planes:
            raise InvalidArgument(
                "NEEDS_PASSES",
                f"{', '.join(comparing)} compare several passes; ask for mc_dropout, test_time_augmentation or an "
                "ensemble",
            )

    async def _require_members(
        self, project_id: str, model: Model, network: NetworkFacts, passes: Passes
    ) -> None:
        for model_id in passes.ensemble:
            member = await self._models.get(model_id)
            member.require_use_by(project_id)
            if member.is_shared:
                member = member.seen_by(model.new.classes)
            if member.new.classes != model.new.classes or (
                member.new.working_resolution_nm != model.new.working_resolution_nm
            ):
                raise InvalidArgument(
                    "OTHER_CLASSES",
                    f"{member.name} tells {[each.name for each in member.new.classes]} apart at "
                    f"{member.new.working_resolution_nm:g} nm, {model.name} "
                    f"{[each.name for each in model.new.classes]} at {model.new.working_resolution_nm:g} nm; "
                    "members of an ensemble must agree in both",
                )
            dims = (await network_facts(self._objects, member.bundle_key)).spatial_dims
            if dims != network.spatial_dims:
                raise InvalidArgument(
                    "OTHER_DIMENSIONS",
                    f"the network of {member.name} has {dims} dimensions, that of {model.name} "
                    f"{network.spatial_dims}; members of an ensemble must agree in that",
                )


def _require_isotropic(network: NetworkFacts, volume: VolumeView) -> None:
    edges = (volume.voxel_size.z_nm, volume.voxel_size.y_nm, volume.voxel_size.x_nm)
    if network.spatial_dims != 2 or max(edges) > _NEAR_ISOTROPIC * min(edges):
        raise FailedPrecondition(
            "VOXELS_NOT_ISOTROPIC",
            f"{volume.name} has voxels of {edges[0]:g} x {edges[1]:g} x {edges[2]:g} nm (z, y, x) and the network "
            f"{network.spatial_dims} dimensions; all three planes are for 2D networks and voxels whose edges differ "
            f"by at most a factor of {_NEAR_ISOTROPIC:g}",
        )


def _require_affordable(
    max_pixels: int, model: Model, network: NetworkFacts, volumes: Sequence[VolumeView]
) -> None:
    """A block that costs more than is allowed would never be scored."""
    for volume in volumes:
        blocks = VolumeBlocks(volume.shape, block_plan(model, network, volume))
        largest = blocks.pixels(0)
        if largest > max_pixels:
            raise InvalidArgument(
                "MAX_PIXELS_TOO_SMALL",
                f"max_pixels {max_pixels} is less than the {largest} working pixels of a block of {volume.name}; "
                "allow at least so many, or 0 for all",
            )
