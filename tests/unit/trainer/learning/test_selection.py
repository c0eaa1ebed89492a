"""Validation while training, early stopping, and the parent that is kept."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.dataset import TrainingPart, training_parts
from biosegment_trainer.learning.network import LabelClass, NetworkConfig
from biosegment_trainer.learning.optimisation import Run
from biosegment_trainer.learning.selection import HeldOut
from biosegment_trainer.learning.training import TrainingConfig, TrainingProgress, train
from biosegment_trainer.learning.validation import ValidationConfig

from biosegment.volume import Index, Region

# Slabs of one slice: the hash of this volume's name holds out some of the eight.
OFTEN = ValidationConfig(fraction=0.4, slab=1, gap=0, minimum=4)
CONFIG = TrainingConfig(
    network=NetworkConfig.unet((4, 8), (2,), 1),
    steps=20,
    batch_size=2,
    patch_size=32,
    learning_rate=1e-2,
    checkpoint_steps=3,
    validation=OFTEN,
)


def equal(a, b) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def good(tissue):
    """A parent that knows its task."""
    starts = [Index(z, 64 * (z % 3), 64 * (z * 2 % 3)) for z in range(8)]
    annotations = [tissue.annotate(Region.of_shape((1, 128, 128), start)) for start in starts]
    config = dataclasses.replace(CONFIG, steps=60, patch_size=64, batch_size=4)
    return train(config, annotations, None, classes=[LabelClass(2, "disc")], seed=0, device="cpu").model


def test_a_child_that_is_worse_leaves_the_parent_in_place_and_says_so(annotations, disc, good):
    reckless = dataclasses.replace(CONFIG, learning_rate=0.5, warmup=0.01)
    found = train(reckless, annotations, good, classes=[disc], seed=1, device="cpu")
    assert found.metrics.parent_kept
    assert equal(found.model.weights, good.weights)
    assert found.metrics.parent_iou == pytest.approx(found.metrics.validation["iou/disc"])
    assert found.metrics.parent_iou is not None
    assert found.metrics.parent_iou > 0.3


def held_slices(annotations, disc) -> set[int]:
    metrics = train(dataclasses.replace(CONFIG, steps=1), annotations, None, classes=[disc], seed=0).metrics
    withheld = set(metrics.withheld)
    return {a.region.start.z for a in annotations if a.region_id in withheld}


def test_a_child_that_is_better_replaces_its_parent(annotations, disc, make_model):
    poor = make_model(CONFIG.network)
    found = train(
        dataclasses.replace(CONFIG, steps=40), annotations, poor, classes=[disc], seed=1, device="cpu"
    )
    assert not found.metrics.parent_kept
    assert not equal(found.model.weights, poor.weights)
    assert found.metrics.parent_iou is not None
    assert found.metrics.validation["iou/disc"] > found.metrics.parent_iou


def test_the_best_weights_are_returned_and_a_run_without_gain_ends_early(annotations, disc, good):
    patient = dataclasses.replace(
        CONFIG, steps=200, learning_rate=0.3, validation=dataclasses.replace(OFTEN, every=2, patience=3)
    )
    seen: list[TrainingProgress] = []
    found = train(
        patient, annotations, good, classes=[disc], seed=2, on_progress=seen.append, device="cpu"
    ).metrics
    assert found.stopped_early
    assert found.steps < 200
    assert found.parent_iou is not None
    best = max(found.parent_iou, *(p.validation_iou for p in seen if p.validation_iou is not None))
    assert found.validation["iou/disc"] >= best - OFTEN.tolerance
    assert seen[0].validation_iou == found.parent_iou


def test_a_resumed_run_selects_what_the_uninterrupted_one_does(annotations, disc, good):
    config = dataclasses.replace(CONFIG, validation=dataclasses.replace(OFTEN, every=2, patience=4))
    saved: list[bytes] = []

    def keep(checkpoint):
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        saved.append(buffer.getvalue())

    whole = train(config, annotations, good, classes=[disc], seed=5, on_checkpoint=keep, device="cpu")
    assert saved
    for data in (saved[0], saved[-1]):
        again = train(
            config, annotations, good, classes=[disc], seed=5, device="cpu",
            resume_from=torch.load(io.BytesIO(data), weights_only=True),
        )  # fmt: skip
        assert equal(again.model.weights, whole.model.weights)
        assert dataclasses.replace(again.metrics, seconds=0) == dataclasses.replace(whole.metrics, seconds=0)


@pytest.mark.parametrize(
    "network",
    [
        NetworkConfig.unet((4, 8), (2,), 1),
        dataclasses.replace(NetworkConfig.unet((4, 8), (2,), 1), input_slices=3),
    ],
)
def test_tiles_count_every_annotated_voxel_once(tissue, disc, network):
    """A plane larger than a tile, with an odd edge."""
    region = Region.of_shape((1, 255, 200), (3, 1, 40))
    context = Region.of_shape((1, 256, 256), (3, 0, 0))
    annotation = tissue.annotate(region, context=context, raw=tissue.raw[context.slices], factor=1)
    parts = training_parts([annotation], [disc], network)
    run = Run(dataclasses.replace(CONFIG, network=network), None, (disc,), 0, torch.device("cpu"))
    held = HeldOut(parts, run.classes, network, 1 << 30)
    found = held.measure(run)
    assert found.truth[2] == int((annotation.labels == 2).sum())
    # The answer is that of one pass over everything, but for what lies beyond a tile's halo.
    with torch.inference_mode():
        logits = run.teacher(torch.from_numpy(parts[0].image)[None])
    labels = (1 + logits[0].argmax(0).numpy()).astype(np.uint8)[None]
    assert found.predicted[2] == int(((labels == 2) & (parts[0].labels > 0)).sum())
    few = HeldOut(parts, run.classes, network, 10)
    assert few.measure(run).truth[2] <= found.truth[2]


def test_tiles_of_a_volume_answer_as_one_pass_does(disc):
    network = NetworkConfig("UNet", 3, 1, {"channels": [4, 8], "strides": [2], "num_res_units": 1})
    rng = np.random.default_rng(0)
    image = rng.standard_normal((20, 102, 30), dtype=np.float32)
    labels = rng.integers(0, 3, image.shape).astype(np.uint8)
    labels[:3] = 0
    part = TrainingPart(image, labels, np.array([True, True]), np.flatnonzero(labels), {})
    run = Run(dataclasses.replace(CONFIG, network=network), None, (disc,), 0, torch.device("cpu"))
    found = HeldOut([part], run.classes, network, 1 << 30).measure(run)
    with torch.inference_mode():
        logits = run.teacher(torch.from_numpy(image)[None, None])
    answer = 1 + logits[0].argmax(0).numpy()
    assert found.truth[2] == int((labels == 2).sum())
    assert found.predicted[2] == int(((answer == 2) & (labels > 0)).sum())


def test_held_out_annotations_without_any_class_judge_nothing(annotations, disc, tissue):
    blank = [
        dataclasses.replace(a, labels=np.ones_like(a.labels))
        if a.region.start.z in held_slices(annotations, disc) else a for a in annotations
    ]  # fmt: skip
    metrics = train(CONFIG, blank, None, classes=[disc], seed=0, device="cpu").metrics
    assert "none of the classes" in metrics.validation_note
    assert metrics.validation == {}
