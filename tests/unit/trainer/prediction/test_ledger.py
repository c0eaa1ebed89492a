from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from biosegment_trainer.compute.task import VolumeArray
from biosegment_trainer.datastore_client import LayerView
from biosegment_trainer.prediction.block import BlockId, BlockPlan
from biosegment_trainer.prediction.earlier import earlier_scores, keep
from biosegment_trainer.prediction.ledger import BlockLedger, entry_key, ledger_prefix, take_over
from biosegment_trainer.prediction.task import MODEL_VERSION, LayerArray, VolumePart, score_dtype

from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.storage.layout import ArrayLayout
from biosegment.storage.objects import Objects, open_objects
from biosegment.volume import Index, Region

SHAPE = (1, 2048, 2048)
JOB = "trainer-1"


class Shop:
    """The arrays of a job in a folder, with something written to them."""

    def __init__(self, folder: Path) -> None:
        self.settings = ObjectStoreSettings(object_store_url=f"file://{folder}")
        self.objects: Objects = open_objects(self.settings)
        self.arrays = Arrays(self.settings)
        self.plan = BlockPlan.of(1, Region.of_shape(SHAPE))

    def part(
        self,
        prefix: str,
        measures: tuple[str, ...] = ("entropy",),
        labels: bool = True,
        dtype: Callable[[str], str] = score_dtype,
    ) -> VolumePart:
        """Make the arrays of an attempt; `dtype` gives the type of a score map."""
        volume = VolumeArray("projects/p/volumes/v", "", SHAPE, 1, (), ())
        scores = {
            measure: self.layer(f"{prefix}/{measure}", dtype(measure), self.plan.scores_downsampling)
            for measure in measures
        }
        own = self.layer(f"{prefix}/labels", "uint8", Index(1, 1, 1)) if labels else None
        return VolumePart(volume, self.plan, 1, own, {}, scores)

    def layer(self, key: str, dtype: str, down: Index) -> LayerArray:
        shape = tuple(-(-size // factor) for size, factor in zip(SHAPE, down, strict=True))
        chunk, shard = self.plan.labels_layout if down == (1, 1, 1) else self.plan.scores_layout
        fill = 0.0 if dtype == "uint8" else float("nan")
        layout = ArrayLayout(tuple(shard), tuple(chunk))
        made = self.arrays.create(key, shape, dtype, layout=layout, fill=fill)
        return LayerArray(key, down, Index(*made.layout.shard), dtype)

    def write(self, part: VolumePart, number: int, value: float) -> None:
        for array in part.arrays.values():
            opened = self.arrays.open(array.key)
            low, high = part.blocks.written(number).start, part.blocks.written(number).stop
            region = Region(
                Index(*(at // f for at, f in zip(low, array.downsampling, strict=True))),
                Index(*(-(-at // f) for at, f in zip(high, array.downsampling, strict=True))),
            )
            opened.write(region, np.full(region.shape, value, opened.dtype))

    def content(self, array: LayerArray | None):
        assert array is not None
        opened = self.arrays.open(array.key)
        return opened.read(Region.of_shape(opened.shape))

    def ledger(self, attempt: int) -> BlockLedger:
        return BlockLedger(self.objects.blocking, JOB, attempt)

    def finish(self, part: VolumePart, number: int, value: float, attempt: int) -> None:
        self.write(part, number, value)
        self.ledger(attempt).record(part, number)


@pytest.fixture
async def shop(tmp_path: Path):
    made = Shop(tmp_path / "objects")
    yield made
    await made.objects.close()


async def test_a_later_attempt_has_what_an_earlier_one_finished_and_an_orphan_changes_nothing(shop: Shop):
    first, second = shop.part("layers/1"), shop.part("layers/2")
    shop.finish(first, 0, 5, attempt=1)
    shop.write(first, 1, 6)
    assert await take_over(shop.objects, JOB, 2, [second]) == {BlockId(0, 0)}
    labels = shop.content(second.labels)
    assert (labels[:, :1024, :1024] == 5).all()
    assert not labels[:, :, 1024:].any()
    # The orphan of the first attempt goes on: what it writes lies elsewhere, also where it had been copied.
    shop.finish(first, 0, 9, attempt=1)
    assert (shop.content(second.labels) == labels).all()
    assert (shop.content(second.scores["entropy"])[:, :64, :64] == 5).all()


async def test_what_was_taken_over_is_taken_over_again(shop: Shop):
    parts = [shop.part(f"layers/{attempt}") for attempt in (1, 2, 3)]
    shop.finish(parts[0], 3, 5, attempt=1)
    await take_over(shop.objects, JOB, 2, parts[1:2])
    shop.finish(parts[1], 2, 6, attempt=2)
    await shop.objects.delete_prefix("layers/1/")
    assert await take_over(shop.objects, JOB, 3, parts[2:]) == {BlockId(0, 2), BlockId(0, 3)}
    assert (shop.content(parts[2].labels)[:, 1024:, 1024:] == 5).all()


async def test_a_block_whose_objects_are_gone_is_done_anew(shop: Shop):
    first, second = shop.part("layers/1"), shop.part("layers/2")
    for number in (0, 1):
        shop.finish(first, number, 5, attempt=1)
    await shop.objects.delete("layers/1/labels/c/0/0/1")
    assert await take_over(shop.objects, JOB, 2, [second]) == {BlockId(0, 1)}


async def test_an_attempt_takes_nothing_from_itself_or_from_later_ones(shop: Shop):
    first = shop.part("layers/1")
    shop.finish(first, 0, 5, attempt=2)
    assert await take_over(shop.objects, JOB, 2, [shop.part("layers/2")]) == set()
    assert await shop.objects.list(ledger_prefix(JOB)) == [entry_key(JOB, 2, first, 0)]


def view(part: VolumePart, measure: str, job: str) -> LayerView:
    array = part.scores[measure]
    name = f"projects/p/volumes/v/layers/{job}-{measure}"
    return LayerView(
        name,
        array.key,
        1,
        True,
        array.downsampling,
        array.shard,
        1,
        measure,
        f"jobs/{job}",
        "score_map",
        array.shard,
        array.dtype,
    )


async def test_blocks_that_are_not_scored_again_keep_what_was_found_earlier(shop: Shop):
    measures = ("entropy", MODEL_VERSION)
    old, new = (shop.part(f"layers/{name}", measures, labels=False) for name in "ab")
    for number, version in ((0, 3), (1, 4)):
        shop.write(old, number, version)
    listed = [view(old, measure, "a") for measure in measures]
    # The newest scoring says nothing of what is wanted.
    other = replace(listed[0], measure="margin", job="jobs/b")
    earlier = await earlier_scores(shop.settings, [other, *listed], new)
    assert dict(earlier.versions) == {0: 3, 1: 4, 2: 0, 3: 0}
    shop.write(new, 1, 7)
    await keep(shop.settings, shop.objects, earlier, new, {0, 2, 3})
    for measure in measures:
        cells = shop.content(new.scores[measure])
        assert (cells[:, :64, :64] == 3).all()
        assert (cells[:, :64, 64:] == 7).all()
        assert np.isnan(cells[:, 64:]).all()


async def test_a_version_beyond_2048_is_remembered_exactly(shop: Shop):
    measures = ("entropy", MODEL_VERSION)
    old, new = (shop.part(f"layers/{name}", measures, labels=False) for name in "ab")
    shop.write(old, 0, 2049)
    earlier = await earlier_scores(shop.settings, [view(old, measure, "a") for measure in measures], new)
    assert earlier.versions[0] == 2049
    await keep(shop.settings, shop.objects, earlier, new, {0})
    assert (shop.content(new.scores[MODEL_VERSION])[:, :64, :64] == 2049).all()


async def test_versions_that_an_older_release_wrote_in_half_precision_are_kept(shop: Shop):
    measures = ("entropy", MODEL_VERSION)
    old = shop.part("layers/a", measures, labels=False, dtype=lambda measure: "float16")
    new = shop.part("layers/b", measures, labels=False)
    for number, version in ((0, 3), (1, 4)):
        shop.write(old, number, version)
    earlier = await earlier_scores(shop.settings, [view(old, measure, "a") for measure in measures], new)
    assert dict(earlier.versions) == {0: 3, 1: 4, 2: 0, 3: 0}
    # One goes away between the look and the copy: nothing of its block is kept.
    await shop.objects.delete(f"{old.scores[MODEL_VERSION].key}/c/0/0/1")
    await keep(shop.settings, shop.objects, earlier, new, {0, 1, 2, 3})
    for measure in measures:
        cells = shop.content(new.scores[measure])
        assert cells.dtype == score_dtype(measure)
        assert (cells[:, :64, :64] == 3).all()
        assert np.isnan(cells[:, :64, 64:]).all()
        assert np.isnan(cells[:, 64:]).all()


async def test_a_block_of_which_a_part_is_gone_counts_as_never_scored(shop: Shop):
    measures = ("entropy", MODEL_VERSION)
    old, new = (shop.part(f"layers/{name}", measures, labels=False) for name in "ab")
    shop.write(old, 0, 3)
    earlier = await earlier_scores(shop.settings, [view(old, measure, "a") for measure in measures], new)
    await shop.objects.delete(f"{old.scores[MODEL_VERSION].key}/c/0/0/0")
    await keep(shop.settings, shop.objects, earlier, new, {0, 1, 2, 3})
    assert all(np.isnan(shop.content(new.scores[measure])).all() for measure in measures)
    # Scorings of which a map is missing are no use at all.
    assert not (await earlier_scores(shop.settings, [view(old, "entropy", "a")], new)).keys
