"""Masks as they are before somebody corrects them: wrong in the ways in which predictions and drafts are wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Float32 = NDArray[np.float32]
_STRUCTURE_PX = (120, 2500)
"""Area of what may be taken for an object that nobody has labelled."""


@dataclass(frozen=True, slots=True)
class Case:
    """A patch to correct.

    Attributes:
        truth: What is wanted, bool (y, x).
        mask: What there is, bool (y, x).
        asked: What the first click is about, bool (y, x); None leaves it to the one who clicks.
        follows: The mask is that of a neighbouring slice: it is corrected without any click.
    """

    truth: Mask
    mask: Mask
    asked: Mask | None = None
    follows: bool = False


def case(image: Float32, truth: Mask, guesses: Float32, neighbour: Mask, rng: np.random.Generator) -> Case:
    """Draw one.

    Args:
        image: float32 (y, x), normalised.
        truth: bool (y, x).
        guesses: Probabilities of foreground of some models, float32 (models, y, x).
        neighbour: The truth of a slice nearby.
        rng: The only source of chance.
    """
    if rng.random() < 0.15:
        return _following(truth, neighbour, guesses, rng)
    mask = _mask(truth, guesses, rng)
    if rng.random() < 0.35:
        return _wilful(image, truth, mask, rng)
    return Case(truth, mask)


def _mask(truth: Mask, guesses: Float32, rng: np.random.Generator) -> Mask:
    kind = rng.choice(5, p=[0.12, 0.13, 0.3, 0.33, 0.12])
    guess = guesses[rng.integers(len(guesses))]
    if kind == 0:
        return np.zeros_like(truth)
    if kind == 1:
        return np.asarray(guess > rng.uniform(0.2, 0.8))
    if kind == 2:
        # A model that knows less: its doubts are smooth, and largest at borders.
        chance = np.clip(guess, 0.02, 0.98)
        doubt = _smooth_noise(truth.shape, rng.uniform(3, 20), rng) * np.float32(rng.uniform(1, 5))
        return np.asarray(np.log(chance / (1 - chance)) + doubt > rng.uniform(-1.5, 1.5))
    if kind == 3:
        return _by_object(truth, rng)
    return _by_object(np.asarray(guess > 0.5), rng)


def _by_object(truth: Mask, rng: np.random.Generator) -> Mask:
    """Each object by itself missing, swollen, shrunk, displaced or with a hole; some joined; some invented."""
    numbers, count = ndimage.label(truth)
    found = np.zeros_like(truth)
    for number in range(1, count + 1):
        part = numbers == number
        change = rng.choice(6, p=[0.25, 0.15, 0.2, 0.15, 0.1, 0.15])
        steps = int(rng.integers(1, 6))
        if change == 1:
            part = ndimage.binary_dilation(part, iterations=steps)
        elif change == 2:
            part = ndimage.binary_erosion(part, iterations=steps)
        elif change == 3:
            part = np.roll(part, rng.integers(-8, 9, 2), (0, 1))
        elif change == 4:
            part = part & (_smooth_noise(truth.shape, 6, rng) < rng.uniform(0.3, 1.2))
        if change:
            found |= part
    if rng.random() < 0.25:
        found = ndimage.binary_closing(found, iterations=int(rng.integers(3, 9)))
    if rng.random() < 0.35:
        found = found | (_smooth_noise(truth.shape, rng.uniform(5, 14), rng) > rng.uniform(1.8, 2.6))
    return np.asarray(found)


def _wilful(image: Float32, truth: Mask, mask: Mask, rng: np.random.Generator) -> Case:
    """Somebody wants what the image does not suggest: clicks have to count, also against what was learned."""
    if rng.random() < 0.5 and truth.any():
        numbers, count = ndimage.label(truth)
        part = numbers == rng.integers(1, count + 1)
        return Case(truth & ~part, mask | part, part)
    numbers, count = ndimage.label(_structures(image, truth, rng))
    sizes = np.bincount(numbers.ravel(), minlength=1)[1:]
    usable = np.flatnonzero((sizes >= _STRUCTURE_PX[0]) & (sizes <= _STRUCTURE_PX[1])) + 1
    if not len(usable):
        return Case(truth, mask)
    part = ndimage.binary_fill_holes(numbers == rng.choice(usable)) & ~truth
    return Case(truth | part, mask & ~part, part)


def _structures(image: Float32, truth: Mask, rng: np.random.Generator) -> Mask:
    """Dark or bright parts of a smoothed image, apart from the truth."""
    smooth = ndimage.gaussian_filter(image, rng.uniform(1.5, 4))
    low, high = np.quantile(smooth, (0.15, 0.85))
    chosen = smooth < low if rng.random() < 0.5 else smooth > high
    return np.asarray(
        ndimage.binary_opening(chosen, iterations=2) & ~ndimage.binary_dilation(truth, iterations=3)
    )


def _following(truth: Mask, neighbour: Mask, guesses: Float32, rng: np.random.Generator) -> Case:
    """The mask of a slice nearby, of all objects or of one that is drawn into what a model said of this slice."""
    numbers, count = ndimage.label(neighbour)
    if count and rng.random() < 0.6:
        base = guesses[rng.integers(len(guesses))] > 0.5 if rng.random() < 0.4 else np.zeros_like(truth)
        return Case(truth, np.asarray(base | (numbers == rng.integers(1, count + 1))), follows=True)
    return Case(truth, neighbour, follows=True)


def _smooth_noise(shape: tuple[int, ...], sigma_px: float, rng: np.random.Generator) -> Float32:
    """Noise of mean 0 and deviation 1 with blobs of about `sigma_px`."""
    step = max(1, int(sigma_px // 2))
    coarse = rng.standard_normal([-(-n // step) + 2 for n in shape])
    coarse = ndimage.gaussian_filter(coarse, sigma_px / step)
    fine = ndimage.zoom(coarse, step, order=1)[: shape[0], : shape[1]]
    return np.asarray((fine - fine.mean()) / max(fine.std(), 1e-6), np.float32)
