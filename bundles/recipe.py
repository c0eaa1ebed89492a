"""How each shipped model is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from biosegment_trainer.learning.augmentation import AugmentationConfig
from biosegment_trainer.learning.training import TrainingConfig
from biosegment_trainer.learning.validation import ValidationConfig

from bundles.data import Stack, epfl, vnc

WORKING_RESOLUTION_NM = 10.0
_OTHER_MICROSCOPES = AugmentationConfig(
    affine=0.6, scale=0.35, contrast=0.35, brightness=0.35, gamma=0.35, blur=0.3, noise=0.25, seam=0.0
)
_OTHER_TISSUE = replace(_OTHER_MICROSCOPES, elastic=0.2, seam=0.1)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training run.

    Attributes:
        stacks: What it learns from, each as often as it is to weigh.
        config: How it is trained.
        seed: Of all chance.
    """

    stacks: Callable[[], list[Stack]]
    config: TrainingConfig
    seed: int = 0


def _config(steps: int, augmentation: AugmentationConfig) -> TrainingConfig:
    return TrainingConfig(
        steps=steps,
        batch_size=8,
        patch_size=192,
        learning_rate=1.5e-3,
        weight_decay=1e-2,
        ema_decay=0.998,
        foreground_share=0.25,
        checkpoint_steps=200,
        augmentation=augmentation,
        # All of it trains; slices 149 to 164 of EPFL's training volume are left to look at, see `bundles.evaluate`.
        validation=ValidationConfig(fraction=0.0),
    )


RECIPES: dict[str, Recipe] = {
    "mitochondria_vem_segmentation": Recipe(
        lambda: [epfl("train", 0, 145)],
        _config(5600, _OTHER_MICROSCOPES),
    ),
    "mitochondria_vem_general": Recipe(
        lambda: [epfl("train", 0, 145), *8 * [vnc(0, 10)]],
        _config(5600, _OTHER_TISSUE),
    ),
    # For the question whether models of one data set travel; not shipped. The first one is without VNC. Neither is the
    # general recipe with a data set left out: this one has fewer steps, that one fewer augmentations.
    "without_epfl": Recipe(lambda: [vnc(0, 8)], _config(1600, _OTHER_TISSUE)),
}
