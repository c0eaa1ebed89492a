"""The families of networks that may be built: what their arguments may be, how far they see, where their
head is. MONAI is loaded when one is built, so that arguments can be checked without.
"""

from __future__ import annotations

import importlib
import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from biosegment_trainer.learning.argument import (
    Check,
    exactly,
    flag,
    layer,
    on_axes,
    optional,
    per_axis,
    real,
    several,
    whole,
    word,
)

if TYPE_CHECKING:
    from torch import nn

Arguments = Mapping[str, Any]
Axes = tuple[int, ...]

_NORM: Final = layer(
    {
        "batch": {"eps": real(0, 1), "momentum": real(0, 1), "affine": flag},
        "instance": {"eps": real(0, 1), "affine": flag, "track_running_stats": flag},
        "group": {"num_groups": whole(1, 256), "eps": real(0, 1), "affine": flag},
    }
)
_INPLACE: Final = {"inplace": flag}
_ACTIVATION: Final = layer(
    {
        "prelu": {"init": real(-1, 1)},
        "relu": _INPLACE,
        "leakyrelu": {"negative_slope": real(0, 1), **_INPLACE},
        "elu": {"alpha": real(0, 10), **_INPLACE},
        "gelu": {},
        "swish": {},
        "mish": _INPLACE,
    }
)
_PROBABILITY: Final = real(0, 0.95)
_CHANNELS: Final = whole(1, 2048)
_STRIDE: Final = per_axis(whole(1, 4))
_MAX_LEVELS: Final = 8


def _odd(value: Any, dims: int) -> int:
    size: int = whole(1, 7)(value, dims)
    if size % 2 == 0:
        raise ValueError(f"kernels must be odd to keep the image's size, got {size}")
    return size


def _reordered(value: int | list[int], order: Axes) -> int | list[int]:
    return [value[axis] for axis in order] if isinstance(value, list) else value


class Family(ABC):
    """One constructor of `monai.networks.nets`.

    Attributes:
        name: Of the constructor.
        module: Below `monai.networks.nets`, where it is defined.
        checks: What each argument may be; nothing else is ever passed on.
        ours: Defaults of networks that we make; those of foreign ones are the constructor's.
        ignored: Arguments of foreign networks that leave no trace in what is predicted.
        norm: Name of the argument that chooses the norm.
        inputs: Pattern of the weights whose axis 1 runs over the input's channels.
        absent: Pattern of weights in foreign bundles that we do not build.
        axis_arguments: Arguments that `per_axis` checks.
        level_arguments: Arguments that are lists of such, one for each level.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    checks: ClassVar[Mapping[str, Check]]
    ours: ClassVar[Arguments]
    ignored: ClassVar[Mapping[str, Check]] = {}
    norm: ClassVar[str] = "norm"
    inputs: ClassVar[re.Pattern[str]]
    absent: ClassVar[re.Pattern[str]] = re.compile(r"(?!)")
    axis_arguments: ClassVar[tuple[str, ...]] = ()
    level_arguments: ClassVar[tuple[str, ...]] = ()

    @property
    def constructor(self) -> Callable[..., nn.Module]:
        """Takes `checks`' names beside spatial_dims, in_channels and out_channels."""
        found: Callable[..., nn.Module] = getattr(
            importlib.import_module(f"monai.networks.nets.{self.module}"), self.name
        )
        return found

    def complete(self, given: Arguments, dims: int, *, foreign: bool) -> dict[str, Any]:
        """All arguments in canonical form; ValueError for one that is unknown or out of bounds."""
        unknown = sorted(set(given) - set(self.checks) - set(self.ignored if foreign else ()))
        if unknown:
            raise ValueError(f"{self.name} takes {sorted(self.checks)}, not {unknown}")
        defaults = self.ours
        if foreign:
            defaults = self._constructor_defaults() if set(self.checks) - set(given) else {}
        values = {}
        for key, check in self.checks.items():
            if key not in given and key not in defaults:
                raise ValueError(f"{self.name} needs {key}")
            try:
                values[key] = check(given.get(key, defaults.get(key)), dims)
            except (TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"{key}: {error}") from error
        for key in set(given) & set(self.ignored):
            self.ignored[key](given[key], dims)
        self.require_consistent(values, dims)
        return values

    def _constructor_defaults(self) -> dict[str, Any]:
        parameters = inspect.signature(self.constructor).parameters
        return {k: p.default for k, p in parameters.items() if p.default is not inspect.Parameter.empty}

    def has_window_norm(self, arguments: Arguments) -> bool:
        """Whether a norm takes its statistics from the window that the network sees."""
        value, name = arguments[self.norm], self.norm_name(arguments)
        given = value[1] if isinstance(value, list) else {}
        return name == "group" or (name == "instance" and not given.get("track_running_stats"))

    def norm_name(self, arguments: Arguments) -> str:
        """`batch`, `instance` or `group`."""
        value = arguments[self.norm]
        return str(value[0] if isinstance(value, list) else value)

    def can_turn(self, arguments: Arguments) -> bool:
        """Whether a network of `turned` arguments whose kernels' axes are reordered likewise gives the same answer to
        an image with reordered axes.
        """
        return True

    def turned(self, arguments: Arguments, order: Axes) -> dict[str, Any]:
        """Complete arguments for images whose axis i was axis `order[i]` before."""
        found = dict(arguments)
        for name in self.axis_arguments:
            found[name] = _reordered(arguments[name], order)
        for name in self.level_arguments:
            found[name] = [_reordered(level, order) for level in arguments[name]]
        return found

    def is_anisotropic(self, arguments: Arguments) -> bool:
        """Whether axes are treated differently."""
        levels = [level for name in self.level_arguments for level in arguments[name]]
        return any(isinstance(each, list) for each in [*levels, *map(arguments.get, self.axis_arguments)])

    def halo_strides(self, dims: int) -> int:
        """Coarsest pixels on each side that a tile should see, if the network sees that far."""
        return 3

    @abstractmethod
    def require_consistent(self, a: Arguments, dims: int) -> None:
        """Raise ValueError when arguments do not fit each other."""

    @abstractmethod
    def strides(self, a: Arguments, dims: int) -> list[Axes]:
        """Downsampling between the levels along each axis, finest first."""

    @abstractmethod
    def radius(self, a: Arguments, dims: int) -> Axes:
        """Bound on how many voxels away an input can change an output, along each axis."""

    @abstractmethod
    def class_axes(self, name: str, ndim: int) -> Axes | None:
        """Axes of a weight that run over the output channels; () for one of the head that has none, None for
        one that is not of the head.
        """

    def is_final_bias(self, name: str) -> bool:
        """Whether a weight is added to the logits."""
        return self.class_axes(name, 1) is not None and name.endswith("conv.bias")


