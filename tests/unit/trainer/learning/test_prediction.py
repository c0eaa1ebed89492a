from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.measures import MEASURES, entropy_of
from biosegment_trainer.learning.network import LabelClass, NetworkConfig
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.prediction import PredictionConfig, Predictor, predict_block
from biosegment_trainer.learning.resolution import upsample_probabilities
from biosegment_trainer.learning.tiling import Span, TilingConfig, axis_tiles

from biosegment.errors import InvalidArgument
from biosegment.volume import Index, Region
from tests.unit.trainer.learning.assembly import assembled, one_pass

SHAPE = (3, 301, 230)
SINGLE = tuple(name for name, measure in MEASURES.items() if not measure.needs_passes)
TWO_CLASSES = (LabelClass(2, "disc"), LabelClass(5, "ring"))


@pytest.fixture(scope="module")
def raw():
    rng = np.random.default_rng(5)
    return (
        (rng.normal(30000, 6000, SHAPE) + 9000 * np.sin(np.arange(SHAPE[2]) / 9))
        .clip(0, 65535)
        .astype(np.uint16)
    )


@pytest.mark.parametrize("factor", [1, 2])
def test_blocks_and_tiles_leave_no_seam_when_the_halo_covers_the_receptive_field(make_model, raw, factor):
    model = make_model(classes=TWO_CLASSES)
    assert (model.network.stride[1], model.network.receptive_radius[1] <= 64) == (4, True)
    config = PredictionConfig(
        factor=factor, tiling=TilingConfig.flat(64, 64), measures=SINGLE, backend="eager"
    )
    found = assembled(model, raw, (2, 96 * factor, 64 * factor), config)
    expected = one_pass(model, raw, factor)
    exact = (expected[:, 1:] * 255).numpy().transpose(1, 0, 2, 3)
    assert np.abs(found.probabilities - exact).max() <= 0.51
    labels = np.array([1, 2, 5], np.uint8)[upsample_probabilities(expected, factor).argmax(1).numpy()]
    labels = labels[:, : raw.shape[1], : raw.shape[2]]
    assert np.mean(found.labels != labels) < 1e-3
    entropy = entropy_of(expected)[:, :16, 16:32].mean((1, 2))
    np.testing.assert_allclose(found.scores["entropy"][:, 0, 1], entropy, rtol=2e-3)


@pytest.mark.parametrize("block", [(1, 64, 64), (2, 160, 96), (3, 320, 32), SHAPE])
def test_the_result_does_not_depend_on_how_the_volume_is_cut_even_with_a_short_halo(make_model, raw, block):
    config = PredictionConfig(
        factor=2, tiling=TilingConfig.flat(64, 16), measures=SINGLE, slices_at_once=2, backend="eager"
    )
    model = make_model(NetworkConfig.unet((8, 16, 32), (2, 2), 2))
    found, whole = assembled(model, raw, block, config), assembled(model, raw, SHAPE, config)
    np.testing.assert_array_equal(found.probabilities, whole.probabilities)
    np.testing.assert_array_equal(found.labels, whole.labels)
    for name, score in found.scores.items():
        np.testing.assert_array_equal(score, whole.scores[name], name)


@pytest.mark.parametrize("batch", [2, 3])
def test_the_result_does_not_depend_on_the_batch(make_model, raw, batch):
    config = PredictionConfig(factor=2, tiling=TilingConfig.flat(64, 16), measures=SINGLE, backend="eager")
    one = assembled(make_model(), raw, SHAPE, config)
    many = assembled(make_model(), raw, SHAPE, dataclasses.replace(config, batch=batch))
    # Convolutions of another batch size may round otherwise in the last bit.
    assert np.abs(many.probabilities.astype(int) - one.probabilities).max() <= 1
    assert np.mean(many.labels != one.labels) < 1e-4
    for name, score in many.scores.items():
        np.testing.assert_allclose(score, one.scores[name], atol=2e-3, err_msg=name)


def test_nothing_outside_the_volume_and_little_more_than_the_halo_is_read(make_model, raw):
    asked: list[Region] = []

    def read(region: Region):
        region.require_within(SHAPE, "the volume")
        asked.append(region)
        return raw[region.slices]

    config = PredictionConfig(factor=2, tiling=TilingConfig.flat(32, 16), slices_at_once=1, backend="eager")
    block = Region(Index(0, 64, 64), Index(3, 192, 128))
    list(Predictor(make_model(), config).predict(read, block, SHAPE, SliceStatistics.of_slices(raw)))
    assert [region.start.z for region in asked] == [0, 1, 2]
    assert all(Region(Index(0, 32, 32), Index(3, 224, 160)).contains(region) for region in asked)


