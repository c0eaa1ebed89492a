"""Files through the SDK: damaged on the way, broken off, the server restarted, begun by another process."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from biosegment.api.datastore.v1alpha1 import datastore_pb2 as pb
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.client import transfer
from biosegment.client.volumes import Volumes
from biosegment.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, Unavailable
from tests.rpc.datastore.test_datastore_transfers import begin
from tests.rpc.datastore_server import Caller, RunningDatastore, running_datastore
from tests.servers import Proxy, S3Server, Weather, bad_network
from tests.servers.port import free_port

SIZE_BYTES = 40_000_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.tif"
    path.write_bytes(os.urandom(SIZE_BYTES))
    return path


async def stored(datastore: RunningDatastore, name: str) -> bytes:
    project_id, upload_id = name.split("/")[1], name.split("/")[3]
    prefix = f"projects/{project_id}/uploads/{upload_id}/"
    objects = datastore.parts.objects
    return b"".join([await objects.get(key) for key in await objects.list(prefix)])


@pytest.fixture
def calls_of_five_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_CALL_BYTES", 5 << 20)


@pytest.mark.usefixtures("calls_of_five_megabytes")
async def test_a_file_goes_in_several_calls_and_another_process_continues_it(
    datastore: RunningDatastore, ada: Caller, project: Any, source: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        assert total == SIZE_BYTES
        if done > 12_000_000:
            raise Stop

    with pytest.raises(Stop):
        await Volumes(ada.channel).upload(project.name, source, on_progress=stop)
    progress: list[int] = []
    again = Volumes(datastore.as_user("ada").channel)
    name = await again.upload(project.name, source, on_progress=lambda done, _: progress.append(done))
    assert 12_000_000 < progress[0] < SIZE_BYTES
    assert progress[-1] == SIZE_BYTES
    assert await stored(datastore, name) == source.read_bytes()
    assert await again.upload(project.name, source, name=name) == name
    # A file that was changed is another one.
    source.write_bytes(b"x" * SIZE_BYTES)
    assert await again.upload(project.name, source) != name
    small = source.with_name("small.tif")
    small.write_bytes(b"small")
    with pytest.raises(FailedPrecondition) as other:
        await again.upload(project.name, small, name=name)
    assert other.value.reason == "OTHER_FILE"


async def test_a_file_may_be_imported_twice_at_the_same_time(
    datastore: RunningDatastore, ada: Caller, project: Any, image: Any
) -> None:
    """Each import drops its upload at its end."""
    path = datastore.write_tiff("twice.tif", image)
    jobs = []
    for number in range(2):
        upload = await Volumes(ada.channel).upload(project.name, path)
        size = geometry_pb2.VoxelSize(z_nm=30, y_nm=8, x_nm=8)
        spec = job_pb2.ImportVolumeSpec(volume_id=f"v{number}", upload=upload, voxel_size=size)
        jobs.append(await ada.create_job(project.name, import_volume=spec))
    for job in jobs:
        ended = await ada.finished(job)
        assert ended.state == job_pb2.Job.STATE_SUCCEEDED, ended.error


async def test_two_users_may_send_the_same_file(
    datastore: RunningDatastore, ada: Caller, project: Any
) -> None:
    path = datastore.imports / "small.tif"
    path.write_bytes(b"small")
    first = await Volumes(ada.channel).upload(project.name, path)
    root = Volumes(datastore.as_user("root", is_admin=True).channel)
    assert await root.upload(project.name, path) != first
    await ada.datastore.DeleteUpload(pb.DeleteUploadRequest(name=first))
    assert await Volumes(ada.channel).upload(project.name, path) != first


async def test_an_upload_goes_on_after_the_connection_broke_and_the_server_was_restarted(
    tmp_path: Path, keys: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_CALL_BYTES", 5 << 20)
    port = free_port()
    async with running_datastore(tmp_path, keys, listen=f"127.0.0.1:{port}") as datastore:
        ada = datastore.as_user("ada")
        project = await ada.create_project("em")
        with bad_network(S3Server(f"http://127.0.0.1:{port}", "", "")) as (proxy, _):
            through = caller_through(datastore, proxy)
            cut = asyncio.Event()

            def on_progress(done: int, _: int) -> None:
                if done > 8_000_000 and not cut.is_set():
                    cut.set()
                    proxy.set(Weather.CUT)
                    asyncio.get_running_loop().call_later(0.3, proxy.set, Weather.FAIR)

            name = await Volumes(through.channel).upload(project.name, source, on_progress=on_progress)
            assert cut.is_set()
            assert await stored(datastore, name) == source.read_bytes()
            await through.channel.close()

            def stop(done: int, _: int) -> None:
                if done > 10_000_000:
                    raise KeyError("stop")

            other = source.with_name("other.tif")
            other.write_bytes(os.urandom(SIZE_BYTES))
            with pytest.raises(KeyError):
                await Volumes(ada.channel).upload(project.name, other, on_progress=stop)
    async with running_datastore(tmp_path, keys) as restarted:
        seen: list[int] = []
        volumes = Volumes(restarted.as_user("ada").channel)
        name = await volumes.upload(project.name, other, on_progress=lambda done, _: seen.append(done))
        assert seen[0] > 10_000_000
        assert await stored(restarted, name) == other.read_bytes()


def caller_through(datastore: RunningDatastore, proxy: Proxy) -> Caller:
    """Ada, over the proxy, with the SDK's patience."""
    from biosegment.auth import Kind, Principal
    from biosegment.rpc.channel import CallPolicy, ServiceCredentials, connect

    credentials = ServiceCredentials(datastore.signer("gateway"), "datastore")
    token = credentials.token(Principal(Kind.USER, "ada"))
    return Caller(
        connect(f"127.0.0.1:{proxy.port}", credentials=lambda: token, policy=CallPolicy(attempts=12))
    )


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [({"max_project_uploads": 2}, (10, 10)), ({"max_project_upload_bytes": 100}, (60,))],
)
async def test_a_project_may_have_so_many_uploads_waiting_and_no_more(
    tmp_path: Path, keys: Path, limits: dict[str, int], sizes: tuple[int, ...]
) -> None:
    async with running_datastore(tmp_path, keys, **limits) as datastore:
        ada = datastore.as_user("ada")
        project = await ada.create_project("em")
        first, *_ = [await begin(ada, project, size) for size in sizes]
        with pytest.raises(ResourceExhausted) as caught:
            await begin(ada, project, 50)
        assert caught.value.reason == "TOO_MANY_UPLOADS"
        await begin(ada, await ada.create_project("other"), 50)
        await ada.datastore.DeleteUpload(pb.DeleteUploadRequest(name=first.name))
        await begin(ada, project, 50)


