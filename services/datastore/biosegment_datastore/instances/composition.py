"""What the objects of a layer are after its edits, for any region of it.

Merges, deletions and reclassifications only say what becomes of an id: each id ends at most once, so that all of them
together are one map from ids to ids, and at any point of the order the steps before it are a part of that map. Splits
and reassignments are blocks: a region is changed by those that touch it alone, in their order, and then looked up in
the map. So the work for a region depends on the voxels and blocks in it, and hardly on the number of edits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.volume import BACKGROUND, NOT_ANNOTATED, Region
from biosegment_datastore.annotations.annotation import Ids, Labels
from biosegment_datastore.instances.edit import EditKind, Step

Voxels = npt.NDArray[Any]
Block = Callable[[str, str, Region], Labels | Ids]
"""Fetches a block by key, checksum and region; see `LabelBlocks.get`."""

_DENSE = 4
"""A table of all ids between the smallest and the largest is used when it has at most so many entries per voxel."""


class Composition:
    """The edits of one layer that hold.

    Args:
        steps: In their order.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._ends: dict[int, Step] = {}
        self._made: set[int] = set()
        self._blocks = [step for step in steps if step.region is not None]
        for step in steps:
            for killed in step.killed:
                self._ends.setdefault(killed, step)
            self._made.update(step.new_ids, {step.target} - {0})
        self._starts = _corners([step.region.start for step in self._blocks if step.region is not None])
        self._stops = _corners([step.region.stop for step in self._blocks if step.region is not None])
        self._keys, self._targets, self._classes = self._whole_map()

    def __bool__(self) -> bool:
        """Whether there is anything to apply."""
        return bool(self._ends or self._blocks)

    @property
    def says_classes(self) -> bool:
        """Whether any edit changes what a segmentation says: splits and merges do not."""
        return bool(self._classes.any()) or any(step.kind is EditKind.REASSIGN for step in self._blocks)

    @property
    def made(self) -> frozenset[int]:
        """Ids that edits gave voxels to."""
        return frozenset(self._made)

    def end_of(self, instance: int) -> Step | None:
        """The step after which no voxel has this id; None when there is none."""
        return self._ends.get(instance)

    def members(self, instance: int) -> list[int]:
        """The ids that are this one now, itself included."""
        return [instance, *self._keys[self._targets == np.uint64(instance)].tolist()]

    def blocks_of(self, members: Sequence[int]) -> list[Region]:
        """Where blocks gave voxels to one of these ids."""
        wanted = set(members)
        return [
            step.region
            for step in self._blocks
            if step.region is not None and not wanted.isdisjoint((*step.new_ids, step.target))
        ]

    def touches(self, region: Region) -> bool:
        """Whether any block does."""
        return bool(self._touching(region).size)

    def ids(self, voxels: Voxels, region: Region, block: Block) -> Voxels:
        """Ids after the edits.

        Args:
            voxels: Ids as the layer has them, of the region's shape; not changed.
            region: Where they lie, in voxels of the layer.
            block: Fetches the blocks that touch the region.
        """
        return self._looked_up(self._laid(voxels, region, block, None), self._targets)

    def classes(self, voxels: Voxels, region: Region, class_value: int, block: Block) -> Labels:
        """What the edits say about the class of each voxel: 0 nothing, 1 none of the layer's class, else a class.

        Args:
            voxels: As for `ids`.
            region: As for `ids`.
            class_value: That the layer's objects are of.
            block: As for `ids`.
        """
        given = np.zeros(voxels.shape, bool)
        laid = self._laid(voxels, region, block, given)
        said = np.where(given, np.uint8(class_value), np.uint8(NOT_ANNOTATED))
        if self._keys.size:
            ended = self._looked_up(laid, self._classes, missing=0).astype(np.uint8)
            np.copyto(said, ended, where=ended != 0)
        return said

    def _laid(self, voxels: Voxels, region: Region, block: Block, given: Voxels | None) -> Voxels:
        """The voxels after the blocks, with ids of their time: those that ended later are still to be looked up."""
        laid = np.array(voxels)
        for number in self._touching(region).tolist():
            step = self._blocks[number]
            assert step.region is not None
            shared = step.region.intersection(region)
            assert shared is not None
            part = block(step.key, step.sha256, step.region)[shared.relative_to(step.region).slices]
            here = shared.relative_to(region).slices
            chosen = part != 0
            if step.kind is EditKind.REASSIGN:
                laid[here][chosen] = step.target
                if given is not None:
                    given[here] |= chosen
                continue
            # Voxels with an id that was part of the object when it was split.
            values, places = np.unique(laid[here][chosen], return_inverse=True)
            is_part = np.array([self._at(value, step.sequence) == step.ids[0] for value in values.tolist()])
            if not is_part.any():
                continue
            new = np.array((0, *step.new_ids), laid.dtype)[part[chosen]]
            laid[here][chosen] = np.where(is_part[places], new, laid[here][chosen])
        return laid

    def _at(self, instance: int, sequence: int) -> int:
        """What an id was just before a step."""
        while (end := self._ends.get(instance)) is not None and end.sequence < sequence:
            instance = end.target
        return instance

    def _touching(self, region: Region) -> npt.NDArray[np.intp]:
        touching = (self._starts < region.stop).all(axis=1) & (self._stops > region.start).all(axis=1)
        return np.flatnonzero(touching)

    def _whole_map(self) -> tuple[Voxels, Voxels, Voxels]:
        """Ids that ended, sorted; what each is at last; and the class that it became of, where its end is one."""
        finals: dict[int, tuple[int, int]] = {}
        # The last ones first: what an id became ended later than the id, if at all.
        for instance, step in sorted(self._ends.items(), key=lambda item: -item[1].sequence):
            if step.kind is EditKind.MERGE:
                finals[instance] = finals.get(step.target, (step.target, NOT_ANNOTATED))
            else:
                finals[instance] = (0, step.class_value or BACKGROUND)
        keys = np.array(sorted(finals), np.uint64)
        pairs = [finals[key] for key in keys.tolist()]
        targets = np.array([target for target, _ in pairs], np.uint64)
        return keys, targets, np.array([value for _, value in pairs], np.uint8)

    def _looked_up(self, ids: Voxels, values: Voxels, missing: int | None = None) -> Voxels:
        """`values` of the ids that are keys of the map; the others stay, or become `missing`."""
        if not self._keys.size or not ids.size:
            return ids
        low, high = int(ids.min()), int(ids.max())
        first = int(np.searchsorted(self._keys, np.uint64(low)))
        last = int(np.searchsorted(self._keys, np.uint64(high), side="right"))
        keys, values = self._keys[first:last].astype(ids.dtype), values[first:last].astype(ids.dtype)
        if not keys.size:
            return ids if missing is None else np.full_like(ids, missing)
        if high - low < _DENSE * ids.size:
            table = (
                np.arange(low, high + 1, dtype=ids.dtype)
                if missing is None
                else np.full(high - low + 1, missing, ids.dtype)
            )
            table[keys - ids.dtype.type(low)] = values
            looked_up: Voxels = table[ids - ids.dtype.type(low)]
            return looked_up
        places = np.minimum(np.searchsorted(keys, ids), keys.size - 1)
        other: Any = ids if missing is None else ids.dtype.type(missing)
        return np.where(keys[places] == ids, values[places], other)


def _corners(corners: Sequence[tuple[int, int, int]]) -> npt.NDArray[np.int64]:
    return np.array(corners, np.int64).reshape(-1, 3)
