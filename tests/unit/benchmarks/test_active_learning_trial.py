"""What trials rank by, on maps whose answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from biosegment_trainer.learning.prediction import PredictionConfig, predict_block
from biosegment_trainer.learning.training import train
from scipy.special import expit, logit

from benchmarks.active_learning import pixels, trial
from benchmarks.active_learning.annotator import Annotator
from benchmarks.active_learning.chooser import Chooser, parse_plan
from benchmarks.active_learning.profile import PROFILES
from benchmarks.active_learning.tissue import TISSUES
from biosegment.volume import Index, Region
from bundles.data import MITOCHONDRIA


@pytest.fixture(scope="module")
def pool():
    return TISSUES["synthetic"]().pool


@pytest.fixture(scope="module")
def labelled(pool):
    return Chooser(pool, 1, 32, 2, 2, "cpu").start(4, 0)


@pytest.fixture(scope="module")
def model(pool, labelled):
    config = dataclasses.replace(PROFILES["tiny"].training, steps=40)
    examples = Annotator(pool, 1, 0).annotate(labelled)
    return train(config, examples, None, classes=[MITOCHONDRIA], seed=0).model


def test_the_temperature_that_made_probabilities_too_sure_is_found():
    rng = np.random.default_rng(0)
    honest = rng.uniform(0.02, 0.98, 200_000)
    truth = rng.random(honest.shape) < honest
    assert trial.temperature(honest, truth) == pytest.approx(1, abs=0.02)
    sure = expit(3 * logit(honest))
    assert trial.temperature(sure, truth) == pytest.approx(3, abs=0.06)
    assert trial.calibrated_entropy(sure, truth) == pytest.approx(pixels.entropy_of(honest), abs=0.01)


def test_entropy_at_outlines_does_not_count_and_other_does():
    probability = np.full((1, 40, 40), 0.01)
    probability[0, 10:30, 10:30] = 0.99
    probability[0, 10, 10:30] = 0.5001  # an outline that is doubted
    probability[0, 2, 2] = 0.4  # something that is doubted away from it
    off = trial.entropy_off_outlines(probability, probability > 0.5)
    assert off[0, 10, 10:30].max() == 0
    assert off[0, 2, 2] == pytest.approx(-0.4 * np.log(0.4) - 0.6 * np.log(0.6))
    assert off[0, 20, 20] > 0


def test_what_is_wrong_is_known():
    truth = np.zeros((1, 4, 4), bool)
    truth[0, 0, 0] = True
    errors = trial.known_errors(np.full(truth.shape, 0.25), truth)
    assert errors[0, 0, 0] == 0.75
    assert errors[0, 3, 3] == 0.25


def test_probabilities_are_those_of_the_platform(model, pool):
    shape = Index(*pool.raw.shape)
    stored = predict_block(
        model,
        lambda region: pool.raw[region.slices],
        Region(Index(0, 0, 0), shape),
        shape,
        pool.statistics,
        PredictionConfig(measures=("entropy",), with_labels=False, backend="eager"),
        "cpu",
    )
    found = pixels.probability_of(model, pool, 1, "cpu")
    assert found.std() > 0.01
    assert np.abs(found - stored.probabilities[-1] / 255).max() < 1 / 255
    # One that leaves nothing out is the platform's entropy.
    entropy = pixels.cell_means(pixels.entropy_of(found))
    assert np.abs(entropy - stored.scores["entropy"]).max() < 1e-3


@pytest.mark.parametrize("name", sorted(trial.TRIALS))
def test_a_trial_chooses_the_windows_where_its_score_is_highest(model, pool, labelled, name):
    chooser = Chooser(pool, 1, 32, 1, 2, "cpu")
    choice = chooser.choose(parse_plan(name), model, labelled, 3, 1, 0)
    assert not choice.notice
    cells = trial.score_map(name, model, pool, 1, "cpu").astype(np.float32)
    taken = {tuple(region.start) for region in choice.regions}
    assert len(taken) == 3
    best = max(
        (cells[z, y : y + 2, x : x + 2].mean(), (z, 16 * y, 16 * x))
        for z in range(cells.shape[0])
        for y in range(cells.shape[1] - 1)
        for x in range(cells.shape[2] - 1)
        if not any(
            region.start.z == z and abs(region.start.y - 16 * y) < 32 and abs(region.start.x - 16 * x) < 32
            for region in labelled
        )
    )
    assert tuple(choice.regions[0].start) == best[1]
