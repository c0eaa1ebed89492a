"""What the tests of readers share: a volume that shows every mix-up of axes, and what must hold of a reader."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from biosegment_datastore.formats.detection import open_source
from biosegment_datastore.formats.source import ACCEPTED, ACCEPTED_LABELS, SourceOptions

from biosegment.errors import BiosegmentError

SHAPE = (7, 33, 47)


def noise(dtype: Any = "uint8", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Values over all of an integer's range; another number in every voxel of a float volume."""
    kind = np.dtype(dtype)
    random = np.random.default_rng(0)
    if kind.kind == "f":
        return random.normal(size=shape).astype(kind)
    limits = np.iinfo(kind)
    return random.integers(limits.min, limits.max, shape, endpoint=True, dtype=kind.newbyteorder("=")).astype(
        kind
    )


def options(scratch_dir: Path, **values: Any) -> SourceOptions:
    return SourceOptions(scratch_dir=scratch_dir, **values)


def labels_too() -> SourceOptions:
    return SourceOptions(accepted=(*ACCEPTED, *ACCEPTED_LABELS))


def assert_reads(path: Path, expected: np.ndarray, given: SourceOptions | None = None) -> None:
    with open_source(path, given) as source:
        assert source.shape == expected.shape
        assert source.dtype == expected.dtype.newbyteorder("=")
        assert source.dtype.isnative
        depth = len(expected)
        assert np.array_equal(source.read_slab(0, depth), expected)
        assert np.array_equal(source.read_slab(2, 5), expected[2:5])
        last = source.read_slab(depth - 1, depth)
        assert np.array_equal(last, expected[-1:])
        assert last.dtype == source.dtype
        assert last.flags.c_contiguous


def refused(path: Path, given: SourceOptions | None = None) -> str:
    """The reason for which a file is refused, when it is opened or read."""
    with pytest.raises(BiosegmentError) as error, open_source(path, given) as source:
        source.read_slab(0, source.shape.z)
    assert path.name in error.value.message
    return error.value.reason


def opened_since(before: list[str]) -> list[str]:
    """Files of this process that were not open then; others may be closed meanwhile, by threads of chunk stores."""
    return sorted((Counter(open_files()) - Counter(before)).elements())


def open_files() -> list[str]:
    """Files of this process; its sockets and pipes are others' and come and go."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(each))
        except FileNotFoundError:
            continue  # the listing's own
    return sorted(name for name in found if name.startswith("/"))
