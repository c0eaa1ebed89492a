from __future__ import annotations

import dataclasses
import io
import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.metrics import Confusion
from biosegment_trainer.learning.network import LabelClass, NetworkConfig
from biosegment_trainer.learning.prediction import PredictionConfig, predict_block
from biosegment_trainer.learning.training import (
    Checkpoint,
    TrainingConfig,
    TrainingProgress,
    one_cycle,
    train,
)
from biosegment_trainer.learning.validation import ValidationConfig

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.volume import Region

SHORT = TrainingConfig(
    network=NetworkConfig.unet((8, 16, 32), (2, 2), 1),
    steps=12,
    batch_size=2,
    patch_size=32,
    learning_rate=3e-3,
    checkpoint_steps=5,
)


def weights_equal(a, b) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def quality(model, tissue) -> float:
    """Dice on tissue that was not trained on, through the same prediction that the platform uses."""
    confusion = Confusion(model.classes)
    found = predict_block(model, lambda r: tissue.raw[r.slices], Region.of_shape(tissue.raw.shape),
                          tissue.raw.shape, tissue.statistics, PredictionConfig(factor=2), "cpu")  # fmt: skip
    assert found.labels is not None
    confusion.add(tissue.labels, found.labels)
    return confusion.dice(2)


def test_a_small_training_learns_what_no_threshold_can_and_a_child_keeps_it(
    annotations, tissue, other_tissue, disc, tiny_network
):
    config = dataclasses.replace(SHORT, network=tiny_network, steps=120, batch_size=8, patch_size=64)
    result = train(config, annotations, None, classes=[disc], seed=0, device="cpu")
    reached = quality(result.model, other_tissue)
    truth = other_tissue.labels == 2
    by_threshold = max(2 * (truth & below).sum() / (truth.sum() + below.sum())
                       for below in (other_tissue.raw < t for t in range(60, 200, 5)))  # fmt: skip
    assert reached > 0.85
    assert reached > by_threshold + 0.15
    # A child that barely trains is as good as its parent, and far better than a fresh network with as little.
    brief = dataclasses.replace(config, steps=3, learning_rate=1e-4)
    child = train(brief, annotations, result.model, classes=[disc], seed=1, device="cpu")
    orphan = train(brief, annotations, None, classes=[disc], seed=1, device="cpu")
    assert quality(child.model, other_tissue) > 0.8
    assert quality(child.model, other_tissue) > quality(orphan.model, other_tissue) + 0.3


def test_training_starts_from_the_parent_s_weights(annotations, disc, make_model):
    parent = make_model()
    frozen = dataclasses.replace(SHORT, steps=1, learning_rate=1e-12)
    child = train(frozen, annotations, parent, classes=[disc], seed=3, device="cpu").model
    for name, tensor in parent.weights.items():
        if "running" not in name and tensor.is_floating_point():
            torch.testing.assert_close(child.weights[name], tensor, atol=1e-6, rtol=0)
    assert child.network == parent.network
    moved = train(SHORT, annotations, parent, classes=[disc], seed=3, device="cpu").model
    assert not weights_equal(moved.weights, parent.weights)


def test_a_child_may_learn_a_class_more_than_its_parent(annotations, disc, make_model):
    model = train(SHORT, annotations, make_model(), classes=[disc, LabelClass(3, "new")], seed=3).model
    assert model.weights["model.2.1.conv.unit0.conv.weight"].shape[0] == 3
    assert [c.name for c in model.classes] == ["disc", "new"]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_resumed_run_ends_exactly_where_the_uninterrupted_one_does(annotations, disc, dropout):
    config = dataclasses.replace(SHORT, network=SHORT.network.with_arguments(dropout=dropout))
    saved: list[bytes] = []

    def keep(checkpoint):
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        saved.append(buffer.getvalue())

    whole = train(config, annotations, None, classes=[disc], seed=5, on_checkpoint=keep, device="cpu")
    assert len(saved) == 2
    for data in saved:
        checkpoint = torch.load(io.BytesIO(data), weights_only=True)
        torch.rand(7)  # whatever the process did in between
        again = train(config, annotations, None, classes=[disc], seed=5, resume_from=checkpoint, device="cpu")
        assert weights_equal(again.model.weights, whole.model.weights)
        assert again.metrics.final_loss == whole.metrics.final_loss
        assert again.metrics.steps == config.steps


