from __future__ import annotations

import heapq
from typing import Any

import numpy as np
import pytest
from biosegment_datastore.instances.seeds import parts_by_seeds


def nearest(is_object: Any, seeds: Any, lengths: tuple[int, int, int]) -> Any:
    """Dijkstra's algorithm, voxel by voxel; of equally near seeds the earlier part wins."""
    best: dict[tuple[int, int, int], tuple[int, int]] = {}
    queue = [(0, part, tuple(point)) for part, points in enumerate(seeds) for point in points]
    heapq.heapify(queue)
    while queue:
        distance, part, place = heapq.heappop(queue)
        if place in best:
            continue
        best[place] = (distance, part)
        for axis in range(3):
            for sign in (-1, 1):
                beside = list(place)
                beside[axis] += sign
                inside = all(0 <= p < size for p, size in zip(beside, is_object.shape, strict=True))
                if inside and is_object[tuple(beside)] and tuple(beside) not in best:
                    heapq.heappush(queue, (distance + lengths[axis], part, tuple(beside)))
    parts = np.zeros(is_object.shape, np.uint8)
    for place, (_, part) in best.items():
        parts[place] = part
    return parts


@pytest.mark.parametrize("seed", range(6))
def test_every_voxel_belongs_to_the_seed_that_is_nearest_within_the_object(seed: int) -> None:
    random = np.random.default_rng(seed)
    is_object = random.random((6, 9, 11)) < 0.7
    places = np.argwhere(is_object)
    chosen = places[random.choice(len(places), 7, replace=False)].tolist()
    seeds = [chosen[:1], chosen[1:4], chosen[4:]]
    parts = parts_by_seeds(is_object, seeds, (30.0, 10.0, 10.0))
    np.testing.assert_array_equal(parts, nearest(is_object, seeds, (12, 4, 4)))


def test_a_way_around_is_longer_than_one_through_the_object() -> None:
    # A horseshoe: its ends lie beside each other, and are far apart within it.
    is_object = np.zeros((1, 9, 9), bool)
    is_object[0, :, [0, 8]] = True
    is_object[0, 8] = True
    parts = parts_by_seeds(is_object, [[(0, 0, 0)], [(0, 0, 8)]], (5.0, 5.0, 5.0))
    assert not parts[0, :, :4].any()
    assert parts[0, :, 8].all()
    # What no seed reaches stays with the first part.
    is_object[0, 0, 4] = True
    assert parts_by_seeds(is_object, [[(0, 0, 8)], [(0, 0, 0)]], (5.0, 5.0, 5.0))[0, 0, 4] == 0
