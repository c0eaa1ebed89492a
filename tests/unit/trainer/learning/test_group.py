"""Several processes that train one model."""

from __future__ import annotations

import dataclasses
import multiprocessing
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
from biosegment_trainer.learning.group import DistributedGroup
from biosegment_trainer.learning.network import NetworkConfig
from biosegment_trainer.learning.training import TrainingConfig, train
from biosegment_trainer.learning.validation import ValidationConfig

from biosegment.errors import InvalidArgument

CONFIG = TrainingConfig(
    network=NetworkConfig.unet((4, 8), (2,), 1),
    steps=6,
    batch_size=4,
    patch_size=32,
    learning_rate=1e-3,
    shards=2,
    checkpoint_steps=4,
    validation=ValidationConfig(fraction=0.4, slab=1, gap=0, minimum=4),
)


def share(rank, store, annotations, disc, config, answers):
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    group = DistributedGroup(torch.device("cpu"))
    told: list[Any] = []
    checkpoints: list[Any] = []
    found = train(
        config, annotations, None, classes=[disc], seed=3, device="cpu", group=group,
        on_progress=told.append, on_checkpoint=checkpoints.append,
    )  # fmt: skip
    # Tensors would travel as handles of a process that is about to end.
    weights = {name: tensor.numpy().copy() for name, tensor in found.model.weights.items()}
    answers.put((rank, weights, found.metrics, len(told), len(checkpoints)))
    torch.distributed.destroy_process_group()


def together(tmp_path, annotations, disc, config):
    # A forked child has torch already; importing it again would take seconds.
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    args = (tmp_path / "store", annotations, disc, config, answers)
    children = [context.Process(target=share, args=(rank, *args)) for rank in range(2)]
    for child in children:
        child.start()
    found = sorted((answers.get(timeout=60) for _ in children), key=lambda item: item[0])
    for child in children:
        child.join(30)
    return found


def test_two_processes_end_where_one_does_and_the_leader_alone_speaks(tmp_path, annotations, disc):
    (_, weights, first, told, kept), (_, _, second, told_second, kept_second) = together(
        tmp_path, annotations, disc, CONFIG
    )
    alone = train(CONFIG, annotations, None, classes=[disc], seed=3, device="cpu")
    assert (told, kept) == (6, 1)
    assert (told_second, kept_second) == (0, 0)
    for name, tensor in alone.model.weights.items():
        np.testing.assert_allclose(weights[name], tensor.numpy(), rtol=1e-3, atol=1e-5, err_msg=name)
    assert first.final_loss == pytest.approx(alone.metrics.final_loss, rel=1e-4)
    assert first.validation["iou/disc"] == pytest.approx(alone.metrics.validation["iou/disc"], abs=0.01)
    assert second.validation == {}


def test_what_ends_a_run_early_ends_it_for_all(tmp_path, annotations, disc):
    eager = dataclasses.replace(
        CONFIG,
        steps=60,
        learning_rate=0.5,
        validation=dataclasses.replace(CONFIG.validation, every=1, patience=2),
    )
    (_, _, first, *_), (_, _, second, *_) = together(tmp_path, annotations, disc, eager)
    assert first.stopped_early
    assert first.steps == second.steps < 60


def test_shards_that_cannot_be_shared_are_refused(annotations, disc):
    with pytest.raises(InvalidArgument, match="multiple"):
        dataclasses.replace(CONFIG, batch_size=5)


def test_batch_norm_counts_a_step_once_whatever_the_shards(annotations, disc):
    model = train(CONFIG, annotations, None, classes=[disc], seed=3, device="cpu").model
    found = [int(t) for name, t in model.weights.items() if name.endswith("num_batches_tracked")]
    assert found
    assert max(found) <= CONFIG.steps
