"""Strokes in, a segmentation out."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import InvalidArgument
from biosegment.volume import NOT_ANNOTATED
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.scribbles.classifier import PixelClassifier
from biosegment_trainer.scribbles.features import HALO, slice_features

__all__ = ["HALO", "ScribbleAnswer", "ScribbleSegmenter", "confident"]

CACHE_BYTES: Final = 512 << 20
_MAX_PIXELS: Final = 4000


@dataclass(frozen=True, slots=True, eq=False)
class ScribbleAnswer:
    """What strokes gave.

    Attributes:
        labels: uint8 (z, y, x), a class value (1 background, 2.. classes) in every answered slice; 0 throughout
            slices that were not answered: those without strokes, unless a draft was asked for.
        probabilities: By value that was painted, background included: uint8 (z, y, x), 255 for certain; 0 in slices that
            were not answered.
    """

    labels: NDArray[np.uint8]
    probabilities: dict[int, NDArray[np.uint8]]


class ScribbleSegmenter:
    """A pixel classifier per request, and the features of recent slices, since the next stroke comes on the same one.

    One thread at a time may ask.

    Args:
        features_cache_bytes: Bound on the features that are kept; those of the slices seen last.
        shallow: A network whose first levels are features too; None for none.
        threads: How many may compute at once; the answer does not depend on it.
    """

    def __init__(
        self,
        features_cache_bytes: int = CACHE_BYTES,
        shallow: NetworkModel | None = None,
        *,
        threads: int = 2,
    ) -> None:
        self._threads = threads

    def segment(
        self,
        key: Hashable,
        image: NDArray[np.float32],
        strokes: NDArray[np.uint8],
        *,
        context: tuple[int, int] = (0, 0),
        draft: bool = False,
        seed: int = 0,
    ) -> ScribbleAnswer:
        """Learn from all strokes, and answer for the slices that have some.

        With an image that reaches `HALO` pixels further than the strokes' array, or to the edge of the volume, the answer
        is that of the whole slice.

        Args:
            key: Names the image and the box that it shows, for the cache.
            image: float32 (z, Y, X) at working resolution, normalised by the statistics of whole slices; the last two
                axes are the plane that was painted on. The same slices as `strokes`, and at least as large.
            strokes: uint8 (z, y, x): 0 nothing, 1 background, 2.. classes.
            context: Pixels (y, x) of `image` before the strokes' first.
            draft: Answer for all slices, also those without strokes.
            seed: Source of all chance.

        Raises:
            InvalidArgument: NEED_TWO_CLASSES when the strokes have fewer than two values; BAD_SHAPE, BAD_DTYPE.
        """
        values = [int(value) for value in np.unique(strokes) if value != NOT_ANNOTATED]
        if len(values) < 2:
            raise InvalidArgument(
                "NEED_TWO_CLASSES",
                f"the strokes have the values {values}; paint at least two, for example some background (1) too",
            )
        painted = strokes.any((1, 2))
        wanted = np.flatnonzero(painted | draft)
        top, left = context
        inner = slice(top, top + strokes.shape[1]), slice(left, left + strokes.shape[2])
        features = {int(z): slice_features(image[z])[:, inner[0], inner[1]] for z in wanted}
        rows = np.concatenate([features[int(z)][:, strokes[z] > 0].T for z in np.flatnonzero(painted)])
        truth = strokes[strokes > 0]
        if len(truth) > _MAX_PIXELS:
            chosen = np.random.default_rng(seed).choice(len(truth), _MAX_PIXELS, replace=False)
            rows, truth = rows[chosen], truth[chosen]
        classifier = PixelClassifier(seed, self._threads)
        classifier.fit(rows, truth)
        labels = np.zeros(strokes.shape, np.uint8)
        probabilities = {value: np.zeros(strokes.shape, np.uint8) for value in values}
        for z, found in features.items():
            shares = classifier.probabilities(found.reshape(len(found), -1))
            shares = shares.reshape(-1, *strokes.shape[1:])
            labels[z] = np.array(values, np.uint8)[shares.argmax(0)]
            for value, share in zip(values, shares, strict=True):
                probabilities[value][z] = np.rint(share * 255)
            under = strokes[z] > 0
            labels[z][under] = strokes[z][under]
        return ScribbleAnswer(labels, probabilities)


def confident(answer: ScribbleAnswer, threshold: float) -> NDArray[np.uint8]:
    """Labels where the answer is sure, to be committed as an annotation of kind scribbles.

    Args:
        answer: What strokes gave.
        threshold: Least probability of the label, 0..1.

    Returns:
        uint8 (z, y, x): 0, not annotated, where it is less sure.
    """
    sure = np.zeros(answer.labels.shape, bool)
    for value, share in answer.probabilities.items():
        sure |= (answer.labels == value) & (share >= threshold * 255)
    return np.where(sure, answer.labels, np.uint8(NOT_ANNOTATED))
