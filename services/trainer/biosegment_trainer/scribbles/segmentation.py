"""Strokes in, a segmentation out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import InvalidArgument
from biosegment.volume import NOT_ANNOTATED
from biosegment_trainer.learning.network import NetworkModel
from biosegment_trainer.scribbles.cache import FeatureCache
from biosegment_trainer.scribbles.classifier import PixelClassifier
from biosegment_trainer.scribbles.features import HALO as FEATURES_HALO
from biosegment_trainer.scribbles.features import slice_features, smoothed
from biosegment_trainer.scribbles.shallow import ShallowFeatures

__all__ = ["CACHE_BYTES", "HALO", "ScribbleAnswer", "ScribbleSegmenter", "confident"]

Float32 = NDArray[np.float32]
Labels = NDArray[np.uint8]

CACHE_BYTES: Final = 512 << 20
"""Features of three slices of 1024 x 1024 pixels."""

_SMOOTHING: Final = (1, 1)
"""Steps of the smoothing of probabilities, together a Gaussian of 1.4 pixels. Large objects would gain from three times
as much (EPFL's mitochondria), thin ones lose more by it (VNC's membranes); this much costs those nothing.
"""

_MARGIN: Final = 2 * sum(_SMOOTHING)

HALO: Final = FEATURES_HALO + _MARGIN
"""Pixels around the strokes' array beyond which the image has no influence on an answer."""


@dataclass(frozen=True, slots=True, eq=False)
class ScribbleAnswer:
    """What strokes gave.

    Attributes:
        labels: uint8 (z, y, x): of answered slices a class value everywhere (1 background, 2.. classes), of the others
            0. Slices without strokes are answered only where a draft was asked for.
        probabilities: Of every value that was painted, background included, uint8 (z, y, x), 255 for certain; 0 in
            slices that were not answered. A painted pixel is certain.
    """

    labels: Labels
    probabilities: dict[int, Labels]


class ScribbleSegmenter:
    """Learns anew from the strokes of each request; features of recent slices are kept.

    The same arguments give the same answer, however many threads there are. One caller at a time.

    Args:
        features_cache_bytes: Bound on the features that are kept.
        shallow: A network whose first levels are features too; None for none, the start from nothing.
        threads: How many may compute at once.

    Raises:
        InvalidArgument: NO_SHALLOW_FEATURES, BAD_WEIGHTS.
    """

    def __init__(
        self,
        features_cache_bytes: int = CACHE_BYTES,
        shallow: NetworkModel | None = None,
        *,
        threads: int = 2,
    ) -> None:
        self._cache = FeatureCache(features_cache_bytes)
        self._shallow = ShallowFeatures(shallow) if shallow is not None else None
        self._threads = threads

    def segment(
        self,
        key: Hashable,
        image: Float32,
        strokes: Labels,
        *,
        context: tuple[int, int] = (0, 0),
        draft: bool = False,
        seed: int = 0,
    ) -> ScribbleAnswer:
        """Learn from all strokes, and answer for the slices that have some.

        Where the image reaches `HALO` pixels further than the strokes' array, or to the edge of the volume, the answer
        is that of the whole slice.

        Args:
            key: Names the image, for the features that are kept.
            image: float32 (z, Y, X) at working resolution, each slice normalised by the statistics of all of it; the
                last two axes are the plane that was painted on. As many slices as `strokes`, which lie within it.
            strokes: uint8 (z, y, x): 0 nothing, 1 background, 2.. classes.
            context: Pixels (y, x) of `image` before the first of `strokes`.
            draft: Answer for all slices, also those without strokes.
            seed: Source of all chance.

        Raises:
            InvalidArgument: NEED_TWO_CLASSES when strokes have fewer than two values, BAD_SHAPE, BAD_DTYPE, BAD_IMAGE.
        """
        _require_sound(image, strokes, context)
        values = [int(value) for value in np.unique(strokes) if value != NOT_ANNOTATED]
        if len(values) < 2:
            raise InvalidArgument(
                "NEED_TWO_CLASSES",
                f"all strokes have {f'the value {values[0]}' if values else 'no value'}, and there is nothing to tell "
                "apart; paint at least two, for example some background (1) too",
            )
        frame = _Frame(key, image, strokes, context)
        painted = np.flatnonzero(strokes.any((1, 2))).tolist()
        answered = range(len(strokes)) if draft else painted
        labels = np.zeros(strokes.shape, np.uint8)
        probabilities = {value: np.zeros(strokes.shape, np.uint8) for value in values}
        with ThreadPoolExecutor(self._threads) as pool:
            classifier = self._learn(frame, painted, seed, pool)
            # Backwards: the features of the slices that were painted last are those that are still kept.
            for z in reversed(answered):
                shares = classifier.probabilities(self._features(frame, z, pool), pool)
                shares = np.stack(list(pool.map(_smooth, shares.reshape(-1, *frame.strokes.shape[1:]))))
                shares = shares[:, *frame.inner]
                under = strokes[z] != NOT_ANNOTATED
                shares[:, under] = strokes[z][under] == classifier.values[:, None]
                labels[z] = classifier.values[shares.argmax(0)]
                for value, share in zip(values, shares, strict=True):
                    probabilities[value][z] = np.rint(share * 255)
        return ScribbleAnswer(labels, probabilities)

    def _learn(self, frame: _Frame, painted: list[int], seed: int, pool: Executor) -> PixelClassifier:
        features, truth = [], []
        for z in painted:
            under = np.flatnonzero(frame.strokes[z])
            features.append(self._features(frame, z, pool)[under])
            truth.append(frame.strokes[z].ravel()[under])
        return PixelClassifier(np.concatenate(features), np.concatenate(truth), seed)

    def _features(self, frame: _Frame, z: int, pool: Executor) -> Float32:
        """Of the pixels of a slice of the frame, row by row: float32 (n, channels)."""
        plane = np.ascontiguousarray(frame.image[z])

        def make() -> Float32:
            learned = pool.submit(self._shallow.of_slice, plane) if self._shallow is not None else None
            parts = [slice_features(plane, pool)] + ([learned.result()] if learned is not None else [])
            rows = np.empty((frame.strokes[z].size, sum(map(len, parts))), np.float32)
            first = 0
            for part in parts:
                rows[:, first : first + len(part)] = part[:, *frame.box].reshape(len(part), -1).T
                first += len(part)
            return rows

        return self._cache.get((frame.key, z, str(frame.box)), plane, make)


