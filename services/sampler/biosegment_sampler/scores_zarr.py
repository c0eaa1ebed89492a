"""Score maps in object storage, read straight from Zarr."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import FailedPrecondition
from biosegment.settings import ObjectStoreSettings
from biosegment_sampler.domain.grid import CandidateGrid
from biosegment_sampler.domain.scores import WindowScore, score_windows
from biosegment_sampler.ports import ScoreLayer


class ZarrScoreMaps:
    """`ports.ScoreMaps`; the array engine is loaded with the first map."""

    def __init__(self, settings: ObjectStoreSettings) -> None:
        self._settings = settings
        self._arrays: Any = None

    async def windows(self, layer: ScoreLayer, grid: CandidateGrid) -> WindowScore:
        """A map over the windows of its volume.

        Raises:
            NotFound: ARRAY_NOT_FOUND.
            FailedPrecondition: LAYER_ELSEWHERE when the layer lies in another object store than ours.
        """
        return await asyncio.to_thread(self._windows, layer, grid)

    def _windows(self, layer: ScoreLayer, grid: CandidateGrid) -> WindowScore:
        if self._arrays is None:
            from biosegment.storage.arrays import Arrays

            self._arrays = Arrays(self._settings)
        root = self._settings.object_store_url.rstrip("/") + "/"
        if not layer.uri.startswith(root):
            raise FailedPrecondition(
                "LAYER_ELSEWHERE",
                f"score map {layer.name} lies at {layer.uri}, outside of {root}; give all services the same "
                "object_store_url",
            )
        array = self._arrays.open(layer.uri.removeprefix(root).strip("/"), immutable=True)
        _, rows, columns = array.shape

        def read_slab(first: int, stop: int) -> NDArray[np.floating[Any]]:
            values: NDArray[np.floating[Any]] = array.read(
                (slice(first, stop), slice(0, rows), slice(0, columns))
            )
            return values

        return score_windows(read_slab, layer.downsampling, grid)
