"""What earlier scorings found: which model scored each block, and their shards for blocks that are not scored again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from biosegment.errors import NotFound
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.storage.objects import Objects
from biosegment.volume import Index, Region
from biosegment_trainer.datastore_client import LayerView
from biosegment_trainer.prediction.block import downsampled
from biosegment_trainer.prediction.budget import NEVER
from biosegment_trainer.prediction.ledger import copy_shards
from biosegment_trainer.prediction.task import MODEL_VERSION, LayerArray, VolumePart

_AT_ONCE: Final = 32


@dataclass(frozen=True, slots=True)
class EarlierScores:
    """The newest scoring of a volume that scored all that is wanted now, in the same blocks.

    Attributes:
        keys: Of its arrays, by measure; empty when there is none.
        dtypes: Of their values, by measure.
        versions: Of the model that scored a block, by its number; `NEVER` for none.
    """

    keys: Mapping[str, str]
    dtypes: Mapping[str, str]
    versions: Mapping[int, int]


async def earlier_scores(
    store: ObjectStoreSettings, layers: Sequence[LayerView], part: VolumePart
) -> EarlierScores:
    """Look for it among the committed score maps of the volume, newest first."""
    numbers = part.blocks.numbers()
    by_job: dict[str, dict[str, LayerView]] = {}
    for layer in layers:
        by_job.setdefault(layer.job, {})[layer.measure] = layer
    for found in by_job.values():
        if all(_is_same(found.get(measure), part, measure) for measure in part.scores):
            keys = {measure: found[measure].key for measure in part.scores}
            dtypes = {measure: found[measure].dtype for measure in part.scores}
            try:
                versions = await asyncio.to_thread(_versions, store, keys[MODEL_VERSION], part, numbers)
            except NotFound:
                continue  # it was deleted just now
            return EarlierScores(keys, dtypes, versions)
    return EarlierScores({}, {}, dict.fromkeys(numbers, NEVER))


async def keep(
    store: ObjectStoreSettings,
    objects: Objects,
    earlier: EarlierScores,
    part: VolumePart,
    numbers: Iterable[int],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Copy the shards of blocks that are not scored again into the new layers: all of a block, or nothing.

    `check` is called before each block and may raise to end it.
    """
    slots = asyncio.Semaphore(_AT_ONCE)
    arrays = Arrays(store)

    async def keep_block(number: int) -> None:
        async with slots:
            check()
            for measure, array in part.scores.items():
                key = earlier.keys[measure]
                shards = list(part.blocks.shards(number, array.downsampling, array.shard))
                if earlier.dtypes[measure] != array.dtype:
                    # Older releases wrote versions of models in half precision.
                    is_kept = await asyncio.to_thread(_convert, arrays, key, array, part, number)
                else:
                    is_kept = await copy_shards(objects, key, array.key, shards)
                if not is_kept:
                    await _drop(objects, part, number)
                    return

    kept = [number for number in numbers if earlier.versions[number] != NEVER]
    await asyncio.gather(*(keep_block(number) for number in kept))


def _is_same(layer: LayerView | None, part: VolumePart, measure: str) -> bool:
    array = part.scores[measure]
    return layer is not None and (layer.downsampling, layer.shard, layer.channels) == (
        array.downsampling,
        array.shard,
        array.channels,
    )


def _versions(
    store: ObjectStoreSettings, key: str, part: VolumePart, numbers: Sequence[int]
) -> dict[int, int]:
    """From one cell of each block: a block is scored as a whole."""
    array = Arrays(store).open(key, immutable=True)
    found = {}
    for number in numbers:
        start = downsampled(part.blocks.written(number), part.scores[MODEL_VERSION].downsampling).start
        version = float(array.read(Region(start, Index(*(low + 1 for low in start))))[0, 0, 0])
        found[number] = NEVER if math.isnan(version) else int(version)
    return found


def _convert(arrays: Arrays, key: str, target: LayerArray, part: VolumePart, number: int) -> bool:
    """Write the cells of a block in the type of another layer; False when some are gone."""
    region = downsampled(part.blocks.written(number), target.downsampling)
    try:
        cells = arrays.open(key, immutable=True).read(region)
    except NotFound:
        return False
    if np.isnan(cells).any():
        return False
    arrays.open(target.key).write(region, cells.astype(target.dtype))
    return True


async def _drop(objects: Objects, part: VolumePart, number: int) -> None:
    for array in part.scores.values():
        for shard in part.blocks.shards(number, array.downsampling, array.shard):
            await objects.delete(f"{array.key}/{shard}")
