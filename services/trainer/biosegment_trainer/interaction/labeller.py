"""The use case of labelling a region by a model that segments, without a prompt: it is answered by the process that
answers clicks, so that nobody waits for a job's turn.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.auth import Authorizer, Permission, Principal
from biosegment.errors import InvalidArgument, ResourceExhausted
from biosegment.ids import parse_name
from biosegment.volume import Index, Region
from biosegment_trainer.datastore_client import DatastoreClient
from biosegment_trainer.interaction import request as checks
from biosegment_trainer.interaction.line import SegmentLine
from biosegment_trainer.interaction.model import InteractionModels
from biosegment_trainer.interaction.request import LabelRequest, SentImage
from biosegment_trainer.interaction.task import LabelTask, ModelPlace
from biosegment_trainer.learning.factor import working_factor
from biosegment_trainer.prediction.block import CELL

_HALO_PX: Final = 96
"""Working pixels in plane around a region that a network sees at most; further away hardly anything counts."""
_HALO_SLICES: Final = 8
_MOST_READ: Final = 4
"""Voxels that are read, relative to those that a request may have."""


@dataclass(frozen=True, slots=True)
class Labelling:
    """Labels of a region.

    Attributes:
        labels: uint8 class values over the region, a zlib stream.
        model: Resource name of the model.
        class_values: That the model can tell apart.
    """

    labels: bytes
    model: str
    class_values: tuple[int, ...]


class Labeller:
    """Labels regions for those who may annotate.

    Args:
        authorizer: Decides who may.
        datastore: Asked in the trainer's own name, for the project of the request alone.
        models: Finds models.
        line: Computes.
        max_voxels: Of a region.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        datastore: DatastoreClient,
        models: InteractionModels,
        line: SegmentLine,
        max_voxels: int,
    ) -> None:
        self._authorizer = authorizer
        self._datastore = datastore
        self._models = models
        self._line = line
        self._max_voxels = max_voxels

    async def label(self, principal: Principal, request: LabelRequest) -> Labelling:
        """Answer a request; nothing is stored. Errors as in the contract."""
        await self._authorizer.authorize(principal, Permission.ANNOTATE, request.project_id)
        request.require_sound(self._max_voxels)
        with self._line.enter(principal.user, "") as place:
            project = await self._datastore.project(request.project_id)
            model = await self._models.that_segments(request.project_id, request.model, project.classes)
            task = await self._task(request, model.place, model.working_resolution_nm)
            answer = await self._line.segment(task, place)
        values = tuple(item.value for item in model.place.classes if item.value >= 2)
        return Labelling(answer.mask, f"models/{model.place.model_id}", values)

    async def _task(
        self, request: LabelRequest, model: ModelPlace, working_resolution_nm: float
    ) -> LabelTask:
        source = request.source
        if isinstance(source, SentImage):
            factor = working_factor(working_resolution_nm, source.voxel_size.y_nm)
            voxels = await asyncio.to_thread(checks.image, source)
            mean, std = voxels.mean((1, 2), dtype=np.float64), voxels.std((1, 2), dtype=np.float64)
            whole = Region.of_shape(source.shape)
            return LabelTask(voxels, mean, std, whole, factor, model)
        if parse_name(source.volume, "projects/*/volumes/*")[0] != request.project_id:
            raise InvalidArgument(
                "OTHER_PROJECT", f"{source.volume} is not of project {request.project_id!r}"
            )
        volume = await self._datastore.volume(source.volume)
        source.region.require_within(volume.shape, volume.name)
        factor = working_factor(working_resolution_nm, volume.voxel_size.y_nm)
        box = _surroundings(source.region, volume.shape, factor)
        if math.prod(box.shape) > _MOST_READ * self._max_voxels:
            raise ResourceExhausted(
                "REGION_TOO_LARGE",
                f"{source.region} with what the network sees around it is {math.prod(box.shape)} voxels; one request "
                f"reads at most {_MOST_READ * self._max_voxels}; ask for a smaller region",
                limit=str(self._max_voxels),
            )
        voxels, mean, std = await self._read(source.volume, box)
        inner = source.region.relative_to(box)
        return LabelTask(voxels, mean, std, inner, factor, model)

    async def _read(
        self, volume: str, box: Region
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
        mean, std = await self._datastore.statistics(volume)
        slices = slice(box.start.z, box.stop.z)
        voxels = await self._datastore.voxels(volume, box, 0)
        return voxels, np.asarray(mean, np.float64)[slices], np.asarray(std, np.float64)[slices]


def _surroundings(region: Region, shape: Index, factor: int) -> Region:
    """A region and what a network sees around it, on the raster on which whole volumes are predicted."""
    step = CELL * factor
    start, stop = [max(0, region.start.z - _HALO_SLICES)], [min(shape.z, region.stop.z + _HALO_SLICES)]
    for low, high, size in zip(region.start[1:], region.stop[1:], shape[1:], strict=True):
        start.append(max(0, low - _HALO_PX * factor) // step * step)
        stop.append(min(size, -(-(high + _HALO_PX * factor) // step) * step))
    return Region(Index(*start), Index(*stop))
