from __future__ import annotations

import math

import numpy as np
import pytest
from biosegment_sampler.domain.blindness import blindness
from biosegment_sampler.domain.grid import MAX_CANDIDATES, CandidateField, CandidateGrid
from biosegment_sampler.domain.scores import score_windows
from biosegment_sampler.strategies import STRATEGIES, Candidates, find_strategy

from biosegment.errors import InvalidArgument
from biosegment.volume import Index

CELL = 16
SHAPE = Index(3, 70, 90)
WINDOW = Index(1, 32, 32)


def ranked(
    name: str, field: CandidateField, scores: dict[str, np.ndarray] | None = None, seed: int = 0
) -> np.ndarray:
    """The order of a strategy that needs no embedding."""
    candidates = Candidates(
        field, scores or {}, lambda numbers: np.full((len(numbers), 1), np.nan), seed=seed
    )
    return STRATEGIES[name].rank(candidates).order


def field(shape: Index = SHAPE, window: Index = WINDOW) -> CandidateField:
    return CandidateField([CandidateGrid.over("v", shape, window)])


def mean_of(cells: np.ndarray, region: object, shape: Index = SHAPE) -> float:
    """The slow way: spread the map over all voxels and average those of the window."""
    voxels = np.repeat(np.repeat(cells, CELL, 1), CELL, 2)[:, : shape.y, : shape.x]
    return float(np.nanmean(voxels[region.slices]))  # type: ignore[attr-defined]


def pixel_measure(name: str, p: list[float]) -> float:
    top = sorted(p, reverse=True)
    return {
        "entropy": -sum(q * math.log(q) for q in p if q > 0),
        "least_confidence": 1 - top[0],
        "margin": 1 - (top[0] - top[1]),
    }[name]


@pytest.mark.parametrize("name", ["entropy", "least_confidence", "margin"])
def test_a_scored_strategy_orders_windows_as_a_direct_computation_does(name: str) -> None:
    rng = np.random.default_rng(5)
    probabilities = rng.dirichlet([0.4, 0.4, 0.4], (3, 5, 6))
    cells = np.array(
        [[[pixel_measure(name, list(p)) for p in row] for row in plane] for plane in probabilities],
        np.float32,
    )
    candidates = field()
    (grid,) = candidates.grids
    score = score_windows(lambda *box: cells[(*box, None)], 1, Index(1, CELL, CELL), grid)
    order = ranked(name, candidates, {name: score.means.reshape(-1)})
    expected = sorted(
        range(len(candidates)), key=lambda number: -mean_of(cells, candidates.locate(number)[1])
    )
    assert order.tolist() == expected
    assert score.peak == cells.max()


def test_window_scores_are_means_of_voxels_also_at_borders_that_cut_cells() -> None:
    cells = np.random.default_rng(1).random((3, 5, 6))
    candidates = field(window=Index(2, 32, 32))
    (grid,) = candidates.grids
    means = score_windows(lambda *box: cells[(*box, None)], 1, Index(1, CELL, CELL), grid).means.reshape(-1)
    for number in range(len(candidates)):
        assert means[number] == pytest.approx(mean_of(cells, candidates.locate(number)[1]), rel=1e-6)


def test_windows_that_are_mostly_unscored_are_no_candidates() -> None:
    cells = np.random.default_rng(1).random((3, 5, 6))
    cells[1] = np.nan
    cells[0, 0, 0] = np.nan
    candidates = field()
    (grid,) = candidates.grids
    means = score_windows(lambda *box: cells[(*box, None)], 1, Index(1, CELL, CELL), grid).means.reshape(-1)
    scored = set(ranked("entropy", candidates, {"entropy": means}).tolist())
    for number in range(len(candidates)):
        region = candidates.locate(number)[1]
        assert (number in scored) == (region.start.z != 1)
        if number in scored:
            assert means[number] == pytest.approx(mean_of(cells, region), rel=1e-6)


@pytest.mark.parametrize("name", ["random", "stratified"])
def test_a_cold_strategy_ranks_every_window_once_and_repeats_by_seed(name: str) -> None:
    candidates = CandidateField(
        [
            CandidateGrid.over("a", Index(10, 64, 64), Index(1, 16, 16)),
            CandidateGrid.over("b", Index(4, 64, 32), Index(1, 16, 16)),
        ]
    )
    orders = [ranked(name, candidates, seed=seed).tolist() for seed in (3, 3, 4)]
    assert sorted(orders[0]) == list(range(len(candidates)))
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("seed", range(5))
def test_stratified_samples_are_spread_from_the_first_picks_on(seed: int) -> None:
    """Of 4, 8 and 16 picks, every quarter, eighth, sixteenth of the slices gets its own, which random does not do."""
    candidates = field(Index(64, 256, 256), Index(1, 32, 32))
    order = ranked("stratified", candidates, seed=seed)
    for count in (4, 8, 16):
        slices = [candidates.locate(int(number))[1].start.z for number in order[:count]]
        strata = {z * count // 64 for z in slices}
        assert len(strata) >= count - 1
    halves = {
        (region.start.y >= 112, region.start.x >= 112)
        for region in (candidates.locate(int(number))[1] for number in order[:12])
    }
    assert len(halves) == 4


def test_random_choice_differs_from_fixed_strata() -> None:
    candidates = field(Index(64, 256, 256), Index(1, 32, 32))
    counts = []
    for seed in range(10):
        order = ranked("random", candidates, seed=seed)
        counts.append(len({candidates.locate(int(number))[1].start.z // 4 for number in order[:16]}))
    assert np.mean(counts) < 13


def test_ties_are_broken_by_the_seed() -> None:
    candidates = field()
    flat = np.full(len(candidates), 0.5, np.float32)
    first, second = (ranked("entropy", candidates, {"entropy": flat}, seed) for seed in (1, 2))
    assert sorted(first) == sorted(second)
    assert first.tolist() != second.tolist()


def test_an_unknown_strategy_is_named_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match="entropy") as caught:
        find_strategy("luck")
    assert caught.value.reason == "UNKNOWN_STRATEGY"


@pytest.mark.parametrize(
    ("scores", "peak", "blind"),
    [
        ([0.1, 0.3, 0.2], 0.9, False),
        ([0.1, 0.3, 0.2], None, False),
        ([0.1, 0.3, 0.2], 0.05, True),
        ([0.3, 0.3, 0.3], 0.9, True),
        ([1e-5, 1e-4, 0.0], None, True),
        ([np.nan, np.nan], 0.9, True),
        ([np.nan, 0.4], 0.9, False),
    ],
)
def test_scores_that_say_nothing_are_noticed(scores: list[float], peak: float | None, blind: bool) -> None:
    assert bool(blindness(np.array(scores, np.float32), peak)) == blind


def test_edges_are_reachable_and_huge_volumes_get_a_coarser_grid() -> None:
    grid = CandidateGrid.over("v", Index(7, 100, 33), Index(1, 32, 32))
    regions = [grid.region(number) for number in range(len(grid))]
    covered = np.zeros((7, 100, 33), bool)
    for region in regions:
        assert region.shape == Index(1, 32, 32)
        covered[region.slices] = True
    assert covered.all()
    shape = Index(50_000, 14_000, 14_000)
    huge = CandidateGrid.over("v", shape, Index(1, 128, 128))
    assert 0 < len(huge) <= MAX_CANDIDATES
    assert huge.region(len(huge) - 1).stop == shape
    both = CandidateField.over([("a", shape, Index(1, 128, 128)), ("b", shape, Index(1, 128, 128))])
    assert 0 < len(both) <= MAX_CANDIDATES
