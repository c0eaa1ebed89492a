"""Several processes that train one model: each works on its shards of a batch, gradients are averaged.

The learning core knows no more of it than this; who starts the processes, and where, is the platform's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.distributed
from torch import Tensor


class Group(Protocol):
    """The processes that train together.

    Attributes:
        rank: This one's number; 0 leads: it validates, reports and writes.
        size: How many there are.
    """

    rank: int
    size: int

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors of the same shapes in each process by their sums."""
        ...

    def agree(self, values: Sequence[float]) -> list[float]:
        """What the leader said."""
        ...


class Alone:
    """One process."""

    rank = 0
    size = 1

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to add."""

    def agree(self, values: Sequence[float]) -> list[float]:
        """Its own word."""
        return list(values)


class DistributedGroup:
    """The default process group of `torch.distributed`, which somebody has initialised.

    Args:
        device: Where the tensors lie that travel: `cuda` for NCCL, `cpu` for gloo.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()
        self._device = device

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """As `Group.sum`, in one message: a network has hundreds of small tensors."""
        if not tensors:
            return
        flat = torch.cat([t.detach().reshape(-1).float() for t in tensors])
        torch.distributed.all_reduce(flat)
        for tensor, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.detach().copy_(part.view_as(tensor))

    def agree(self, values: Sequence[float]) -> list[float]:
        """As `Group.agree`."""
        said = torch.tensor(list(values), dtype=torch.float64, device=self._device)
        torch.distributed.broadcast(said, 0)
        return [float(value) for value in said]
