"""Score maps in object storage, read straight from Zarr."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import FailedPrecondition
from biosegment.settings import ObjectStoreSettings
from biosegment_sampler.domain.embedding import embed_windows
from biosegment_sampler.domain.grid import CandidateGrid
from biosegment_sampler.domain.scores import ReadBox, WindowScore, score_windows
from biosegment_sampler.ports import ScoreLayer


class ZarrScoreMaps:
    """`ports.ScoreMaps`; the array engine is loaded with the first map."""

    def __init__(self, settings: ObjectStoreSettings) -> None:
        self._settings = settings
        self._arrays: Any = None
        self._loading = threading.Lock()

    async def windows(self, layer: ScoreLayer, grid: CandidateGrid) -> WindowScore:
        """A map over the windows of its volume.

        Raises:
            NotFound: ARRAY_NOT_FOUND.
            FailedPrecondition: LAYER_ELSEWHERE when the layer lies in another object store than ours; BAD_SCORE_MAP
                when its shape is not that of its volume.
        """
        return await asyncio.to_thread(self._windows, layer, grid)

    def embeddings(
        self, layer: ScoreLayer, grid: CandidateGrid, numbers: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """What windows look like, by a map with several channels; blocks. Raises as `windows`."""
        read_box, channels = self._open(layer, grid)
        return embed_windows(read_box, channels, layer.downsampling, grid, numbers)

    def _windows(self, layer: ScoreLayer, grid: CandidateGrid) -> WindowScore:
        read_box, channels = self._open(layer, grid)
        return score_windows(read_box, channels, layer.downsampling, grid)

    def _open(self, layer: ScoreLayer, grid: CandidateGrid) -> tuple[ReadBox, int]:
        """Reads a map, and its channels, which lie side by side along x."""
        with self._loading:
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
        cells = [-(-size // cell) for size, cell in zip(grid.shape, layer.downsampling, strict=True)]
        channels, rest = divmod(array.shape[2], cells[2])
        if rest or not channels or list(array.shape[:2]) != cells[:2]:
            raise FailedPrecondition(
                "BAD_SCORE_MAP",
                f"score map {layer.name} has the shape {array.shape}; of a volume of {tuple(grid.shape)} voxels it "
                f"must be {tuple(cells)}, or a multiple along x; delete the layer and score again",
            )

        def read_box(z: slice, y: slice, x: slice) -> NDArray[np.floating[Any]]:
            values: NDArray[np.floating[Any]] = array.read(
                (z, y, slice(x.start * channels, x.stop * channels))
            )
            return values.reshape(*values.shape[:2], -1, channels)

        return read_box, channels
