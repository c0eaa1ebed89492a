from __future__ import annotations

import numpy as np
import pytest
from biosegment_sampler.domain.embedding import embed_windows
from biosegment_sampler.domain.grid import CandidateGrid

from biosegment.volume import Index

CHANNELS = 3


@pytest.mark.parametrize(
    ("shape", "window", "cell"),
    [
        (Index(5, 300, 430), Index(1, 64, 64), Index(1, 16, 16)),
        (Index(40, 200, 200), Index(12, 50, 70), Index(4, 16, 16)),
        (Index(2, 40, 30), Index(1, 32, 30), Index(1, 16, 16)),
    ],
)
def test_windows_look_like_the_mean_of_the_cells_that_they_touch(
    shape: Index, window: Index, cell: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biosegment_sampler.domain.embedding._BLOCK", (2, 4, 4))
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(*(-(-size // edge) for size, edge in zip(shape, cell, strict=True)), CHANNELS))
    cells[rng.random(cells.shape[:3]) < 0.3] = np.nan
    cells = cells.astype(np.float16)
    grid = CandidateGrid.over("v", shape, window)
    numbers = rng.permutation(len(grid))[:200]
    found = embed_windows(lambda z, y, x: cells[z, y, x], CHANNELS, cell, grid, numbers)
    for number, vector in zip(numbers, found, strict=True):
        region = grid.region(int(number))
        box = tuple(
            slice(low // edge, -(-high // edge))
            for low, high, edge in zip(region.start, region.stop, cell, strict=True)
        )
        values = cells[box].reshape(-1, CHANNELS).astype(np.float64)
        known = np.isfinite(values).all(1)
        if known.mean() < 0.5:
            assert np.isnan(vector).all()
        else:
            assert vector == pytest.approx(values[known].mean(0), abs=1e-4)


def test_only_what_is_asked_for_is_read() -> None:
    grid = CandidateGrid.over("v", Index(100, 2000, 2000), Index(1, 128, 128))
    read: list[int] = []

    def read_box(z: slice, y: slice, x: slice) -> np.ndarray:
        shape = (z.stop - z.start, y.stop - y.start, x.stop - x.start)
        read.append(int(np.prod(shape)))
        return np.ones((*shape, CHANNELS), np.float16)

    found = embed_windows(read_box, CHANNELS, Index(1, 16, 16), grid, np.array([0, 1, len(grid) - 1]))
    assert (found == 1).all()
    assert sum(read) <= 3 * 12 * 12
    assert embed_windows(read_box, CHANNELS, Index(1, 16, 16), grid, np.zeros(0, np.int64)).shape == (0, 3)
