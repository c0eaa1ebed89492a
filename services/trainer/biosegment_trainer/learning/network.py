"""The networks that BioSegment trains: what may be built, how it is written down, how a child takes over a
parent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment.volume import BACKGROUND, FIRST_CLASS
from biosegment_trainer.learning.channel import with_input_channels, with_output_channels
from biosegment_trainer.learning.family import FAMILIES, TARGETS, Family

Weights = dict[str, Tensor]

_NEW_CLASS_BIAS = -2.0
"""Where a class that the parent did not know starts: unlikely, so that the parent's answer stands until
taught.
"""
_MAX_WEIGHTS = 300_000_000
"""Largest foreign network; a definition is a few bytes, and could ask for terabytes."""
_MAX_SLICES = 15
_HALO_FLOOR = {2: 48, 3: 16}
"""Working voxels that the halo may always have, by number of axes. With 48 a trained default network differs
by 0.0002 on average from one that sees everything, with 32 by 0.0016.
"""


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One class that a network tells apart.

    Attributes:
        value: Its value in label blocks, 2..255; 0 for a class of a foreign model that the project lacks,
            which never occurs in labels and counts as background where it wins.
        name: What it means; a child's classes are matched with its parent's by name.
    """

    value: int
    name: str

    def __post_init__(self) -> None:
        if self.value != 0 and not FIRST_CLASS <= self.value <= 255:
            raise InvalidArgument(
                "BAD_CLASS_VALUE",
                f"class {self.name!r} has value {self.value}; use 2..255, or 0 for one that the project lacks",
            )


