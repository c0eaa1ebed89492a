from __future__ import annotations

import pytest

from biosegment.settings import ObjectStoreSettings
from biosegment.storage.arrays import Arrays
from biosegment.storage.objects import open_blocking_objects


@pytest.fixture
def store_settings(tmp_path):
    return ObjectStoreSettings(object_store_url=f"file://{tmp_path}/store")


@pytest.fixture
def objects(store_settings):
    return open_blocking_objects(store_settings)


@pytest.fixture
def arrays(store_settings):
    return Arrays(store_settings)
