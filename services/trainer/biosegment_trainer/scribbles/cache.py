"""Features of slices that were seen last: the next stroke comes on the same slice."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


class FeatureCache:
    """The least recently used go first.

    Args:
        limit_bytes: Of all features that are kept together; what is larger by itself is not kept.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._entries: OrderedDict[Hashable, tuple[int, Float32]] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        """What is kept."""
        return sum(features.nbytes for _, features in self._entries.values())

    def get(self, key: Hashable, image: Float32, make: Callable[[], Float32]) -> Float32:
        """The features of an image, made where they are not kept.

        Args:
            key: Names the image.
            image: What they are of, C-contiguous. Its checksum is kept with them: a name that was given twice would
                otherwise answer for other tissue.
            make: Makes them.
        """
        checksum = zlib.crc32(image.data)
        known = self._entries.pop(key, None)
        features = known[1] if known is not None and known[0] == checksum else make()
        if features.nbytes <= self._limit:
            self._entries[key] = (checksum, features)
            while self.size_bytes > self._limit:
                self._entries.popitem(last=False)
        return features
