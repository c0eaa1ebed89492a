"""Training of 2.5D and 3D networks, of several classes, and on what nobody annotated."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from biosegment_trainer.learning.augmentation import AugmentationConfig
from biosegment_trainer.learning.dataset import AnnotatedRegion, training_parts
from biosegment_trainer.learning.loss import channel_table, consistency_loss, segmentation_loss
from biosegment_trainer.learning.network import LabelClass, NetworkConfig
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.optimisation import Run
from biosegment_trainer.learning.selection import HeldOut
from biosegment_trainer.learning.training import TrainingConfig, ramp, train
from biosegment_trainer.learning.validation import ValidationConfig, split

from biosegment.volume import Region

FLAT = NetworkConfig.unet((4, 8), (2,), 1)
NEIGHBOURS = dataclasses.replace(FLAT, input_slices=3)
VOLUME = NetworkConfig("UNet", 3, 1, {"channels": [4, 8], "strides": [2], "num_res_units": 1})
NETWORKS = [pytest.param(FLAT, id="2D"), pytest.param(NEIGHBOURS, id="2.5D"), pytest.param(VOLUME, id="3D")]
BALL, SHEET = LabelClass(2, "ball"), LabelClass(3, "sheet")
CONFIG = TrainingConfig(
    steps=60,
    batch_size=4,
    patch_size=16,
    patch_depth=8,
    learning_rate=1e-2,
    augmentation=AugmentationConfig(affine=0, elastic=0),
)


def block(scope=(2, 3), region_id="a", seed: int = 0, only: Region | None = None) -> AnnotatedRegion:
    """Bright balls and dark sheets in noise; `only` limits what is annotated."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:12, :40, :40]
    labels = np.ones((12, 40, 40), np.uint8)
    labels[(x + seed) % 20 < 3] = 3
    for _ in range(6):
        cz, cy, cx = rng.uniform(2, 10), *rng.uniform(5, 35, 2)
        labels[((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) < 16] = 2
    raw = np.select([labels == 2, labels == 3], [180.0, 60.0], 120.0) + rng.normal(0, 15, labels.shape)
    whole = Region.of_shape(labels.shape)
    region = only or whole
    marks = labels[region.slices].copy()
    marks[~np.isin(marks, [0, 1, *scope])] = 1
    raw = raw.astype(np.float32)
    return AnnotatedRegion(
        region_id=region_id,
        volume_id=region_id,
        region=region,
        context=whole,
        raw=raw,
        labels=marks,
        scope=frozenset(scope),
        statistics=SliceStatistics.of_slices(raw),
    )


def score(model, region: AnnotatedRegion) -> dict[str, float]:
    run = Run(CONFIG, model, model.classes, 0, torch.device("cpu"))
    parts = training_parts([region], model.classes, model.network)
    return HeldOut(parts, model.classes, model.network, 1 << 30).measure(run).summary()


@pytest.mark.parametrize("network", NETWORKS)
def test_two_targets_are_learned_together_from_records_that_each_looked_for_one(network):
    config = dataclasses.replace(CONFIG, network=network, steps=60 if network.spatial_dims == 2 else 100)
    examples = [block((2,), "a", 1), block((3,), "b", 2)]
    model = train(config, examples, None, classes=[BALL, SHEET], seed=0, device="cpu").model
    found = score(model, block(seed=5))
    assert found["iou/ball"] > 0.6
    assert found["iou/sheet"] > 0.6


@pytest.mark.parametrize("network", NETWORKS)
def test_strokes_in_some_slices_train(network):
    config = dataclasses.replace(CONFIG, network=network, steps=4)
    strokes = block(seed=3)
    labels = strokes.labels.copy()
    labels[:, ::4, :] = 0
    labels[::2] = 0
    record = dataclasses.replace(strokes, labels=labels)
    model = train(config, [record], None, classes=[BALL, SHEET], seed=0, device="cpu").model
    assert all(torch.isfinite(t).all() for t in model.weights.values())
    assert len(training_parts([record], [BALL, SHEET], network)) == (1 if network.spatial_dims == 3 else 6)


@pytest.mark.parametrize("space", [(6, 6), (4, 6, 6)])
def test_unlabelled_voxels_get_no_gradient_in_any_number_of_axes(space):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, *space, generator=generator).requires_grad_()
    labels = torch.randint(0, 4, (2, *space), generator=generator, dtype=torch.uint8)
    scope = torch.tensor([[True, True, True], [True, True, False]])
    loss = segmentation_loss(logits, labels, scope, channel_table([2, 3]))
    (slope,) = torch.autograd.grad(loss, logits)
    unknown = (labels == 0).unsqueeze(1).expand_as(slope)
    assert torch.all(slope[unknown] == 0)
    assert torch.all(slope.abs().sum(1)[labels > 0] > 0)


