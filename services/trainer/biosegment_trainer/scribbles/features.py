"""What a pixel looks like from near and from afar: smoothed intensity, edges, ridges and texture at several scales.

The features are those of ilastik (Berg et al., Nature Methods 2019) and Trainable Weka Segmentation (Arganda-Carreras
et al., Bioinformatics 2017): Gaussian smoothing and its derivatives, differences of Gaussians, eigenvalues of the
Hessian and of the structure tensor. Smoothing is the "à trous" cascade of dilated binomial kernels (Holschneider et al.
1989; Starck and Murtagh 2002): every scale takes the same time, and what it gives for a pixel depends on its
surroundings alone, to the last bit, and not on where a region was cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

SCALES: Final = 5
"""Standard deviations of 1, 2.2, 4.6, 9.2 and 18.5 pixels: the square root of (4^n - 1) / 3."""

_PER_SCALE: Final = 7
CHANNELS: Final = 1 + _PER_SCALE * SCALES

HALO: Final = 2 * (2**SCALES - 1) + 3 * 2 ** (SCALES - 1)
"""Pixels on each side beyond which nothing has any influence on a pixel's features."""


def slice_features(image: Float32, pool: Executor) -> Float32:
    """Features of a slice.

    Args:
        image: float32 (y, x), brought to mean 0 and deviation 1 by the statistics of the whole slice. Beyond its edges
            it is taken for mirrored.
        pool: Where the scales are computed, several at once if it has the threads.

    Returns:
        float32 (CHANNELS, y, x): the image, then for each scale the smoothed image, its difference to the scale before,
        the gradient's length, the two eigenvalues of the Hessian and the two of the structure tensor.
    """
    found = np.empty((CHANNELS, *image.shape), np.float32)
    found[0] = image
    smooth, tasks = np.pad(image, HALO, mode="symmetric"), []
    for scale in range(SCALES):
        smoother = smoothed(smooth, 1 << scale)
        tasks.append(pool.submit(_describe, smoother, smooth, 1 << scale, found[1 + _PER_SCALE * scale :]))
        smooth = smoother
    for task in tasks:
        task.result()
    return found


def _describe(image: Float32, finer: Float32, step: int, found: Float32) -> None:
    """Write the channels of one scale: `image` after it, `finer` before it, both with some margin."""
    _, y, x = found.shape
    channels = _channels(_inner(image, y + 6 * step, x + 6 * step), _inner(finer, y, x), step)
    for channel, values in zip(found, channels, strict=False):
        channel[:] = _inner(values, y, x)


def _channels(image: Float32, finer: Float32, step: int) -> Iterator[Float32]:
    centre = _inner(image, *finer.shape)
    yield centre
    yield finer - centre
    # Derivatives are differences of pixels as far apart as the scale is coarse.
    dy = _difference(image, step, 0)[:, step:-step]
    dx = _difference(image, step, 1)[step:-step]
    squares = dy * dy, dx * dx
    yield np.sqrt(squares[0] + squares[1])
    dxy = _difference(dx, step, 0)[:, step:-step]
    near = _inner(image, image.shape[0] - 4 * step, image.shape[1] - 4 * step)
    yield from _eigenvalues(_curvature(image, near, step, 0), _curvature(image, near, step, 1), dxy)
    yield from _eigenvalues(smoothed(squares[0], step), smoothed(squares[1], step), smoothed(dy * dx, step))


def smoothed(image: Float32, step: int) -> Float32:
    """Convolved with the binomial kernel 1 4 6 4 1 along both axes, its taps `step` pixels apart; smaller by `2 * step`
    pixels on each side.
    """
    for axis in (0, 1):
        outer = _slid(image, -2 * step, 2 * step, axis) + _slid(image, 2 * step, 2 * step, axis)
        outer *= np.float32(1 / 16)
        inner = _slid(image, -step, 2 * step, axis) + _slid(image, step, 2 * step, axis)
        inner *= np.float32(4 / 16)
        outer += inner
        np.multiply(_slid(image, 0, 2 * step, axis), np.float32(6 / 16), out=inner)
        outer += inner
        image = outer
    return image


def _difference(image: Float32, step: int, axis: int) -> Float32:
    """Half of what pixels `step` after differ from those `step` before; smaller by `step` along the axis."""
    change = _slid(image, step, step, axis) - _slid(image, -step, step, axis)
    change *= np.float32(0.5)
    return change


def _curvature(image: Float32, near: Float32, step: int, axis: int) -> Float32:
    """Second difference along an axis, where `near` lies in the middle of `image`."""
    y, x = near.shape
    size = (y + 2 * step, x) if axis == 0 else (y, x + 2 * step)
    part = _inner(image, *size)
    change = _slid(part, step, step, axis) + _slid(part, -step, step, axis)
    change -= near
    change -= near
    return change


def _eigenvalues(yy: Float32, xx: Float32, xy: Float32) -> Iterator[Float32]:
    """The larger and the smaller of symmetric matrices 2 x 2."""
    middle, half = yy + xx, yy - xx
    middle *= np.float32(0.5)
    half *= np.float32(0.5)
    spread = np.sqrt(half * half + xy * xy)
    yield middle + spread
    yield middle - spread


def _slid(image: Float32, by: int, margin: int, axis: int) -> Float32:
    """A view of what lies `by` pixels after the middle, that being all but `margin` pixels on each side."""
    span = slice(margin + by, image.shape[axis] - margin + by)
    return image[span] if axis == 0 else image[:, span]


def _inner(image: Float32, y: int, x: int) -> Float32:
    """The middle of an image."""
    top, left = (image.shape[0] - y) // 2, (image.shape[1] - x) // 2
    return image[top : top + y, left : left + x]
