"""Objects within one block: connected components, and seeds that flood what is around them.

Ids are those of the block, 1 and up; `joining` says later which of them are the same object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import cc3d
import fastremap
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from biosegment.volume import Region
from biosegment_trainer.instances.block import Ids

Mask = NDArray[np.bool_]
Heights = NDArray[np.generic]
Box = tuple[slice, slice, slice]


def components(mask: Mask, connectivity: int) -> Ids:
    """Connected components of what is set, numbered from 1 in C order of their first voxels: uint32 (z, y, x)."""
    # What it knows of binary images fails for 26 neighbours in a single row of voxels (release 4.1.1).
    is_row = sorted(mask.shape)[1] == 1
    find: Any = cc3d.connected_components  # its stubs know no variable connectivity
    found: Ids = find(
        np.ascontiguousarray(mask).view(np.uint8),
        connectivity=connectivity,
        out_dtype=np.uint32,
        binary_image=not is_row,
    )
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Flooded:
    """What seeds flooded.

    Attributes:
        ids: uint32 (z, y, x), of the part that was asked for: 1 to `len(seeds)` for what a seed flooded, above it
            what no seed reached, one id for each piece.
        seeds: By id - 1.
    """

    ids: Ids
    seeds: Ids


def flood(
    mask: Mask, seeds: Ids, height: Callable[[Box], Heights], part: Region, connectivity: int
) -> Flooded:
    """Give what is set to the seeds, by a watershed.

    A component with one seed belongs to it. Only one with several is flooded (Beucher and Meyer, "The morphological
    approach to segmentation: the watershed transformation", 1993, as in scikit-image); cutting it out changes nothing.

    Args:
        mask: (z, y, x) of the part and its surroundings.
        seeds: Ids of seeds, 0 elsewhere; of the mask's shape.
        height: Asked for what a watershed rises in, in a box of the mask.
        part: Of these arrays, for which the answer is.
        connectivity: 6 or 26 neighbours.
    """
    pieces = components(mask, connectivity)
    marked = seeds != 0
    seed, piece = seeds[marked], pieces[marked]
    owner = np.zeros(int(pieces.max(initial=0)) + 1, np.uint32)
    owner[piece] = seed
    several = np.unique(piece[owner[piece] != seed])
    here = pieces[part.slices]
    given = owner[here]
    if several.size:
        boxes = ndimage.find_objects(pieces)
        for number in np.intersect1d(several, fastremap.unique(here)).tolist():
            box = boxes[number - 1]
            own = pieces[box] == number
            names = _flood_piece(own, seeds[box], height(box), connectivity)
            _copy(names, own, box, given, part)
    return _numbered(given, here)


def _flood_piece(own: Mask, seeds: Ids, height: Heights, connectivity: int) -> Ids:
    """Seeds of all voxels of one component, which fills its box."""
    markers, names = fastremap.renumber(np.where(own, seeds, np.uint32(0)), preserve_zero=True)
    table = np.zeros(len(names) + 1, np.uint32)
    for name, marker in names.items():
        table[int(marker)] = name
    # One step of the neighbourhood along faces, three also along edges and corners.
    steps = 1 if connectivity == 6 else 3
    flooded: Ids = table[watershed(height, markers.astype(np.int32), connectivity=steps, mask=own)]
    return flooded


def _copy(names: Ids, own: Mask, box: Box, given: Ids, part: Region) -> None:
    """Copy what lies in the part into its array."""
    low = [max(a.start, b) for a, b in zip(box, part.start, strict=True)]
    high = [min(a.stop, b) for a, b in zip(box, part.stop, strict=True)]
    inner = tuple(slice(a - c.start, b - c.start) for a, b, c in zip(low, high, box, strict=True))
    outer = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, part.start, strict=True))
    np.copyto(given[outer], names[inner], where=own[inner])


def _numbered(given: Ids, pieces: Ids) -> Flooded:
    """Number seeds, and behind them the pieces that no seed reached."""
    unreached = np.where(given == 0, pieces, np.uint32(0))
    ids, names = fastremap.renumber(given, preserve_zero=True)
    names.pop(0, None)
    seeds = np.array([name for name, _ in sorted(names.items(), key=itemgetter(1))], np.uint32)
    rest, _ = fastremap.renumber(unreached, preserve_zero=True)
    ids = ids.astype(np.uint32, copy=False)
    np.copyto(ids, rest.astype(np.uint32) + np.uint32(len(seeds)), where=unreached != 0)
    return Flooded(ids, seeds)
