"""Which network is meant, and what follows from that: written down, checked and planned without loading torch, which is
needed to build one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from biosegment.errors import InvalidArgument
from biosegment_trainer.learning.family import FAMILIES, TARGETS, Family

if TYPE_CHECKING:
    from torch import nn

_MAX_WEIGHTS = 300_000_000
"""Largest foreign network; a definition is a few bytes, and could ask for terabytes."""
_MAX_SLICES = 15
_HALO_FLOOR = {2: 48, 3: 16}
"""Working voxels that the halo may always have, by number of axes. With 48 a trained default network differs
by 0.0002 on average from one that sees everything, with 32 by 0.0016.
"""


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

    def patch(self, depth: int, size: int) -> tuple[int, ...]:
        """Shape of a patch to train on, in the network's axes.

        Args:
            depth: Slices, for 3D networks.
            size: Edge in working pixels.

        Raises:
            InvalidArgument: BAD_TRAINING when it does not fit the network's levels.
        """
        shape = (depth, size, size) if self.spatial_dims == 3 else (1, size, size)
        names = ("patch_depth", "patch_size", "patch_size")
        for name, length, stride in zip(names, shape, self.stride, strict=True):
            if length % stride:
                lower = length - length % stride
                near = f"{lower} or {lower + stride}" if lower else f"{stride}"
                raise InvalidArgument(
                    "BAD_TRAINING",
                    f"{name} {length} must be a multiple of {stride}, by which the {self.label} reduces it; "
                    f"take {near}",
                )
        return shape[-self.spatial_dims :]

    def require_batch(self, patch: Sequence[int], count: int) -> None:
        """Raise InvalidArgument BAD_TRAINING when norms have but one value to measure at the coarsest level.

        Args:
            patch: As `patch` returned it.
            count: Patches that are measured together.
        """
        norm = self._family.norm_name(self.arguments)
        coarsest = math.prod(
            length // stride for length, stride in zip(patch, self.stride[-len(patch) :], strict=True)
        )
        measured = {"batch": coarsest * count, "instance": coarsest}.get(norm, 2)
        if measured < 2:
            more = "larger patches" if norm == "instance" else "larger patches or batches"
            raise InvalidArgument(
                "BAD_TRAINING",
                f"of {count} patches of {'x'.join(map(str, patch))} one value is left at the coarsest level of the "
                f"{self.label}, and {norm} norm needs two; take {more}",
            )

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
    def of_bundle(cls, definition: Mapping[str, Any]) -> NetworkConfig | None:
        """The configuration that `network_def` wrote, without loading torch; None for what is not complete, whose
        rest only its constructor knows.

        Raises:
            InvalidArgument: BAD_NETWORK.
        """
        family = FAMILIES.get(str(definition.get("_target_")))
        rest = {key: value for key, value in definition.items() if key not in _SHAPE}
        if family is None or set(family.checks) - set(rest):
            return None
        return cls(family.name, definition["spatial_dims"], definition["in_channels"], rest)

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
            import torch

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
