"""The networks that BioSegment trains: what may be built, how it is written down, how a child takes over a
parent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from biosegment.errors import InvalidArgument
from biosegment.volume import FIRST_CLASS

Weights = dict[str, Tensor]

_TARGETS = frozenset({"UNet", "monai.networks.nets.UNet"})
"""Allow-list: a bundle from elsewhere is code, so nothing outside this set is ever constructed."""

_NORMS = frozenset({"batch", "instance"})
_NEW_CLASS_BIAS = -2.0
"""Where a class that the parent did not know starts: unlikely, so that the parent's answer stands until
taught.
"""


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One class that a network tells apart.

    Attributes:
        value: Its value in label blocks, 2..255.
        name: What it means; a child's classes are matched with its parent's by name.
    """

    value: int
    name: str

    def __post_init__(self) -> None:
        if not FIRST_CLASS <= self.value <= 255:
            raise InvalidArgument(
                "BAD_CLASS_VALUE", f"class {self.name!r} has value {self.value}; use 2..255"
            )


def require_classes(classes: Sequence[LabelClass]) -> tuple[LabelClass, ...]:
    """The classes as a tuple; raises InvalidArgument NO_CLASSES or DUPLICATE_CLASS."""
    found = tuple(classes)
    if not found:
        raise InvalidArgument(
            "NO_CLASSES", "a network needs at least one class besides the background; name one"
        )
    if len({c.value for c in found}) < len(found) or len({c.name for c in found}) < len(found):
        raise InvalidArgument("DUPLICATE_CLASS", f"names and values of classes must differ, got {found}")
    return found


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A 2D residual U-Net of MONAI.

    The default has 1.6 M weights. Its norm is batch norm: at inference that is a fixed scale and shift, so a
    voxel's answer depends on its surroundings alone and not on where a block was cut, which instance norm
    cannot promise (its statistics are those of the window, and seams appear).

    Attributes:
        channels: Feature channels of the levels, finest first.
        strides: Downsampling between the levels; one fewer than `channels`.
        num_res_units: Convolutions of a residual unit.
        norm: `batch` or `instance`. Group norm does not fit the narrow output layer of MONAI's UNet.
        dropout: Probability of dropping a feature in training, 0..1.
    """

    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    strides: tuple[int, ...] = (2, 2, 2, 2)
    num_res_units: int = 2
    norm: str = "batch"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if len(self.strides) != len(self.channels) - 1 or len(self.channels) < 2:
            raise InvalidArgument(
                "BAD_NETWORK",
                f"channels {self.channels} need one stride fewer than levels, got {self.strides}",
            )
        if self.norm not in _NORMS:
            raise InvalidArgument("BAD_NETWORK", f"norm {self.norm!r} is not one of {sorted(_NORMS)}")
        if min(self.channels) < 1 or max(self.channels) > 1024 or not set(self.strides) <= {1, 2, 4}:
            raise InvalidArgument(
                "BAD_NETWORK", f"channels {self.channels} or strides {self.strides} out of range"
            )
        if not 1 <= self.num_res_units <= 8 or not 0 <= self.dropout < 1:
            raise InvalidArgument(
                "BAD_NETWORK", f"num_res_units {self.num_res_units} or dropout {self.dropout} is odd"
            )

    @property
    def stride(self) -> int:
        """Working pixels per pixel of the coarsest level; windows are multiples of it."""
        product = 1
        for stride in self.strides:
            product *= stride
        return product

    @property
    def receptive_radius(self) -> int:
        """Bound on how many pixels away an input can change an output; with such a halo tiling is exact."""
        radius, scale = 0, 1
        for stride in (*self.strides, 1):
            # The down path's unit, then the transposed convolution and the unit of the up path.
            radius += scale * self.num_res_units + scale * stride * 3
            scale *= stride
        return radius

    def network_def(self, class_count: int) -> dict[str, Any]:
        """The MONAI bundle's `network_def` for `class_count` classes and the background."""
        return {
            "_target_": "UNet",
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 1 + class_count,
            "channels": list(self.channels),
            "strides": list(self.strides),
            "num_res_units": self.num_res_units,
            "norm": self.norm,
            "dropout": self.dropout,
        }

    @classmethod
    def from_network_def(cls, definition: Mapping[str, Any]) -> tuple[NetworkConfig, int]:
        """Read a bundle's `network_def`: the configuration and the number of classes besides the background.

        Raises:
            InvalidArgument: NETWORK_NOT_ALLOWED for another network, or for one with settings that we do not
                know.
        """
        known = {*cls().network_def(1)}
        if definition.get("_target_") not in _TARGETS or not set(definition) <= known:
            raise InvalidArgument(
                "NETWORK_NOT_ALLOWED",
                f"network_def {definition.get('_target_')!r} with keys {sorted(definition)} is not allowed; "
                f"allowed: UNet with keys {sorted(known)}",
            )
        try:
            return cls._parse(definition)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgument("NETWORK_NOT_ALLOWED", f"network_def cannot be read: {error!r}") from error

    @classmethod
    def _parse(cls, definition: Mapping[str, Any]) -> tuple[NetworkConfig, int]:
        if (
            definition["spatial_dims"] != 2
            or definition["in_channels"] != 1
            or not 2 <= definition["out_channels"] < 256
        ):
            raise ValueError("it needs spatial_dims 2, in_channels 1 and 2..255 out_channels")
        config = cls(
            channels=tuple(int(n) for n in definition["channels"]),
            strides=tuple(int(n) for n in definition["strides"]),
            num_res_units=int(definition["num_res_units"]),
            norm=str(definition["norm"]).lower(),
            dropout=float(definition.get("dropout", 0.0)),
        )
        return config, int(definition["out_channels"]) - 1

    def build(self, class_count: int) -> nn.Module:
        """A network with fresh weights (from torch's global generator): (N, 1, y, x) -> logits (N, 1 +
        classes, y, x).
        """
        arguments = {k: v for k, v in self.network_def(class_count).items() if k != "_target_"}
        network: nn.Module = UNet(**arguments)
        return network


