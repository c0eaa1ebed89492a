"""What a model says of every pixel of a stack at the working resolution, and what is true."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from biosegment_trainer.learning.measures import CELL
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.learning.normalisation import normalise
from biosegment_trainer.learning.resolution import downsample_labels, downsample_raw
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.special import entr

from biosegment.volume import BACKGROUND, FIRST_CLASS
from bundles.data import Stack

RIM_PX: Final = 2
"""Working pixels on either side of an outline that count as it."""

Values = NDArray[np.floating[Any]]
Truth = NDArray[np.bool_]


def entropy_of(probability: Values) -> Values:
    """Entropy in nats, for the foreground's probability of any shape."""
    found: Values = entr(probability) + entr(1 - probability)
    return found


def rim_of(mask: Truth) -> Truth:
    """What lies within two pixels of an outline, in plane; bool (z, y, x)."""
    square = np.ones((1, 2 * RIM_PX + 1, 2 * RIM_PX + 1), bool)
    rim: Truth = binary_dilation(mask, square) & ~binary_erosion(mask, square, border_value=1)
    return rim


def probability_of(model: NetworkModel, stack: Stack, factor: int, device: str) -> Values:
    """Of the foreground, at the working resolution, (z, y, x), never quite 0 or 1; whole slices at once.

    What the platform stores is rounded to bytes: below 1/510 all is 0, and no temperature raises that.
    """
    network, strides = model.build(device), model.network.stride[1:]
    planes = normalise(downsample_raw(stack.raw, factor), stack.statistics)
    edges = list(zip(strides, planes.shape[1:], strict=True))
    # At the border of a volume the platform shows the network one stride of the mirrored image.
    around = [(step, step + -size % step) for step, size in edges]
    y, x = (slice(step, step + size) for step, size in edges)
    found = np.empty(planes.shape, np.float64)
    with torch.inference_mode():
        for z, plane in enumerate(planes):
            image = torch.from_numpy(np.pad(plane, around, mode="symmetric"))[None, None].to(device)
            found[z] = network(image).double().softmax(1)[0, 1, y, x].cpu().numpy()
    return np.clip(found, 1e-7, 1 - 1e-7)


def truth_of(stack: Stack, factor: int) -> Truth:
    """Of the pool at the working resolution."""
    voxels = np.where(stack.truth, np.uint8(FIRST_CLASS), np.uint8(BACKGROUND))
    truth: Truth = downsample_labels(voxels, factor) == FIRST_CLASS
    return truth


def cell_means(values: Values) -> NDArray[np.float16]:
    """Means over score cells, (z, cells y, cells x); a cell that the border cuts is over the pixels that it has."""
    starts = [np.arange(0, size, CELL) for size in values.shape[1:]]
    sums = np.add.reduceat(np.add.reduceat(values, starts[0], 1), starts[1], 2)
    counts = [np.diff([*start, size]) for start, size in zip(starts, values.shape[1:], strict=True)]
    return np.asarray(sums / (counts[0][:, None] * counts[1]), np.float16)
