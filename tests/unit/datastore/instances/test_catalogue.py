from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from biosegment_datastore.instances.catalogue import Catalogue, catalogue_of, slabs

from biosegment.errors import FailedPrecondition, Internal
from biosegment.volume import Index, Region


@pytest.mark.parametrize("data_type", ["uint32", "uint64"])
@pytest.mark.parametrize("edge", [3, 7, 100])
def test_objects_are_listed_with_their_boxes_however_the_layer_is_cut(data_type: str, edge: int) -> None:
    random = np.random.default_rng(edge)
    voxels = (random.integers(0, 40, (9, 11, 13)) * 5).astype(data_type)
    seen: list[Region] = []
    parts = slabs(voxels.shape, voxels.dtype.itemsize, (edge, edge, edge), 1 << 30)
    found = catalogue_of(parts, lambda part: voxels[part.slices], seen.append)
    assert found.ids.tolist() == sorted(set(np.unique(voxels).tolist()) - {0})
    for instance, count in zip(found.ids.tolist(), found.counts.tolist(), strict=True):
        places = np.argwhere(voxels == instance)
        assert count == len(places)
        assert found.place(instance) == Region(
            Index(*places.min(axis=0).tolist()), Index(*(places.max(axis=0) + 1).tolist())
        )
    assert sum(part.size for part in seen) == voxels.size
    assert found.largest == int(voxels.max())
    assert 3 not in found
    assert found.place(3) is None
    again = Catalogue.decode(found.encode())
    assert again.ids.tolist() == found.ids.tolist()
    assert (again.starts == found.starts).all()
    assert (again.stops == found.stops).all()


def test_a_layer_without_objects_has_an_empty_list() -> None:
    found = _of(np.zeros((2, 3, 4), np.uint32))
    assert (found.ids.size, found.largest) == (0, 0)
    assert 1 not in Catalogue.decode(found.encode())


def test_ids_that_no_database_holds_are_refused() -> None:
    voxels = np.zeros((1, 1, 2), np.uint64)
    voxels[0, 0, 1] = (1 << 63) - 1
    with pytest.raises(FailedPrecondition) as caught:
        _of(voxels)
    assert caught.value.reason == "INSTANCE_IDS_TOO_LARGE"


def test_a_damaged_list_is_told() -> None:
    data = _of(np.ones((1, 1, 1), np.uint32)).encode()
    for damaged in (b"", b"nonsense", data[: len(data) // 2]):
        with pytest.raises(Internal) as caught:
            Catalogue.decode(damaged)
        assert caught.value.reason == "CATALOGUE_CORRUPT"


@pytest.mark.parametrize("limit_bytes", [100, 4000, 1 << 20])
def test_slabs_cover_every_voxel_once(limit_bytes: int) -> None:
    count = np.zeros((10, 9, 8), int)
    for part in slabs(count.shape, 4, (4, 5, 8), limit_bytes):
        count[part.slices] += 1
    assert (count == 1).all()


def _of(voxels: Any) -> Catalogue:
    return catalogue_of([Region.of_shape(voxels.shape)], lambda part: voxels[part.slices], lambda part: None)
