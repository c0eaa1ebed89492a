"""How many voxels a working pixel covers, known without loading torch."""

from __future__ import annotations

from biosegment.errors import InvalidArgument


def working_factor(working_resolution_nm: float, in_plane_nm: float) -> int:
    """Level-0 voxels per working pixel in y and x: the nearest whole number, at least 1."""
    if not (working_resolution_nm > 0 and in_plane_nm > 0):
        raise InvalidArgument(
            "BAD_RESOLUTION",
            f"working resolution {working_resolution_nm} nm and voxel {in_plane_nm} nm must be positive",
        )
    return max(1, round(working_resolution_nm / in_plane_nm))