@pytest.mark.parametrize(
    "name", ["../x.tif", "..\\x.tif", "/etc/passwd", ".hidden", "a\0b", "a\nb", "x" * 201]
)
async def test_a_file_name_that_could_leave_its_folder_is_refused(
    ada: Caller, project: Any, name: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await begin(ada, project, 10, name)
    assert caught.value.reason == "BAD_FILE_NAME"


@pytest.fixture
async def artifact(ada: Caller, project: Any, volume: Any) -> Any:
    spec = job_pb2.ExportSpec(format=job_pb2.ExportSpec.FORMAT_OME_TIFF, source=volume.name)
    job = await ada.finished(await ada.create_job(project.name, export=spec))
    assert job.state == job_pb2.Job.STATE_SUCCEEDED, job.error
    return (await ada.datastore.GetArtifact(pb.GetArtifactRequest(name=job.result.artifact))).artifact


class Damaging(grpc.aio.UnaryStreamClientInterceptor):
    """A network that changes a byte, or ends a stream early, some times."""

    def __init__(self, harm: str, times: int) -> None:
        self.harm, self.times = harm, times

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        call = await continuation(client_call_details, request)
        return self._harmed(call) if b"ReadArtifact" in client_call_details.method else call

    async def _harmed(self, call: Any) -> AsyncIterator[Any]:
        async for answer in call:
            if self.times > 0:
                self.times -= 1
                if self.harm == "end":
                    half = answer.data[: len(answer.data) // 2]
                    import google_crc32c

                    yield pb.ReadArtifactResponse(
                        offset=answer.offset, data=half, crc32c=google_crc32c.value(half)
                    )
                    return
                answer.data = answer.data[:-1] + bytes((answer.data[-1] ^ 1,))
            yield answer


def volumes_over(datastore: RunningDatastore, harm: str, times: int) -> Volumes:
    token = ServiceToken(datastore)
    channel = grpc.aio.insecure_channel(datastore.address, interceptors=[token, Damaging(harm, times)])
    datastore._channels.append(channel)
    volumes = Volumes(datastore.as_user("ada").channel)
    volumes._stub.ReadArtifact = type(volumes._stub)(channel).ReadArtifact
    return volumes


class ServiceToken(grpc.aio.UnaryStreamClientInterceptor):
    """Says who asks."""

    def __init__(self, datastore: RunningDatastore) -> None:
        from biosegment.auth import Kind, Principal
        from biosegment.rpc.channel import ServiceCredentials

        credentials = ServiceCredentials(datastore.signer("gateway"), "datastore")
        self._metadata = credentials.metadata(Principal(Kind.USER, "ada"))

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        details = client_call_details._replace(metadata=grpc.aio.Metadata(*self._metadata))
        return await continuation(details, request)


@pytest.mark.parametrize("harm", ["end", "byte"])
async def test_a_download_that_is_cut_or_damaged_is_mended(
    datastore: RunningDatastore, artifact: Any, tmp_path: Path, harm: str
) -> None:
    path = await volumes_over(datastore, harm, 2).download(artifact.name, tmp_path / "out.tif")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == artifact.sha256
    assert not path.with_name("out.tif.part").exists()


async def test_a_download_that_is_always_damaged_fails_and_leaves_no_file(
    datastore: RunningDatastore, artifact: Any, tmp_path: Path
) -> None:
    path = tmp_path / "out.tif"
    with pytest.raises(Unavailable) as caught:
        await volumes_over(datastore, "byte", 100).download(artifact.name, path)
    assert caught.value.reason == "DOWNLOAD_DAMAGED"
    assert not path.exists()


@pytest.mark.parametrize("part", ["beginning", "other", "longer"])
async def test_a_download_goes_on_with_what_is_there_and_notices_another_file(
    datastore: RunningDatastore, ada: Caller, artifact: Any, tmp_path: Path, part: str
) -> None:
    volumes = Volumes(ada.channel)
    whole = (await volumes.download(artifact.name, tmp_path / "whole.tif")).read_bytes()
    content = {"beginning": whole[:10_000], "other": b"x" * 10_000, "longer": whole + b"x"}[part]
    (tmp_path / "again.tif.part").write_bytes(content)
    path = await volumes.download(artifact.name, tmp_path / "again.tif")
    assert path.read_bytes() == whole
