"""A datastore and a trainer for all tests of a file, whose Ray stays warm; each test has a project of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.rpc.datastore_server import RunningDatastore, running_datastore
from tests.rpc.trainer.conftest import Stubs, TrainerProcess, import_discs, running_trainer

_NUMBERS = itertools.count()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def datastore(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> AsyncIterator[RunningDatastore]:
    async with running_datastore(tmp_path_factory.mktemp("warm"), keys) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def trainer(datastore: RunningDatastore, keys: Path) -> AsyncIterator[TrainerProcess]:
    async with running_trainer(datastore.imports.parent, keys, datastore) as running:
        yield running


@pytest.fixture
def project_id() -> str:
    """Of the test's own project, which it makes."""
    return f"em-{next(_NUMBERS)}"


@pytest_asyncio.fixture(loop_scope="module")
async def em(datastore: RunningDatastore, project_id: str) -> Any:
    return await import_discs(datastore, project_id)


@pytest_asyncio.fixture(loop_scope="module")
async def ada(trainer: TrainerProcess, project_id: str) -> Stubs:
    return trainer.as_user("ada", f"projects/{project_id}")
