from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.augmentation import AugmentationConfig, augment

from biosegment.errors import InvalidArgument

STILL = AugmentationConfig(
    affine=0, scale=0, contrast=0, brightness=0, gamma=0, blur=0, noise=0, seam=0, missing=0, shifted=0
)
SHAPES = [
    pytest.param((1,), (), id="2D"),
    pytest.param((3,), (), id="three slices as channels"),
    pytest.param((1, 5), (5,), id="3D"),
]


def boxes(lead: tuple[int, ...], own: tuple[int, ...], count: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """An image that is its own labels, the same in every slice."""
    plane = torch.ones(48, 48)
    plane[8:24, 12:20] = 2
    images = plane.expand(count, *lead, 48, 48).clone()
    return images, plane.to(torch.uint8).expand(count, *own, 48, 48).clone()


def disagreement(images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of labelled pixels whose image is not what the label says."""
    slices = images.flatten(1, -3)
    shown = slices[:, slices.shape[1] // 2] if labels.ndim == 3 else slices
    known = labels > 0
    return float(((shown - labels.float()).abs()[known] > 0.51).float().mean())


@pytest.mark.parametrize(("lead", "own"), SHAPES)
@pytest.mark.parametrize("change", [{}, {"affine": 1.0, "scale": 0.2}, {"elastic": 1.0}, {"shifted": 1.0}])
def test_image_and_labels_move_together(lead, own, change):
    images, labels = boxes(lead, own)
    config = dataclasses.replace(STILL, **change)
    moved, marks = augment(images, labels, config, np.random.default_rng(0))
    assert moved.shape == images.shape
    assert marks.shape == labels.shape
    assert marks.dtype == torch.uint8
    assert not torch.equal(moved, images)
    assert disagreement(moved, marks) < 0.03


def test_beyond_a_seam_brightness_and_place_differ_and_labels_follow():
    images, labels = boxes((1,), ())
    moved, marks = augment(images, labels, dataclasses.replace(STILL, seam=1.0), np.random.default_rng(1))
    # Where nothing was labelled 2, the image is flat on both sides of the line.
    flat = torch.where(marks == 1, moved[:, 0], torch.nan)
    levels = [sorted(set(f[~f.isnan()].round(decimals=3).tolist())) for f in flat]
    assert all(len(found) == 2 for found in levels)
    assert any(abs(a - b) > 0.3 for a, b in levels)
    for image, known in zip(moved[:, 0], marks, strict=True):
        high, low = image[known == 2], image[known == 1]
        assert high.numel() > 60
        assert low.numel() > 48 * 40
    assert (marks == 0).any(), "what slips over the edge is not annotated"
    assert (marks == 0).float().mean() < 0.05


@pytest.mark.parametrize("change", ["missing", "shifted"])
def test_the_slice_that_is_asked_about_is_neither_lost_nor_moved_among_its_neighbours(change):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(30, 5, 32, 32, generator=generator)
    labels = torch.randint(1, 3, (30, 32, 32), generator=generator, dtype=torch.uint8)
    still, marks = augment(images, labels, STILL, np.random.default_rng(5))
    # The same draws up to the damage itself: compare with what would have been without it.
    damaged, damaged_marks = augment(
        images, labels, dataclasses.replace(STILL, **{change: 1.0}), np.random.default_rng(5)
    )
    assert torch.equal(damaged_marks[0], marks[0])
    changed = (damaged[0] != still[0]).flatten(1).any(1)
    assert int(changed.sum()) == 1
    assert not changed[2]
    if change == "missing":
        blank = (damaged == 0).flatten(2).all(2)
        assert torch.equal(blank.sum(1), torch.ones(30, dtype=torch.int64))
        assert not blank[:, 2].any()
        assert blank.any(0)[[0, 1, 3, 4]].all()


def test_a_single_slice_is_never_lost():
    images, labels = boxes((1,), ())
    moved, _ = augment(
        images, labels, dataclasses.replace(STILL, missing=1.0, shifted=1.0), np.random.default_rng(0)
    )
    assert (moved != 0).all()


def test_every_slice_of_a_volume_is_lit_alike():
    images, labels = boxes((1, 4), (4,))
    config = dataclasses.replace(STILL, contrast=0.3, brightness=0.3, gamma=0.3)
    moved, _ = augment(images, labels, config, np.random.default_rng(2))
    assert (moved.amax((3, 4)).std(dim=2) < 1e-5).all()
    assert moved.amax((1, 2, 3, 4)).std() > 0.05


def test_flips_and_turns_alone_change_no_value():
    images = torch.rand(8, 1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    moved, _ = augment(images, torch.ones(8, 4, 16, 16, dtype=torch.uint8), STILL, np.random.default_rng(1))
    torch.testing.assert_close(moved.flatten(1).sort().values, images.flatten(1).sort().values)


@pytest.mark.parametrize(("lead", "own"), SHAPES)
def test_augmentation_is_repeatable_and_leaves_its_input_alone(lead, own):
    images = torch.rand(4, *lead, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.ones(4, *own, 32, 32, dtype=torch.uint8)
    before, labels_before = images.clone(), labels.clone()
    config = AugmentationConfig(affine=0.5, blur=0.5, elastic=0.5, seam=1, missing=1, shifted=1)
    first = augment(images, labels, config, np.random.default_rng(4))
    again = augment(images, labels, config, np.random.default_rng(4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert torch.equal(images, before)
    assert torch.equal(labels, labels_before)
    assert not torch.equal(first[0], images)
    assert torch.isfinite(first[0]).all()


def test_probabilities_are_probabilities():
    with pytest.raises(InvalidArgument, match="seam"):
        AugmentationConfig(seam=1.5)
