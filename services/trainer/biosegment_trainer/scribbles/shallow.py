"""What the first levels of a trained network see, as further features."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from biosegment.errors import InvalidArgument
from biosegment_trainer.learning.network import NetworkModel

Float32 = NDArray[np.float32]
_LEVELS: Final = 2
"""Edges and texture; deeper levels know what they were trained to find, and little of what they were not."""


class ShallowFeatures:
    """The two finest levels of the encoder of a 2D U-Net, brought back to the image's pixels.

    They depend on where a region was cut, modulo the network's stride (4 pixels with our default): strides are counted
    from its first pixel.

    Args:
        model: A 2D `UNet` that sees one slice, with at least three levels.

    Raises:
        InvalidArgument: NO_SHALLOW_FEATURES for another network, BAD_WEIGHTS.
    """

    def __init__(self, model: NetworkModel) -> None:
        network = model.network
        levels = len(network.arguments["channels"]) if network.family == "UNet" else 0
        if network.spatial_dims != 2 or network.input_slices != 1 or levels <= _LEVELS:
            raise InvalidArgument(
                "NO_SHALLOW_FEATURES",
                f"{network.label} with {levels} levels has no features for strokes; use a 2D UNet of "
                f"{_LEVELS + 1} levels or more that sees one slice, or none",
            )
        # A residual U-Net of MONAI is nested: the encoder's first level, all that is below it, the decoder's last.
        module = model.build()
        self._levels = [module.get_submodule("model.0"), module.get_submodule("model.1.submodule.0")]
        self._stride = network.stride[1:]

    def of_slice(self, image: Float32) -> Float32:
        """Features float32 (channels, y, x) of a normalised slice (y, x).

        On one thread, so that they do not depend on how many there are.
        """
        y, x = image.shape
        short = [(0, -size % stride) for size, stride in zip(image.shape, self._stride, strict=True)]
        padded = np.pad(image, short, mode="symmetric")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                values, found = torch.from_numpy(padded)[None, None], []
                for level in self._levels:
                    values = level(values)
                    found.append(F.interpolate(values, padded.shape, mode="bilinear", align_corners=False))
                return torch.cat(found, 1)[0, :, :y, :x].numpy()
        finally:
            torch.set_num_threads(threads)
