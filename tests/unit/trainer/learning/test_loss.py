from __future__ import annotations

import math

import pytest
import torch
from biosegment_trainer.learning.loss import channel_table, segmentation_loss

A, B = 2, 3
TABLE = channel_table([A, B])
BOTH = torch.tensor([[True, True, True]])
ONLY_A = torch.tensor([[True, True, False]])


def logits_of(seed: int, count: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def gradient(logits: torch.Tensor, labels: torch.Tensor, scope: torch.Tensor) -> torch.Tensor:
    (result,) = torch.autograd.grad(segmentation_loss(logits, labels, scope, TABLE), logits)
    return result


def test_pixels_that_nobody_annotated_get_no_gradient_and_the_others_do():
    labels = torch.tensor([0, 1, 2, 3, 0, 1], dtype=torch.uint8).expand(1, 6, 6).clone()
    slope = gradient(logits_of(1), labels, BOTH)
    assert torch.all(slope[..., [0, 4]] == 0)
    assert torch.all(slope[..., [1, 2, 3, 5]].abs().sum(1) > 0)


def test_what_the_network_says_of_unannotated_pixels_does_not_change_the_loss():
    labels = torch.zeros(1, 6, 6, dtype=torch.uint8)
    labels[:, :3] = 2
    logits = logits_of(2).detach()
    changed = logits.clone()
    changed[:, :, 3:] = 50 * torch.randn(3, 3, 6)
    assert torch.equal(
        segmentation_loss(logits, labels, BOTH, TABLE), segmentation_loss(changed, labels, BOTH, TABLE)
    )


def test_a_batch_without_any_annotation_has_loss_zero_and_finite_gradient():
    slope = gradient(logits_of(3), torch.zeros(1, 6, 6, dtype=torch.uint8), BOTH)
    assert torch.equal(slope, torch.zeros_like(slope))


def test_not_a_in_a_record_that_looked_only_for_a_does_not_move_b_against_background():
    logits = logits_of(4)
    slope = gradient(logits, torch.ones(1, 6, 6, dtype=torch.uint8), ONLY_A)
    share = torch.softmax(logits, 1)
    # The loss depends on background and B only through their sum, so their slopes are in proportion to p.
    torch.testing.assert_close(slope[:, 0] * share[:, 2], slope[:, 2] * share[:, 0], atol=1e-7, rtol=1e-4)
    assert torch.all(slope[:, 1] > 0)
    assert torch.all(slope[:, [0, 2]] < 0)


def test_the_same_label_in_a_record_that_looked_for_both_pushes_b_down():
    slope = gradient(logits_of(4), torch.ones(1, 6, 6, dtype=torch.uint8), BOTH)
    assert torch.all(slope[:, 2] > 0)


def test_a_certain_b_is_no_error_where_only_a_was_looked_for():
    logits = torch.zeros(1, 3, 6, 6)
    logits[:, 2] = 40
    ones = torch.ones(1, 6, 6, dtype=torch.uint8)
    assert segmentation_loss(logits, ones, ONLY_A, TABLE) < 1e-6
    assert segmentation_loss(logits, ones, BOTH, TABLE) > 10


def test_scopes_are_those_of_each_record_in_a_mixed_batch():
    logits = torch.zeros(2, 3, 6, 6)
    logits[:, 2] = 40
    ones = torch.ones(2, 6, 6, dtype=torch.uint8)
    half_wrong = segmentation_loss(logits, ones, torch.cat([ONLY_A, BOTH]), TABLE)
    assert half_wrong.item() == pytest.approx(20, rel=0.01)


def test_a_record_out_of_scope_does_not_enter_the_dice_of_the_class():
    labels = torch.ones(2, 6, 6, dtype=torch.uint8)
    labels[1] = B
    logits = torch.zeros(2, 3, 6, 6)
    logits[:, 2] = 40
    assert segmentation_loss(logits, labels, torch.cat([ONLY_A, BOTH]), TABLE) < 1e-6


def test_uniform_probabilities_cost_the_logarithm_of_the_number_of_channels_plus_dice():
    labels = torch.full((1, 6, 6), A, dtype=torch.uint8)
    found = segmentation_loss(torch.zeros(1, 3, 6, 6), labels, BOTH, TABLE).item()
    dice = (2 * 12 + 1) / (12 + 36 + 1)
    assert found == pytest.approx(math.log(3) + 1 - dice, rel=1e-5)


def test_a_perfect_answer_costs_nothing():
    labels = torch.tensor([1, 1, 2, 2, 3, 3], dtype=torch.uint8).expand(1, 6, 6)
    logits = 40 * torch.nn.functional.one_hot(labels.long() - 1, 3).permute(0, 3, 1, 2).float()
    assert segmentation_loss(logits, labels, BOTH, TABLE) < 1e-5
