"""An S3 store that is down, silent or slow to come back, and where its credentials never are."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.auth import SERVICES, Kind, Principal, PrincipalSigner, generate_key
from biosegment.errors import BiosegmentError, Unavailable
from biosegment.ids import new_id
from biosegment.rpc.channel import CallPolicy, ServiceCredentials, connect
from biosegment.settings import ObjectStoreSettings
from biosegment.volume import Region
from tests.rpc.datastore.test_datastore_transfers import begin, send
from tests.rpc.datastore_server import Caller, RunningDatastore, datastore_settings, running_datastore
from tests.servers import Proxy, S3Server, Weather, bad_network, moto_s3
from tests.servers.port import free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

SECRET = "Zq7-very-secret-access-key-91Xw"
KEY_ID = "AKIDNOTTOBESEEN42"
SIZE = geometry_pb2.VoxelSize(z_nm=30, y_nm=8, x_nm=8)
SOON_S = 60.0
"""A bound for hanging, not a target: requests time out after 2 s here and are tried three times at most."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for service in SERVICES:
        generate_key(service, folder)
    return folder


@pytest.fixture(scope="module")
def network() -> Iterator[tuple[Proxy, S3Server]]:
    with moto_s3() as moto, bad_network(S3Server(moto.endpoint_url, KEY_ID, SECRET)) as found:
        yield found


@pytest.fixture
def proxy(network: tuple[Proxy, S3Server]) -> Iterator[Proxy]:
    yield network[0]
    network[0].set(Weather.FAIR)


@pytest.fixture
def store(network: tuple[Proxy, S3Server]) -> ObjectStoreSettings:
    return network[1].settings(f"bucket-{new_id()}").model_copy(update={"s3_timeout_s": 2.0})


def values(store: ObjectStoreSettings) -> dict[str, Any]:
    return {name: getattr(store, name) for name in ObjectStoreSettings.model_fields}


@pytest.fixture
async def datastore(
    tmp_path: Path, keys: Path, store: ObjectStoreSettings
) -> AsyncIterator[RunningDatastore]:
    async with running_datastore(tmp_path, keys, **values(store)) as running:
        yield running


def image() -> Any:
    return np.random.default_rng(1).integers(0, 256, (20, 150, 170), np.uint8)


@pytest.mark.parametrize("weather", [Weather.CUT, Weather.STALLED])
async def test_an_outage_is_unavailable_with_a_word_on_it_and_leaves_nothing_torn(
    datastore: RunningDatastore, proxy: Proxy, weather: Weather
) -> None:
    ada = datastore.as_user("ada")
    project = await ada.create_project("em")
    volume = await ada.import_volume(project.name, datastore.write_tiff("stack.tif", image()), "brain")
    upload = await begin(ada, project, 5000)
    await send(ada, upload.name, bytes(2000))
    region = Region.of_shape((1, 30, 30), (2, 5, 5))
    await ada.commit(volume.name, region, np.full(region.shape, 2))
    before = proxy.connections
    proxy.set(weather)
    other = Region.of_shape((1, 30, 30), (9, 5, 5))
    calls = (
        ada.read(volume.name),
        ada.commit(volume.name, other, np.full(other.shape, 2)),
        send(ada, upload.name, b"x" * 3000, 2000),
    )
    began = time.monotonic()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert time.monotonic() - began < SOON_S
    for result in results:
        assert isinstance(result, Unavailable), result
        assert result.reason == "OBJECT_STORE_UNAVAILABLE"
        assert "object storage" in result.message
        assert SECRET not in result.message
        assert KEY_ID not in result.message
    assert proxy.connections - before > len(calls)  # tried more than once
    # What needs no object store goes on.
    assert (await ada.datastore.GetVolume(pb.GetVolumeRequest(name=volume.name))).volume == volume
    proxy.set(Weather.FAIR)
    expected = np.zeros(image().shape, np.uint8)
    expected[region.slices] = 2
    async with asyncio.timeout(SOON_S):
        while True:
            try:
                assert (await ada.read(f"{volume.name}/layers/annotations") == expected).all()
                break
            except Unavailable:
                await asyncio.sleep(0.2)
    assert (await ada.read(volume.name) == image()).all()
    present = (await ada.datastore.GetUpload(pb.GetUploadRequest(name=upload.name))).upload
    assert present.received_bytes == 2000
    assert (await send(ada, upload.name, b"x" * 3000, 2000)).received_bytes == 5000
    await ada.commit(volume.name, other, np.full(other.shape, 2))
    expected[other.slices] = 2
    assert (await ada.read(f"{volume.name}/layers/annotations") == expected).all()


