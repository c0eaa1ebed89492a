"""What is added up over the voxels of each object, block by block, so that no volume needs to fit into memory.

All sums are whole numbers: however a volume is cut into blocks, and in whatever order they are added, the result is the
same to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final, Self

import fastremap
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Voxels = NDArray[Any]
PAIRS: Final = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""Axes of the second moments, in the order of `ObjectSums.products`."""
STEPS: Final = ((0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1))
"""Kinds of steps to one of the 26 neighbours, in the order of `ObjectSums.exposed`: sizes along z, y, x."""
_DIRECT_IDS: Final = 1 << 16
"""Ids below, which 16 bits hold, are used as indices as they are; larger ones are numbered anew within each block."""
_TILE_VOXELS: Final = 1 << 19
"""Worked on at a time: what is computed of them stays in the processor's cache."""
_WORTH_MERGING: Final = 1 << 16
_TILE_DEPTH: Final = 16
"""Slices of a tile: with few, more of what lies around would be looked at again."""


@dataclass(frozen=True, slots=True, eq=False)
class ObjectSums:
    """Sums over the voxels of n objects; coordinates are voxel indices in the volume, zyx.

    Attributes:
        ids: (n,) ascending.
        voxels: (n,) how many.
        start: (n, 3) of the bounding box.
        stop: (n, 3) of the bounding box, exclusive.
        positions: (n, 3) sums of coordinates.
        products: (n, 6) sums of products of two coordinates, axes as in `PAIRS`; modulo 2^64, which `central` undoes.
        exposed: (n, 7) pairs of a voxel of the object and a neighbour that is none, by kind of step as in `STEPS`.
        values: (n, 2) sums of the image's values and of their squares; for images of at most 16 bits a voxel int64, of
            squares modulo 2^64, which `variances` undoes; float64 for others; empty (n, 0) without an image.
        extremes: (n, 2) smallest and largest value, or (n, 0).
    """

    ids: NDArray[np.uint64]
    voxels: Ints
    start: Ints
    stop: Ints
    positions: Ints
    products: Ints
    exposed: Ints
    values: NDArray[Any]
    extremes: NDArray[Any]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def merged(cls, parts: Iterable[ObjectSums]) -> ObjectSums:
        """The sums over all parts together; objects that reach over several become one.

        Args:
            parts: At least one, of regions that do not overlap.
        """
        several = list(parts)
        every = {
            each.name: np.concatenate([getattr(part, each.name) for part in several]) for each in fields(cls)
        }
        order = np.argsort(every["ids"], kind="stable")
        ids = every["ids"][order]
        first = np.flatnonzero(np.diff(ids, prepend=ids[:1] + np.uint64(1)))
        if not len(ids):
            return several[0]

        def reduced(how: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
            found: NDArray[Any] = how.reduceat(values[order], first, axis=0)
            return found

        extremes = every["extremes"]
        if extremes.shape[1]:
            low, high = reduced(np.minimum, extremes[:, 0]), reduced(np.maximum, extremes[:, 1])
            extremes = np.stack([low, high], axis=1)
        else:
            extremes = extremes[: len(first)]
        return cls(
            ids=ids[first],
            start=reduced(np.minimum, every["start"]),
            stop=reduced(np.maximum, every["stop"]),
            extremes=extremes,
            values=reduced(np.add, every["values"])
            if every["values"].shape[1]
            else every["values"][: len(first)],
            **{name: reduced(np.add, every[name]) for name in ("voxels", "positions", "products", "exposed")},
        )

    def central(self) -> NDArray[np.float64]:
        """(n, 3, 3) mean products of the coordinates' distances from their mean, in voxels."""
        # About a whole number near the mean what is left is small, and modulo 2^64 what it really is.
        middle = (2 * self.positions + self.voxels[:, None]) // (2 * self.voxels[:, None])
        rest = (self.positions - middle * self.voxels[:, None]) / self.voxels[:, None]
        found = np.empty((len(self), 3, 3))
        for column, (a, b) in enumerate(PAIRS):
            about = (
                self.products[:, column]
                - middle[:, a] * self.positions[:, b]
                - middle[:, b] * self.positions[:, a]
                + middle[:, a] * middle[:, b] * self.voxels
            )
            found[:, a, b] = found[:, b, a] = about / self.voxels - rest[:, a] * rest[:, b]
        return found

    def variances(self) -> NDArray[np.float64]:
        """(n,) of the image's values, of these voxels, not of a sample."""
        first, squares = self.values.T
        if self.values.dtype.kind != "i":
            floats: NDArray[np.float64] = np.maximum(squares / self.voxels - (first / self.voxels) ** 2, 0)
            return floats
        # As in `central`. Then exactly: what is left may have all of its digits in common.
        middle = (2 * first + self.voxels) // (2 * self.voxels)
        about = (squares - 2 * middle * first + middle * middle * self.voxels).view(np.uint64).astype(object)
        count, rest = self.voxels.astype(object), (first - middle * self.voxels).astype(object)
        found: NDArray[np.float64] = ((about * count - rest * rest) / (count * count)).astype(np.float64)
        return found

    def only(self, chosen: NDArray[Any]) -> Self:
        """Those at some indices."""
        return type(self)(**{each.name: getattr(self, each.name)[chosen] for each in fields(self)})


class RunningSums:
    """Adds up parts as they come, and holds little more than what they are together.

    Args:
        least: Objects below which it is not worth while to put parts together.
    """

    def __init__(self, least: int = _WORTH_MERGING) -> None:
        self._parts: list[ObjectSums] = []
        self._least = least
        self._merged = self.held = 0

    def add(self, part: ObjectSums) -> None:
        """Add what was found in a region of its own."""
        self._parts.append(part)
        self.held += len(part)
        if self.held > max(self._least, 2 * self._merged):
            self._merge()

    def sums(self) -> ObjectSums | None:
        """Of all that came; None without any."""
        if len(self._parts) > 1:
            self._merge()
        return self._parts[0] if self._parts else None

    def _merge(self) -> None:
        self._parts = [ObjectSums.merged(self._parts)]
        self._merged = self.held = len(self._parts[0])


def add_up(padded: Voxels, image: Voxels | None, origin: tuple[int, int, int]) -> ObjectSums:
    """The sums over one block.

    Args:
        padded: Ids (z + 2, y + 2, x + 2) of the block and of one voxel around it; 0 for no object, and for what lies
            outside of the volume.
        image: Values (z, y, x) of the block; None for none.
        origin: Of the block in the volume, zyx.
    """
    labels, names = _as_indices(padded)
    total = _Totals.empty(len(names), image)
    depth, height, width = (size - 2 for size in labels.shape)
    rows = max(1, _TILE_VOXELS // (_TILE_DEPTH * width))
    for z in range(0, depth, _TILE_DEPTH):
        for y in range(0, height, rows):
            tile = labels[z : z + _TILE_DEPTH + 2, y : y + rows + 2]
            if tile[1:-1, 1:-1, 1:-1].any():
                total.add_runs(
                    tile, None if image is None else image[z : z + _TILE_DEPTH, y : y + rows], z, y
                )
                total.add_exposed(tile)
    return total.sums(names, origin)


def _as_indices(padded: Voxels) -> tuple[Voxels, NDArray[np.uint64]]:
    """Small numbers for ids, and what they stand for; 0 stays 0."""
    largest = int(padded.max(initial=0))
    if largest < _DIRECT_IDS:
        return padded.astype(np.uint16), np.arange(largest + 1, dtype=np.uint64)
    labels, numbers = fastremap.renumber(padded, preserve_zero=True)
    names = np.zeros(1 + max(map(int, numbers.values())), np.uint64)
    for name, number in numbers.items():
        names[int(number)] = int(name)
    return labels, names


@dataclass(slots=True, eq=False)
class _Totals:
    """Sums of a block, at index of a label. Floats hold them exactly: coordinates are those within the block."""

    voxels: NDArray[np.float64]
    start: Ints
    stop: Ints
    positions: NDArray[np.float64]
    products: NDArray[np.float64]
    exposed: NDArray[np.float64]
    values: NDArray[Any]
    extremes: NDArray[Any]

    @classmethod
    def empty(cls, count: int, image: Voxels | None) -> _Totals:
        kinds = 0 if image is None else 2
        is_small = image is None or (image.dtype.kind in "iu" and image.dtype.itemsize <= 2)
        return cls(
            voxels=np.zeros(count),
            start=np.full((3, count), np.iinfo(np.int64).max),
            stop=np.zeros((3, count), np.int64),
            positions=np.zeros((3, count)),
            products=np.zeros((6, count)),
            exposed=np.zeros((7, count)),
            values=np.zeros((kinds, count), np.int64 if is_small else np.float64),
            extremes=np.zeros((kinds, count), None if image is None else image.dtype),
        )

    def add_runs(self, tile: Voxels, image: Voxels | None, first_z: int, first_y: int) -> None:
        """Add what can be told from each run of voxels of an object along x: there are far fewer runs than voxels."""
        inner = np.ascontiguousarray(tile[1:-1, 1:-1, 1:-1])
        begins = np.ones(inner.shape, np.bool_)
        np.not_equal(inner[:, :, 1:], inner[:, :, :-1], out=begins[:, :, 1:])
        starts = np.flatnonzero(begins)
        labels = inner.ravel()[starts].astype(np.intp)
        lengths = np.diff(starts, append=inner.size)
        is_object = labels > 0
        starts, labels, lengths = starts[is_object], labels[is_object], lengths[is_object]
        lines, x = np.divmod(starts, inner.shape[2])
        z, y = np.divmod(lines, inner.shape[1])
        z += first_z
        y += first_y
        last = x + lengths - 1
        n = lengths.astype(np.float64)
        in_x = n * (x + last) / 2
        in_xx = (last * (last + 1) * (2 * last + 1) - (x - 1) * x * (2 * x - 1)) / 6.0

        def add(into: NDArray[np.float64], weights: NDArray[Any]) -> None:
            into += np.bincount(labels, weights, len(into))

        add(self.voxels, n)
        for into, weights in zip(self.positions, (n * z, n * y, in_x), strict=True):
            add(into, weights)
        products = (n * z * z, n * y * y, in_xx, n * z * y, in_x * z, in_x * y)
        for into, weights in zip(self.products, products, strict=True):
            add(into, weights)
        for into, low in zip(self.start, (z, y, x), strict=True):
            np.minimum.at(into, labels, low)
        for into, high in zip(self.stop, (z, y, last), strict=True):
            np.maximum.at(into, labels, high + 1)
        if image is not None:
            self._add_values(labels, lengths, image[inner > 0])

    def _add_values(self, labels: NDArray[np.intp], lengths: Ints, values: Voxels) -> None:
        """Add the image under the runs; `values` are those of their voxels, one run after the other."""
        firsts = np.cumsum(lengths) - lengths
        kind = self.values.dtype
        # An object without any voxel so far has no extremes yet.
        is_new = np.zeros(len(self.voxels), np.bool_)
        is_new[labels] = True
        is_new &= self.voxels == np.bincount(labels, lengths, len(is_new))
        for into, how in zip(self.extremes, (np.minimum, np.maximum), strict=True):
            found = how.reduceat(values, firsts)
            into[labels[is_new[labels]]] = found[is_new[labels]]
            how.at(into, labels, found)
        wide = values.astype(kind)
        for into, terms in zip(self.values, (wide, wide * wide), strict=True):
            of_runs = np.add.reduceat(terms, firsts)
            # Whole numbers of runs are small enough for floats, their sum need not be.
            into += np.bincount(labels, of_runs, len(into)).astype(kind)

    def add_exposed(self, tile: Voxels) -> None:
        """Add the pairs of a voxel of an object and a neighbour outside of it, in all 26 directions."""
        places = np.flatnonzero(_on_surface(tile))
        flat = np.ascontiguousarray(tile).ravel()
        own = flat[places]
        _, height, width = tile.shape
        reach = height * width + width + 1
        before = places - reach
        labels = own.astype(np.intp)
        for into, (dz, dy, dx) in zip(self.exposed, STEPS, strict=True):
            count = np.zeros(len(places), np.uint8)
            for step in {
                (sz * dz * height + sy * dy) * width + sx * dx
                for sz in (-1, 1)
                for sy in (-1, 1)
                for sx in (-1, 1)
            }:
                count += flat[step + reach :].take(before) != own
            into += np.bincount(labels, count, len(into))

    def sums(self, names: NDArray[np.uint64], origin: tuple[int, int, int]) -> ObjectSums:
        """What was added up of the objects that are there, in coordinates of the volume."""
        there = np.flatnonzero(self.voxels)
        there = there[np.argsort(names[there])]
        shift = np.array(origin, np.int64)

        def whole(values: NDArray[Any]) -> Ints:
            found: Ints = values[..., there].T.astype(np.int64)
            return found

        voxels, positions, products = whole(self.voxels), whole(self.positions), whole(self.products)
        for column, (a, b) in enumerate(PAIRS):
            products[:, column] += (
                shift[a] * positions[:, b] + shift[b] * positions[:, a] + shift[a] * shift[b] * voxels
            )
        return ObjectSums(
            ids=names[there],
            voxels=voxels,
            start=whole(self.start) + shift,
            stop=whole(self.stop) + shift,
            positions=positions + shift * voxels[:, None],
            products=products,
            exposed=whole(self.exposed),
            values=self.values[:, there].T,
            extremes=self.extremes[:, there].T,
        )


def _on_surface(tile: Voxels) -> NDArray[np.bool_]:
    """Where, of a tile with its surroundings, an object's voxel has a neighbour of another kind among the 26.

    Axis by axis: a box of three is of one kind when its lines are, and neighbouring lines are the same.
    """
    changes = tile[:, :, 1:] != tile[:, :, :-1]
    mixed = changes[:, :, 1:] | changes[:, :, :-1]
    middle = tile[:, :, 1:-1]
    for axis in (1, 0):
        ahead = [slice(None)] * axis
        low, centre, high = ((*ahead, part) for part in (slice(-2), slice(1, -1), slice(2, None)))
        upper, lower = (*ahead, slice(1, None)), (*ahead, slice(-1))
        changes = middle[upper] != middle[lower]
        mixed = mixed[low] | mixed[centre] | mixed[high]
        mixed |= changes[upper]
        mixed |= changes[lower]
        middle = middle[centre]
    mixed &= middle != 0
    found = np.zeros(tile.shape, np.bool_)
    found[1:-1, 1:-1, 1:-1] = mixed
    return found
