from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from biosegment.client.instances import Instances
from biosegment.client.volumes import Volumes
from tests.rpc.datastore_server import Caller


@pytest.fixture
def objects(image: Any) -> Any:
    """(6, 70, 90) uint32: 5 and 7 touch, 9 and 300 lie apart; 5 is a bar through all slices."""
    ids = np.zeros(image.shape, np.uint32)
    ids[:, 10:20, 10:40] = 5
    ids[:, 20:30, 10:40] = 7
    ids[2:4, 40:60, 50:80] = 9
    ids[0, 0:4, 0:4] = 300
    return ids


@pytest.fixture
async def layer(ada: Caller, volume: Any, objects: Any) -> str:
    """Of no class and from nowhere."""
    return (await Volumes(ada.channel).write_layer(volume.name, objects, kind="instances")).name


@pytest.fixture
def client(ada: Caller) -> Instances:
    return Instances(ada.channel)
