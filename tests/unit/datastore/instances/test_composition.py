"""Composing region by region gives what applying every edit to the whole array gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from biosegment_datastore.instances.composition import Composition
from biosegment_datastore.instances.edit import EditKind, Step

from biosegment.volume import Index, Region
from tests.unit.datastore.instances.reference import Plain, applied, said

SHAPE = (12, 20, 24)
WHOLE = Region.of_shape(SHAPE)
CLASS = 2


class Author:
    """Makes random edits, valid ones: of ids that are alive when they are made.

    Blocks are kept under a key, as the datastore does.
    """

    def __init__(self, seed: int, data_type: str) -> None:
        self.random = np.random.default_rng(seed)
        # Objects of some size, gaps between the ids, and background.
        coarse = self.random.integers(0, 12, (4, 5, 6)) * 3
        scale = 1 if data_type == "uint32" else 1 << 40
        big = np.kron(coarse, np.ones((3, 4, 4), np.int64)) * scale
        self.voxels = big.astype(data_type)
        self.next_id = int(self.voxels.max()) + 1
        self.alive = set(np.unique(self.voxels).tolist()) - {0}
        self.steps: list[Step] = []
        self.plain: list[Plain] = []
        self.blocks: dict[str, Any] = {}

    def edit(self) -> None:
        kinds = ["merge", "merge", "split", "split", "reassign", "reassign", "delete", "reclassify"]
        kind = str(self.random.choice(kinds))
        sequence = len(self.steps) + 1
        if kind in ("merge", "delete", "reclassify"):
            count = 1 if kind != "merge" else int(self.random.integers(2, 4))
            if len(self.alive) <= count:
                return
            ids = self._some(count)
            target = ids[0] if kind == "merge" else 0
            self.alive -= set(ids) - {target}
            value = 3 if kind == "reclassify" else 0
            step = Step(sequence, EditKind(kind), tuple(ids), target, class_value=value)
            plain = Plain(kind, ids, target, class_value=value)
        else:
            region, key = self._region(), f"block-{sequence}"
            labels = self.random.integers(0, 3 if kind == "split" else 2, region.shape).astype(np.uint8)
            self.blocks[key] = labels
            if kind == "split":
                (whole,) = self._some(1)
                parts = {1: self.next_id, 2: self.next_id + 1}
                step = Step(sequence, EditKind.SPLIT, (whole,), 0, (*parts.values(),), 0, region, key)
                plain = Plain(kind, [whole], 0, parts, 0, region, labels)
            else:
                is_new = bool(self.random.integers(2))
                target = self.next_id if is_new else self._some(1)[0]
                made = (target,) if is_new else ()
                step = Step(sequence, EditKind.REASSIGN, (), target, made, 0, region, key)
                plain = Plain(kind, [], target, {}, 0, region, labels)
            self.next_id += len(step.new_ids)
            self.alive |= set(step.new_ids)
        self.steps.append(step)
        self.plain.append(plain)

    def block(self, key: str, sha256: str, region: Region) -> Any:
        labels = self.blocks[key]
        assert labels.shape == region.shape
        return labels

    def _some(self, count: int) -> list[int]:
        chosen = self.random.choice(sorted(self.alive), count, replace=False)
        return [int(each) for each in chosen]

    def _region(self) -> Region:
        start = [int(self.random.integers(0, size - 1)) for size in SHAPE]
        stop = [int(self.random.integers(low + 1, size + 1)) for low, size in zip(start, SHAPE, strict=True)]
        return Region(Index(*start), Index(*stop))


def boxes(edge: int) -> list[Region]:
    return [
        Region(
            Index(z, y, x), Index(*(min(a + edge, size) for a, size in zip((z, y, x), SHAPE, strict=True)))
        )
        for z in range(0, SHAPE[0], edge)
        for y in range(0, SHAPE[1], edge)
        for x in range(0, SHAPE[2], edge)
    ]


@pytest.mark.parametrize("data_type", ["uint32", "uint64"])
@pytest.mark.parametrize("seed", range(12))
def test_regions_composed_one_by_one_are_the_whole_array_edited_step_by_step(
    seed: int, data_type: str
) -> None:
    author = Author(seed, data_type)
    for _ in range(40):
        author.edit()
    # Some are taken back: of the others the same must come out, also where they built upon those.
    kept = author.random.random(len(author.steps)) < (1.0 if seed % 3 == 0 else 0.7)
    steps = [step for step, keep in zip(author.steps, kept, strict=True) if keep]
    plain = [each for each, keep in zip(author.plain, kept, strict=True) if keep]
    expected, classes = applied(author.voxels, plain), said(author.voxels, plain, CLASS)
    composition = Composition(steps)
    before = author.voxels.copy()
    for edge in (5, 24):
        for box in boxes(edge):
            stored = author.voxels[box.slices]
            got = composition.ids(stored, box, author.block)
            assert got.dtype == author.voxels.dtype
            np.testing.assert_array_equal(got, expected[box.slices])
            spoken = composition.classes(stored, box, CLASS, author.block)
            np.testing.assert_array_equal(spoken, classes[box.slices])
    assert (author.voxels == before).all()
    assert composition.says_classes == bool(
        {step.kind for step in steps} & {EditKind.DELETE, EditKind.RECLASSIFY, EditKind.REASSIGN}
    )


def test_a_long_chain_of_merges_is_followed_to_its_end() -> None:
    steps = [Step(n, EditKind.MERGE, (n + 1, n), n + 1) for n in range(1, 5000)]
    ids = np.arange(1, 5001, dtype=np.uint32).reshape(1, 1, -1)
    region = Region.of_shape((1, 1, 5000))
    composition = Composition(steps)
    assert (composition.ids(ids, region, _no_block) == 5000).all()
    ended = Composition([*steps, Step(5000, EditKind.DELETE, (5000,))])
    assert not ended.ids(ids, region, _no_block).any()
    assert (ended.classes(ids, region, CLASS, _no_block) == 1).all()
    assert sorted(composition.members(5000)) == list(range(1, 5001))


def test_what_a_map_says_is_found_by_table_and_by_search_alike() -> None:
    composition = Composition([Step(1, EditKind.MERGE, (7, 9, 4_000_000_000), 7)])
    few = np.array([[[9, 4_000_000_000, 0, 8]]], np.uint32)
    many = np.array([[[9, 0, 8] * 100]], np.uint32)
    assert composition.ids(few, Region.of_shape(few.shape), _no_block).tolist() == [[[7, 7, 0, 8]]]
    assert composition.ids(many, Region.of_shape(many.shape), _no_block).tolist() == [[[7, 0, 8] * 100]]
    assert not Composition([])


def _no_block(key: str, sha256: str, region: Region) -> Any:
    raise AssertionError("no block was asked for")
