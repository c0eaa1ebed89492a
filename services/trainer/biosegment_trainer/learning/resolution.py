"""From level-0 voxels to working pixels and back: an integer factor in plane, z untouched.

Working pixel i covers the voxels [i * factor, (i + 1) * factor); at an odd border the last pixel covers
fewer.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biosegment.volume import NOT_ANNOTATED

Float32 = NDArray[np.float32]
Labels = NDArray[np.uint8]


def downsample_raw(raw: NDArray[np.generic], factor: int) -> Float32:
    """Means over `factor` x `factor` voxels: (z, y, x) of any real dtype -> float32 (z, ceil(y / f), ceil(x
    / f)).
    """
    image = raw.astype(np.float32)
    if factor == 1:
        return image
    for axis in (1, 2):
        image = mean_along(image, axis, factor)
    return image


def mean_along(image: Float32, axis: int, factor: int) -> Float32:
    """Means over `factor` values of one axis; at an odd border the last is over fewer."""
    if factor == 1:
        return image
    size = image.shape[axis]
    short = -size % factor
    if short:
        # Filling the last pixel with its own mean leaves that mean as it is.
        rest = size - size % factor
        last = np.take(image, range(rest, size), axis).mean(axis, keepdims=True)
        image = np.concatenate([image, np.repeat(last, short, axis)], axis)
    parts = [image[(slice(None),) * axis + (slice(offset, None, factor),)] for offset in range(factor)]
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return np.asarray(total / np.float32(factor), np.float32)


def downsample_labels(labels: Labels, factor: int) -> Labels:
    """Majority among the annotated voxels of each working pixel; 0 only where no voxel is annotated.

    A tie goes to the larger value: classes are rarer than background, and thin ones would vanish.

    Args:
        labels: uint8 (z, y, x).
        factor: Voxels per working pixel.
    """
    if factor == 1:
        return labels.copy()
    z, y, x = labels.shape
    padded = np.pad(labels, ((0, 0), (0, -y % factor), (0, -x % factor)), constant_values=NOT_ANNOTATED)
    shape = (z, padded.shape[1] // factor, factor, padded.shape[2] // factor, factor)
    cells = padded.reshape(shape)
    best = np.zeros((z, shape[1], shape[3]), np.int32)
    result = np.zeros(best.shape, np.uint8)
    for value in np.unique(labels):
        if value == NOT_ANNOTATED:
            continue
        count = (cells == value).sum(axis=(2, 4), dtype=np.int32)
        wins = (count >= best) & (count > 0)
        result[wins] = value
        best[wins] = count[wins]
    return result


def upsample_probabilities(probabilities: Tensor, factor: int) -> Tensor:
    """Bilinear from working pixels (N, C, y, x) to voxels (N, C, y * f, x * f), aligned at the centres."""
    for axis in (2, 3) if factor > 1 else ():
        probabilities = _stretched(probabilities, factor, axis)
    return probabilities


def _stretched(values: Tensor, factor: int, axis: int) -> Tensor:
    """Linear along one axis, the ends held: less than half the time of `F.interpolate`."""
    size = values.shape[axis]
    result = values.new_empty(*values.shape[: axis + 1], factor, *values.shape[axis + 1 :])
    low, high = values.narrow(axis, 0, size - 1), values.narrow(axis, 1, size - 1)
    for phase in range(factor):
        part, offset = result.select(axis + 1, phase), (phase + 0.5) / factor - 0.5
        if offset < 0:
            part.narrow(axis, 0, 1).copy_(values.narrow(axis, 0, 1))
            torch.lerp(low, high, 1 + offset, out=part.narrow(axis, 1, size - 1))
        else:
            part.narrow(axis, size - 1, 1).copy_(values.narrow(axis, size - 1, 1))
            torch.lerp(low, high, offset, out=part.narrow(axis, 0, size - 1))
    return result.flatten(axis, axis + 1)
