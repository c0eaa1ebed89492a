"""Trainings whose numbers run away end with their reason, and leave no weights."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.network import NetworkConfig, not_finite
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.optimisation import Run, TrainingConfig, TrainingProgress, optimise
from biosegment_trainer.learning.pretraining import MaskConfig, RawVolume, pretrain
from biosegment_trainer.learning.training import train
from biosegment_trainer.learning.validation import ValidationConfig

from biosegment.errors import FailedPrecondition

# Each step multiplies the weights by 1 - 0.9 * 100.
RECKLESS = TrainingConfig(
    network=NetworkConfig.unet((4, 8), (2,), 1),
    steps=60,
    batch_size=2,
    patch_size=32,
    learning_rate=0.9,
    weight_decay=100.0,
    checkpoint_steps=5,
)


@pytest.mark.parametrize("validated", [False, True])
def test_a_training_that_diverges_ends_at_that_step_and_says_what_to_lower(annotations, disc, validated):
    config = RECKLESS
    if validated:
        often = ValidationConfig(fraction=0.4, slab=1, gap=0, minimum=4, every=1, patience=0)
        config = dataclasses.replace(config, validation=often)
    seen: list[TrainingProgress] = []
    with pytest.raises(FailedPrecondition) as caught:
        train(config, annotations, None, classes=[disc], seed=0, on_progress=seen.append, device="cpu")
    assert caught.value.reason == "DIVERGED"
    assert "lower learning_rate 0.9 (or weight_decay 100)" in caught.value.message
    assert 0 < len(seen) < config.steps
    assert all(math.isfinite(progress.loss) for progress in seen)
    # After that step the averaged weights were not finite, or in the next one the loss was not.
    step = seen[-1].step
    assert any(f"{what} of 60" in caught.value.message for what in (f"step {step}", f"step {step + 1}"))


def test_a_pretraining_that_diverges_ends_likewise(tissue):
    volume = RawVolume(
        lambda region: tissue.raw[region.slices],
        tissue.raw.shape,
        SliceStatistics(tissue.statistics.mean, tissue.statistics.std),
        2,
    )
    with pytest.raises(FailedPrecondition, match="lower learning_rate") as caught:
        pretrain(RECKLESS, MaskConfig(blocks=2), [volume], seed=0, device="cpu")
    assert caught.value.reason == "DIVERGED"


class _Cliff:
    """A loss of 0 whose slope is not a number at the last step."""

    def loss(self, run: Run, rng: np.random.Generator) -> torch.Tensor:
        total = torch.stack([parameter.sum() for parameter in run.module.parameters()]).sum()
        return (0 * total).sqrt() if run.step + 1 == run.config.steps else 0 * total


def test_a_last_step_that_spoils_the_weights_gives_no_model(disc):
    run = Run(dataclasses.replace(RECKLESS, steps=3, weight_decay=0.0), None, (disc,), 0, torch.device("cpu"))
    assert not not_finite(run.averaged_model().weights)
    assert not optimise(run, _Cliff())
    assert run.losses == [0.0, 0.0, 0.0]
    with pytest.raises(FailedPrecondition, match="the weights are not finite after step 3 of 3") as caught:
        run.averaged_model()
    assert caught.value.reason == "DIVERGED"
