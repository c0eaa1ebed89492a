"""Dice + cross-entropy that says nothing about what the annotator did not look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from biosegment.volume import NOT_ANNOTATED

_SMOOTH = 1.0


def channel_table(class_values: Sequence[int]) -> Tensor:
    """Lookup, int64 (256,): label value -> output channel; -1 for 0 and for values that the network does not
    know.
    """
    table = torch.full((256,), -1, dtype=torch.int64)
    table[1] = 0
    for channel, value in enumerate(class_values, start=1):
        table[value] = channel
    return table


def allowed_channels(channels: Tensor, scope: Tensor) -> Tensor:
    """Which channels may be true at a pixel, given what was annotated.

    A class label allows its own channel. The label 'none of the scope' allows the background and every class
    outside the scope: whoever looked only for A has not said that B is absent.

    Args:
        channels: int64 (N, y, x), output channel of each label, -1 where nothing is known.
        scope: bool (N, 1 + C); whether the annotator looked for the class; the background's entry is ignored.

    Returns:
        bool (N, 1 + C, y, x); all False where nothing is known.
    """
    count = scope.shape[1]
    own = channels.unsqueeze(1) == torch.arange(count, device=channels.device).view(1, count, 1, 1)
    outside = ~scope
    outside[:, 0] = False
    return own | (outside[:, :, None, None] & (channels == 0).unsqueeze(1))


def segmentation_loss(logits: Tensor, labels: Tensor, scope: Tensor, table: Tensor) -> Tensor:
    """Marginal cross-entropy plus soft Dice over the batch; a scalar.

    Args:
        logits: float (N, 1 + C, y, x).
        labels: uint8 (N, y, x) of label values; 0 gets no gradient at all.
        scope: bool (N, 1 + C), see `allowed_channels`.
        table: From `channel_table`, on the same device.
    """
    logits = logits.float()
    channels = table[labels.long()]
    known = (labels != NOT_ANNOTATED) & (channels >= 0)
    allowed = allowed_channels(torch.where(known, channels, -1), scope.clone())
    log_p = torch.log_softmax(logits, dim=1)
    # log of the summed probability of the allowed channels; -inf rows of unknown pixels are never selected.
    picked = log_p.masked_fill(~allowed, -1e9)
    marginal = torch.logsumexp(picked, dim=1)
    cross_entropy = -torch.where(known, marginal, torch.zeros_like(marginal)).sum() / known.sum().clamp(min=1)
    return cross_entropy + _dice_loss(log_p.exp(), channels, known, scope)


def _dice_loss(p: Tensor, channels: Tensor, known: Tensor, scope: Tensor) -> Tensor:
    """Mean of 1 - Dice over the classes that occur; sums run over the batch, since a patch often has no
    foreground.
    """
    count = p.shape[1]
    classes = torch.arange(1, count, device=p.device).view(1, count - 1, 1, 1)
    usable = known.unsqueeze(1) & scope[:, 1:, None, None]
    truth = (channels.unsqueeze(1) == classes) & usable
    guess = torch.where(usable, p[:, 1:], torch.zeros_like(p[:, 1:]))
    overlap = (guess * truth).sum(dim=(0, 2, 3))
    target = truth.sum(dim=(0, 2, 3))
    dice = (2 * overlap + _SMOOTH) / (guess.sum(dim=(0, 2, 3)) + target + _SMOOTH)
    present = (target > 0).float()
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)