@dataclass(frozen=True, slots=True)
class NetworkModel:
    """A network with weights and the meaning of its channels: channel 0 is background, channel i + 1 is
    `classes[i]`.
    """

    network: NetworkConfig
    classes: tuple[LabelClass, ...]
    weights: Weights

    def build(self, device: torch.device | str = "cpu") -> nn.Module:
        """The network in evaluation mode on `device`; raises InvalidArgument BAD_WEIGHTS if the weights do
        not fit.
        """
        module = self.network.build(len(self.classes))
        try:
            module.load_state_dict(self.weights)
        except RuntimeError as error:
            raise InvalidArgument("BAD_WEIGHTS", f"the weights do not fit the network: {error}") from error
        return module.to(device).eval()


def pick_device(name: str | None = None) -> torch.device:
    """`name` if given, else CUDA where there is one, else the CPU."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def inherited_weights(parent: NetworkModel, classes: Sequence[LabelClass], fresh: Weights) -> Weights:
    """The parent's weights, its head rearranged for `classes`.

    Classes that both know keep their rows, so that before any training their logits equal the parent's
    (nothing flows from a new class's channel into theirs); a new class keeps the `fresh` initialisation of
    its own rows.

    Args:
        parent: Where to start.
        classes: The child's classes, in channel order.
        fresh: State of a newly built network with the parent's configuration and the child's number of
            classes.

    Raises:
        InvalidArgument: BAD_WEIGHTS when the parent's tensors do not fit its configuration.
    """
    names = [c.name for c in parent.classes]
    source = [0] + [names.index(c.name) + 1 if c.name in names else -1 for c in classes]
    if set(fresh) != set(parent.weights):
        odd = sorted(set(fresh) ^ set(parent.weights))[:3]
        raise InvalidArgument(
            "BAD_WEIGHTS", f"the parent's weights do not fit its network, for example {odd}"
        )
    child: Weights = {}
    for name, tensor in fresh.items():
        axes = _class_axes(name, tensor)
        old = parent.weights[name].to(tensor.dtype)
        child[name] = _moved(name, old, tensor, axes, source) if axes else old.clone()
        if child[name].shape != tensor.shape:
            raise InvalidArgument("BAD_WEIGHTS", f"{name} is {tuple(old.shape)}, not {tuple(tensor.shape)}")
    return child


def _class_axes(name: str, tensor: Tensor) -> tuple[int, ...]:
    """Axes of a tensor that run over the output channels; MONAI's UNet keeps its head under `model.2`."""
    if not name.startswith("model.2."):
        return ()
    if name == "model.2.0.conv.weight":  # transposed: (in, out, ky, kx)
        return (1,)
    if tensor.ndim == 4:
        return (0, 1)
    return (0,) if tensor.ndim == 1 and tensor.numel() > 1 else ()


def _moved(name: str, old: Tensor, fresh: Tensor, axes: tuple[int, ...], source: Sequence[int]) -> Tensor:
    known = [i for i, s in enumerate(source) if s >= 0]
    new = [i for i, s in enumerate(source) if s < 0]
    result = fresh.clone()
    origin = old.index_select(axes[0], torch.tensor([source[i] for i in known]))
    if axes == (0, 1):
        origin = origin.index_select(1, torch.tensor([source[i] for i in known]))
        for row in known:
            result[row, new] = 0.0
            result[row, known] = origin[known.index(row)]
        return result
    result.index_copy_(axes[0], torch.tensor(known), origin)
    if name.endswith("conv.bias") and not name.startswith("model.2.0.") and new:
        result[new] = _NEW_CLASS_BIAS
    return result
