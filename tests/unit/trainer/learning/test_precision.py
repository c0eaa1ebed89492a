from __future__ import annotations

import pytest
import torch
from biosegment_trainer.learning.backend import Eager
from biosegment_trainer.learning.optimisation import Run, TrainingConfig
from biosegment_trainer.learning.precision import has_bfloat16
from torch import nn

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def pretend(monkeypatch, capability: tuple[int, int]) -> None:
    """A GPU as PyTorch sees it: one that lacks bfloat16 imitates it, and is said to support it by default."""

    def supported(including_emulation: bool = True) -> bool:
        return capability >= (8, 0) or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)


@pytest.mark.parametrize(("capability", "mixed"), [((7, 5), False), ((8, 0), True)])
def test_a_gpu_that_only_imitates_bfloat16_computes_in_float32(monkeypatch, tiny_network, capability, mixed):
    pretend(monkeypatch, capability)
    assert has_bfloat16(CUDA) is mixed
    assert Eager(nn.Identity(), CUDA)._mixed is mixed
    # There is no such device here to move a network to.
    monkeypatch.setattr(nn.Module, "to", lambda self, *args, **kwargs: self)
    config = TrainingConfig(network=tiny_network, patch_size=32)
    assert Run(config, None, (), 0, CUDA)._mixed is mixed


def test_a_cpu_computes_in_float32_whatever_a_gpu_can(monkeypatch):
    pretend(monkeypatch, (9, 0))
    assert not has_bfloat16(CPU)
