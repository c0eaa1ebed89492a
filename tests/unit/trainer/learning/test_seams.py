"""Blocks and tiles against one pass over everything, with networks that have learned something."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from biosegment_trainer.learning import result, slab
from biosegment_trainer.learning.network import LabelClass, NetworkConfig
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.prediction import PredictionConfig, Predictor, default_tiling
from biosegment_trainer.learning.result import ResultWriter
from biosegment_trainer.learning.tiling import TilingConfig
from biosegment_trainer.learning.training import TrainingConfig, train

from biosegment.volume import Index, Region
from tests.unit.trainer.learning.assembly import assembled, one_pass
from tests.unit.trainer.learning.conftest import make_tissue

SINGLE = ("entropy", "class_entropy", "gradient_embedding", "slice_disagreement", "embedding")
DEEP = {"channels": [4, 8, 8, 8, 8], "strides": [2, 2, 2, 2], "num_res_units": 1}
SOLID = NetworkConfig("UNet", 3, arguments={"channels": [4, 8, 8], "strides": [[1, 2, 2], [2, 2, 2]]})


def trained(network, tissue, **changes):
    regions = [tissue.annotate(Region.of_shape((8, 128, 128), Index(0, y, x)), factor=1)
               for y in (0, 128) for x in (0, 128)]  # fmt: skip
    config = TrainingConfig(
        **{"network": network, "steps": 40, "batch_size": 4, "patch_size": 96, "learning_rate": 5e-3}
        | changes
    )
    return train(config, regions, None, classes=[LabelClass(2, "disc")], seed=0, device="cpu").model


def seams(tiled, whole, tile):
    """Mean difference beside the borders of tiles, and elsewhere."""
    difference = np.abs(tiled - whole)
    border = np.zeros(difference.shape, bool)
    for axis in (1, 2):
        position = np.arange(difference.shape[axis])
        near = ((position + 2) % tile < 4) & (position >= 2) & (position < len(position) - 2)
        border |= np.moveaxis(np.broadcast_to(near, np.moveaxis(difference, axis, -1).shape), -1, axis)
    return difference[border].mean(), difference[~border].mean()


def jumps(p, tile):
    """Mean step between neighbours across the borders of tiles, and elsewhere."""
    found: tuple[list[float], list[float]] = [], []
    for axis in (1, 2):
        steps = np.abs(np.diff(p, axis=axis))
        across = (np.arange(steps.shape[axis]) + 1) % tile == 0
        found[0].append(steps.compress(across, axis).mean())
        found[1].append(steps.compress(~across, axis).mean())
    return np.mean(found[0]), np.mean(found[1])


@pytest.fixture(scope="module")
def tissue():
    return make_tissue(depth=8, size=256, seed=7)


def require_no_seam(tiled, whole, tile):
    beside, elsewhere = seams(tiled, whole, tile)
    assert beside < 1e-3
    assert elsewhere < 1e-3
    # Nobody who sees the result alone can tell where the borders are: no larger steps than the tissue has there.
    assert jumps(tiled, tile)[0] < 1.05 * jumps(whole, tile)[0]


def test_tiles_of_a_trained_network_that_sees_further_than_its_halo_show_no_seam(tissue):
    network = NetworkConfig(arguments=DEEP)
    model = trained(network, tissue)
    tiling = TilingConfig.flat(64, network.halo[1])
    assert network.receptive_radius[1] > tiling.halo[1]
    raw = tissue.raw[:3]
    found = assembled(model, raw, (2, 64, 128), PredictionConfig(tiling=tiling, backend="eager"))
    whole = one_pass(model, raw, 1)[:, 1].numpy()
    assert whole.std() > 0.2, "it has learned to tell discs from the rest"
    require_no_seam(found.probabilities[0] / 255, np.round(whole * 255) / 255, 64)


def test_blocks_of_a_trained_3d_network_show_no_seam_in_any_direction(tissue):
    model = trained(SOLID, tissue, patch_depth=4, patch_size=64, batch_size=2)
    tiling = TilingConfig((4, 64, 64), tuple(SOLID.halo))
    found = assembled(model, tissue.raw, (4, 64, 128), PredictionConfig(tiling=tiling, backend="eager"))
    whole = np.round(one_pass(model, tissue.raw, 1)[:, 1].numpy() * 255) / 255
    assert whole.std() > 0.1
    tiled = found.probabilities[0] / 255
    require_no_seam(tiled, whole, 64)
    across = np.abs(tiled[4] - tiled[3]).mean()
    assert across < 1.05 * np.abs(whole[4] - whole[3]).mean()


@pytest.mark.parametrize("block", [(4, 64, 64), (3, 96, 32), (1, 160, 96), (7, 160, 160)])
def test_a_3d_result_does_not_depend_on_how_the_volume_is_cut_even_with_a_short_halo(make_model, block):
    raw = np.random.default_rng(3).integers(0, 255, (7, 75, 101)).astype(np.uint8)
    model = make_model(SOLID)
    config = PredictionConfig(factor=1, tiling=TilingConfig((4, 32, 32), (2, 4, 8)), measures=SINGLE, backend="eager",
                              slices_at_once=3)  # fmt: skip
    found, whole = assembled(model, raw, block, config), assembled(model, raw, raw.shape, config)
    np.testing.assert_array_equal(found.probabilities, whole.probabilities)
    np.testing.assert_array_equal(found.labels, whole.labels)
    for name, score in found.scores.items():
        np.testing.assert_array_equal(score, whole.scores[name], name)


@pytest.mark.parametrize("slices", [3, 5])
def test_a_network_sees_its_neighbouring_slices_mirrored_at_the_ends(make_model, slices):
    raw = np.random.default_rng(4).integers(0, 255, (4, 75, 61)).astype(np.uint8)
    network = NetworkConfig(input_slices=slices, arguments={"channels": [4, 8, 8], "strides": [2, 2]})
    model = make_model(network)
    config = PredictionConfig(
        tiling=TilingConfig.flat(32, 40), measures=SINGLE, backend="eager", slices_at_once=2
    )
    found = assembled(model, raw, (3, 32, 64), config)
    expected = one_pass(model, raw, 1)[:, 1]
    assert np.abs(found.probabilities[0] - 255 * expected.numpy()).max() <= 0.51
    whole = assembled(model, raw, raw.shape, dataclasses.replace(config, slices_at_once=16))
    for name, score in found.scores.items():
        np.testing.assert_array_equal(score, whole.scores[name], name)


@pytest.mark.parametrize("strides", [(2, 2), (2, 4, 4), (4, 3)])
def test_embeddings_are_means_of_the_coarsest_features_over_the_cells(make_model, strides):
    raw = np.random.default_rng(5).integers(0, 255, (1, 96, 90)).astype(np.uint8)
    model = make_model(NetworkConfig.unet((4, *[8] * len(strides)), strides, 1))
    step = int(np.prod(strides))
    edge = int(np.lcm(step, 16))
    tiling = TilingConfig.flat(-(-96 // edge) * edge, step)
    found = assembled(
        model, raw, raw.shape, PredictionConfig(tiling=tiling, measures=("embedding",), backend="eager")
    )
    module, seen = model.build(), []
    hooks = [m.register_forward_hook(lambda _, __, out: seen.append(out)) for m in module.modules()]
    statistics = SliceStatistics.of_slices(raw)
    image = ((raw - statistics.mean) / statistics.std).clip(-5, 5).astype(np.float32)
    padded = np.pad(image, ((0, 0), *((step, step + -n % step) for n in raw.shape[1:])), mode="symmetric")
    with torch.inference_mode():
        module(torch.from_numpy(padded)[None])
    assert hooks
    coarse = [out[0].numpy() for out in seen if out.shape[2] == padded.shape[1] // step][-1]
    pixels = coarse.repeat(step, 1).repeat(step, 2)[:, step : step + 96, step : step + 90]
    cells = found.scores["embedding"].reshape(6, 6, 32)
    for y, x in ((0, 0), (2, 3), (5, 5)):
        expected = pixels[:, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16].mean((1, 2))
        np.testing.assert_allclose(cells[y, x, : len(expected)], expected, atol=5e-3, rtol=5e-3)
        assert not cells[y, x, len(expected) :].any()


@pytest.mark.parametrize(("network", "factor"), [(NetworkConfig.unet((4, 8, 8), (2, 2), 1), 3), (SOLID, 2)])
def test_a_few_rows_at_a_time_are_read_of_large_slabs_with_the_same_result(
    make_model, monkeypatch, network, factor
):
    raw = np.random.default_rng(6).integers(0, 60_000, (5, 205, 101)).astype(np.uint16)
    model, config = make_model(network), PredictionConfig(factor=factor, measures=SINGLE, backend="eager")
    whole = assembled(model, raw, raw.shape, config)
    monkeypatch.setattr(slab, "_RAW_VOXELS", 20_000)
    seen, largest = np.zeros(raw.shape, int), 0

    def read(region: Region):
        nonlocal largest
        largest = max(largest, region.size)
        seen[region.slices] += 1
        return raw[region.slices]

    region, statistics = Region.of_shape(raw.shape), SliceStatistics.of_slices(raw)
    parts = list(Predictor(model, config, "cpu").predict(read, region, raw.shape, statistics))
    assert largest <= 20_000
    assert (seen == 1).all()
    np.testing.assert_array_equal(
        np.concatenate([part.probabilities for part in parts], 1), whole.probabilities
    )
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), whole.labels)


def test_labels_of_large_factors_are_made_a_few_rows_at_a_time_with_the_same_result(make_model, monkeypatch):
    raw = np.random.default_rng(8).integers(0, 255, (1, 1100, 70)).astype(np.uint8)
    model, config = make_model(), PredictionConfig(factor=16, measures=(), backend="eager")
    made: list[int] = []
    labels = ResultWriter._labels

    def counted(*args: Any):
        found = labels(*args)
        made.append(found.shape[1])
        return found

    monkeypatch.setattr(ResultWriter, "_labels", counted)
    few = assembled(model, raw, raw.shape, config)
    assert max(made) <= 256
    monkeypatch.setattr(result, "_LABEL_ROWS", 1 << 20)
    many = assembled(model, raw, raw.shape, config)
    assert max(made) > 256
    np.testing.assert_array_equal(few.labels, many.labels)


def test_what_is_read_ahead_ends_with_the_caller(make_model):
    raw = np.zeros((64, 32, 32), np.uint8)
    asked: list[Region] = []

    def read(region: Region):
        asked.append(region)
        return raw[region.slices]

    predictor = Predictor(make_model(), PredictionConfig(backend="eager", slices_at_once=4))
    statistics = SliceStatistics.of_slices(raw)
    found: Any = predictor.predict(read, Region.of_shape(raw.shape), raw.shape, statistics)
    next(found)
    found.close()
    assert 1 <= len(asked) <= 2  # one slab ahead, no more


def test_a_reader_s_error_reaches_the_caller(make_model):
    def read(region: Region):
        raise OSError("the disk is gone")

    predictor = Predictor(make_model(), PredictionConfig(backend="eager"))
    statistics = SliceStatistics(np.zeros(2), np.ones(2))
    with pytest.raises(OSError, match="the disk is gone"):
        list(predictor.predict(read, Region.of_shape((2, 32, 32)), (2, 32, 32), statistics))


def test_members_share_tiles_that_suit_the_neediest(make_model):
    one = make_model(NetworkConfig.unet((4, 8, 8), (2, 2), 1))
    other = make_model(NetworkConfig.unet((4, 8, 8), (3, 4), 1))
    tiling = default_tiling([one, other], 2)
    for model in (one, other):
        tiling.require_stride(model.network.stride)
        assert all(a >= b for a, b in zip(tiling.halo[1:], model.network.halo[1:], strict=True))
