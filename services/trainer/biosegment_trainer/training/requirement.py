"""What trainings and pretrainings need before they are queued: options that suit the network that they will make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from biosegment.storage.objects import Objects
from biosegment_trainer.datastore_client import DatastoreClient
from biosegment_trainer.learning.architecture import NetworkConfig
from biosegment_trainer.prediction.network import network_def
from biosegment_trainer.request import PretrainRequest, TrainRequest
from biosegment_trainer.sql import SqlModels
from biosegment_trainer.training.choice import choose, require_fit
from biosegment_trainer.training.gathering import processes, volumes_of
from biosegment_trainer.training.option import Option
from biosegment_trainer.training.parent import ParentChoice

_DECISIVE: Final = ("patch_size", "patch_depth", "batch_size")
"""Options that may not suit a network, beside those that choose it; defaults suit every network."""


class TrainingRequirements:
    """Says no to options that can never work, as things are: a worker would find out when it has started.

    Args:
        models: Parents.
        parents: Choose them, as the training will.
        datastore: Volumes, whose voxels decide about some networks.
        objects: What bundles say of their networks.
    """

    def __init__(
        self, models: SqlModels, parents: ParentChoice, datastore: DatastoreClient, objects: Objects
    ) -> None:
        self._models = models
        self._parents = parents
        self._datastore = datastore
        self._objects = objects

    async def train(self, project_id: str, request: TrainRequest, gpus: int) -> None:
        """Check a training that asks for so many GPUs.

        Raises:
            InvalidArgument: BAD_NETWORK, BAD_PLAN, BAD_TRAINING.
        """
        if not _are_decisive(request.options):
            return
        parent_id, _ = await self._parents.choose(project_id, request)
        parent = await self._network(parent_id) if parent_id else None
        if parent_id and parent is None:
            # Whoever can read its bundle will say.
            return
        names = request.annotations or await self._datastore.annotation_names(project_id)
        await self._require(project_id, request.options, volumes_of(names), parent, gpus)

    async def pretrain(self, project_id: str, request: PretrainRequest, gpus: int) -> None:
        """Check a pretraining. Raises as `train`."""
        if _are_decisive(request.options):
            await self._require(project_id, request.options, request.volumes, None, gpus)

    async def _require(
        self,
        project_id: str,
        options: Mapping[str, Option],
        volumes: Sequence[str],
        parent: NetworkConfig | None,
        gpus: int,
    ) -> None:
        size = (await self._datastore.volume(volumes[0])).voxel_size
        project = await self._datastore.project(project_id)
        resolution = float(options.get("working_resolution_nm", project.working_resolution_nm))
        chosen, _ = choose(options, (size.z_nm, size.y_nm, size.x_nm), resolution, parent)
        require_fit(options, chosen, processes(gpus, options))

    async def _network(self, model_id: str) -> NetworkConfig | None:
        definition = await network_def(self._objects, (await self._models.get(model_id)).bundle_key)
        return None if definition is None else NetworkConfig.of_bundle(definition)


def _are_decisive(options: Mapping[str, Option]) -> bool:
    return any(name in _DECISIVE or name.startswith("network.") for name in options)
