from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.network import LabelClass, NetworkConfig
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.passes import TURNS, PassesConfig, class_probabilities
from biosegment_trainer.learning.prediction import PredictionConfig, Predictor, predict_block
from biosegment_trainer.learning.tiling import TilingConfig

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.volume import Region
from tests.unit.trainer.learning.assembly import assembled, one_pass

SHAPE = (3, 48, 64)
SMALL = NetworkConfig.unet((4, 8), (2,), 1)
DROPPING = NetworkConfig.unet((4, 8), (2,), 1, dropout=0.4)
WHOLE = TilingConfig.flat(64, 2)
SPREAD = ("mutual_information", "disagreement")


@pytest.fixture(scope="module")
def raw():
    return np.random.default_rng(8).integers(0, 255, SHAPE).astype(np.uint8)


def predicted(models, raw, **changes):
    config = PredictionConfig(**{"tiling": WHOLE, "backend": "eager"} | changes)
    return predict_block(models, lambda r: raw[r.slices], Region.of_shape(raw.shape), raw.shape,
                         SliceStatistics.of_slices(raw), config)  # fmt: skip


@pytest.mark.parametrize("count", [2, 5, 8])
def test_test_time_augmentation_is_the_mean_over_turned_and_mirrored_volumes(make_model, raw, count):
    model, passes = make_model(SMALL), PassesConfig(test_time_augmentation=count)
    found = predicted(model, raw, passes=passes, measures=SPREAD)
    each = []
    for turns, mirror in TURNS[:count]:
        turned = np.rot90(raw[:, :, ::-1] if mirror else raw, turns, (1, 2))
        p = np.rot90(one_pass(model, turned, 1)[:, 1].numpy(), -turns, (1, 2))
        each.append(p[:, :, ::-1] if mirror else p)
    np.testing.assert_allclose(found.probabilities[0] / 255, np.mean(each, 0), atol=0.003)
    cells = np.std(each, 0).reshape(3, 3, 16, 4, 16).mean((2, 4))
    np.testing.assert_allclose(found.scores["disagreement"], cells, atol=1e-3)
    p = np.stack([each, 1 - np.array(each)])
    entropy = [-(q * np.log(q)).sum(0) for q in (p.mean(1), p)]
    bald = (entropy[0] - entropy[1].mean(0)).reshape(3, 3, 16, 4, 16).mean((2, 4))
    np.testing.assert_allclose(found.scores["mutual_information"], bald, atol=1e-3)


def test_the_members_of_an_ensemble_count_alike_and_see_their_own_slices(make_model, raw):
    wide = dataclasses.replace(SMALL, input_slices=3)
    members = [make_model(SMALL, seed=1), make_model(wide, seed=2)]
    found = predicted(members, raw)
    expected = np.mean([one_pass(member, raw, 1)[:, 1].numpy() for member in members], 0)
    np.testing.assert_allclose(found.probabilities[0] / 255, expected, atol=0.003)


def test_members_that_know_other_classes_are_refused(make_model, raw):
    with pytest.raises(InvalidArgument, match="share classes"):
        predicted([make_model(SMALL), make_model(SMALL, (LabelClass(3, "other"),))], raw)


def test_dropout_passes_are_repeatable_wherever_the_volume_is_cut_and_another_seed_drops_others(
    make_model, raw
):
    model = make_model(DROPPING)
    config = PredictionConfig(tiling=TilingConfig.flat(16, 2), measures=SPREAD, backend="eager",
                              passes=PassesConfig(mc_dropout=4))  # fmt: skip
    torch.manual_seed(1)
    one = assembled(model, raw, (1, 16, 32), config)
    torch.manual_seed(2)
    other = assembled(model, raw, SHAPE, dataclasses.replace(config, batch=3))
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.scores["mutual_information"], other.scores["mutual_information"])
    again = assembled(
        model, raw, SHAPE, dataclasses.replace(config, passes=PassesConfig(mc_dropout=4, seed=1))
    )
    assert np.abs(one.probabilities.astype(int) - again.probabilities).mean() > 0.5
    assert one.scores["disagreement"].mean() > 0.005


def test_many_dropout_passes_draw_near_to_each_other_and_leave_the_norms_alone(make_model, raw):
    model = make_model(DROPPING)
    before = {name: tensor.clone() for name, tensor in model.weights.items()}
    few, many = (
        predicted(model, raw, passes=PassesConfig(mc_dropout=n)).probabilities / 255 for n in (2, 40)
    )
    more = predicted(model, raw, passes=PassesConfig(mc_dropout=40, seed=9)).probabilities / 255
    assert np.abs(many - more).mean() < 0.5 * np.abs(few - more).mean()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.weights.items())


def test_dropout_passes_of_a_network_without_dropout_are_refused(make_model):
    with pytest.raises(FailedPrecondition, match="no dropout"):
        Predictor(make_model(SMALL), PredictionConfig(tiling=WHOLE, passes=PassesConfig(mc_dropout=3)))


def test_measures_of_disagreement_need_two_passes(make_model):
    with pytest.raises(FailedPrecondition, match="compare passes"):
        Predictor(make_model(SMALL), PredictionConfig(tiling=WHOLE, measures=("disagreement",)))


@pytest.mark.parametrize(("dropout", "turns"), [(-1, 0), (101, 0), (0, 1), (0, 9)])
def test_numbers_of_passes_out_of_range_are_refused(dropout, turns):
    with pytest.raises(InvalidArgument, match="must be within"):
        PassesConfig(dropout, turns)


@pytest.mark.parametrize("channels", [2, 4])
def test_probabilities_are_the_softmax_whatever_the_layout(channels):
    logits = 30 * torch.randn(2, channels, 5, 7).to(memory_format=torch.channels_last)
    torch.testing.assert_close(class_probabilities(logits), torch.softmax(logits, 1), rtol=1e-4, atol=1e-6)