def require_classes(classes: Sequence[LabelClass]) -> tuple[LabelClass, ...]:
    """The classes as a tuple; raises InvalidArgument NO_CLASSES or DUPLICATE_CLASS."""
    found = tuple(classes)
    if not found:
        raise InvalidArgument(
            "NO_CLASSES", "a network needs at least one class besides the background; name one"
        )
    values = [c.value for c in found if c.value]
    if len(set(values)) < len(values) or len({c.name for c in found}) < len(found):
        raise InvalidArgument("DUPLICATE_CLASS", f"names and values of classes must differ, got {found}")
    return found


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A network of one of the allowed families of MONAI.

    The default is a 2D residual U-Net with 1.6 M weights. Our norm is batch norm: at inference that is a
    fixed scale and shift, so a voxel's answer depends on its surroundings alone and not on where a block was
    cut, which instance and group norm cannot promise (their statistics are those of the window, and seams
    appear; see `has_window_norm`).

    Attributes:
        family: A name in `FAMILIES`.
        spatial_dims: 2 or 3.
        input_slices: Input channels: a 2D network may see an odd number of neighbouring slices and answers
            for the centre one; 1 for a 3D network.
        arguments: The constructor's, except spatial_dims, in_channels and out_channels; plain JSON. What is
            left out takes our defaults.

    Raises:
        InvalidArgument: BAD_NETWORK.
    """

    family: str = "UNet"
    spatial_dims: int = 2
    input_slices: int = 1
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.family not in FAMILIES or self.spatial_dims not in (2, 3):
            raise InvalidArgument(
                "BAD_NETWORK",
                f"{self.family!r} with {self.spatial_dims} axes is not one of {sorted(FAMILIES)} with 2 or 3",
            )
        most = _MAX_SLICES if self.spatial_dims == 2 else 1
        if not 1 <= self.input_slices <= most or self.input_slices % 2 == 0:
            raise InvalidArgument(
                "BAD_NETWORK", f"input_slices {self.input_slices} must be odd and within 1..{most}"
            )
        try:
            complete = self._family.complete(self.arguments, self.spatial_dims, foreign=False)
        except ValueError as error:
            raise InvalidArgument("BAD_NETWORK", str(error)) from error
        object.__setattr__(self, "arguments", complete)

    @classmethod
    def unet(
        cls, channels: Sequence[int], strides: Sequence[int], num_res_units: int = 2, **arguments: Any
    ) -> NetworkConfig:
        """A 2D residual U-Net: feature channels of the levels, finest first, and strides between them."""
        return cls(
            arguments={"channels": channels, "strides": strides, "num_res_units": num_res_units, **arguments}
        )

    def with_arguments(self, **changes: Any) -> NetworkConfig:
        """The same network with some arguments changed."""
        return replace(self, arguments={**self.arguments, **changes})

    @property
    def _family(self) -> Family:
        return FAMILIES[self.family]

    @property
    def label(self) -> str:
        """What it is in one word, like `unet2d`, `unet2.5d` or `swinunetr3d`."""
        return f"{self.family.lower()}{'2.5' if self.input_slices > 1 else self.spatial_dims}d"

    @property
    def stride(self) -> tuple[int, int, int]:
        """Working voxels (z, y, x) per voxel of the coarsest level: windows are multiples of it; z is 1 for
        2D.
        """
        product = [1] * self.spatial_dims
        for level in self._family.strides(self.arguments, self.spatial_dims):
            product = [total * one for total, one in zip(product, level, strict=True)]
        return _zyx(product, 1)

    @property
    def receptive_radius(self) -> tuple[int, int, int]:
        """Bound on how many working voxels (z, y, x) away an input can change an output; with such a halo
        tiling is exact. z is 0 for 2D.
        """
        return _zyx(self._family.radius(self.arguments, self.spatial_dims), 0)

    @property
    def halo(self) -> tuple[int, int, int]:
        """Working voxels (z, y, x) that a tile should see on each side, multiples of `stride`: as far as
        inputs matter in a trained network, which is much nearer than they can. For 2D, z is the number of
        neighbouring slices on each side.
        """
        floor, strides = _HALO_FLOOR[self.spatial_dims], self._family.halo_strides(self.spatial_dims)
        found = [
            -(-min(radius, max(floor, strides * stride)) // stride) * stride
            for radius, stride in zip(self.receptive_radius, self.stride, strict=True)
        ]
        return _zyx(found[-self.spatial_dims :], self.input_slices // 2)

    @property
    def has_window_norm(self) -> bool:
        """Whether the answer depends on the window because norms measure it, as in foreign networks with
        instance or group norm: predicted blocks may then show seams.
        """
        return self._family.has_window_norm(self.arguments)

    def network_def(self, class_count: int) -> dict[str, Any]:
        """The MONAI bundle's `network_def` for `class_count` classes and the background."""
        return {
            "_target_": self.family,
            "spatial_dims": self.spatial_dims,
            "in_channels": self.input_slices,
            "out_channels": 1 + class_count,
            **self.arguments,
        }

    @classmethod
    def from_network_def(cls, definition: Mapping[str, Any]) -> tuple[NetworkConfig, int]:
        """Read a bundle's `network_def`: the configuration and the number of classes besides the background.

        Nothing is constructed but the allowed families, whose arguments are checked; what is left out takes
        MONAI's defaults.

        Raises:
            InvalidArgument: NETWORK_NOT_ALLOWED for another network, or for one with settings that we do not
                know or that are out of bounds.
        """
        target = definition.get("_target_")
        family = TARGETS.get(target) if isinstance(target, str) else None
        if family is None:
            raise InvalidArgument(
                "NETWORK_NOT_ALLOWED",
                f"network_def {str(target)[:80]!r} is not allowed; allowed: {sorted(FAMILIES)}",
            )
        rest = {key: value for key, value in definition.items() if key not in _SHAPE}
        try:
            return cls._parse(family, definition, rest)
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError, InvalidArgument) as error:
            text = error.message if isinstance(error, InvalidArgument) else f"{error}"
            raise InvalidArgument("NETWORK_NOT_ALLOWED", f"network_def cannot be read: {text}") from error

    @classmethod
    def _parse(
        cls, family: Family, definition: Mapping[str, Any], rest: Mapping[str, Any]
    ) -> tuple[NetworkConfig, int]:
        if rest.get("_disabled_", False) is not False:
            raise ValueError("it is disabled")
        dims = definition.get("spatial_dims", definition.get("dimensions", 3 if family.name != "UNet" else 0))
        sizes = [dims, definition["in_channels"], definition["out_channels"]]
        if any(type(size) is not int for size in sizes) or dims not in (2, 3):
            raise ValueError(
                "it needs spatial_dims 2 or 3, and in_channels and out_channels as whole numbers"
            )
        if not 1 <= sizes[2] < 256:
            raise ValueError(f"out_channels {sizes[2]} are not within 1..255")
        arguments = family.complete(rest, dims, foreign=True)
        config = cls(family.name, dims, sizes[1], arguments)
        config.require_size(sizes[2])
        return config, sizes[2] - 1

    def require_size(self, out_channels: int) -> None:
        """Raise ValueError when the network would be too large, without making it."""
        # Swin's constructor reads numbers from tensors; what its arguments may be bounds it.
        if self.family != "SwinUNETR":
            with torch.device("meta"):
                count = sum(p.numel() for p in self.build(out_channels - 1).parameters())
            if count > _MAX_WEIGHTS:
                raise ValueError(f"it has {count} weights; at most {_MAX_WEIGHTS} are allowed")

    def build(self, class_count: int) -> nn.Module:
        """A network with fresh weights (from torch's global generator).

        2D: (N, input_slices, y, x) -> logits (N, 1 + classes, y, x); 3D: (N, 1, z, y, x) -> logits (N, 1 +
        classes, z, y, x).

        Raises:
            InvalidArgument: BAD_NETWORK when the constructor refuses.
        """
        arguments = {k: v for k, v in self.network_def(class_count).items() if k != "_target_"}
        try:
            return self._family.constructor(**arguments)
        except (ValueError, RuntimeError, TypeError, AssertionError) as error:
            raise InvalidArgument("BAD_NETWORK", f"{self.family} cannot be built: {error}") from error


