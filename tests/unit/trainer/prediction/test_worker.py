from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from biosegment_trainer.compute.task import Callback, VolumeArray
from biosegment_trainer.learning.bundle import ModelBundle, write_bundle
from biosegment_trainer.learning.network import LabelClass, NetworkConfig
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.prediction import PredictionConfig, predict_block
from biosegment_trainer.learning.tiling import default_tile
from biosegment_trainer.prediction.actor import BlockActor
from biosegment_trainer.prediction.block import BlockId, BlockPlan
from biosegment_trainer.prediction.task import LayerArray, Member, PredictTask, VolumePart, score_dtype
from biosegment_trainer.registry.model import ModelClass

from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.storage.layout import ArrayLayout
from biosegment.volume import Index, Region
from tests.unit.trainer.learning.conftest import untrained

FLAT = NetworkConfig.unet(channels=(4, 8), strides=(2,), num_res_units=0)
SOLID = replace(FLAT, spatial_dims=3)
VERSION = 2049
"""Of the model: half precision would make 2048 of it."""
CLASSES = (LabelClass(2, "one"), LabelClass(5, "two"))


class Bench:
    """A store with a volume, models and layers, and a worker on it."""

    def __init__(self, folder: Path, image: np.ndarray) -> None:
        self.folder = folder
        self.store = ObjectStoreSettings(object_store_url=f"file://{folder}")
        self.arrays = Arrays(self.store)
        self.image = image
        self.statistics = SliceStatistics.of_slices(image)
        whole = Region.of_shape(image.shape)
        self.arrays.create("raw", image.shape, "uint8").write(whole, image)

    def model(self, network: NetworkConfig, seed: int):
        model = untrained(network, CLASSES, seed)
        write_bundle(ModelBundle("m", "1.0.0", model, 10.0), self.folder / f"models/{seed}")
        return model

    def layer(self, key: str, dtype: str, down: Index, layout, channels: int = 1) -> LayerArray:
        z, y, x = (-(-size // factor) for size, factor in zip(self.image.shape, down, strict=True))
        chunk, shard = (Index(edge.z, edge.y, edge.x * channels) for edge in layout)
        made = self.arrays.create(
            key, (z, y, x * channels), dtype, layout=ArrayLayout(tuple(shard), tuple(chunk))
        )
        shard = Index(*made.layout.shard)
        return LayerArray(key, down, Index(shard.z, shard.y, shard.x // channels), dtype, channels)

    def run(
        self, plan: BlockPlan, seeds: tuple[int, ...], measures: dict[str, int], at_once: int = 1, **options
    ):
        """Predict all blocks; returns labels, probabilities of both classes and the score maps."""
        part = VolumePart(
            VolumeArray(
                "projects/p/volumes/v",
                "raw",
                self.image.shape,
                1,
                tuple(self.statistics.mean),
                tuple(self.statistics.std),
            ),
            plan,
            1,
            self.layer("labels", "uint8", Index(1, 1, 1), plan.labels_layout),
            {
                value: self.layer(
                    f"p{value}", "uint8", plan.probabilities_downsampling, plan.probabilities_layout
                )
                for value in (2, 5)
            },
            {
                name: self.layer(
                    name, score_dtype(name), plan.scores_downsampling, plan.scores_layout, channels
                )
                for name, channels in measures.items()
            },
        )
        classes = tuple(ModelClass(item.value, item.name) for item in CLASSES)
        members = tuple(Member(f"models/{seed}", classes) for seed in seeds)
        callback = Callback("127.0.0.1:1", "nobody", "trainer-1", 1)
        task = PredictTask(self.store, callback, 1, members, VERSION, (part,), backend="eager", **options)
        actor = BlockActor(task, at_once)
        assert actor.prepare().error is None
        with ThreadPoolExecutor(at_once) as pool:
            blocks = [BlockId(0, number) for number in reversed(part.blocks.numbers())]
            assert [outcome.error for outcome in pool.map(actor.predict, blocks)] == [None] * len(blocks)
        actor._reporter.__exit__(None, None, None)
        arrays = [part.labels, *part.probabilities.values(), *part.scores.values()]
        return part, [self.whole(array.key) for array in arrays if array]

    def whole(self, key: str) -> np.ndarray:
        array = self.arrays.open(key)
        return array.read(Region.of_shape(array.shape))


@pytest.mark.parametrize(("network", "at_once"), [(FLAT, 1), (FLAT, 2), (SOLID, 1)])
def test_blocks_give_what_one_pass_over_the_whole_volume_gives(tmp_path, network, at_once):
    image = np.random.default_rng(1).integers(0, 255, (5, 40, 300), np.uint8)
    bench = Bench(tmp_path, image)
    model = bench.model(network, 0)
    measures = {"entropy": 1, "class_entropy": 2, "embedding": 32}
    whole = Region.of_shape(image.shape)
    small = BlockPlan(1, Index(64 if network is SOLID else 16, 256, 256), whole)
    part, (labels, first, second, *scores) = bench.run(small, (0,), measures, at_once)
    assert len(part.blocks.numbers()) == 2
    config = PredictionConfig(measures=tuple(measures), backend="eager")
    expected = predict_block(
        model, lambda region: image[region.slices], whole, image.shape, bench.statistics, config
    )
    np.testing.assert_array_equal(labels, expected.labels)
    np.testing.assert_array_equal(np.stack([first, second]), expected.probabilities)
    for name, cells in zip(measures, scores, strict=True):
        np.testing.assert_allclose(cells, expected.scores[name], rtol=1e-3)


def test_blocks_of_small_tiles_at_a_large_factor_give_what_one_pass_gives(tmp_path):
    factor = 9
    image = np.random.default_rng(3).integers(0, 255, (2, 300, 1300), np.uint8)
    bench = Bench(tmp_path, image)
    model = bench.model(FLAT, 0)
    whole = Region.of_shape(image.shape)
    plan = BlockPlan.of(factor, whole, default_tile(2, factor))
    part, (labels, first, second, scores) = bench.run(plan, (0,), {"entropy": 1})
    assert len(part.blocks.numbers()) == 2
    # A block of 1152 voxels is no multiple of the usual shard of 256.
    assert plan.labels_layout[1].y == plan.block.y == 1152
    config = PredictionConfig(factor=factor, measures=("entropy",), backend="eager")
    expected = predict_block(
        model, lambda region: image[region.slices], whole, image.shape, bench.statistics, config
    )
    np.testing.assert_array_equal(labels, expected.labels)
    np.testing.assert_array_equal(np.stack([first, second]), expected.probabilities)
    np.testing.assert_allclose(scores, expected.scores["entropy"], rtol=1e-3)


def test_members_passes_and_planes_take_part(tmp_path):
    image = np.random.default_rng(2).integers(0, 255, (20, 40, 48), np.uint8)
    whole = Region.of_shape(image.shape)
    plan = BlockPlan.of(1, whole, (256, 256, 256))
    found = []
    variants = [
        ((0,), {}, {}),
        ((0, 1), {"disagreement": 1}, {}),
        ((0,), {"disagreement": 1}, {"test_time_augmentation": 2}),
        ((0,), {"disagreement": 1}, {"ortho_planes": True}),
    ]
    for number, (seeds, measures, options) in enumerate(variants):
        bench = Bench(tmp_path / str(number), image)
        for seed in seeds:
            bench.model(FLAT, seed)
        _, (labels, first, *_, last) = bench.run(plan, seeds, measures | {"model_version": 1}, **options)
        assert set(np.unique(labels)) <= {1, 2, 5}
        assert (last == VERSION).all()
        if measures:
            spread = bench.whole("disagreement")
            assert np.isfinite(spread).all()
            assert (spread > 0).any()
        found.append(first)
    for one in found[1:]:
        assert (one != found[0]).mean() > 0.5
