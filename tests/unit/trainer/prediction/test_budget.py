from __future__ import annotations

import pytest
from biosegment_trainer.prediction.block import BlockId
from biosegment_trainer.prediction.budget import NEVER, Candidate, choose

from biosegment.volume import BlockGrid, Index

BLOCK = Index(1, 1, 1)


def candidates(shape: tuple[int, int, int], parts: int = 1, pixels: int = 10, version: int = NEVER):
    _, rows, columns = shape
    return [
        Candidate(
            BlockId(part, number),
            pixels,
            Index(number // (rows * columns), number // columns % rows, number % columns),
            version,
        )
        for part in range(parts)
        for number in range(len(BlockGrid(Index(*shape), BLOCK)))
    ]


def test_all_that_can_be_afforded_is_taken():
    every = candidates((2, 3, 4))
    assert choose(every, 240, "job") == {each.block for each in every}


@pytest.mark.parametrize("budget", [9, 10, 55, 100, 239])
def test_it_stays_within_the_budget_and_uses_it(budget):
    assert len(choose(candidates((2, 3, 4)), budget, "job")) == budget // 10


def test_the_same_job_chooses_the_same_blocks_and_another_one_others():
    every = candidates((4, 8, 8))
    assert choose(every, 300, "a") == choose(every, 300, "a") != choose(every, 300, "b")


@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_every_eighth_of_every_volume_gets_its_share(seed):
    every = candidates((4, 8, 8), parts=3)
    chosen = choose(every, sum(each.pixels for each in every) // 8, seed)
    octants = {
        (each.block.part, each.place.z // 2, each.place.y // 4, each.place.x // 4)
        for each in every
        if each.block in chosen
    }
    assert len(octants) == 3 * 8


def test_blocks_that_were_scored_never_or_long_ago_come_first():
    old, never, new = (
        [Candidate(BlockId(0, first + n), 10, Index(0, 0, first + n), version) for n in range(4)]
        for first, version in ((0, 3), (4, NEVER), (8, 7))
    )
    assert choose([*new, *old, *never], 40, "job") == {each.block for each in never}
    some = choose([*new, *old, *never], 60, "job")
    assert {each.block for each in never} < some
    assert len(some & {each.block for each in old}) == 2


def test_small_blocks_at_the_border_do_not_overdraw():
    mixed = [Candidate(BlockId(0, n), 1 if n % 3 else 50, Index(0, 0, n), NEVER) for n in range(60)]
    cost = {each.block: each.pixels for each in mixed}
    for budget in (1, 49, 120, 500):
        chosen = choose(mixed, budget, "job")
        assert 0 < sum(cost[block] for block in chosen) <= budget
