"""From voxel size to network and patches: what fits the tissue's resolution.

The rule, with voxels of (z, y, x) nm:

1. In plane, voxels are averaged by a whole factor to the working resolution, 10 nm where nobody says otherwise:
   finer costs four times as much and was no better in trials. z is never averaged.
2. `auto` looks at z / working pixel: up to 2 the network is 3D, up to 4 it is 2D and sees neighbouring slices
   (2.5D), beyond it is 2D, for then the next slice shows other tissue.
3. A 2.5D network sees about 40 nm on each side of its slice: 1 to 3 neighbours.
4. A 3D network halves in plane at every level, and in z only at levels where z is no coarser than 1.5 pixels of that
   level; where the family has kernels for each level, they are flat where z is coarser than 2.
5. A 3D patch has 64 pixels in plane, and in z as many slices as make it a cube of tissue, 8 to 32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from biosegment.errors import InvalidArgument
from biosegment_trainer.learning.architecture import NetworkConfig
from biosegment_trainer.learning.factor import working_factor

KINDS = ("2d", "2.5d", "3d", "auto")
_NEAR_ISOTROPIC = 2.0
_RELATED = 4.0
_NEIGHBOURHOOD_NM = 40.0
_LEVELS = 3
"""Halvings of a 3D network: it sees a cube of about 64 voxels, and a level more would mostly see padding."""

_PATCH_2D, _BATCH_2D = 96, 8
_PATCH_3D, _BATCH_3D = 64, 2
_DEPTHS = (8, 32)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to train at which resolution.

    Attributes:
        kind: `2d`, `2.5d` or `3d`.
        network: The network.
        patch_size: Edge of a patch in working pixels.
        patch_depth: Its slices, 1 for 2D networks.
        batch_size: Patches a step.
    """

    kind: str
    network: NetworkConfig
    patch_size: int
    patch_depth: int
    batch_size: int


def plan(
    voxel_size_nm: tuple[float, float, float],
    working_resolution_nm: float,
    kind: str = "2d",
    family: str = "UNet",
    slices: int = 0,
    arguments: Mapping[str, Any] | None = None,
) -> Plan:
    """Choose by the rule above.

    Args:
        voxel_size_nm: (z, y, x).
        working_resolution_nm: Wanted size of a pixel in plane.
        kind: One of `KINDS`.
        family: As in `NetworkConfig`.
        slices: Slices that a 2.5D network sees, odd; 0 for as many as fit.
        arguments: Of the family's constructor, instead of ours. `channels` alone say how many levels there are.

    Raises:
        InvalidArgument: BAD_PLAN, BAD_RESOLUTION, BAD_NETWORK.
    """
    z_nm = voxel_size_nm[0]
    if kind not in KINDS or not z_nm > 0 or slices < 0:
        raise InvalidArgument(
            "BAD_PLAN",
            f"network kind {kind!r} must be one of {list(KINDS)}, z {z_nm} nm positive, slices {slices} not negative",
        )
    ratio = _ratio(voxel_size_nm, working_resolution_nm)
    if kind == "auto":
        kind = "3d" if ratio <= _NEAR_ISOTROPIC else "2.5d" if ratio <= _RELATED else "2d"
    given = dict(arguments or {})
    levels = len(given["channels"]) - 1 if "channels" in given else 0
    if levels and family == "DynUNet":
        given["filters"] = given.pop("channels")
    if kind == "3d":
        ours = _volume_arguments(family, ratio, levels or _LEVELS)
        return _with_patches(NetworkConfig(family, 3, 1, ours | given), ratio)
    if levels:
        given = _plane_arguments(family, levels) | given
    count = 1 if kind == "2d" else slices or 1 + 2 * min(3, max(1, round(_NEIGHBOURHOOD_NM / z_nm)))
    return _with_patches(NetworkConfig(family, 2, count, given), ratio)


def plan_for(
    network: NetworkConfig, voxel_size_nm: tuple[float, float, float], working_resolution_nm: float
) -> Plan:
    """The plan for a network that is given, as a parent's is."""
    return _with_patches(network, _ratio(voxel_size_nm, working_resolution_nm))


def _ratio(voxel_size_nm: tuple[float, float, float], working_resolution_nm: float) -> float:
    z_nm, y_nm, _ = voxel_size_nm
    return z_nm / (y_nm * working_factor(working_resolution_nm, y_nm))


def _with_patches(network: NetworkConfig, ratio: float) -> Plan:
    kind = kind_of(network)
    deep, wide = network.stride[0], network.stride[1]
    if kind != "3d":
        return Plan(kind, network, _multiple(_PATCH_2D, wide), 1, _BATCH_2D)
    depth = min(max(_PATCH_3D / ratio, _DEPTHS[0]), _DEPTHS[1])
    return Plan(kind, network, _multiple(_PATCH_3D, wide), _multiple(depth, deep), _BATCH_3D)


def _multiple(wanted: float, stride: int) -> int:
    return max(1, round(wanted / stride)) * stride


def kind_of(network: NetworkConfig) -> str:
    """`2d`, `2.5d` or `3d`."""
    if network.spatial_dims == 3:
        return "3d"
    return "2d" if network.input_slices == 1 else "2.5d"


def _plane_arguments(family: str, levels: int) -> dict[str, Any]:
    strides = [2] * levels
    if family == "DynUNet":
        return {
            "strides": [1, *strides],
            "upsample_kernel_size": strides,
            "kernel_size": [3] * (levels + 1),
        }
    return {"strides": strides}


def _volume_arguments(family: str, ratio: float, levels: int) -> dict[str, Any]:
    """Constructor arguments of a 3D network for voxels that are `ratio` times as deep as wide."""
    strides: list[list[int]] = []
    kernels = [_kernel(ratio)]
    for _ in range(levels):
        deep = 2 if ratio <= 1.5 else 1
        strides.append([deep, 2, 2])
        ratio *= deep / 2
        kernels.append(_kernel(ratio))
    channels = [16 * 2**level for level in range(levels + 1)]
    if family == "UNet":
        return {"channels": channels, "strides": strides}
    if family == "DynUNet":
        return {
            "strides": [1, *strides],
            "upsample_kernel_size": strides,
            "kernel_size": kernels,
            "filters": channels,
        }
    return {}


def _kernel(ratio: float) -> list[int]:
    return [1 if ratio > _NEAR_ISOTROPIC else 3, 3, 3]
