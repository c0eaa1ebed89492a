"""How many voxels a working pixel covers, known without loading torch."""

from __future__ import annotations

from typing import Final

from biosegment.errors import InvalidArgument

NEAR: Final = 1.25
"""Sizes of pixels that differ by no more than this factor are taken for the same."""


def working_factor(working_resolution_nm: float, in_plane_nm: float) -> int:
    """Level-0 voxels per working pixel in y and x: the nearest whole number, at least 1."""
    if not (working_resolution_nm > 0 and in_plane_nm > 0):
        raise InvalidArgument(
            "BAD_RESOLUTION",
            f"working resolution {working_resolution_nm} nm and voxel {in_plane_nm} nm must be positive",
        )
    return max(1, round(working_resolution_nm / in_plane_nm))


def working_pixel_nm(working_resolution_nm: float, in_plane_nm: float) -> float:
    """Edge of a working pixel as it really is: voxels are averaged by whole numbers, and never divided."""
    return working_factor(working_resolution_nm, in_plane_nm) * in_plane_nm


def times(one: float, other: float) -> float:
    """By which factor two lengths differ, at least 1."""
    return max(one, other) / min(one, other)


def other_size(volume: str, in_plane_nm: float, working_resolution_nm: float, whose: str) -> list[str]:
    """What to say of a volume whose working pixels are not those that are asked for; [] when they are.

    Args:
        volume: Its name.
        in_plane_nm: Edge of its voxels.
        working_resolution_nm: Asked for.
        whose: That is: `the working resolution`, or a model.
    """
    pixel_nm = working_pixel_nm(working_resolution_nm, in_plane_nm)
    factor = times(pixel_nm, working_resolution_nm)
    if factor <= NEAR:
        return []
    looks = "small" if pixel_nm > working_resolution_nm else "large"
    return [
        f"pixels of {volume} are {pixel_nm:.4g} nm, those of {whose} {working_resolution_nm:.4g} nm: objects in it "
        f"look {factor:.2g} times as {looks}"
    ]
