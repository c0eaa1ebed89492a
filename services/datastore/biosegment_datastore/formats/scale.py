"""Voxel sizes in the metadata of files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from biosegment.volume import VoxelSize

_MICRO = ("µm", "μm", "um", "micron", "microns", "micrometer", "micrometre", "\\u00b5m", "\\u03bcm")

SMALLEST_NM, LARGEST_NM = 0.01, 1e6
"""What a file says is believed within these bounds, a tenth of an atom and a millimetre."""

NANOMETRES = {
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-3),
    **dict.fromkeys(("Å", "å", "\u212b", "a", "angstrom", "ångström", "\\u00c5"), 0.1),
    **dict.fromkeys(("nm", "nanometer", "nanometre", "nanometers"), 1.0),
    **dict.fromkeys(_MICRO, 1e3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e6),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e7),
    **dict.fromkeys(("m", "meter", "metre"), 1e9),
    **dict.fromkeys(("in", "inch"), 2.54e7),
}
"""Length of a unit, as files spell it (lower case), in nanometres."""


def nanometres(value: object, unit: object) -> float | None:
    """A length in nm; None when the unit is unknown ('pixel') or the value is no positive number."""
    factor = NANOMETRES.get(str(unit).strip().lower()) or NANOMETRES.get(str(unit).strip())
    try:
        length = float(str(value)) * (factor or 0.0)
    except ValueError:
        return None
    return length if math.isfinite(length) and length > 0 else None


def voxel_size_of(z_nm: float | None, y_nm: float | None, x_nm: float | None) -> VoxelSize | None:
    """A voxel size when all three edges are known and such as a microscope has.

    Programs leave defaults of other worlds in files (72 per inch, 1 cm, 1 m): asking is better than believing them.
    """
    edges = (z_nm, y_nm, x_nm)
    known = [edge for edge in edges if edge is not None and SMALLEST_NM <= edge <= LARGEST_NM]
    if len(known) < len(edges):
        return None
    # Files keep decimal fractions of other units: 0.0046 µm is meant to be 4.6 nm exactly.
    return VoxelSize(*(float(f"{edge:.9g}") for edge in known))


def ome_voxel_size(xml: str) -> VoxelSize | None:
    """`PhysicalSizeX/Y/Z` of the first image of an OME-XML text; µm when no unit is given."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    pixels = next((element for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return None
    edges = (
        nanometres(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "ZYX"
    )
    return voxel_size_of(*edges)


def imagej_voxel_size(metadata: Mapping[str, Any], y_resolution: Any, x_resolution: Any) -> VoxelSize | None:
    """Spacing and pixels per unit as ImageJ writes them; y and z may have units of their own.

    Args:
        metadata: ImageJ's description.
        y_resolution: The TIFF tag, pixels per unit as (numerator, denominator), or None.
        x_resolution: The same along x.
    """
    unit = metadata.get("unit")
    return voxel_size_of(
        nanometres(metadata.get("spacing"), metadata.get("zunit", unit)),
        nanometres(_edge(y_resolution), metadata.get("yunit", unit)),
        nanometres(_edge(x_resolution), unit),
    )


def _edge(resolution: Any) -> float | None:
    if not isinstance(resolution, tuple) or len(resolution) != 2 or not all(resolution):
        return None
    return float(resolution[1]) / float(resolution[0])
