"""What electron micrographs may look like on another day: turned, mirrored, stretched, brighter, blurred,
noisier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from biosegment.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class AugmentationConfig:
    """Strengths; images are normalised to mean 0 and deviation 1, and so are the units.

    Attributes:
        affine: Probability of an arbitrary rotation with a change of scale.
        scale: Largest relative change of scale.
        contrast: Largest relative change of contrast.
        brightness: Largest shift of brightness, in deviations.
        gamma: Largest relative change of gamma.
        blur: Probability of a slight Gaussian blur.
        noise: Largest deviation of added Gaussian noise.
    """

    affine: float = 0.5
    scale: float = 0.2
    contrast: float = 0.25
    brightness: float = 0.25
    gamma: float = 0.25
    blur: float = 0.2
    noise: float = 0.2

    def __post_init__(self) -> None:
        if not all(0 <= p <= 1 for p in (self.affine, self.blur)):
            raise InvalidArgument(
                "BAD_AUGMENTATION", f"affine {self.affine} and blur {self.blur} are probabilities"
            )
        if not all(0 <= s < 1 for s in (self.scale, self.contrast, self.gamma)) or self.noise < 0:
            raise InvalidArgument(
                "BAD_AUGMENTATION", "scale, contrast and gamma are in 0..1, noise is not negative"
            )


def augment(
    images: Tensor, labels: Tensor, config: AugmentationConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A changed copy of a batch.

    Args:
        images: float32 (N, 1, y, x) with y == x.
        labels: uint8 (N, y, x); what a rotation uncovers becomes 0, not annotated.
        config: How strong.
        rng: The only source of chance.
    """
    images, labels = _flip_and_turn(images, labels, rng)
    chosen = np.flatnonzero(rng.random(len(images)) < config.affine)
    if chosen.size:
        images, labels = _affine(images, labels, torch.from_numpy(chosen), config.scale, rng)
    return _shade(images, config, rng), labels


def _flip_and_turn(images: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    turned_images, turned_labels = [], []
    for image, label in zip(images, labels, strict=True):
        turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        image, label = torch.rot90(image, turns, (1, 2)), torch.rot90(label, turns, (0, 1))
        turned_images.append(image.flip(2) if mirror else image)
        turned_labels.append(label.flip(1) if mirror else label)
    return torch.stack(turned_images), torch.stack(turned_labels)


def _affine(
    images: Tensor, labels: Tensor, chosen: Tensor, scale: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    angle = rng.uniform(-np.pi, np.pi, len(chosen))
    zoom = np.exp(rng.uniform(-1, 1, len(chosen)) * np.log1p(scale))
    cos, sin, zero = np.cos(angle) * zoom, np.sin(angle) * zoom, np.zeros(len(chosen))
    matrix = np.stack([np.stack([cos, -sin, zero], 1), np.stack([sin, cos, zero], 1)], 1)
    picked = images[chosen]
    grid = F.affine_grid(torch.from_numpy(matrix).float(), list(picked.shape), align_corners=False)
    warped = F.grid_sample(picked, grid, padding_mode="reflection", align_corners=False)
    marks = labels[chosen].unsqueeze(1).float()
    warped_marks = F.grid_sample(marks, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    images, labels = images.clone(), labels.clone()
    images[chosen] = warped
    labels[chosen] = warped_marks.squeeze(1).round().to(torch.uint8)
    return images, labels


def _shade(images: Tensor, config: AugmentationConfig, rng: np.random.Generator) -> Tensor:
    count = len(images)

    def draw(strength: float) -> Tensor:
        return torch.from_numpy(rng.uniform(-strength, strength, count)).float().view(count, 1, 1, 1)

    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    span = (high - low).clamp(min=1e-3)
    images = ((images - low) / span).pow(1 + draw(config.gamma)) * span + low
    images = images * (1 + draw(config.contrast)) + draw(config.brightness)
    blurred = np.flatnonzero(rng.random(count) < config.blur)
    if blurred.size:
        images[torch.from_numpy(blurred)] = _blur(
            images[torch.from_numpy(blurred)], float(rng.uniform(0.4, 1.0))
        )
    sigma = torch.from_numpy(rng.uniform(0, config.noise, count)).float().view(count, 1, 1, 1)
    noise = torch.from_numpy(rng.standard_normal(tuple(images.shape), dtype=np.float32))
    return images + sigma * noise


def _blur(images: Tensor, sigma: float) -> Tensor:
    offsets = torch.arange(-2, 3, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, 5)), kernel.view(1, 1, 5, 1))
