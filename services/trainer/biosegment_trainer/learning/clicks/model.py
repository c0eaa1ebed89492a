"""The network that corrects masks, and its bundle.

It sees four channels, as in RITM (K. Sofiiuk, I. A. Petrov, A. Konushin: Reviving Iterative Training with Mask
Guidance for Interactive Segmentation. ICIP 2022, arXiv 2102.06583): the image, the mask before, and the positive and
the negative clicks as disks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from monai.networks.nets import UNet
from numpy.typing import NDArray
from torch import Tensor, nn

from biosegment.errors import InvalidArgument
from biosegment_trainer.learning.bundle import INFERENCE, METADATA, WEIGHTS, read_json, read_weights
from biosegment_trainer.learning.family import FAMILIES
from biosegment_trainer.learning.network import Weights, pick_device

ROLE: Final = "clicks"
"""`biosegment.role` in the metadata of a bundle of this kind."""
CHANNELS: Final = ("image", "previous mask", "positive clicks", "negative clicks")
DISK_RADIUS_PX: Final = 3
CROP_PX: Final = 256
"""Edge of the window that the network looks at, working pixels."""
_STRIDE: Final = 16
_ARGUMENTS: Final[Mapping[str, Any]] = {
    "channels": [16, 32, 64, 128, 256],
    "strides": [2, 2, 2, 2],
    "num_res_units": 2,
    "norm": "batch",
}

Point = tuple[int, int]
Float32 = NDArray[np.float32]


def network_def() -> dict[str, Any]:
    """The MONAI bundle's `network_def` of the network that we train: a U-Net of the shipped models' size."""
    arguments = FAMILIES["UNet"].complete(_ARGUMENTS, 2, foreign=False)
    return {
        "_target_": "UNet",
        "spatial_dims": 2,
        "in_channels": len(CHANNELS),
        "out_channels": 2,
        **arguments,
    }


def build(definition: Mapping[str, Any]) -> nn.Module:
    """A network with fresh weights: (N, 4, y, x) -> logits (N, 2, y, x) of background and foreground.

    Args:
        definition: `network_def` of a bundle; its arguments are checked, nothing in it is evaluated.

    Raises:
        InvalidArgument: NETWORK_NOT_ALLOWED.
    """
    shape = {"_target_": "UNet", "spatial_dims": 2, "in_channels": len(CHANNELS), "out_channels": 2}
    odd = {key: definition.get(key) for key, value in shape.items() if definition.get(key) != value}
    if odd:
        raise InvalidArgument("NETWORK_NOT_ALLOWED", f"a network for clicks has {shape}, not {odd}")
    rest = {key: value for key, value in definition.items() if key not in shape}
    try:
        module: nn.Module = UNet(
            spatial_dims=2,
            in_channels=len(CHANNELS),
            out_channels=2,
            **FAMILIES["UNet"].complete(rest, 2, foreign=False),
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise InvalidArgument("NETWORK_NOT_ALLOWED", f"network_def cannot be read: {error}") from error
    return module


def disks(points: Sequence[Point], shape: Point) -> Float32:
    """Disks around pixels (y, x), float32 of `shape`: 1 inside, 0 elsewhere."""
    found = np.zeros(shape, np.float32)
    reach = np.arange(-DISK_RADIUS_PX, DISK_RADIUS_PX + 1)
    rows, columns = np.nonzero(reach[:, None] ** 2 + reach**2 <= DISK_RADIUS_PX**2)
    for y, x in points:
        at_y, at_x = y + reach[rows], x + reach[columns]
        inside = (at_y >= 0) & (at_y < shape[0]) & (at_x >= 0) & (at_x < shape[1])
        found[at_y[inside], at_x[inside]] = 1.0
    return found


class ClickModel:
    """A network that corrects masks, made ready; not for several threads at once.

    Args:
        name: Of the model, for people.
        working_resolution_nm: Pixel size in plane that it was trained at.
        definition: Of the network.
        weights: Its weights.
        device: `cpu` or `cuda`; None takes CUDA where there is one.

    Raises:
        InvalidArgument: NETWORK_NOT_ALLOWED, BAD_WEIGHTS.
    """

    def __init__(
        self,
        name: str,
        working_resolution_nm: float,
        definition: Mapping[str, Any],
        weights: Weights,
        device: str | None = None,
    ) -> None:
        self._name = name
        self._working_resolution_nm = working_resolution_nm
        self._device = pick_device(device)
        module = build(definition)
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise InvalidArgument("BAD_WEIGHTS", f"the weights do not fit the network: {error}") from error
        self._module = module.to(self._device).eval()

    @property
    def name(self) -> str:
        """Of the model, for people."""
        return self._name

    @property
    def working_resolution_nm(self) -> float:
        """Pixel size in plane that images and masks must have."""
        return self._working_resolution_nm

    @classmethod
    def read(cls, folder: Path, device: str | None = None) -> ClickModel:
        """Read a bundle's folder; no code and no `$` expression in it is run.

        Raises:
            NotFound: BUNDLE_FILE_MISSING.
            InvalidArgument: BAD_BUNDLE, NOT_A_CLICK_MODEL, NETWORK_NOT_ALLOWED, BAD_WEIGHTS.
        """
        metadata, inference = read_json(folder / METADATA), read_json(folder / INFERENCE)
        own = metadata.get("biosegment")
        if not isinstance(own, dict) or own.get("role") != ROLE:
            raise InvalidArgument(
                "NOT_A_CLICK_MODEL", f"{folder} does not hold a model for clicks; choose one that does"
            )
        definition = inference.get("network_def")
        if not isinstance(definition, dict):
            raise InvalidArgument("BAD_BUNDLE", f"{folder / INFERENCE} has no network_def")
        try:
            name = f"{metadata['name']} {metadata['version']}"
            resolution_nm = float(own["working_resolution_nm"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArgument("BAD_BUNDLE", f"{folder / METADATA} cannot be read: {error!r}") from error
        if not 0 < resolution_nm < 1e6:
            raise InvalidArgument("BAD_BUNDLE", f"a pixel of {resolution_nm} nm cannot be")
        return cls(name, resolution_nm, definition, read_weights(folder / WEIGHTS), device)

    def foreground(
        self,
        image: Float32,
        previous: NDArray[np.bool_],
        positive: Sequence[Point] = (),
        negative: Sequence[Point] = (),
    ) -> Float32:
        """Probability of foreground, float32 (y, x), in one pass over a window.

        Args:
            image: Normalised, float32 (y, x).
            previous: The mask before, bool (y, x).
            positive: Pixels (y, x) of the window that belong to the foreground.
            negative: Pixels that do not.
        """
        shape = image.shape
        planes = [image, previous, disks(positive, shape), disks(negative, shape)]
        height, width = (-(-edge // _STRIDE) * _STRIDE for edge in shape)
        window = np.zeros((1, len(CHANNELS), height, width), np.float32)
        for channel, plane in enumerate(planes):
            window[0, channel, : shape[0], : shape[1]] = plane
        with torch.inference_mode():
            logits: Tensor = self._module(torch.from_numpy(window).to(self._device))
            # Of two channels, the softmax is the logistic function of their difference.
            found = torch.sigmoid(logits[0, 1] - logits[0, 0]).float().cpu().numpy()
        return np.ascontiguousarray(found[: shape[0], : shape[1]])
