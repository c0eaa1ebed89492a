"""What the tests of corrected objects share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np

from biosegment.client.resources import InstanceEdit
from biosegment.client.volumes import Volumes
from biosegment.volume import Region
from tests.rpc.datastore_server import Caller
from tests.unit.datastore.instances.reference import Plain

MITOCHONDRIA, MEMBRANE = 2, 3


async def now(caller: Caller, layer: str, region: Region | None = None, as_of: datetime | None = None) -> Any:
    return await Volumes(caller.channel).read(layer, region, with_edits=True, as_of=as_of)


def plain(edit: InstanceEdit, labels: Any = None) -> Plain:
    """An edit for the reference."""
    parts = dict(enumerate(edit.new_instances, 1)) if edit.kind == "split" else {}
    return Plain(edit.kind, list(edit.instances), edit.into, parts, edit.class_value, edit.region, labels)


def half(region: Region) -> Any:
    """1 in the right half of a region."""
    labels = np.zeros(region.shape, np.uint8)
    labels[:, :, region.shape.x // 2 :] = 1
    return labels


FIVE = Region.of_shape((6, 10, 30), (0, 10, 10))
RIGHT = Region.of_shape((6, 10, 15), (0, 10, 25))
"""The half of 5 that is split off."""
VOXEL = Region.of_shape((1, 1, 1), (0, 10, 10))
ONE = np.ones((1, 1, 1), np.uint8)
