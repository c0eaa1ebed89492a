from __future__ import annotations

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.measures import MEASURES
from biosegment_trainer.learning.network import NetworkConfig
from biosegment_trainer.learning.normalisation import SliceStatistics, normalise, standardise
from biosegment_trainer.learning.ortho import OrthoPredictor
from biosegment_trainer.learning.passes import PassesConfig
from biosegment_trainer.learning.prediction import PredictionConfig
from biosegment_trainer.learning.resolution import downsample_raw
from biosegment_trainer.learning.tiling import TilingConfig

from biosegment.errors import FailedPrecondition
from tests.unit.trainer.learning.assembly import assembled

SHAPE = (43, 52, 69)


@pytest.fixture(scope="module")
def raw():
    rng = np.random.default_rng(5)
    return rng.integers(0, 255, SHAPE).astype(np.uint8)


def along_all(models, config, device):
    """Two slices a working pixel."""
    return OrthoPredictor(models, config, 2, device)


def planes(model, raw):
    """Along each axis, whole cuts at a time, on the grid of working slices: three arrays (z, y / 2, x / 2)."""
    module, statistics = model.build(), SliceStatistics.of_slices(raw)

    def look(images):
        pads = [(0, 0)] + [(2, 2 + -n % 2) for n in images.shape[1:]]
        padded = torch.from_numpy(np.pad(images, pads, mode="symmetric")).unsqueeze(1)
        with torch.inference_mode():
            p = torch.softmax(module(padded.float()), 1)[:, 1].numpy()
        return p[:, 2 : 2 + images.shape[1], 2 : 2 + images.shape[2]]

    found = [look(normalise(downsample_raw(raw, 2), statistics))]
    scaled = standardise(raw.astype(np.float32), statistics)
    centres = (np.arange(SHAPE[0]) + 0.5) / 2 - 0.5
    for axis in (1, 2):
        cuts = np.moveaxis(scaled, axis, 0)[::2]  # the first of two voxels is the middle one
        small = np.stack([halves(halves(cut, 0), 1) for cut in cuts]).clip(-5, 5)
        p = look(small)
        at = centres.clip(0, p.shape[1] - 1)
        low = np.floor(at).astype(int)
        high, weight = np.minimum(low + 1, p.shape[1] - 1), (at - low)[None, :, None]
        found.append(np.moveaxis(p[:, low] * (1 - weight) + p[:, high] * weight, 0, axis))
    return found


def halves(image, axis):
    pairs = [
        image.take(range(i, min(i + 2, image.shape[axis])), axis) for i in range(0, image.shape[axis], 2)
    ]
    return np.stack([pair.mean(axis) for pair in pairs], axis)


def test_the_mean_over_three_planes_is_that_of_whole_cuts_at_right_angles(make_model, raw):
    model = make_model(NetworkConfig.unet((4, 8), (2,), 1))
    config = PredictionConfig(
        factor=2, tiling=TilingConfig.flat(32, 16), measures=("disagreement",), backend="eager"
    )
    found = assembled(model, raw, SHAPE, config, along_all)
    expected = planes(model, raw)
    np.testing.assert_allclose(found.probabilities[0] / 255, np.mean(expected, 0), atol=0.003)
    cell = np.std(expected, 0)[:, :16, :16].mean((1, 2))
    np.testing.assert_allclose(found.scores["disagreement"][:, 0, 0], cell, atol=2e-3)


@pytest.mark.parametrize("block", [(16, 32, 64), (10, 64, 32), (43, 64, 96)])
def test_the_consensus_does_not_depend_on_how_the_volume_is_cut(make_model, raw, block):
    model = make_model(NetworkConfig.unet((4, 8), (2,), 1, dropout=0.2))
    names = tuple(name for name in MEASURES if name != "margin")
    config = PredictionConfig(
        factor=2,
        tiling=TilingConfig.flat(16, 4),
        measures=names,
        backend="eager",
        slices_at_once=6,
        passes=PassesConfig(test_time_augmentation=2),
    )
    found, whole = (
        assembled(model, raw, block, config, along_all),
        assembled(model, raw, SHAPE, config, along_all),
    )
    np.testing.assert_array_equal(found.probabilities, whole.probabilities)
    np.testing.assert_array_equal(found.labels, whole.labels)
    for name, score in found.scores.items():
        np.testing.assert_array_equal(score, whole.scores[name], name)


def test_neighbouring_cuts_lie_one_voxel_apart(make_model, raw):
    model = make_model(NetworkConfig(input_slices=3, arguments={"channels": [4, 8], "strides": [2]}))
    config = PredictionConfig(factor=2, tiling=TilingConfig.flat(32, 16), backend="eager")
    one, other = (
        assembled(model, raw, (20, 32, 64), config, along_all),
        assembled(model, raw, SHAPE, config, along_all),
    )
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_a_network_that_sees_volumes_has_no_planes(make_model):
    solid = NetworkConfig("UNet", 3, arguments={"channels": [4, 8], "strides": [2]})
    with pytest.raises(FailedPrecondition, match="2D"):
        OrthoPredictor(make_model(solid), PredictionConfig(), 1)
