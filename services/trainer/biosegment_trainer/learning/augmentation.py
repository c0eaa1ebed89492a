"""What electron micrographs may look like on another day: turned, mirrored, stretched, brighter, blurred,
noisier, stitched from tiles that do not quite match, with slices that are lost or out of place.

All changes in plane are the same for every slice of a patch, so that 2D patches, neighbouring slices as channels
and 3D patches are treated alike: a patch is a stack of slices, and its labels are one slice (the centre) or all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from biosegment.errors import InvalidArgument
from biosegment.volume import NOT_ANNOTATED

_ELASTIC_CELLS = 4
"""Control points of an elastic deformation along each edge of a patch."""

_ELASTIC_STRENGTH = 0.04
"""Deviation of their displacement, in edges of the patch."""

_SEAM_BRIGHTNESS = 0.6
_SEAM_CONTRAST = 0.3
_SEAM_OFFSET = 3
"""Largest displacement along a seam, in working pixels."""

_SLIP = 0.08
"""Largest displacement of a slice, in edges of the patch."""


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
        elastic: Probability of a smooth deformation.
        seam: Probability that a line crosses the patch beyond which brightness, contrast and place differ a little,
            as where the tiles of a mosaic meet.
        missing: Probability that one slice of several is blank.
        shifted: Probability that one slice of several is out of place.
    """

    affine: float = 0.5
    scale: float = 0.2
    contrast: float = 0.25
    brightness: float = 0.25
    gamma: float = 0.25
    blur: float = 0.2
    noise: float = 0.2
    elastic: float = 0.0
    seam: float = 0.05
    missing: float = 0.05
    shifted: float = 0.05

    def __post_init__(self) -> None:
        chances = {n: getattr(self, n) for n in ("affine", "blur", "elastic", "seam", "missing", "shifted")}
        odd = {name: value for name, value in chances.items() if not 0 <= value <= 1}
        if odd:
            raise InvalidArgument("BAD_AUGMENTATION", f"{odd}: probabilities are in 0..1")
        if not all(0 <= s < 1 for s in (self.scale, self.contrast, self.gamma)) or self.noise < 0:
            raise InvalidArgument(
                "BAD_AUGMENTATION", "scale, contrast and gamma are in 0..1, noise is not negative"
            )


