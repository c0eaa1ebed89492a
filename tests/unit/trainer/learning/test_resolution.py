from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from biosegment_trainer.learning.factor import working_factor
from biosegment_trainer.learning.resolution import (
    downsample_labels,
    downsample_raw,
    upsample_probabilities,
)

from biosegment.errors import InvalidArgument


@pytest.mark.parametrize(
    ("working", "voxel", "factor"), [(10, 5, 2), (8, 8, 1), (10, 4.6, 2), (8, 16, 1), (20, 5, 4), (10, 6, 2)]
)
def test_the_working_factor_is_the_nearest_whole_number_and_never_upsamples(working, voxel, factor):
    assert working_factor(working, voxel) == factor


def test_a_voxel_size_of_nothing_is_refused():
    with pytest.raises(InvalidArgument):
        working_factor(10, 0)


@pytest.mark.parametrize("shape", [(2, 6, 9), (1, 7, 5), (1, 1, 1), (3, 8, 4)])
@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_raw_is_averaged_over_the_voxels_that_exist(shape, factor, dtype):
    raw = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    small = downsample_raw(raw, factor)
    assert small.dtype == np.float32
    assert small.shape == (shape[0], -(-shape[1] // factor), -(-shape[2] // factor))
    for z, y, x in np.ndindex(*small.shape):
        cell = raw[z, y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        assert small[z, y, x] == pytest.approx(cell.mean(), rel=1e-5)


def test_labels_take_the_majority_of_the_annotated_voxels():
    labels = np.array([[[0, 2, 1, 1], [0, 0, 1, 2], [0, 0, 1, 2], [0, 0, 2, 1]]], np.uint8)
    # One annotated voxel decides its pixel; a tie goes to the class; nothing annotated stays so.
    assert downsample_labels(labels, 2).tolist() == [[[2, 1], [0, 2]]]


def test_labels_of_odd_size_keep_their_border():
    labels = np.full((1, 5, 3), 2, np.uint8)
    assert (downsample_labels(labels, 2) == 2).all()
    assert downsample_labels(labels, 2).shape == (1, 3, 2)


def test_labels_at_factor_one_are_a_copy():
    labels = np.ones((1, 2, 2), np.uint8)
    copy = downsample_labels(labels, 1)
    copy[:] = 0
    assert labels.all()


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_upsampling_keeps_a_ramp_at_the_centres_of_voxels(factor):
    """A linear ramp sampled at pixel centres must come back as the same ramp at voxel centres."""
    position = (np.arange(12) + 0.5) * factor - 0.5
    ramp = torch.from_numpy(position).float().expand(1, 1, 12, 12)
    found = upsample_probabilities(ramp, factor)[0, 0, 0]
    inner = slice(factor, -factor)
    expected = torch.arange(12 * factor).float()
    torch.testing.assert_close(found[inner], expected[inner])


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_upsampling_is_pytorch_s_own_bilinear(factor):
    small = torch.rand(2, 3, 7, 1, generator=torch.Generator().manual_seed(factor))
    expected = F.interpolate(small, scale_factor=float(factor), mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsample_probabilities(small, factor), expected)
