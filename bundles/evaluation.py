"""How good a model is on a stack of slices, computed as the platform predicts: blockwise, labels at level 0."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from biosegment_trainer.learning.metrics import Confusion
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.learning.prediction import PredictionConfig, predict_block
from numpy.typing import NDArray

from biosegment.volume import BACKGROUND, Index, Region
from bundles.data import MITOCHONDRIA, Stack
from bundles.recipe import WORKING_RESOLUTION_NM


@dataclass(frozen=True, slots=True)
class Change:
    """What another microscope, another day or another file may do to a stack.

    Attributes:
        name: For people.
        in_plane_nm: Edge of a voxel that the stack is resampled to; 0 leaves it.
        gamma: Exponent on grey values relative to the range.
        contrast: Factor on the deviation from the middle grey.
        brightness: Shift in grey values.
        blur_px: Standard deviation of a Gaussian.
        noise: Standard deviation of Gaussian noise in grey values.
        seam: Step in grey values between the tiles of a montage, and one voxel of offset.
    """

    name: str
    in_plane_nm: float = 0.0
    gamma: float = 1.0
    contrast: float = 1.0
    brightness: float = 0.0
    blur_px: float = 0.0
    noise: float = 0.0
    seam: float = 0.0

    def applied(self, stack: Stack) -> Stack:
        """A changed copy."""
        raw = stack.raw.astype(np.float32)
        truth, in_plane_nm = stack.truth, stack.in_plane_nm
        if self.seam:
            raw, truth = _montage(raw, truth, self.seam)
        if self.in_plane_nm:
            raw, truth = _resampled(raw, truth, in_plane_nm / self.in_plane_nm)
            in_plane_nm = self.in_plane_nm
        raw = np.float32(255) * (np.clip(raw, 0, 255) / np.float32(255)) ** np.float32(self.gamma)
        raw = (raw - np.float32(128)) * np.float32(self.contrast) + np.float32(128 + self.brightness)
        if self.blur_px:
            raw = _blurred(raw, self.blur_px)
        if self.noise:
            raw += np.random.default_rng(0).normal(0, self.noise, raw.shape).astype(np.float32)
        return replace(
            stack,
            name=f"{stack.name}, {self.name}",
            raw=np.clip(raw.round(), 0, 255).astype(np.uint8),
            truth=truth,
            in_plane_nm=in_plane_nm,
        )


CHANGES = (
    *(Change(f"{nm} nm per voxel", in_plane_nm=nm) for nm in (4.0, 6.0, 8.0, 10.0, 12.0)),
    Change("half the contrast", contrast=0.5),
    Change("brighter, gamma 0.6", gamma=0.6, brightness=20.0),
    Change("darker, gamma 1.6", gamma=1.6, brightness=-20.0),
    Change("blurred by 2 voxels", blur_px=2.0),
    Change("noise of 20 grey values", noise=20.0),
    Change("montage of tiles with steps of 40 grey values", seam=40.0),
)


def iou(model: NetworkModel, stack: Stack, **options: Any) -> float:
    """Foreground intersection over union of all voxels of `stack`, at its own resolution.

    Args:
        model: What predicts.
        stack: What with.
        options: Of `PredictionConfig`.
    """
    labels = predicted(model, stack, **options)
    truth = np.where(stack.truth, np.uint8(MITOCHONDRIA.value), np.uint8(BACKGROUND))
    confusion = Confusion((MITOCHONDRIA,))
    confusion.add(truth, labels)
    return confusion.iou(MITOCHONDRIA.value)


def predicted(model: NetworkModel, stack: Stack, **options: Any) -> NDArray[np.uint8]:
    """Labels of all voxels: uint8 (z, y, x)."""
    shape = Index(*stack.raw.shape)
    config = PredictionConfig(factor=stack.factor(WORKING_RESOLUTION_NM), measures=(), **options)
    whole = Region(Index(0, 0, 0), shape)
    result = predict_block(
        model, lambda region: stack.raw[region.slices], whole, shape, stack.statistics, config
    )
    assert result.labels is not None
    return result.labels


def _resampled(
    raw: NDArray[np.float32], truth: NDArray[np.bool_], scale: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    image, mask = torch.from_numpy(raw)[:, None], torch.from_numpy(truth)[:, None].float()
    size = [round(n * scale) for n in raw.shape[1:]]
    image = F.interpolate(image, size=size, mode="bilinear", antialias=scale < 1, align_corners=False)
    mask = F.interpolate(mask, size=size, mode="bilinear", antialias=scale < 1, align_corners=False)
    return image[:, 0].numpy(), (mask[:, 0] > 0.5).numpy()


def _blurred(raw: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    radius = int(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    image = F.pad(torch.from_numpy(raw)[:, None], 4 * [radius], mode="reflect")
    image = F.conv2d(F.conv2d(image, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return image[:, 0].numpy()


def _montage(
    raw: NDArray[np.float32], truth: NDArray[np.bool_], step: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A chequerboard of 256 x 256 tiles: every other one brighter, and taken one voxel further right."""
    y, x = np.indices(raw.shape[1:]) // 256
    odd = (y + x) % 2 == 1
    shifted, mask = np.roll(raw, 1, axis=2), np.roll(truth, 1, axis=2)
    return np.where(odd, shifted + step / 2, raw - step / 2), np.where(odd, mask, truth)
