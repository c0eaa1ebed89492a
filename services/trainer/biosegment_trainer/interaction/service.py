"""The use case of interactive segmentation: check, read, compute elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from biosegment.auth import Authorizer, Permission, Principal
from biosegment.errors import Conflict, InvalidArgument, ResourceExhausted
from biosegment.ids import parse_name
from biosegment.volume import Index, Region, VoxelSize
from biosegment_trainer.datastore_client import DatastoreClient
from biosegment_trainer.interaction import request as checks
from biosegment_trainer.interaction.line import Place, SegmentLine
from biosegment_trainer.interaction.model import InteractionModels
from biosegment_trainer.interaction.request import SegmentRequest, SentImage, VolumePart
from biosegment_trainer.interaction.task import ModelPlace, SegmentAnswer, SegmentTask
from biosegment_trainer.interaction.working_grid import Level, WorkingGrid, choose_level, make_grid

HALO_PX: Final = 114
"""Working pixels around a region that matter to its strokes; as `scribbles.segmentation.HALO`, which loads torch."""
_MAX_ANSWER_BYTES: Final = 7 << 20
_MOST_PIXELS_PER_VOXEL: Final = 4


@dataclass(frozen=True, slots=True)
class Segmentation:
    """An answer, and how it came about.

    Attributes:
        answer: Mask, probability and what changed.
        level: Of the pyramid that was read.
        voxel_size: Of the pixels that were worked at.
        model: Resource name; '' when none was needed.
    """

    answer: SegmentAnswer
    level: int
    voxel_size: VoxelSize
    model: str


@dataclass(frozen=True, slots=True)
class _Source:
    """An image and its pyramid."""

    levels: tuple[Level, ...]
    voxel_size: VoxelSize
    bounds: Region


class InteractionService:
    """Segments for those who may annotate.

    Args:
        authorizer: Decides who may.
        datastore: Asked in the trainer's own name, for the project of the request alone.
        models: Finds models.
        line: Computes.
        max_voxels: Of a region.
        network_features: Strokes use the shipped model's first layers without being asked.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        datastore: DatastoreClient,
        models: InteractionModels,
        line: SegmentLine,
        max_voxels: int,
        network_features: bool,
    ) -> None:
        self._authorizer = authorizer
        self._datastore = datastore
        self._models = models
        self._line = line
        self._max_voxels = max_voxels
        self._network_features = network_features

    async def authorize(self, principal: Principal, project_id: str) -> None:
        """Raise unless the caller may annotate in a project; before anything else is looked at."""
        await self._authorizer.authorize(principal, Permission.ANNOTATE, project_id)

    async def prepare(self, principal: Principal, project_id: str) -> None:
        """Have the process that answers started for somebody who may annotate."""
        await self.authorize(principal, project_id)
        self._line.announce()

    async def segment(self, principal: Principal, request: SegmentRequest) -> Segmentation:
        """Answer a request; nothing is stored. Errors as in the contract."""
        await self.authorize(principal, request.project_id)
        request.require_sound(self._max_voxels)
        with self._line.enter(principal.user, request.session) as place:
            return await self._segment(request, place)

    async def _segment(self, request: SegmentRequest, place: Place) -> Segmentation:
        project, source = await _both(self._datastore.project(request.project_id), self._source(request))
        classes = frozenset(item.value for item in project.classes)
        if request.class_value not in classes:
            raise checks.unknown_class(request.class_value, classes)
        level, source_level = self._level(request, source, project.working_resolution_nm)
        nm = None if _asked_level(request) is not None else project.working_resolution_nm
        through = request.plane.through
        grid = make_grid(request.region, source_level, source.voxel_size, through, nm)
        box = _surroundings(grid, through, source.bounds) if request.scribbles else request.region
        surroundings = make_grid(box, source_level, source.voxel_size, through, nm)
        self._require_pixels(request, grid, surroundings)
        scribbles, previous = await asyncio.to_thread(_arrays, request, classes)
        model, shallow = await self._chosen(request)
        self._line.require_newest(place)
        if isinstance(request.source, VolumePart):
            voxels, mean, std = await self._read(request.source.volume, level, surroundings)
            key = f"{request.source.volume}@{level}"
        else:
            voxels, mean, std = await asyncio.to_thread(_measured, request.source)
            key = hashlib.sha256(request.source.data).hexdigest()
        task = SegmentTask(
            image_key=f"{key}{surroundings}",
            voxels=voxels,
            mean=mean,
            std=std,
            grid=grid,
            surroundings=surroundings,
            plane=request.plane,
            class_value=request.class_value,
            clicks=request.clicks,
            scribbles=scribbles,
            previous=previous,
            draft=request.draft,
            with_probability=request.with_probability,
            model=model,
            shallow=shallow,
        )
        answer = await self._line.segment(task, place)
        _require_sendable(answer)
        return Segmentation(
            answer,
            level,
            grid.pixel_size(source.voxel_size),
            f"models/{model.model_id}" if model else "",
        )

    async def _source(self, request: SegmentRequest) -> _Source:
        source = request.source
        if isinstance(source, SentImage):
            whole = (Level(source.shape, Index(1, 1, 1)),)
            return _Source(whole, source.voxel_size, Region.of_shape(source.shape))
        if parse_name(source.volume, "projects/*/volumes/*")[0] != request.project_id:
            raise InvalidArgument(
                "OTHER_PROJECT", f"{source.volume} is not of project {request.project_id!r}"
            )
        volume, _ = await _both(self._datastore.volume(source.volume), self._require_base(request, source))
        source.region.require_within(volume.shape, volume.name)
        levels = tuple(Level(shape, downsampling) for shape, downsampling in volume.levels)
        return _Source(levels, volume.voxel_size, volume.bounds)

    async def _require_base(self, request: SegmentRequest, source: VolumePart) -> None:
        """Conflict BASE_OUTDATED as a commit would be refused: somebody annotated there since."""
        if request.base_layer:
            if not request.base_layer.startswith(f"{source.volume}/layers/"):
                raise InvalidArgument(
                    "BAD_BASE", f"base_layer {request.base_layer[:200]!r} is no layer of {source.volume}"
                )
            layer = await self._datastore.layer(request.base_layer)
            if layer.kind == "probabilities" and layer.class_value != request.class_value:
                raise InvalidArgument(
                    "BAD_BASE",
                    f"base_layer {request.base_layer} holds the probabilities of class {layer.class_value}, and not "
                    f"of class {request.class_value}",
                )
        if request.base_sequence is None:
            return
        newer = await self._datastore.newest_record(source.volume, source.region, request.base_sequence)
        if newer is not None:
            raise Conflict(
                "BASE_OUTDATED",
                f"{newer.annotation} changed this region after record {request.base_sequence}, which you saw last; "
                "look at it, and `refresh` the session or send the new number to go on",
                annotation=newer.annotation,
                sequence=str(newer.sequence),
            )

    def _level(self, request: SegmentRequest, source: _Source, working_nm: float) -> tuple[int, Level]:
        wanted = _asked_level(request)
        if wanted is None:
            wanted = choose_level(source.levels, source.voxel_size, working_nm, request.plane.through)
        if wanted >= len(source.levels):
            raise InvalidArgument(
                "UNKNOWN_LEVEL",
                f"level {wanted} does not exist; the volume has the levels 0 to {len(source.levels) - 1}",
            )
        return wanted, source.levels[wanted]

    def _require_pixels(self, request: SegmentRequest, grid: WorkingGrid, surroundings: WorkingGrid) -> None:
        """A thin slice of long voxels becomes many pixels, and a tiny region of a coarse level reads many voxels."""
        most = _MOST_PIXELS_PER_VOXEL * self._max_voxels
        pixels = max(math.prod(grid.shape), math.prod(surroundings.shape), surroundings.level_region.size)
        if pixels > most:
            raise ResourceExhausted(
                "REGION_TOO_LARGE",
                f"region {request.region} is {pixels} pixels at the working resolution in plane {request.plane.value}; "
                f"one request takes at most {most}, so ask for a smaller one",
                limit=str(most),
            )

    async def _chosen(self, request: SegmentRequest) -> tuple[ModelPlace | None, ModelPlace | None]:
        model = await self._models.for_clicks(request.project_id, request.model) if request.clicks else None
        shallow = None
        if request.scribbles and (request.network_features or self._network_features):
            shallow = await self._models.for_strokes()
        return model, shallow

    async def _read(
        self, volume: str, level: int, grid: WorkingGrid
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
        (mean, std), voxels = await _both(
            self._datastore.statistics(volume), self._datastore.voxels(volume, grid.level_region, level)
        )
        return voxels, _of_slices(mean, grid), _of_slices(std, grid)


def _asked_level(request: SegmentRequest) -> int | None:
    """The level that was asked for; None for the one that fits."""
    return request.source.level if isinstance(request.source, VolumePart) else None


def _surroundings(grid: WorkingGrid, through: int, bounds: Region) -> Region:
    """A region and around it what strokes' features see, as far as the image goes.

    It grows by whole pixels of the region's grid, so that both have the same ones; where none has whole voxels, not at
    all.
    """
    start, stop = list(grid.box.start), list(grid.box.stop)
    for number, axis in enumerate(grid.axes):
        pixel = axis.step * axis.ratio
        per_voxel = 1 / axis.ratio
        is_whole = pixel == int(pixel) or (axis.step == 1 and abs(per_voxel - round(per_voxel)) < 1e-6)
        if number == through or not is_whole:
            continue
        step = max(1, int(pixel))
        most = int(np.ceil(HALO_PX * pixel / step))
        start[number] -= step * min(most, (start[number] - bounds.start[number]) // step)
        stop[number] = min(stop[number] + step * most, bounds.stop[number])
    return Region(Index(*start), Index(*stop))


def _of_slices(values: tuple[float, ...], grid: WorkingGrid) -> NDArray[np.float64]:
    """Statistics of the slices that are read: of a coarser level the means of those that a slice stands for."""
    step, region = grid.z.step, grid.level_region
    every = np.asarray(values, np.float64)
    parts = [every[z * step : (z + 1) * step] for z in range(region.start.z, region.stop.z)]
    return np.array([part.mean() if part.size else 0.0 for part in parts])


def _arrays(
    request: SegmentRequest, classes: frozenset[int]
) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
    shape = request.region.shape
    return (
        checks.strokes(request.scribbles, shape, classes) if request.scribbles else None,
        checks.previous_mask(request.previous_mask, shape) if request.previous_mask else None,
    )


def _measured(sent: SentImage) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    voxels = checks.image(sent)
    mean = voxels.mean((1, 2), dtype=np.float64)
    return voxels, mean, voxels.std((1, 2), dtype=np.float64)


def _require_sendable(answer: SegmentAnswer) -> None:
    size = len(answer.mask) + len(answer.probability)
    if size > _MAX_ANSWER_BYTES:
        raise ResourceExhausted(
            "ANSWER_TOO_LARGE",
            f"the answer is {size} bytes, one message takes {_MAX_ANSWER_BYTES}; ask for a smaller region"
            + (", or without the probability" if answer.probability else ""),
        )


async def _both(one: Awaitable[Any], other: Awaitable[Any]) -> tuple[Any, Any]:
    """Both at once; the first error ends the other."""
    tasks = [asyncio.ensure_future(one), asyncio.ensure_future(other)]
    try:
        return await tasks[0], await tasks[1]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
