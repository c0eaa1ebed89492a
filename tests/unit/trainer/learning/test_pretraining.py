from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.network import NetworkConfig
from biosegment_trainer.learning.optimisation import Checkpoint
from biosegment_trainer.learning.pretraining import MaskConfig, RawVolume, pretrain
from biosegment_trainer.learning.training import TrainingConfig, train

from biosegment.errors import InvalidArgument

FLAT = NetworkConfig.unet((8, 16), (2,), 1)
NEIGHBOURS = dataclasses.replace(FLAT, input_slices=3)
VOLUME = NetworkConfig("UNet", 3, 1, {"channels": [4, 8], "strides": [2], "num_res_units": 1})
CONFIG = TrainingConfig(
    network=FLAT, steps=10, batch_size=4, patch_size=32, patch_depth=4, learning_rate=5e-3, checkpoint_steps=4
)
MASK = MaskConfig(blocks=6, cell=4)


@pytest.fixture
def volume(tissue) -> RawVolume:
    return RawVolume(lambda r: tissue.raw[r.slices], tissue.raw.shape, tissue.statistics, 2)


@pytest.mark.parametrize("network", [FLAT, NEIGHBOURS, VOLUME])
def test_a_network_learns_to_paint_what_was_blanked_and_passes_its_body_on(
    volume, annotations, disc, network
):
    config = dataclasses.replace(CONFIG, network=network, steps=40)
    found = pretrain(config, MASK, [volume], seed=0, device="cpu")
    assert found.final_loss < 0.9, "it paints no better than with the mean"
    assert (found.model.classes, found.steps) == ((), 40)
    still = dataclasses.replace(config, steps=1, learning_rate=1e-12, batch_size=1)
    child = train(still, annotations, found.model, classes=[disc], seed=1, device="cpu").model
    body = [
        n for n, t in child.weights.items() if n.startswith(("model.0", "model.1")) and n.endswith("weight")
    ]
    assert body
    for name in body:
        torch.testing.assert_close(child.weights[name], found.model.weights[name], atol=1e-6, rtol=0)
    assert child.network == found.model.network


def test_it_resumes_exactly(volume):
    saved: list[Checkpoint] = []
    whole = pretrain(CONFIG, MASK, [volume], seed=3, on_checkpoint=saved.append, device="cpu")
    again = pretrain(CONFIG, MASK, [volume], seed=3, resume_from=saved[0], device="cpu")
    assert again.final_loss == whole.final_loss
    assert all(torch.equal(t, again.model.weights[n]) for n, t in whole.model.weights.items())
    other = pretrain(CONFIG, MASK, [volume], seed=4, device="cpu")
    assert other.final_loss != whole.final_loss


def test_blocks_are_read_inside_the_volume_and_small_volumes_are_mirrored(tissue):
    asked = []

    def read(region):
        asked.append(region)
        return tissue.raw[region.slices][:, :40, :40]

    small = RawVolume(read, (8, 40, 40), tissue.statistics, 2)
    found = pretrain(dataclasses.replace(CONFIG, steps=1), MASK, [small], seed=0, device="cpu")
    assert found.steps == 1
    assert len(asked) >= MASK.blocks
    assert all(region.stop.z <= 8 and region.stop.y <= 40 and region.start.y % 2 == 0 for region in asked)


def test_a_larger_volume_is_looked_at_more(tissue):
    asked = {"large": 0, "small": 0}

    def reader(name):
        def read(region):
            asked[name] += 1
            return np.random.default_rng(0).integers(0, 255, region.shape).astype(np.uint8)

        return read

    volumes = [
        RawVolume(reader("large"), (8, 256, 256), tissue.statistics, 2),
        RawVolume(reader("small"), (8, 64, 64), tissue.statistics, 2),
    ]
    pretrain(dataclasses.replace(CONFIG, steps=1), MaskConfig(blocks=60), volumes, seed=0, device="cpu")
    assert asked["large"] > 5 * asked["small"]


def test_it_stops_when_it_is_told_to(volume):
    found = pretrain(CONFIG, MASK, [volume], seed=0, should_stop=lambda: True, device="cpu")
    assert found.stopped
    assert found.steps == 0


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(InvalidArgument, match="at least one"):
        pretrain(CONFIG, MASK, [], seed=0)
    with pytest.raises(InvalidArgument, match="share"):
        MaskConfig(share=1.0)
