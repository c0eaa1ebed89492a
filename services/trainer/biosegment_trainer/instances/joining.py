"""Which ids of different blocks are the same object: union-find over what blocks know of each other's surfaces.

Blocks are taken in order, whoever made them and when, so that the numbers of objects follow from the layer alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from biosegment.errors import FailedPrecondition
from biosegment_trainer.instances.block import BlockCut, Faces, Ids
from biosegment_trainer.instances.separation import MAX_OBJECTS

Numbers = NDArray[np.int64]
_HELD: Final = 64
"""Blocks whose surfaces are held in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockObjects:
    """What one block found.

    Attributes:
        sizes: Voxels of the core by id; index 0 counts for nothing.
        faces: Ids on its surface.
        seeds: By id - 1, the seeds that flooded the first ids; none for ids that only the block knows.
    """

    sizes: Numbers
    faces: Faces
    seeds: Ids


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """The objects of a whole layer.

    Attributes:
        tables: By block: the object, 0 for none, of each of its ids.
        objects: How many there are; their ids are 1 to this.
        dropped: How many were too small.
    """

    tables: dict[int, Ids]
    objects: int
    dropped: int


def join(
    cut: BlockCut,
    load: Callable[[int], BlockObjects],
    min_size: int,
    check: Callable[[], None] = lambda: None,
    max_objects: int = MAX_OBJECTS,
) -> Joined:
    """Find the objects of a layer.

    Ids of two blocks that meet at a voxel are one object. A seed is one object wherever it floods; a piece that no
    seed reached belongs to the one that it meets most, or is an object of its own.

    Args:
        cut: The blocks.
        load: What a block found, by its number.
        min_size: Voxels of the smallest object that is kept; counted over all blocks.
        check: Called for each block; may raise to end it.
        max_objects: Most objects.

    Raises:
        FailedPrecondition: TOO_MANY_OBJECTS.
    """
    numbers = cut.numbers()
    held = lru_cache(maxsize=_HELD)(load)
    first: dict[int, int] = {}
    found: list[tuple[Numbers, Ids]] = []
    total = 0
    for number in numbers:
        check()
        block = held(number)
        first[number] = total
        total += len(block.sizes) - 1
        named = np.zeros(len(block.sizes) - 1, np.uint32)
        named[: len(block.seeds)] = block.seeds
        found.append((block.sizes[1:], named))
    if not total:
        return Joined({number: np.zeros(1, np.uint32) for number in numbers}, 0, 0)
    sizes = np.concatenate([each for each, _ in found])
    seeds = np.concatenate([each for _, each in found])
    keys = _keys(seeds, _meetings(cut, held, first, check))
    table, objects, dropped = _table(keys, sizes, min_size)
    if objects > max_objects:
        raise FailedPrecondition(
            "TOO_MANY_OBJECTS",
            f"{objects} objects were found, and a layer holds at most {max_objects}: raise min_size_voxels, or make "
            "the prediction less noisy",
        )
    tables = {}
    for number, (own, _) in zip(numbers, found, strict=True):
        tables[number] = np.zeros(len(own) + 1, np.uint32)
        tables[number][1:] = table[first[number] : first[number] + len(own)]
    return Joined(tables, objects, dropped)


def _meetings(
    cut: BlockCut, load: Callable[[int], BlockObjects], first: Mapping[int, int], check: Callable[[], None]
) -> Numbers:
    """Pairs of nodes (ids of all blocks, one after the other) that meet, and at how many voxels: int64 (3, n)."""
    found = [np.empty((3, 0), np.int64)]
    for number in first:
        check()
        faces = load(number).faces
        for other in cut.behind(number):
            for one, two in faces.meetings(load(other).faces):
                pairs, counts = np.unique(
                    one.astype(np.uint64) << np.uint64(32) | two.astype(np.uint64), return_counts=True
                )
                nodes = (
                    (pairs >> np.uint64(32)).astype(np.int64) - 1 + first[number],
                    (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64) - 1 + first[other],
                )
                found.append(np.stack([*nodes, counts.astype(np.int64)]))
    return np.concatenate(found, axis=1)


def _keys(seeds: Ids, meetings: Numbers) -> Numbers:
    """A number for each node that only nodes of the same object have."""
    nodes = len(seeds)
    one, two, counts = meetings
    seedless = seeds == 0
    both = seedless[one] & seedless[two]
    graph = coo_array((np.ones(int(both.sum()), np.int8), (one[both], two[both])), shape=(nodes, nodes))
    groups, group = connected_components(graph, directed=False)
    # Seeds behind the groups.
    keys: Numbers = np.where(seedless, group.astype(np.int64), seeds.astype(np.int64) + groups)
    mixed = seedless[one] != seedless[two]
    if not mixed.any():
        return keys
    piece = np.where(seedless[one], one, two)[mixed]
    seed = np.where(seedless[one], two, one)[mixed]
    # Both in one number: while columns of an array are sorted, no other thread runs, and the worker seems dead.
    contacts, inverse = np.unique(
        group[piece].astype(np.uint64) << np.uint64(32) | seeds[seed].astype(np.uint64), return_inverse=True
    )
    voxels = np.bincount(inverse.ravel(), counts[mixed]).astype(np.int64)
    touched = (contacts >> np.uint64(32)).astype(np.int64)
    by = (contacts & np.uint64(0xFFFFFFFF)).astype(np.int64)
    # The last entry of each group wins: most voxels, then the lowest seed.
    order = np.lexsort((-by, voxels, touched))
    belongs = np.arange(groups, dtype=np.int64)
    belongs[touched[order]] = by[order] + groups
    joined: Numbers = np.where(seedless, belongs[group], keys)
    return joined


def _table(keys: Numbers, sizes: Numbers, min_size: int) -> tuple[Numbers, int, int]:
    """Object of each node, 1 and up in order of first nodes, 0 for those too small; how many, and how many dropped."""
    _, begins, inverse = np.unique(keys, return_index=True, return_inverse=True)
    voxels = np.zeros(len(begins), np.int64)
    np.add.at(voxels, inverse, sizes)
    kept = voxels >= max(1, min_size)
    objects = np.zeros(len(begins), np.int64)
    order = np.argsort(begins)
    order = order[kept[order]]
    objects[order] = np.arange(1, len(order) + 1)
    return objects[inverse], len(order), int(((voxels > 0) & ~kept).sum())