def augment(
    images: Tensor, labels: Tensor, config: AugmentationConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A changed copy of a batch.

    Args:
        images: float32 (N, C, y, x) or (N, 1, z, y, x) with y == x; C neighbouring slices.
        labels: uint8 (N, y, x) of the centre slice, or (N, z, y, x); what a change uncovers becomes 0, not
            annotated.
        config: How strong.
        rng: The only source of chance.
    """
    images, labels = deform(images, labels, config, rng)
    return tarnish(images, labels, config, rng), labels


def deform(
    images: Tensor, labels: Tensor, config: AugmentationConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The half of `augment` that moves tissue, and labels with it; and seams, which do both."""
    slices = images.flatten(1, -3)
    marks = labels.unsqueeze(1) if labels.ndim == 3 else labels
    slices, marks = _flip_and_turn(slices, marks, rng)
    slices, marks = _warp(slices, marks, config, rng)
    for change, chance in ((_seam, config.seam), (_shift_slice, config.shifted)):
        for n in np.flatnonzero(rng.random(len(slices)) < chance):
            slices[n], marks[n] = change(slices[n], marks[n], rng)
    return slices.view(images.shape), marks.view(labels.shape)


def tarnish(images: Tensor, labels: Tensor, config: AugmentationConfig, rng: np.random.Generator) -> Tensor:
    """The half of `augment` that changes how tissue looks."""
    slices = _shade(images.flatten(1, -3), config, rng)
    labelled = 1 if labels.ndim == 3 else labels.shape[1]
    for n in np.flatnonzero(rng.random(len(slices)) < config.missing):
        slices[n] = _blank_slice(slices[n], labelled, rng)
    return slices.view(images.shape)


def _flip_and_turn(slices: Tensor, marks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    turned_slices, turned_marks = [], []
    for image, label in zip(slices, marks, strict=True):
        turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        axes = [2] if mirror else []
        if len(image) > 1 and rng.integers(2):
            axes.append(0)
        turned_slices.append(torch.rot90(image, turns, (1, 2)).flip(axes))
        turned_marks.append(torch.rot90(label, turns, (1, 2)).flip(axes))
    return torch.stack(turned_slices), torch.stack(turned_marks)


def _warp(
    slices: Tensor, marks: Tensor, config: AugmentationConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Rotation, scale and elastic deformation in one resampling, of the patches that are chosen for either."""
    turned = rng.random(len(slices)) < config.affine
    bent = rng.random(len(slices)) < config.elastic
    chosen = np.flatnonzero(turned | bent)
    if not chosen.size:
        return slices, marks
    angle = np.where(turned[chosen], rng.uniform(-np.pi, np.pi, len(chosen)), 0.0)
    zoom = np.exp(np.where(turned[chosen], rng.uniform(-1, 1, len(chosen)), 0.0) * np.log1p(config.scale))
    cos, sin, zero = np.cos(angle) * zoom, np.sin(angle) * zoom, np.zeros(len(chosen))
    matrix = np.stack([np.stack([cos, -sin, zero], 1), np.stack([sin, cos, zero], 1)], 1)
    index = torch.from_numpy(chosen)
    picked = slices[index]
    grid = F.affine_grid(torch.from_numpy(matrix).float(), list(picked.shape), align_corners=False)
    if bent.any():
        grid = grid + _displacement(bent[chosen], picked.shape[-1], rng)
    slices, marks = slices.clone(), marks.clone()
    slices[index] = F.grid_sample(picked, grid, padding_mode="reflection", align_corners=False)
    moved = F.grid_sample(
        marks[index].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False
    )
    marks[index] = moved.round().to(torch.uint8)
    return slices, marks


def _displacement(bent: NDArray[np.bool_], size: int, rng: np.random.Generator) -> Tensor:
    """Smooth random displacements (N, y, x, 2) in the units of a sampling grid, zero where not `bent`."""
    shape = (len(bent), 2, _ELASTIC_CELLS, _ELASTIC_CELLS)
    points = rng.standard_normal(shape, dtype=np.float32) * np.float32(2 * _ELASTIC_STRENGTH)
    points[~bent] = 0
    smooth = F.interpolate(torch.from_numpy(points), size=(size, size), mode="bicubic", align_corners=True)
    return smooth.permute(0, 2, 3, 1)


def _seam(image: Tensor, marks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Change brightness and contrast beyond a line along an axis, and slip along it by a few pixels."""
    axis, size = int(rng.integers(1, 3)), image.shape[1]
    line = int(rng.integers(1, size))
    contrast = 1 + float(rng.uniform(-_SEAM_CONTRAST, _SEAM_CONTRAST))
    brightness = float(rng.uniform(-_SEAM_BRIGHTNESS, _SEAM_BRIGHTNESS))
    offset = int(rng.integers(-_SEAM_OFFSET, _SEAM_OFFSET + 1))
    shift = (offset, 0) if axis == 2 else (0, offset)
    beyond, rest = image.narrow(axis, line, size - line), image.narrow(axis, 0, line)
    marks_beyond, marks_rest = marks.narrow(axis, line, size - line), marks.narrow(axis, 0, line)
    moved, moved_marks = _moved(beyond, marks_beyond, shift)
    return (
        torch.cat([rest, moved * contrast + brightness], axis),
        torch.cat([marks_rest, moved_marks], axis),
    )


def _shift_slice(image: Tensor, marks: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Put one slice out of place, with its labels when it has any of its own; never the centre of a 2.5D
    patch, whose neighbours are then what is out of place.
    """
    number = _any_slice(image, len(marks), rng)
    if number is None:
        return image, marks
    reach = max(1, round(_SLIP * image.shape[1]))
    shift = (int(rng.integers(-reach, reach + 1)), int(rng.integers(-reach, reach + 1)))
    image, marks = image.clone(), marks.clone()
    own = slice(number, number + 1) if len(marks) > 1 else slice(0, 0)
    image[number : number + 1], marks[own] = _moved(image[number : number + 1], marks[own], shift)
    return image, marks


def _blank_slice(image: Tensor, labelled: int, rng: np.random.Generator) -> Tensor:
    number = _any_slice(image, labelled, rng)
    if number is None:
        return image
    image = image.clone()
    image[number] = 0.0
    return image


def _any_slice(image: Tensor, labelled: int, rng: np.random.Generator) -> int | None:
    """A slice that may be damaged: any when each is labelled, else not the centre, which is the one that the
    network is asked about.
    """
    count = len(image)
    if count == 1:
        return None
    number = int(rng.integers(count if labelled > 1 else count - 1))
    return number if labelled > 1 or number < count // 2 else number + 1


def _moved(image: Tensor, marks: Tensor, shift: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Shift (S, y, x) in plane: the image repeats its edge, labels know nothing there."""
    rows, known_rows = _source(image.shape[1], shift[0])
    columns, known_columns = _source(image.shape[2], shift[1])
    known = known_rows[:, None] & known_columns[None, :]
    return (
        image[:, rows][:, :, columns],
        marks[:, rows][:, :, columns].masked_fill(~known, NOT_ANNOTATED),
    )


def _source(size: int, shift: int) -> tuple[Tensor, Tensor]:
    place = torch.arange(size) - shift
    return place.clamp(0, size - 1), (place >= 0) & (place < size)


def _shade(slices: Tensor, config: AugmentationConfig, rng: np.random.Generator) -> Tensor:
    count = len(slices)

    def draw(strength: float) -> Tensor:
        return torch.from_numpy(rng.uniform(-strength, strength, count)).float().view(count, 1, 1, 1)

    low, high = slices.amin((1, 2, 3), keepdim=True), slices.amax((1, 2, 3), keepdim=True)
    span = (high - low).clamp(min=1e-3)
    slices = ((slices - low) / span).pow(1 + draw(config.gamma)) * span + low
    slices = slices * (1 + draw(config.contrast)) + draw(config.brightness)
    blurred = np.flatnonzero(rng.random(count) < config.blur)
    if blurred.size:
        index = torch.from_numpy(blurred)
        slices[index] = _blur(slices[index], float(rng.uniform(0.4, 1.0)))
    sigma = torch.from_numpy(rng.uniform(0, config.noise, count)).float().view(count, 1, 1, 1)
    noise = torch.from_numpy(rng.standard_normal(tuple(slices.shape), dtype=np.float32))
    return slices + sigma * noise


def _blur(slices: Tensor, sigma: float) -> Tensor:
    offsets = torch.arange(-2, 3, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    alone = slices.flatten(0, 1).unsqueeze(1)
    padded = F.pad(alone, (2, 2, 2, 2), mode="reflect")
    smooth = F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, 5)), kernel.view(1, 1, 5, 1))
    return smooth.view(slices.shape)
