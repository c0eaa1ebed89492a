"""What a pixel looks like from near and from afar: smoothed intensity, edges, ridges and texture at several scales.

The features are those of ilastik (Berg et al., Nature Methods 2019) and Trainable Weka Segmentation (Arganda-Carreras
et al., Bioinformatics 2017): Gaussian smoothing and derivatives, differences of Gaussians, eigenvalues of the Hessian
and of the structure tensor. Smoothing is the cascade of dilated binomial kernels of the "à trous" algorithm (Holschneider
et al. 1989; Starck and Murtagh 2002): it takes the same time at every scale, and what it gives for a pixel depends on the
surroundings alone, exactly, and not on where a region was cut.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

SCALES: Final = 5
"""Standard deviations 1, 2.2, 4.6, 9.2 and 18.5 pixels: sqrt((4^n - 1) / 3)."""

HALO: Final = 2 * (2**SCALES - 1) + 2**SCALES + 2 ** (SCALES + 1)
"""Pixels on each side beyond which nothing has any influence on a pixel's features."""


def slice_features(image: Float32) -> Float32:
    """Features of a slice.

    Args:
        image: float32 (y, x), brought to mean 0 and deviation 1 by the statistics of the whole slice; mirrored at its
            edges.

    Returns:
        float32 (channels, y, x).
    """
    y, x = image.shape
    padded = np.pad(image, HALO, mode="symmetric")
    channels, smooth = [padded], padded
    for scale in range(SCALES):
        step = 1 << scale
        smoother = _smoothed(smooth, step)
        channels += [smoother, smooth - smoother, *_derivatives(smoother, step)]
        smooth = smoother
    return np.stack([channel[HALO : HALO + y, HALO : HALO + x] for channel in channels])


def _smoothed(image: Float32, step: int) -> Float32:
    """Convolved with the binomial kernel 1 4 6 4 1, its taps `step` pixels apart, along both axes."""
    for axis in (0, 1):
        near = _shifted(image, step, axis) + _shifted(image, -step, axis)
        far = _shifted(image, 2 * step, axis) + _shifted(image, -2 * step, axis)
        image = np.float32(0.375) * image + np.float32(0.25) * near + np.float32(0.0625) * far
    return image


def _derivatives(image: Float32, step: int) -> list[Float32]:
    gy = (_shifted(image, -step, 0) - _shifted(image, step, 0)) * np.float32(0.5)
    gx = (_shifted(image, -step, 1) - _shifted(image, step, 1)) * np.float32(0.5)
    hyy = _shifted(image, -step, 0) + _shifted(image, step, 0) - 2 * image
    hxx = _shifted(image, -step, 1) + _shifted(image, step, 1) - 2 * image
    hxy = (_shifted(gx, -step, 0) - _shifted(gx, step, 0)) * np.float32(0.5)
    tensor = (_smoothed(part, step) for part in (gy * gy, gx * gx, gy * gx))
    return [np.hypot(gy, gx), *_eigenvalues(hyy, hxx, hxy), *_eigenvalues(*tensor)]


def _eigenvalues(yy: Float32, xx: Float32, xy: Float32) -> tuple[Float32, Float32]:
    middle, half = (yy + xx) * np.float32(0.5), (yy - xx) * np.float32(0.5)
    spread = np.hypot(half, xy)
    return middle + spread, middle - spread


def _shifted(image: Float32, by: int, axis: int) -> Float32:
    """The image moved by some pixels; what comes in at the edge is wrong and lies within the padding."""
    return np.roll(image, by, axis)