_SHAPE = frozenset({"_target_", "spatial_dims", "dimensions", "in_channels", "out_channels"})


def _zyx(values: Sequence[int], z: int) -> tuple[int, int, int]:
    first, y, x = values if len(values) == 3 else (z, *values)
    return first, y, x


@dataclass(frozen=True, slots=True)
class NetworkModel:
    """A network with weights and the meaning of its channels: channel 0 is background, channel i + 1 is
    `classes[i]`. A pretrained model has no classes: its one channel reconstructs, and it can only be a
    parent.
    """

    network: NetworkConfig
    classes: tuple[LabelClass, ...]
    weights: Weights

    @property
    def label_values(self) -> tuple[int, ...]:
        """What each channel writes into labels where it wins; classes that the project lacks write
        background.
        """
        return (BACKGROUND, *(c.value or BACKGROUND for c in self.classes))

    def require_usable(self) -> None:
        """Raise FailedPrecondition NO_USABLE_CLASS when there is nothing that it could predict."""
        if not any(c.value for c in self.classes):
            names = [c.name for c in self.classes]
            raise FailedPrecondition(
                "NO_USABLE_CLASS",
                f"the model knows {names}, none of the project's classes; fine-tune it first",
            )

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
    """The parent's weights, its head rearranged for `classes` and its input for the child's slices.

    Classes that both know keep their rows, so that before any training the logits of a child that knows all
    of the parent's classes equal the parent's (nothing flows from a new class's channel into theirs); a new
    class keeps the `fresh` initialisation of its own rows. A head that means something else altogether,
    reconstruction instead of classes or the other way round, stays fresh. Slices that the parent did not see
    start without influence.

    Args:
        parent: Where to start.
        classes: The child's classes, in channel order; empty for pretraining.
        fresh: State of a newly built network with the parent's configuration, or another number of
            `input_slices`, and the child's number of classes.

    Raises:
        InvalidArgument: BAD_WEIGHTS when the parent's tensors do not fit its configuration.
    """
    source = _sources(parent, classes)
    if set(fresh) != set(parent.weights):
        odd = sorted(set(fresh) ^ set(parent.weights))[:3]
        raise InvalidArgument(
            "BAD_WEIGHTS", f"the parent's weights do not fit its network, for example {odd}"
        )
    family, child = FAMILIES[parent.network.family], Weights()
    for name, tensor in fresh.items():
        axes = family.class_axes(name, tensor.ndim)
        old = parent.weights[name].to(tensor.dtype)
        if family.inputs.fullmatch(name) and old.ndim > 1:
            old = with_input_channels(old, tensor.shape[1])
        if axes is not None and source is None:
            old = tensor
        elif axes and source is not None:
            # Without a known class there is no answer that should stand, and the start would only be slower.
            bias = _NEW_CLASS_BIAS if family.is_final_bias(name) and max(source) > 0 else None
            old = with_output_channels(old, tensor, axes, source, bias)
        if old.shape != tensor.shape:
            raise InvalidArgument("BAD_WEIGHTS", f"{name} is {tuple(old.shape)}, not {tuple(tensor.shape)}")
        child[name] = old.clone()
    return child


def head_changes(parent: NetworkModel, classes: Sequence[LabelClass]) -> str:
    """What `inherited_weights` does to the head, for the log; empty when it is taken over as it is."""
    source = _sources(parent, classes)
    if source is None:
        return "the head is new, since the parent's means something else"
    if source == list(range(len(parent.classes) + 1)):
        return ""
    names = [c.name.casefold() for c in parent.classes]
    known = [c.name for c in classes if c.name.casefold() in names]
    new = [c.name for c in classes if c.name.casefold() not in names]
    wanted = {c.name.casefold() for c in classes}
    lost = [c.name for c in parent.classes if c.name.casefold() not in wanted]
    return f"the head was replaced: classes {known} kept, {new} new, {lost} left out"


def _sources(parent: NetworkModel, classes: Sequence[LabelClass]) -> list[int] | None:
    """For each of the child's channels the parent's, -1 for none; None when the heads cannot be compared."""
    if bool(parent.classes) != bool(classes):
        return None
    names = [c.name.casefold() for c in parent.classes]
    wanted = [c.name.casefold() for c in classes]
    return [0] + [names.index(name) + 1 if name in names else -1 for name in wanted]
