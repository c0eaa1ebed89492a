from __future__ import annotations

import os
import subprocess

import pytest

from biosegment.auth import SERVICES, generate_key
from biosegment.ids import new_id
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.objects import open_blocking_objects
from tests.servers import environment_bucket, environment_s3, moto_s3, radosgw_s3


@pytest.fixture(scope="session")
def moto():
    with moto_s3() as server:
        yield server


@pytest.fixture(scope="session")
def radosgw():
    with radosgw_s3() as server:
        yield server


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """A folder with a key pair of every service."""
    folder = tmp_path_factory.mktemp("keys")
    for service in SERVICES:
        generate_key(service, folder)
    return folder


STORES = (
    "folder",
    "moto",
    pytest.param("radosgw", marks=pytest.mark.system),
    pytest.param("environment", marks=pytest.mark.system),
)


@pytest.fixture(params=STORES)
def store_settings(request, tmp_path):
    """Settings of an empty store: one suite, every kind of store."""
    if request.param == "folder":
        yield ObjectStoreSettings(object_store_url=f"file://{tmp_path}/store")
    elif request.param == "environment":
        settings = environment_s3().settings(environment_bucket(), f"test-{new_id()}")
        yield settings
        store = open_blocking_objects(settings)
        for key in store.list(""):
            store.delete(key)
        store.close()
    else:
        server = request.getfixturevalue(request.param)
        yield server.settings(f"bucket-{new_id()}", "some/prefix")


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