async def test_an_import_during_an_outage_fails_with_its_reason_leaves_nothing_and_works_when_repeated(
    datastore: RunningDatastore, proxy: Proxy
) -> None:
    ada = datastore.as_user("ada")
    project = await ada.create_project("em")
    spec = job_pb2.ImportVolumeSpec(
        uri=str(datastore.write_tiff("stack.tif", image())), voxel_size=SIZE, volume_id="brain"
    )
    proxy.set(Weather.CUT)
    job = await ada.finished(await ada.create_job(project.name, import_volume=spec), 120)
    assert (job.state, job.error.reason) == (job_pb2.Job.STATE_FAILED, "OBJECT_STORE_UNAVAILABLE")
    proxy.set(Weather.FAIR)
    retried = (await ada.jobs.RetryJob(job_pb2.RetryJobRequest(name=job.name))).job
    again = await ada.finished(retried, 120)
    assert again.state == job_pb2.Job.STATE_SUCCEEDED, again.error
    assert (await ada.read(again.result.volume) == image()).all()
    await datastore.parts.collector.collect()
    assert len({key.split("/")[1] for key in await datastore.parts.objects.list("volumes/")}) == 1


def seen_of(process: psutil.Process) -> bytes:
    """Command line and environment of a process."""
    folder = Path(f"/proc/{process.pid}")
    try:
        return (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
    except OSError:
        return b""


async def test_the_secret_is_nowhere_but_in_the_service_that_was_given_it(
    tmp_path: Path, keys: Path, store: ObjectStoreSettings, proxy: Proxy
) -> None:
    secret_file = tmp_path / "secret"
    secret_file.write_text(SECRET)
    settings = datastore_settings(tmp_path, keys, **values(store), listen=f"127.0.0.1:{free_port()}")
    own = ("listen", "database_url", "signing_key_file", "public_keys_dir", "import_roots", "scratch_dir")
    names = (*own, "object_store_url", "s3_endpoint_url", "s3_access_key_id", "s3_timeout_s")
    prefix = "BIOSEGMENT_DATASTORE__"
    environment = {**os.environ, **{prefix + name.upper(): str(getattr(settings, name)) for name in names}}
    environment[f"{prefix}S3_SECRET_ACCESS_KEY_FILE"] = str(secret_file)
    environment[f"{prefix}LOG_LEVEL"] = "DEBUG"
    command = [sys.executable, "-m", "biosegment_datastore"]
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    logged, shown = asyncio.ensure_future(process.communicate()), bytearray()
    credentials = ServiceCredentials(PrincipalSigner("gateway", keys / "gateway.key"), "datastore")
    token = credentials.token(Principal(Kind.USER, "ada"))
    parent = psutil.Process(process.pid)
    try:
        async with connect(
            settings.listen, credentials=lambda: token, policy=CallPolicy(attempts=200)
        ) as channel:
            ada = Caller(channel)
            await ada.datastore.ListProjects(
                pb.ListProjectsRequest()
            )  # may be repeated: waits for the process
            children = asyncio.ensure_future(watched(parent, shown))
            project = await ada.create_project("em")
            path = tmp_path / "imports" / "stack.tif"
            await asyncio.to_thread(write_image, path)
            volume = await ada.import_volume(project.name, path, "brain")
            proxy.set(Weather.CUT)
            with pytest.raises(BiosegmentError) as error:
                await ada.read(volume.name)
            spec = job_pb2.ImportVolumeSpec(uri=str(path), voxel_size=SIZE)
            failed = await ada.finished(await ada.create_job(project.name, import_volume=spec), 120)
            request = job_pb2.ListJobLogsRequest(name=failed.name, page_size=1000)
            lines = await ada.jobs.ListJobLogs(request)
            proxy.set(Weather.FAIR)
            children.cancel()
    finally:
        parent.terminate()
        said = b"".join(await logged)
    shown += said + str(failed).encode() + str(lines).encode() + repr(error.value).encode()
    shown += str(error.value.metadata).encode() + str(volume).encode()
    assert b"OBJECT_STORE_UNAVAILABLE" in shown  # the failure was seen
    assert b"biosegment_datastore.worker" in shown  # and so was the process that reads files
    stored = await stored_objects(store)
    stored |= {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    del stored[str(secret_file)]
    assert any(name.endswith("zarr.json") for name in stored)
    for name, content in {**stored, "shown": bytes(shown)}.items():
        assert SECRET.encode() not in content, name
    assert KEY_ID.encode() not in said


def write_image(path: Path) -> None:
    import tifffile

    tifffile.imwrite(path, image(), photometric="minisblack")


async def watched(parent: psutil.Process, shown: bytearray) -> None:
    """What anybody may see of the service's child processes, as long as it is not cancelled."""
    while True:
        for child in parent.children(recursive=True):
            shown += seen_of(child)
        await asyncio.sleep(0.02)


async def stored_objects(store: ObjectStoreSettings) -> dict[str, bytes]:
    from biosegment.storage.objects import open_objects

    objects = open_objects(store)
    try:
        return {key: await objects.get(key) for key in await objects.list("")}
    finally:
        await objects.close()