class _UNet(Family):
    """MONAI's residual U-Net; its head, all of `model.2`, is as wide as there are output channels."""

    name = "UNet"
    module = "unet"
    checks: ClassVar = {
        "channels": several(_CHANNELS, 2, _MAX_LEVELS),
        "strides": several(_STRIDE, 1, _MAX_LEVELS - 1),
        "num_res_units": whole(0, 8),
        "norm": _NORM,
        "dropout": _PROBABILITY,
        "kernel_size": per_axis(_odd),
        "up_kernel_size": per_axis(_odd),
        "act": _ACTIVATION,
        "bias": flag,
        "adn_ordering": word("NDA", "NAD", "DNA", "DAN", "ADN", "AND", "NA", "AN"),
    }
    ours: ClassVar = {
        "channels": (16, 32, 64, 128, 256),
        "strides": (2, 2, 2, 2),
        "num_res_units": 2,
        "norm": "batch",
        "dropout": 0.0,
        "kernel_size": 3,
        "up_kernel_size": 3,
        "act": "prelu",
        "bias": True,
        "adn_ordering": "NDA",
    }
    axis_arguments: ClassVar = ("kernel_size", "up_kernel_size")
    level_arguments: ClassVar = ("strides",)
    inputs = re.compile(r"model\.0\.(conv\.unit0\.conv|residual|conv)\.weight")

    def require_consistent(self, a: Arguments, dims: int) -> None:
        if len(a["strides"]) != len(a["channels"]) - 1:
            raise ValueError(
                f"channels {a['channels']} need one stride fewer than levels, got {a['strides']}"
            )

    def strides(self, a: Arguments, dims: int) -> list[Axes]:
        return [on_axes(stride, dims) for stride in a["strides"]]

    def radius(self, a: Arguments, dims: int) -> Axes:
        kernels = zip(on_axes(a["kernel_size"], dims), on_axes(a["up_kernel_size"], dims), strict=True)
        found = []
        for axis, (down, up) in enumerate(kernels):
            reach, scale = 0, 1
            for stride in [level[axis] for level in self.strides(a, dims)] + [1]:
                # The down path's unit, then the transposed convolution and the unit of the up path.
                reach += scale * max(a["num_res_units"], 1) * (down // 2)
                reach += scale * stride * 3 * max(down // 2, up // 2)
                scale *= stride
            found.append(reach)
        return tuple(found)

    def class_axes(self, name: str, ndim: int) -> Axes | None:
        if not name.startswith("model.2."):
            return None
        if name in ("model.2.0.conv.weight", "model.2.conv.weight"):  # transposed: (in, out, kernel)
            return (1,)
        if ndim >= 4:
            return (0, 1)
        return (0,) if ndim == 1 and ".A." not in name else ()

    def is_final_bias(self, name: str) -> bool:
        return name in ("model.2.1.conv.unit0.conv.bias", "model.2.conv.bias")


class _SegResNet(Family):
    name = "SegResNet"
    module = "segresnet"
    checks: ClassVar = {
        "init_filters": whole(1, 256),
        "dropout_prob": optional(_PROBABILITY),
        "act": _ACTIVATION,
        "norm": _NORM,
        "use_conv_final": exactly(True),
        "blocks_down": several(whole(1, 8), 2, 6),
        "blocks_up": several(whole(1, 8), 1, 5),
        "upsample_mode": word("nontrainable", "deconv", "pixelshuffle"),
    }
    ours: ClassVar = {
        "init_filters": 16,
        "dropout_prob": None,
        "act": ["relu", {"inplace": True}],
        "norm": "batch",
        "use_conv_final": True,
        "blocks_down": (1, 2, 2, 4),
        "blocks_up": (1, 1, 1),
        "upsample_mode": "nontrainable",
    }
    inputs = re.compile(r"convInit\.conv\.weight")

    def can_turn(self, arguments: Arguments) -> bool:
        """Pixel shuffling takes its channels apart along the axes in their order."""
        return bool(arguments["upsample_mode"] != "pixelshuffle")

    def require_consistent(self, a: Arguments, dims: int) -> None:
        if len(a["blocks_up"]) != len(a["blocks_down"]) - 1:
            raise ValueError(f"blocks_up {a['blocks_up']} must be one fewer than {a['blocks_down']}")

    def strides(self, a: Arguments, dims: int) -> list[Axes]:
        return [(2,) * dims for _ in a["blocks_up"]]

    def radius(self, a: Arguments, dims: int) -> Axes:
        up = [*reversed(a["blocks_up"]), 0]
        # Two convolutions a block, one between levels, and the interpolation from the coarser level.
        reach = sum(2**level * (2 * n + 2 * up[level] + 4) for level, n in enumerate(a["blocks_down"]))
        return (reach,) * dims

    def class_axes(self, name: str, ndim: int) -> Axes | None:
        return (0,) if name.startswith("conv_final.2.") else None


class _DynUNet(Family):
    """nnU-Net's network; a parent's heads for deep supervision are left behind."""

    name = "DynUNet"
    module = "dynunet"
    checks: ClassVar = {
        "kernel_size": several(per_axis(_odd), 3, _MAX_LEVELS),
        "strides": several(_STRIDE, 3, _MAX_LEVELS),
        "upsample_kernel_size": several(_STRIDE, 2, _MAX_LEVELS - 1),
        "filters": optional(several(_CHANNELS, 3, _MAX_LEVELS)),
        "dropout": optional(_PROBABILITY),
        "norm_name": _NORM,
        "act_name": _ACTIVATION,
        "res_block": flag,
        "trans_bias": flag,
    }
    ours: ClassVar = {
        "kernel_size": (3, 3, 3, 3, 3),
        "strides": (1, 2, 2, 2, 2),
        "upsample_kernel_size": (2, 2, 2, 2),
        "filters": (16, 32, 64, 128, 256),
        "dropout": None,
        "norm_name": "batch",
        "act_name": ["leakyrelu", {"inplace": True, "negative_slope": 0.01}],
        "res_block": True,
        "trans_bias": False,
    }
    ignored: ClassVar = {"deep_supervision": flag, "deep_supr_num": whole(1, _MAX_LEVELS)}
    norm = "norm_name"
    level_arguments: ClassVar = ("kernel_size", "strides", "upsample_kernel_size")
    inputs = re.compile(r"(input_block|skip_layers\.downsample)\.conv[13]\.conv\.weight")
    absent = re.compile(r"deep_supervision_heads\..*|skip_layers\..*super_head\..*")

    def require_consistent(self, a: Arguments, dims: int) -> None:
        levels = len(a["strides"])
        if len(a["kernel_size"]) != levels or a["upsample_kernel_size"] != a["strides"][1:]:
            raise ValueError("kernel_size needs one entry a stride; upsample_kernel_size must be strides[1:]")
        if a["strides"][0] != 1:
            raise ValueError(f"the first stride must be 1 to keep the image's size, got {a['strides'][0]}")
        if a["filters"] is not None and len(a["filters"]) < levels:
            raise ValueError(f"filters {a['filters']} need one entry a stride")

    def strides(self, a: Arguments, dims: int) -> list[Axes]:
        return [on_axes(stride, dims) for stride in a["strides"][1:]]

    def radius(self, a: Arguments, dims: int) -> Axes:
        strides, reach, scale = self.strides(a, dims), [0] * dims, [1] * dims
        for level, kernel in enumerate(a["kernel_size"]):
            for axis, size in enumerate(on_axes(kernel, dims)):
                # Two convolutions on the way down, two on the way up, and the transposed one.
                reach[axis] += scale[axis] * (4 * (size // 2) + 2)
                if level < len(strides):
                    scale[axis] *= strides[level][axis]
        return tuple(reach)

    def class_axes(self, name: str, ndim: int) -> Axes | None:
        return (0,) if name.startswith("output_block.") else None


class _SwinUNETR(Family):
    """Attention looks at windows that are counted from the corner of what the network sees: even with batch
    norm an answer depends, a little, on where that lies.
    """

    name = "SwinUNETR"
    module = "swin_unetr"
    checks: ClassVar = {
        "patch_size": exactly(2),
        "depths": several(whole(1, 8), 4, 4),
        "num_heads": several(whole(1, 48), 4, 4),
        "window_size": per_axis(whole(2, 8)),
        "qkv_bias": flag,
        "mlp_ratio": real(0.5, 8),
        "feature_size": whole(12, 96),
        "norm_name": _NORM,
        "drop_rate": _PROBABILITY,
        "attn_drop_rate": _PROBABILITY,
        "dropout_path_rate": _PROBABILITY,
        "normalize": flag,
        "patch_norm": flag,
        "downsample": word("merging", "mergingv2"),
        "use_v2": flag,
    }
    ours: ClassVar = {
        "patch_size": 2,
        "depths": (2, 2, 2, 2),
        "num_heads": (3, 6, 12, 24),
        "window_size": 7,
        "qkv_bias": True,
        "mlp_ratio": 4.0,
        "feature_size": 24,
        "norm_name": "batch",
        "drop_rate": 0.0,
        "attn_drop_rate": 0.0,
        "dropout_path_rate": 0.0,
        "normalize": True,
        "patch_norm": False,
        "downsample": "merging",
        "use_v2": False,
    }
    # Old bundles name the size of their patches, which newer MONAI no longer asks for.
    ignored: ClassVar = {"img_size": per_axis(whole(1, 4096)), "use_checkpoint": flag}
    norm = "norm_name"
    axis_arguments: ClassVar = ("window_size",)
    inputs = re.compile(r"swinViT\.patch_embed\.proj\.weight|encoder1\.layer\.conv[13]\.conv\.weight")

    def can_turn(self, arguments: Arguments) -> bool:
        """It merges patches and knows places in its windows in the order of the axes."""
        return False

    def halo_strides(self, dims: int) -> int:
        return 2 if dims == 2 else 1

    def require_consistent(self, a: Arguments, dims: int) -> None:
        width = a["feature_size"]
        if width % 12 or any(width * 2**i % heads for i, heads in enumerate(a["num_heads"])):
            raise ValueError(f"feature_size {width} must be a multiple of 12 and of {a['num_heads']} heads")

    def strides(self, a: Arguments, dims: int) -> list[Axes]:
        return [(2,) * dims] * 5

    def radius(self, a: Arguments, dims: int) -> Axes:
        window = max(on_axes(a["window_size"], dims))
        return (sum(2 ** (i + 1) * (window * depth + 8) for i, depth in enumerate(a["depths"])) + 192,) * dims

    def class_axes(self, name: str, ndim: int) -> Axes | None:
        return (0,) if name.startswith("out.") else None


FAMILIES: Final[Mapping[str, Family]] = {
    family.name: family for family in (_UNet(), _SegResNet(), _DynUNet(), _SwinUNETR())
}

TARGETS: Final[Mapping[str, Family]] = {
    target: family
    for family in FAMILIES.values()
    for target in (
        family.name,
        f"monai.networks.nets.{family.name}",
        f"monai.networks.nets.{family.module}.{family.name}",
    )
}
"""Allow-list: a bundle from elsewhere is code, so nothing outside of this is ever constructed."""
