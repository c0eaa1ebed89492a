"""Ways to choose that the platform does not have: what better knowledge of a model's mistakes would bring.

Two of them look at the truth of the pool, which nobody has before it is annotated: they bound what a better score of
the same kind can gain, and compete for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from biosegment_sampler.domain.ranking import Ranking, by_score
from biosegment_sampler.strategies import Candidates, Strategy, find_strategy
from biosegment_trainer.learning.measures import CELL
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.learning.normalisation import normalise
from biosegment_trainer.learning.resolution import downsample_labels, downsample_raw
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.optimize import minimize_scalar
from scipy.special import entr, expit, logit

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


def entropy_off_outlines(probability: Values, _: Truth) -> Values:
    """Entropy that lies off the predicted outlines, where doubt is of where a structure ends and not of what it is."""
    return np.where(rim_of(probability > 0.5), 0.0, entropy_of(probability))


def calibrated_entropy(probability: Values, truth: Truth) -> Values:
    """Entropy at the temperature at which the pool's truth is likeliest (C. Guo et al., ICML 2017)."""
    return entropy_of(expit(logit(probability) / temperature(probability, truth)))


def known_errors(probability: Values, truth: Truth) -> Values:
    """How far the prediction is from the truth."""
    return np.abs(probability - truth)


def temperature(probability: Values, truth: Truth) -> float:
    """By which logits have to be divided for the truth to be likeliest; in 1/20 to 20."""
    logits, signs = logit(probability).ravel(), np.where(truth, -1.0, 1.0).ravel()

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, signs * logits / np.exp(log_temperature)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-np.log(20), np.log(20)), method="bounded").x))


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


def score_map(name: str, model: NetworkModel, stack: Stack, factor: int, device: str) -> NDArray[np.float16]:
    """What a trial ranks by: means over score cells, (z, cells y, cells x)."""
    return cell_means(_MAPS[name](probability_of(model, stack, factor, device), truth_of(stack, factor)))


def cell_means(values: Values) -> NDArray[np.float16]:
    """Means over score cells, (z, cells y, cells x); a cell that the border cuts is over the pixels that it has."""
    starts = [np.arange(0, size, CELL) for size in values.shape[1:]]
    sums = np.add.reduceat(np.add.reduceat(values, starts[0], 1), starts[1], 2)
    counts = [np.diff([*start, size]) for start, size in zip(starts, values.shape[1:], strict=True)]
    return np.asarray(sums / (counts[0][:, None] * counts[1]), np.float16)


def find(name: str) -> Strategy:
    """A strategy of the platform, or a trial."""
    return TRIALS.get(name) or find_strategy(name)


def _trial(name: str, compute: Callable[[Values, Truth], Values]) -> Strategy:
    def rank(candidates: Candidates) -> Ranking:
        return by_score(candidates.scores[name], candidates.seed)

    return Strategy(name, (compute.__doc__ or "").strip(), rank, (name,))


_MAPS: Final[dict[str, Callable[[Values, Truth], Values]]] = {
    compute.__name__: compute for compute in (entropy_off_outlines, calibrated_entropy, known_errors)
}
TRIALS: Final = {name: _trial(name, compute) for name, compute in _MAPS.items()}
