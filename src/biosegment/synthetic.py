"""A synthetic volume that looks like electron microscopy, for tests and demonstrations only.

Never evidence of quality: its mitochondria are tubes with a double membrane and cristae in a cytoplasm of cells,
vesicles and dark granules. Their grey values overlap with everything else, so that no threshold finds them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.errors import InvalidArgument

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

_CELL = 110.0
"""Mean distance of cell centres in pixels."""
_FOREGROUND = 0.06
_CYTOPLASM, _MEMBRANE = 150.0, 62.0


def generate(shape: tuple[int, int, int] = (48, 512, 512), seed: int = 0) -> tuple[Labels, Labels]:
    """Make a volume and its mitochondria.

    Args:
        shape: (z, y, x), at least 8 x 64 x 64; think of 8 nm voxels.
        seed: The same seed makes the same volume.

    Returns:
        Grey values, uint8 (z, y, x), and the mask of mitochondria, uint8 0 or 1 of the same shape.

    Raises:
        InvalidArgument: BAD_SHAPE when the volume is smaller than that.
    """
    if shape[0] < 8 or min(shape[1:]) < 64:
        raise InvalidArgument(
            "BAD_SHAPE", f"synthetic volume of shape {shape}: at least 8 x 64 x 64 is needed"
        )
    rng = np.random.default_rng(seed)
    image = _CYTOPLASM + 20 * _noise(rng, shape, 24) + 16 * _noise(rng, shape, 3)
    border = _cells(rng, shape, image)
    _vesicles(rng, image)
    mask = _mitochondria(rng, image, border)
    image = _blurred(image, 0.8)
    for z in range(shape[0]):
        # Sections differ in brightness and contrast, and the camera adds noise to each pixel.
        plane = (image[z] - 128) * rng.uniform(0.88, 1.12) + 128 + rng.normal(0, 7)
        image[z] = plane + rng.normal(0, 11, shape[1:])
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), mask


def _noise(rng: np.random.Generator, shape: tuple[int, ...], width: float) -> Floats:
    """Smooth noise of mean 0 and deviation 1, with structures of about `width` voxels."""
    field = _blurred(rng.standard_normal(shape, dtype=np.float32), width / 2)
    field -= field.mean()
    field /= field.std()
    return field


def _blurred(field: Floats, sigma: float) -> Floats:
    """Gaussian filter by FFT, one axis after the other; periodic at the border."""
    for axis in range(field.ndim):
        frequency = np.fft.rfftfreq(field.shape[axis]).astype(np.float32)
        transfer = np.exp(-2 * (np.pi * frequency * sigma) ** 2).reshape(
            [-1 if a == axis else 1 for a in range(field.ndim)]
        )
        field = np.fft.irfft(np.fft.rfft(field, axis=axis) * transfer, field.shape[axis], axis=axis).astype(
            np.float32
        )
    return field


def _cells(rng: np.random.Generator, shape: tuple[int, int, int], image: Floats) -> Floats:
    """Paint the membranes between cells; return every voxel's distance to the nearest one, in pixels, roughly."""
    box = np.array(shape, np.float32)
    count = max(4, round(float(np.prod(box + _CELL)) / _CELL**3))
    centres = rng.uniform(-_CELL / 2, box + _CELL / 2, (count, 3)).astype(np.float32)
    tone = rng.normal(0, 10, count).astype(np.float32)
    warp = [14 * _noise(rng, shape, 40) for _ in range(2)]
    y, x = (axis.astype(np.float32) for axis in np.mgrid[: shape[1], : shape[2]])
    border = np.empty(shape, np.float32)
    for z in range(shape[0]):
        first, second = np.full(shape[1:], np.inf, np.float32), np.full(shape[1:], np.inf, np.float32)
        nearest = np.zeros(shape[1:], np.intp)
        py, px = y + warp[0][z], x + warp[1][z]
        for number, (cz, cy, cx) in enumerate(centres):
            distance = (py - cy) ** 2 + (px - cx) ** 2 + np.float32((z - cz) ** 2)
            closer = distance < first
            second = np.where(closer, first, np.minimum(second, distance))
            first = np.where(closer, distance, first)
            nearest[closer] = number
        border[z] = (np.sqrt(second) - np.sqrt(first)) / 2
        image[z] += tone[nearest]
    wall = np.exp(-((border / 1.8) ** 2))
    image += wall * (_MEMBRANE - image)
    return border