class _Frame:
    """Where answers are computed: the strokes' array, and around it as much of the image as their smoothing sees.

    Attributes:
        key: Of the image.
        image: float32 (z, Y, X).
        box: Where the frame lies in the image, (y, x).
        inner: Where the strokes' array lies in the frame, (y, x).
        strokes: uint8, of the frame.
    """

    def __init__(self, key: Hashable, image: Float32, strokes: Labels, context: tuple[int, int]) -> None:
        self.key, self.image = key, image
        sides = list(zip(context, strokes.shape[1:], image.shape[1:], strict=True))
        before = [min(_MARGIN, start) for start, _, _ in sides]
        after = [min(_MARGIN, whole - start - size) for start, size, whole in sides]
        self.strokes: Labels = np.pad(strokes, [(0, 0), *zip(before, after, strict=True)])
        starts = [start - margin for start, margin in zip(context, before, strict=True)]
        self.box = _spans(starts, self.strokes.shape[1:])
        self.inner = _spans(before, strokes.shape[1:])


def confident(answer: ScribbleAnswer, threshold: float) -> Labels:
    """Labels where the answer is sure, to be committed as an annotation of kind scribbles: a target for a network.

    Args:
        answer: What strokes gave.
        threshold: Least probability of the label, 0..1.

    Returns:
        uint8 (z, y, x); 0, not annotated, where it is less sure.

    Raises:
        InvalidArgument: BAD_THRESHOLD.
    """
    if not 0 <= threshold <= 1:
        raise InvalidArgument("BAD_THRESHOLD", f"threshold {threshold} is no probability; give one in 0..1")
    sure = np.zeros(answer.labels.shape, bool)
    for value, share in answer.probabilities.items():
        sure |= (answer.labels == value) & (share >= threshold * 255)
    return np.where(sure, answer.labels, np.uint8(NOT_ANNOTATED))


def _spans(starts: Sequence[int], sizes: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))


def _smooth(share: Float32) -> Float32:
    padded = np.pad(share, _MARGIN, mode="symmetric")
    for step in _SMOOTHING:
        padded = smoothed(padded, step)
    return padded


def _require_sound(image: Float32, strokes: Labels, context: tuple[int, int]) -> None:
    if image.dtype != np.float32 or strokes.dtype != np.uint8:
        raise InvalidArgument(
            "BAD_DTYPE", f"image is {image.dtype} and strokes {strokes.dtype}; give float32 and uint8"
        )
    fits = image.ndim == strokes.ndim == 3 and len(image) == len(strokes)
    if fits:
        sides = zip(context, strokes.shape[1:], image.shape[1:], strict=True)
        fits = all(start >= 0 and start + size <= whole for start, size, whole in sides)
    if not fits:
        raise InvalidArgument(
            "BAD_SHAPE",
            f"strokes {strokes.shape} do not lie within image {image.shape} at (y, x) {tuple(context)}; both are "
            "(z, y, x) with the same slices",
        )
    if not np.isfinite(image).all():
        raise InvalidArgument("BAD_IMAGE", "the image has values that are not finite; replace them before")
