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
        channels: int64 (N, ...), output channel of each label, -1 where nothing is known.
        scope: bool (N, 1 + C); whether the annotator looked for the class; the background's entry is ignored.

    Returns:
        bool (N, 1 + C, ...); all False where nothing is known.
    """
    count = scope.shape[1]
    space = (1,) * (channels.ndim - 1)
    own = channels.unsqueeze(1) == torch.arange(count, device=channels.device).view(1, count, *space)
    outside = ~scope
    outside[:, 0] = False
    return own | (outside.view(*scope.shape, *space) & (channels == 0).unsqueeze(1))


def segmentation_loss(logits: Tensor, labels: Tensor, scope: Tensor, table: Tensor) -> Tensor:
    """Marginal cross-entropy plus soft Dice over the batch; a scalar.

    Args:
        logits: float (N, 1 + C, ...) with any number of spatial axes.
        labels: uint8 (N, ...) of label values; 0 gets no gradient at all.
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
    count, space = p.shape[1], (1,) * (p.ndim - 2)
    voxels = (0, *range(2, p.ndim))
    classes = torch.arange(1, count, device=p.device).view(1, count - 1, *space)
    usable = known.unsqueeze(1) & scope[:, 1:].view(len(scope), count - 1, *space)
    truth = (channels.unsqueeze(1) == classes) & usable
    guess = torch.where(usable, p[:, 1:], torch.zeros_like(p[:, 1:]))
    overlap = (guess * truth).sum(dim=voxels)
    target = truth.sum(dim=voxels)
    dice = (2 * overlap + _SMOOTH) / (guess.sum(dim=voxels) + target + _SMOOTH)
    present = (target > 0).float()
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def consistency_loss(logits: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Mean squared difference of probabilities where nobody annotated; a scalar.

    A. Tarvainen, H. Valpola: Mean teachers are better role models. NeurIPS 2017, arXiv 1703.01780.

    Args:
        logits: Of the network that learns, float (N, 1 + C, ...).
        teacher: Logits of its averaged weights for the same tissue, without gradient.
        labels: uint8 (N, ...); only voxels of 0 count.
    """
    unknown = (labels == NOT_ANNOTATED).unsqueeze(1)
    difference = torch.softmax(logits.float(), 1) - torch.softmax(teacher.float(), 1)
    return (difference.square() * unknown).sum() / unknown.sum().clamp(min=1)