@pytest.mark.parametrize("space", [(6, 6), (4, 6, 6)])
def test_consistency_speaks_of_unlabelled_voxels_alone_and_vanishes_with_agreement(space):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, *space, generator=generator).requires_grad_()
    teacher = torch.randn(2, 3, *space, generator=generator)
    labels = torch.randint(0, 2, (2, *space), generator=generator, dtype=torch.uint8)
    (slope,) = torch.autograd.grad(consistency_loss(logits, teacher, labels), logits)
    assert torch.all(slope[(labels > 0).unsqueeze(1).expand_as(slope)] == 0)
    assert torch.all(slope.abs().sum(1)[labels == 0] > 0)
    assert consistency_loss(teacher, teacher, labels) == 0
    assert consistency_loss(logits, teacher, torch.ones_like(labels)) == 0


@pytest.mark.parametrize("network", [FLAT, VOLUME])
def test_the_averaged_teacher_pulls_at_what_nobody_annotated(network):
    corner = Region.of_shape((12, 12, 12))
    config = dataclasses.replace(CONFIG, network=network, steps=6)
    plain = train(config, [block(only=corner)], None, classes=[BALL, SHEET], seed=0, device="cpu").model
    taught = dataclasses.replace(config, consistency=5.0)
    first = train(taught, [block(only=corner)], None, classes=[BALL, SHEET], seed=0, device="cpu").model
    again = train(taught, [block(only=corner)], None, classes=[BALL, SHEET], seed=0, device="cpu").model
    changed = [name for name, t in plain.weights.items() if not torch.equal(t, first.weights[name])]
    assert changed
    assert all(torch.equal(t, again.weights[name]) for name, t in first.weights.items())


def test_the_teacher_is_heard_more_as_it_learns():
    heard = [ramp(f) for f in (0.0, 0.1, 0.2, 0.4, 1.0)]
    assert heard == sorted(heard)
    assert heard[0] < 0.01
    assert heard[-2] == heard[-1] == 1.0


def test_a_child_may_see_more_slices_than_its_parent_and_keeps_them():
    config = dataclasses.replace(CONFIG, network=FLAT, steps=2)
    parent = train(config, [block()], None, classes=[BALL, SHEET], seed=0, device="cpu").model
    child = train(
        dataclasses.replace(config, network=NEIGHBOURS), [block()], parent, classes=[BALL, SHEET], seed=0
    ).model
    assert child.network.input_slices == 3
    grandchild = train(config, [block()], child, classes=[BALL, SHEET], seed=0, device="cpu").model
    assert grandchild.network.input_slices == 3


def test_held_out_slices_are_farther_than_what_networks_see():
    """With contexts of two slices on each side, training keeps away by twice that and the gap."""
    deep = []
    for z in range(0, 160):
        region, context = (
            Region.of_shape((1, 8, 8), (z, 0, 0)),
            Region.of_shape((5, 8, 8), (max(0, z - 2), 0, 0)),
        )
        deep.append(
            AnnotatedRegion(
                region_id=str(z),
                volume_id="v",
                region=region,
                context=context,
                raw=np.zeros(context.shape, np.uint8),
                labels=np.ones(region.shape, np.uint8),
                scope=frozenset({2}),
                statistics=SliceStatistics(np.zeros(5), np.ones(5)),
            )
        )
    parts = split(deep, ValidationConfig(slab=8, gap=3, minimum=10))
    assert parts.validation
    for held in parts.validation:
        for used in parts.training:
            apart = max(
                held.context.start.z - used.context.stop.z, used.context.start.z - held.context.stop.z
            )
            assert apart >= 3
