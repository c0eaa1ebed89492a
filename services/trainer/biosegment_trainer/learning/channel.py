"""Weights for other channels: what a child takes over where its input or its head is not the parent's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from biosegment.errors import InvalidArgument


def with_input_channels(weight: Tensor, channels: int) -> Tensor:
    """A convolution's weight (out, in, ...) for another number of input channels.

    More: the new ones, outside, have no influence. Fewer: those left out, outside, are added to the outermost
    that remain, so that an image that is the same in all channels gives the same answer.
    """
    have = weight.shape[1]
    if channels >= have:
        result = weight.new_zeros((weight.shape[0], channels, *weight.shape[2:]))
        before = (channels - have) // 2
        result[:, before : before + have] = weight
        return result
    before = (have - channels) // 2
    result = weight[:, before : before + channels].clone()
    result[:, 0] += weight[:, :before].sum(1)
    result[:, -1] += weight[:, before + channels :].sum(1)
    return result


def with_output_channels(
    old: Tensor, fresh: Tensor, axes: tuple[int, ...], source: Sequence[int], new_value: float | None
) -> Tensor:
    """A head's tensor for other output channels.

    Args:
        old: The parent's.
        fresh: The child's, newly initialised.
        axes: Those that run over the output channels, one or (0, 1).
        source: For each of the child's channels the parent's, -1 for none.
        new_value: Fills new channels; None leaves them `fresh`.
    """
    known = [i for i, s in enumerate(source) if s >= 0]
    new = [i for i, s in enumerate(source) if s < 0]
    if old.shape[axes[0]] <= max(source):
        raise InvalidArgument("BAD_WEIGHTS", f"a head of shape {tuple(old.shape)} has too few channels")
    result = fresh.clone()
    origin = old.index_select(axes[0], torch.tensor([source[i] for i in known]))
    if axes == (0, 1):
        origin = origin.index_select(1, torch.tensor([source[i] for i in known]))
        for row in known:
            result[row, new] = 0.0
            result[row, known] = origin[known.index(row)]
        return result
    result.index_copy_(axes[0], torch.tensor(known), origin)
    if new_value is not None and new:
        result[new] = new_value
    return result