def _vesicles(rng: np.random.Generator, image: Floats) -> None:
    """Paint small bright bubbles with a dark skin, and dark granules as large as a mitochondrion is wide."""
    size = image.size
    for _ in range(size // 16_000):
        _ball(rng, image, rng.uniform(3, 6), core=178, skin=75)
    for _ in range(size // 160_000):
        _ball(rng, image, rng.uniform(6, 13), core=rng.uniform(50, 110), skin=70)


def _ball(rng: np.random.Generator, image: Floats, radius: float, core: float, skin: float) -> None:
    centre = rng.uniform(0, image.shape)
    box = tuple(
        slice(max(0, int(c - radius - 3)), min(n, int(c + radius + 4)))
        for c, n in zip(centre, image.shape, strict=True)
    )
    axes = np.ogrid[box]
    stretch = rng.uniform(0.8, 1.25, 3)
    distance = np.sqrt(sum(((axis - c) * s) ** 2 for axis, c, s in zip(axes, centre, stretch, strict=True)))
    part = image[box]
    part[distance < radius] = 0.25 * part[distance < radius] + 0.75 * core
    shell = np.exp(-(((distance - radius) / 1.3) ** 2)).astype(np.float32)
    part += shell * (skin - part) * 0.9


def _mitochondria(rng: np.random.Generator, image: Floats, border: Floats) -> Labels:
    """Paint bent tubes inside cells until they fill the wanted part of the volume; return their mask."""
    shape, mask = image.shape, np.zeros(image.shape, np.uint8)
    wanted, filled = _FOREGROUND * image.size, 0
    for _ in range(2000):
        if filled >= wanted:
            break
        start = rng.uniform(0, shape)
        place = tuple(min(int(c), n - 1) for c, n in zip(start, shape, strict=True))
        if border[place] > 12:
            filled += _tube(rng, image, mask, start)
    return mask


def _tube(rng: np.random.Generator, image: Floats, mask: Labels, start: npt.NDArray[Any]) -> int:
    """Paint one mitochondrion; return how many voxels it took."""
    radius, length = rng.uniform(9, 15), rng.uniform(15, 90)
    path = _bent_line(rng, start, length)
    low = np.maximum(np.floor(path.min(axis=0) - radius - 6), 0).astype(int)
    high = np.minimum(np.ceil(path.max(axis=0) + radius + 7), image.shape).astype(int)
    if (high <= low).any():
        return 0
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    if mask[box].any():
        return 0  # mitochondria stay apart
    axes = [axis.astype(np.float32) for axis in np.ogrid[box]]
    distance = np.full(mask[box].shape, np.inf, np.float32)
    along = np.zeros(mask[box].shape, np.float32)
    for number, point in enumerate(path.astype(np.float32)):
        candidate = sum(((axis - c) ** 2 for axis, c in zip(axes, point, strict=True)), np.float32(0))
        along[candidate < distance] = number
        np.minimum(distance, candidate, out=distance)
    depth = radius + 1.5 * _noise(rng, distance.shape, 14) - np.sqrt(distance)
    inside = depth > 0
    _paint_tube(rng, image[box], depth, along * (length / len(path)))
    mask[box][inside] = 1
    return int(inside.sum())


def _bent_line(rng: np.random.Generator, start: npt.NDArray[Any], length: float) -> npt.NDArray[np.float64]:
    direction = rng.normal(size=3) * (0.6, 1, 1)
    bend = rng.normal(size=3) * 0.05
    points = [start]
    for _ in range(max(2, int(length / 4))):
        direction = direction / np.linalg.norm(direction) + bend
        points.append(points[-1] + 4 * direction / np.linalg.norm(direction))
    return np.array(points)


def _paint_tube(rng: np.random.Generator, part: Floats, depth: Floats, along: Floats) -> None:
    """Matrix, cristae across the tube, and two membranes with a bright gap; `depth` is pixels below the surface."""
    matrix = rng.uniform(118, 142)
    waves = np.sin(along * (2 * np.pi / rng.uniform(7, 10)) + 2.2 * _noise(rng, depth.shape, 18))
    texture = matrix - 34 * np.clip(waves - 0.25, 0, 1) / 0.75 + 6 * _noise(rng, depth.shape, 3)
    inside = np.clip(depth, 0, 1)
    part += inside * (texture.astype(np.float32) - part)
    for place, tone, width in ((0.5, 66, 1.2), (2.8, 150, 0.9), (4.6, 78, 1.1)):
        ring = np.exp(-(((depth - place) / width) ** 2))
        part += 0.85 * ring * (tone - part)
