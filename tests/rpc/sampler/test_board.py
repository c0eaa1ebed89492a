"""What is taken, kept up to date by numbered changes, is what the rows say; on both databases."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from biosegment_sampler.board import Board, Boards
from biosegment_sampler.domain.annotation import Annotation
from biosegment_sampler.domain.grid import CandidateField
from biosegment_sampler.domain.lease import Lease
from biosegment_sampler.domain.occupancy import NEAR, TAKEN
from biosegment_sampler.domain.pool import Loop, Pool, PoolSettings, VolumeRegion
from biosegment_sampler.domain.sample import Sample, SampleState
from biosegment_sampler.ports import Transaction
from biosegment_sampler.sql import SqlLedger

from biosegment.volume import Index, Region

SHAPE, WINDOW = Index(12, 64, 64), Index(1, 16, 16)
FIELD = CandidateField.over([("v", SHAPE, WINDOW), ("w", SHAPE, WINDOW)])
EXCLUDED = VolumeRegion("w", Region(Index(0, 0, 0), Index(3, 64, 64)))
POOL = Pool("p", PoolSettings(excluded=(EXCLUDED,), slice_distance=3), Loop(nonce="n"))
NOW = 100.0


def anywhere(chance: random.Random) -> tuple[str, Region]:
    start = [chance.randint(0, size - edge) for size, edge in zip(SHAPE, WINDOW, strict=True)]
    return chance.choice("vw"), Region.of_shape(WINDOW, Index(*start))


def some_sample(chance: random.Random) -> Sample:
    volume_id, region = anywhere(chance)
    state = chance.choice(list(SampleState))
    lease = Lease("ann", 1.0, chance.choice([NOW - 50, NOW + 50]))
    strategy = chance.choice(["entropy", "random"])
    name, dealt = f"s{chance.randint(0, 9)}", chance.random() < 0.5
    return Sample(name, "p", volume_id, region, state, strategy, 1.0, lease=lease, dealt=dealt)


def some_annotation(chance: random.Random) -> Annotation:
    volume_id, region = anywhere(chance)
    note = Annotation(f"a{chance.randint(0, 9)}", 1, volume_id, region, "ann", "", 1.0, {}, 1.0)
    return note.reverted() if chance.random() < 0.4 else note


async def change(transaction: Transaction, chance: random.Random) -> None:
    match chance.randint(0, 3):
        case 0 | 1:
            sample = some_sample(chance)
            known = await transaction.sample(sample.sample_id)
            # Neither its place nor its strategy ever change.
            kept = known or sample
            await transaction.put_samples([replace(kept, state=sample.state, lease=sample.lease)])
        case 2:
            note = some_annotation(chance)
            known_note = await transaction.annotation(note.name)
            await transaction.put_annotation(replace(known_note or note, state=note.state))
        case 3:
            await transaction.set_latest_model([f"a{chance.randint(0, 9)}" for _ in range(4)])


def seen(board: Board) -> tuple[object, ...]:
    board.lapse(NOW)
    view = board.occupancy.view()
    everything = slice(0, len(FIELD))
    flags = [view.is_open(everything, bits).tolist() for bits in (TAKEN, NEAR)]
    return flags, board.occupancy.open_count, board.dealt, board.leased


async def fresh(ledger: SqlLedger) -> Board:
    board = Board(POOL, FIELD)
    await ledger.read_at_once("p", board.look)
    return board


@pytest.mark.parametrize("seed", range(3))
async def test_two_processes_that_look_at_different_times_see_what_the_rows_say(
    ledger: SqlLedger, seed: int
) -> None:
    chance = random.Random(seed)
    often, rarely = await fresh(ledger), await fresh(ledger)
    for step in range(40):
        async with ledger.write("p") as transaction:
            for _ in range(chance.randint(1, 3)):
                await change(transaction, chance)
        await ledger.read_at_once("p", often.look)
        if step % 10 == 9:
            await ledger.write_at_once("p", lambda rows: rarely.catch_up(rows, is_writing=True), lazily=True)
            expected = seen(await fresh(ledger))
            assert seen(often) == expected
            assert seen(rarely) == expected


async def test_a_transaction_that_fails_leaves_nothing_on_the_board(ledger: SqlLedger) -> None:
    chance = random.Random(1)
    board = await fresh(ledger)

    async def fail(transaction: Transaction) -> None:
        await board.catch_up(transaction, is_writing=True)
        for _ in range(5):
            await change(transaction, chance)
        raise ZeroDivisionError

    async def work(transaction: Transaction) -> None:
        await board.catch_up(transaction, is_writing=True)
        await change(transaction, chance)

    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            await ledger.write_at_once("p", fail)
        await ledger.write_at_once("p", work)
    await ledger.read_at_once("p", board.look)
    assert seen(board) == seen(await fresh(ledger))


async def test_a_database_that_was_put_back_is_read_anew(ledger: SqlLedger) -> None:
    chance = random.Random(2)
    board = await fresh(ledger)
    for _ in range(10):
        await ledger.write_at_once("p", lambda rows: change(rows, chance))
    await ledger.read_at_once("p", board.look)
    # As after the restore of a backup from before all of it.
    async with ledger._database.write() as connection:
        for table in ("samples", "annotations", "changes"):
            await connection.exec_driver_sql(f"DELETE FROM {table}")
    await ledger.write_at_once("p", lambda rows: change(rows, random.Random(3)))
    await ledger.write_at_once("p", lambda rows: board.catch_up(rows, is_writing=True))
    assert seen(board) == seen(await fresh(ledger))


async def test_open_candidates_are_counted_while_others_write(ledger: SqlLedger) -> None:
    chance = random.Random(4)
    boards = Boards(ledger, 1 << 20)
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(ledger.write_at_once("p", lambda rows: change(rows, chance)))
            group.create_task(boards.open_count(POOL, FIELD, NOW))
    board = await fresh(ledger)
    board.lapse(NOW)
    assert await boards.open_count(POOL, FIELD, NOW) == board.occupancy.open_count


async def test_work_at_once_may_await_the_transaction_alone(ledger: SqlLedger) -> None:
    async def wait(transaction: Transaction) -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="await nothing but itself"):
        await ledger.read_at_once("p", wait)
