"""Which blocks of a job are done: written by its workers, taken over by its later attempts.

An entry is an object `jobs/{job}/blocks/{attempt}/{volume}/{block}`, written when all of the block is durable. It names
the objects that hold the block. Every attempt writes below prefixes of its own, so what an earlier one finished is
copied, object by object within the store, and an orphan of it can change nothing any more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from biosegment.errors import NotFound
from biosegment.storage.objects import BlockingObjects, Objects
from biosegment_trainer.prediction.block import BlockId
from biosegment_trainer.prediction.task import VolumePart

_AT_ONCE: Final = 32


def ledger_prefix(job_id: str) -> str:
    """Of all entries of a job."""
    return f"jobs/{job_id}/blocks/"


async def note_layers(objects: Objects, job_id: str, names: Sequence[str]) -> None:
    """Write down which layers a job is about to make, so that they are found whatever becomes of it."""
    await objects.put(_layers_key(job_id), json.dumps(list(names)).encode())


async def noted_layers(objects: Objects, job_id: str) -> list[str]:
    """What `note_layers` wrote; none for other jobs."""
    try:
        return list(json.loads(await objects.get(_layers_key(job_id))))
    except NotFound:
        return []


def _layers_key(job_id: str) -> str:
    return f"jobs/{job_id}/layers.json"


@dataclass(frozen=True, slots=True)
class _Shards:
    """Objects of one array: names below its key. One that would hold nothing but the fill value is not there."""

    key: str
    names: tuple[str, ...]


class BlockLedger:
    """Entries of one attempt, as its workers make them."""

    def __init__(self, objects: BlockingObjects, job_id: str, attempt: int) -> None:
        self._objects = objects
        self._job_id = job_id
        self._attempt = attempt

    def record(self, part: VolumePart, number: int) -> None:
        """Say that a block is done; its voxels are durable."""
        found = {}
        for name, array in part.arrays.items():
            names = part.blocks.shards(number, array.downsampling, array.shard)
            there = tuple(shard for shard in names if self._objects.exists(f"{array.key}/{shard}"))
            found[name] = _Shards(array.key, there)
        self._objects.put(entry_key(self._job_id, self._attempt, part, number), _written(found))


def entry_key(job_id: str, attempt: int, part: VolumePart, number: int) -> str:
    """Where an attempt records a block."""
    return f"{ledger_prefix(job_id)}{attempt}/{_place(part, number)}"


async def take_over(
    objects: Objects,
    job_id: str,
    attempt: int,
    parts: Sequence[VolumePart],
    check: Callable[[], None] = lambda: None,
) -> set[BlockId]:
    """Copy what earlier attempts finished to where this one writes, and record it; returns those blocks.

    An entry whose objects are gone counts for nothing: its block is done anew. `check` is called before each block and
    may raise to end it.
    """
    blocks = {
        _place(part, number): BlockId(index, number)
        for index, part in enumerate(parts)
        for number in part.blocks.numbers()
    }
    known: dict[BlockId, list[tuple[int, str]]] = {}
    for key in await objects.list(ledger_prefix(job_id)):
        earlier, _, place = key.removeprefix(ledger_prefix(job_id)).partition("/")
        if place in blocks and int(earlier) < attempt:
            known.setdefault(blocks[place], []).append((int(earlier), key))
    slots = asyncio.Semaphore(_AT_ONCE)

    async def take(block: BlockId, entries: Sequence[tuple[int, str]]) -> bool:
        part = parts[block.part]
        async with slots:
            check()
            for _, key in sorted(entries, reverse=True):
                found = _read(await objects.get(key))
                if await _copied(objects, found, part):
                    moved = {name: _Shards(part.arrays[name].key, each.names) for name, each in found.items()}
                    await objects.put(entry_key(job_id, attempt, part, block.number), _written(moved))
                    return True
        return False

    taken = await asyncio.gather(*(take(block, entries) for block, entries in known.items()))
    return {block for block, success in zip(known, taken, strict=True) if success}


async def copy_shards(objects: Objects, source: str, target: str, names: Iterable[str]) -> bool:
    """Copy objects below one array's key to below another's; False when one of them is gone."""
    copies = (objects.copy(f"{source}/{name}", f"{target}/{name}") for name in names)
    outcomes = await asyncio.gather(*copies, return_exceptions=True)
    errors = [error for error in outcomes if error is not None]
    for error in errors:
        if not isinstance(error, NotFound):
            raise error
    return not errors


async def _copied(objects: Objects, found: Mapping[str, _Shards], part: VolumePart) -> bool:
    arrays = part.arrays
    if found.keys() != arrays.keys():
        return False
    for name, each in found.items():
        if not await copy_shards(objects, each.key, arrays[name].key, each.names):
            return False
    return True


def _place(part: VolumePart, number: int) -> str:
    return f"{part.volume.name.rpartition('/')[2]}/{number:08d}"


def _written(found: Mapping[str, _Shards]) -> bytes:
    values = {name: {"key": each.key, "shards": each.names} for name, each in found.items()}
    return json.dumps(values).encode()


def _read(data: bytes) -> dict[str, _Shards]:
    values = json.loads(data)
    return {name: _Shards(each["key"], tuple(each["shards"])) for name, each in values.items()}
