"""Looks inside of a network while it runs: what measures need besides the logits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from biosegment_trainer.learning.measures import EMBEDDING_SIZE
from biosegment_trainer.learning.network import NetworkConfig


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a network is asked for besides its logits.

    Attributes:
        reach: Norm of what the last convolution sees at each pixel, float32 (N, 1, spatial).
        embedding: Features of the coarsest level, brought to `EMBEDDING_SIZE` values: (N, EMBEDDING_SIZE,
            spatial / stride).
    """

    reach: bool = False
    embedding: bool = False


class Probe(nn.Module):
    """A network that answers with a tuple: logits, then what else is `wanted`, in the order of its fields.

    Which layer is the last convolution, and which the coarsest, is found by running the network once.

    Args:
        network: In evaluation mode, on the CPU or a GPU; norms are folded before, not after.
        config: Of the network.
        wanted: What to tell.
    """

    def __init__(self, network: nn.Module, config: NetworkConfig, wanted: Wanted) -> None:
        super().__init__()
        self.network = network
        self._wanted = wanted
        self._seen: dict[str, Any] = {}
        # Exporters put a module back into the mode that they found it in, and all below with it.
        self.eval()
        if not (wanted.reach or wanted.embedding):
            return
        last, coarsest = _find_layers(network, config)
        if wanted.reach:
            last.register_forward_hook(lambda _, inputs, __: self._seen.update(last=inputs[0]))
            self.last = [last]  # in a list, so that it is not a child twice
        if wanted.embedding:
            coarsest.register_forward_hook(lambda _, __, output: self._seen.update(coarsest=output))
            width = self._width(coarsest, config)
            device = next(network.parameters()).device
            self.register_buffer("projection", _projection(width).to(device))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = [self.network(images)]
        if self._wanted.reach:
            found.append(_patch_norm(self._seen["last"], self.last[0]))
        if self._wanted.embedding:
            found.append(torch.einsum("dc,nc...->nd...", self.projection, self._seen["coarsest"].float()))
        self._seen.clear()
        return tuple(found)

    def _width(self, coarsest: nn.Module, config: NetworkConfig) -> int:
        with torch.inference_mode():
            self.network(example_of(config, next(self.network.parameters()).device))
        return int(self._seen.pop("coarsest").shape[1])


def example_of(config: NetworkConfig, device: torch.device) -> Tensor:
    """A small input, float32 noise of two coarsest voxels an edge: instance norm refuses one."""
    edges = [2 * edge for edge in config.stride[-config.spatial_dims :]]
    noise = torch.randn(1, config.input_slices, *edges, generator=torch.Generator().manual_seed(0))
    return noise.to(device)


def _find_layers(network: nn.Module, config: NetworkConfig) -> tuple[_ConvNd, nn.Module]:
    """The convolution that runs last, and the last module to answer on the coarsest level."""
    example = example_of(config, next(network.parameters()).device)
    convolutions: list[_ConvNd] = []
    coarsest: list[nn.Module] = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(module, _ConvNd):
            convolutions.append(module)
        if isinstance(output, Tensor) and output.ndim == example.ndim and set(output.shape[2:]) == {2}:
            coarsest.append(module)

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.inference_mode():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return convolutions[-1], coarsest[-1]


def _patch_norm(seen: Tensor, layer: _ConvNd) -> Tensor:
    """Norm of all that a convolution looks at for each of its outputs: (N, C, in) -> (N, 1, out).

    With one channel of squares and a kernel of ones, the convolution itself adds up the right voxels.
    """
    energy = seen.float().square().sum(1, keepdim=True)
    ones = torch.ones(1, 1, *layer.kernel_size, device=seen.device)
    if isinstance(layer, _ConvTransposeNd):
        transposed = F.conv_transpose2d if len(layer.kernel_size) == 2 else F.conv_transpose3d
        total = transposed(energy, ones, None, layer.stride, layer.padding, layer.output_padding)  # type: ignore[arg-type]
    else:
        plain = F.conv2d if len(layer.kernel_size) == 2 else F.conv3d
        total = plain(energy, ones, None, layer.stride, layer.padding, layer.dilation)
    return total.clamp(min=0).sqrt()


def _projection(width: int) -> Tensor:
    """float32 (EMBEDDING_SIZE, width): a random projection that keeps distances (Johnson and Lindenstrauss 1984),
    the same on every machine; features that are not more than that many stay as they are, followed by zeros.
    """
    if width <= EMBEDDING_SIZE:
        return torch.eye(EMBEDDING_SIZE, width)
    values = np.random.default_rng(20_26).standard_normal((EMBEDDING_SIZE, width))
    return torch.from_numpy((values / np.sqrt(EMBEDDING_SIZE)).astype(np.float32))


def fold_norms(network: nn.Module) -> nn.Module:
    """Put batch norms that follow a convolution into its weights, in place; the answers are the same.

    Only where both lie next to each other in plain `nn.Sequential`s, whose order of execution is known.
    """
    for module in list(network.modules()):
        steps = list(_steps(module))
        for (owner, name, first), (next_owner, next_name, second) in pairwise(steps):
            if (
                isinstance(first, _ConvNd)
                and isinstance(second, _BatchNorm)
                and second.running_var is not None
            ):
                folded = fuse_conv_bn_eval(first, second, isinstance(first, _ConvTransposeNd))
                setattr(owner, name, folded)
                setattr(next_owner, next_name, nn.Identity())
    return network


def _steps(module: nn.Module) -> Any:
    """Owner, name and leaf of all that nested plain sequences run, in order."""
    if type(module).forward is not nn.Sequential.forward:
        return
    for name, child in module.named_children():
        if type(child).forward is nn.Sequential.forward:
            yield from _steps(child)
        else:
            yield module, name, child