def test_scoring_alone_makes_no_labels(make_model, raw):
    config = PredictionConfig(factor=2, with_labels=False, backend="eager")
    part = predict_block(make_model(), lambda r: raw[r.slices], Region.of_shape(SHAPE), SHAPE,
                         SliceStatistics.of_slices(raw), config)  # fmt: skip
    assert part.labels is None
    assert np.isfinite(part.scores["entropy"]).all()
    assert part.scores["entropy"].shape == (3, 10, 8)


def test_labels_hold_the_values_of_the_classes_and_background(make_model, raw):
    model = make_model(classes=TWO_CLASSES)
    found = assembled(model, raw, SHAPE, PredictionConfig(factor=2, backend="eager"))
    assert found.labels is not None
    assert set(np.unique(found.labels)) <= {1, 2, 5}
    assert len(np.unique(found.labels)) > 1


@pytest.mark.parametrize(
    ("start", "stop"), [((0, 8, 0), (1, 64, 64)), ((0, 0, 0), (1, 60, 64)), ((0, 0, 0), (4, 64, 64))]
)
def test_a_block_off_the_score_grid_or_outside_is_refused(make_model, raw, start, stop):
    with pytest.raises(InvalidArgument, match=r"block|region"):
        predict_block(make_model(), lambda r: raw[r.slices], Region(Index(*start), Index(*stop)), SHAPE,
                      SliceStatistics.of_slices(raw), PredictionConfig(factor=2))  # fmt: skip


def test_statistics_of_another_volume_are_refused(make_model, raw):
    with pytest.raises(InvalidArgument, match="3 slices"):
        predict_block(make_model(), lambda r: raw[r.slices], Region.of_shape(SHAPE), SHAPE,
                      SliceStatistics.of_slices(raw[:2]))  # fmt: skip


def test_a_halo_that_the_network_cannot_see_in_its_raster_is_refused(make_model):
    deep = make_model(NetworkConfig.unet((4, 4, 4, 4, 4, 4), (2, 2, 2, 2, 2), 1))
    with pytest.raises(InvalidArgument, match=r"stride \(1, 32, 32\)"):
        Predictor(deep, PredictionConfig(tiling=TilingConfig.flat(64, 16)))


def test_a_constant_norm_is_the_default_because_instance_norm_shows_seams(make_model, raw):
    seams = {}
    for norm in ("batch", "instance"):
        model = make_model(NetworkConfig.unet((8, 16, 32), (2, 2), 1, norm=norm))
        model = dataclasses.replace(model, weights=sharpened(model.weights))
        tiled = assembled(
            model, raw, SHAPE, PredictionConfig(tiling=TilingConfig.flat(32, 48), backend="eager")
        )
        whole = assembled(
            model, raw, SHAPE, PredictionConfig(tiling=TilingConfig.flat(512, 48), backend="eager")
        )
        seams[norm] = np.abs(tiled.probabilities.astype(int) - whole.probabilities).mean() / 255
    assert seams["batch"] < 1e-3
    assert seams["instance"] > 5 * seams["batch"]
    assert NetworkConfig().arguments["norm"] == "batch"
    assert not NetworkConfig().has_window_norm


def sharpened(weights):
    """Random networks answer near 0.5; larger logits make differences visible."""
    return {n: 8 * t if n.startswith("model.2.1.conv") else t for n, t in weights.items()}


@pytest.mark.parametrize(("start", "stop", "size"), [(0, 150, 150), (64, 128, 150), (32, 97, 400), (0, 1, 1)])
def test_tiles_keep_every_pixel_once_and_windows_lie_in_the_raster(start, stop, size):
    tiles = list(axis_tiles(Span(start, stop), size, 64, 32, 16))
    kept = [pixel for tile in tiles for pixel in range(tile.keep.start, tile.keep.stop)]
    assert kept == list(range(start, stop))
    for tile in tiles:
        assert tile.window.start % 16 == 0
        assert len(tile.window) % 16 == 0
        assert tile.window.start <= max(tile.keep.start - 32, -16)
        assert tile.window.stop >= min(tile.keep.stop + 32, size + 16)
        assert tile.window.stop < size + 32
        assert 0 <= tile.source.start < tile.source.stop <= size


@pytest.mark.parametrize(("tile", "halo"), [(20, 16), (0, 16), (64, -16)])
def test_tiles_off_the_score_grid_are_refused(tile, halo):
    with pytest.raises(InvalidArgument, match="multiples of 16"):
        TilingConfig.flat(tile, halo)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_predicts_what_the_cpu_does(make_model, raw):
    model, statistics = make_model(), SliceStatistics.of_slices(raw)
    gpu, cpu = (
        predict_block(model, lambda r: raw[r.slices], Region.of_shape(SHAPE), SHAPE, statistics, None, device)
        for device in ("cuda", "cpu")
    )
    # bfloat16 has 8 bits of mantissa.
    assert np.abs(gpu.probabilities.astype(int) - cpu.probabilities).mean() < 2