def test_a_run_that_is_told_to_stop_leaves_a_checkpoint_and_goes_on_from_it(annotations, disc):
    checkpoints: list[Checkpoint] = []
    seen: list[TrainingProgress] = []
    whole = train(SHORT, annotations, None, classes=[disc], seed=6, device="cpu")
    stopped = train(
        SHORT, annotations, None, classes=[disc], seed=6, device="cpu",
        on_checkpoint=checkpoints.append, on_progress=seen.append, should_stop=lambda: len(seen) >= 7,
    )  # fmt: skip
    assert stopped.metrics.stopped
    assert [p.step for p in seen] == list(range(1, 8))
    assert [c["step"] for c in checkpoints] == [5, 7]
    rest = train(SHORT, annotations, None, classes=[disc], seed=6, device="cpu", resume_from=checkpoints[-1])
    assert weights_equal(rest.model.weights, whole.model.weights)
    assert not rest.metrics.stopped


def test_the_same_seed_gives_the_same_model_another_seed_another_one_and_the_caller_s_chance_is_untouched(
    annotations, disc
):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = train(SHORT, annotations, None, classes=[disc], seed=1, device="cpu").model.weights
    assert torch.equal(torch.rand(3), expected)
    assert weights_equal(
        first, train(SHORT, annotations, None, classes=[disc], seed=1, device="cpu").model.weights
    )
    assert not weights_equal(first, train(SHORT, annotations, None, classes=[disc], seed=2).model.weights)


def test_a_checkpoint_of_another_run_is_refused(annotations, disc):
    checkpoints: list[Checkpoint] = []
    train(SHORT, annotations, None, classes=[disc], seed=1, on_checkpoint=checkpoints.append)
    with pytest.raises(FailedPrecondition, match="start afresh"):
        train(SHORT, annotations, None, classes=[disc], seed=2, resume_from=checkpoints[0])


def test_a_limit_in_seconds_ends_the_run_and_anneals_the_learning_rate(annotations, disc):
    seen: list[TrainingProgress] = []
    config = dataclasses.replace(SHORT, steps=10**6, max_seconds=0.5)
    metrics = train(config, annotations, None, classes=[disc], seed=1, on_progress=seen.append).metrics
    assert 0 < metrics.steps < 10**6
    assert metrics.seconds >= 0.5
    assert seen[-1].fraction == 1.0
    assert [p.fraction for p in seen] == sorted(p.fraction for p in seen)


def test_held_out_annotations_are_measured_and_their_absence_is_explained(annotations, disc):
    none = train(SHORT, annotations, None, classes=[disc], seed=1).metrics
    assert (none.validation, none.validation_regions) == ({}, 0)
    assert "needs 40" in none.validation_note
    # Slabs of one slice: the hash of this volume's name holds out some of the eight.
    often = dataclasses.replace(SHORT, validation=ValidationConfig(fraction=0.4, slab=1, gap=0, minimum=4))
    some = train(often, annotations, None, classes=[disc], seed=1).metrics
    assert some.validation_regions > 0
    assert some.training_regions + some.validation_regions == len(annotations)
    assert 0 <= some.validation["iou/disc"] <= some.validation["dice/disc"] <= 1
    assert some.validation_note == ""


def test_the_learning_rate_rises_then_falls_to_almost_nothing():
    rates = [one_cycle(f, 0.1) for f in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(1)
    assert np.argmax(rates) == 10
    assert rates[-1] < 0.01
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_a_patch_that_does_not_fit_the_network_is_refused(annotations, disc):
    with pytest.raises(InvalidArgument, match="multiple of 4"):
        train(dataclasses.replace(SHORT, patch_size=34), annotations, None, classes=[disc], seed=1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_learns_the_same_task(annotations, other_tissue, disc, tiny_network):
    config = dataclasses.replace(SHORT, network=tiny_network, steps=120, batch_size=8, patch_size=64)
    model = train(config, annotations, None, classes=[disc], seed=0, device="cuda").model
    assert all(tensor.device.type == "cpu" for tensor in model.weights.values())
    assert quality(model, other_tissue) > 0.85


def test_the_learning_core_needs_neither_ray_nor_grpc_nor_a_database():
    code = (
        "import sys\n"
        "from biosegment_trainer.learning import bundle, prediction, training\n"
        "heavy = {'ray', 'grpc', 'sqlalchemy', 'tensorstore', 'minio', 'google.protobuf'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
