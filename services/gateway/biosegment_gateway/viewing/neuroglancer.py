"""The state of a Neuroglancer viewer: what it shows, how, and where it looks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from biosegment.volume import Index, VoxelSize
from biosegment_gateway.viewing.exhibit import Exhibit, Kind

_NM: Final = 1e-9
_PANEL: Final = 500
"""Pixels of a panel, about: what the whole volume is to fit into at first."""
_GREY: Final = 0x808080
_AMOUNT: Final = """#uicontrol invlerp normalized
#uicontrol vec3 color color
void main() {
  float amount = normalized();
  emitRGBA(vec4(color, amount));
}
"""


def viewer_state(
    source: str,
    volume: Exhibit,
    layers: Sequence[Exhibit],
    colors: Mapping[int, int],
    position: Index | None,
) -> dict[str, Any]:
    """The state in JSON.

    Args:
        source: URL of the volume as OME-Zarr, without a final '/'.
        volume: What lies there.
        layers: Shown above it, in this order.
        colors: 0xRRGGBB of the project's classes, by value.
        position: Voxel of level 0 in the middle; the whole volume is shown when there is none.
    """
    shape = volume.levels[0].shape
    middle = position or Index(*(size // 2 for size in shape))
    widest = max(shape.y, shape.x)
    return {
        "dimensions": _dimensions(volume.voxel_size),
        "position": [value + 0.5 for value in reversed(middle)],
        "crossSectionScale": 1 if position else max(1.0, widest / _PANEL),
        "projectionScale": 2 * max(shape),
        "layers": [
            _image(f"{source}/", volume),
            *(_layer(source, layer, colors) for layer in layers),
        ],
        "selectedLayer": {"visible": False},
        "layout": "4panel",
        # Not the grey of tissue.
        "crossSectionBackgroundColor": "#000000",
    }


def state_fragment(state: Mapping[str, Any]) -> str:
    """The part of a viewer's address after the '#'."""
    return "!" + quote(json.dumps(state, separators=(",", ":")), safe="~:,/|!*'()")


def _dimensions(size: VoxelSize) -> dict[str, Any]:
    return {
        "x": [size.x_nm * _NM, "m"],
        "y": [size.y_nm * _NM, "m"],
        "z": [size.z_nm * _NM, "m"],
    }


def _image(source: str, image: Exhibit) -> dict[str, Any]:
    return {
        "type": "image",
        "name": image.display_name or image.id,
        "source": f"{source}|zarr3:",
        "opacity": 1,
        "shaderControls": {"normalized": {"range": list(image.window or (0.0, 255.0))}},
    }


def _layer(source: str, layer: Exhibit, colors: Mapping[int, int]) -> dict[str, Any]:
    if not layer.kind.is_label:
        color = colors.get(layer.class_value, _GREY) if layer.kind is Kind.PROBABILITIES else 0xFFC000
        shown = _image(f"{source}/images/{layer.id}/", layer)
        shown["shaderControls"]["color"] = _color(color)
        return {**shown, "opacity": 0.5, "shader": _AMOUNT}
    shown = {
        "type": "segmentation",
        "name": layer.display_name or layer.id,
        "source": f"{source}/labels/{layer.id}/|zarr3:",
        "selectedAlpha": 0.4,
        "notSelectedAlpha": 0,
    }
    if layer.kind is Kind.INSTANCES:
        return shown  # all of them, as none is chosen
    return {
        **shown,
        "segments": [str(value) for value in sorted(colors)],
        "segmentColors": {str(value): _color(color) for value, color in sorted(colors.items())},
    }


def _color(rgb: int) -> str:
    return f"#{rgb:06x}"
