from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.rpc.datastore_server import Caller, RunningDatastore, running_datastore


@pytest.fixture
async def datastore(tmp_path: Path, keys: Path) -> AsyncIterator[RunningDatastore]:
    async with running_datastore(tmp_path, keys) as running:
        yield running


@pytest.fixture
def ada(datastore: RunningDatastore) -> Caller:
    """Who owns the projects."""
    return datastore.as_user("ada")


@pytest.fixture
def image() -> Any:
    """(6, 70, 90) uint8"""
    return np.random.default_rng(1).integers(0, 256, (6, 70, 90), np.uint8)


@pytest.fixture
async def project(ada: Caller) -> Any:
    return await ada.create_project("em", ("mitochondria", "membrane"))


@pytest.fixture
async def volume(datastore: RunningDatastore, ada: Caller, project: Any, image: Any) -> Any:
    return await ada.import_volume(project.name, datastore.write_tiff("stack.tif", image), "brain")
