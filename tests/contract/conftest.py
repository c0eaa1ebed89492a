from __future__ import annotations

import os
import subprocess

import pytest

from biosegment.ids import new_id
from biosegment.settings import ObjectStoreSettings
from tests.servers import moto_s3, radosgw_s3


@pytest.fixture(scope="session")
def moto():
    with moto_s3() as server:
        yield server


@pytest.fixture(scope="session")
def radosgw():
    with radosgw_s3() as server:
        yield server


@pytest.fixture(params=["folder", "moto", pytest.param("radosgw", marks=pytest.mark.system)])
def store_settings(request, tmp_path):
    """Settings of an empty store: one suite, every kind of store."""
    if request.param == "folder":
        return ObjectStoreSettings(object_store_url=f"file://{tmp_path}/store")
    server = request.getfixturevalue(request.param)
    return server.settings(f"bucket-{new_id()}", "some/prefix")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB; mounting one takes root."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
