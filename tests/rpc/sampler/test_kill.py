from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from biosegment import failpoint as failpoint_module
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.api.sampler.v1alpha1 import sampler_pb2_grpc
from biosegment.errors import Unavailable
from biosegment.rpc.channel import connect
from tests.rpc.sampler.conftest import Platform, eventually
from tests.rpc.sampler.foreign import PROJECT
from tests.rpc.sampler.test_loop import annotate, seeing_maps
from tests.servers.port import free_port


@contextmanager
def sampler_process(platform: Platform, port: int, failpoint: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A sampler process on the database of `platform`."""
    settings = platform.settings
    environment = {
        **os.environ,
        failpoint_module.VARIABLE: str(failpoint),
        "BIOSEGMENT_SAMPLER__LISTEN": f"127.0.0.1:{port}",
        "BIOSEGMENT_OBJECT_STORE_URL": settings.object_store_url,
        "BIOSEGMENT_SIGNING_KEY_FILE": str(settings.signing_key_file),
        "BIOSEGMENT_PUBLIC_KEYS_DIR": str(settings.public_keys_dir),
        "BIOSEGMENT_SAMPLER__DATABASE_URL": settings.database_url,
        "BIOSEGMENT_SAMPLER__DATASTORE_ADDRESS": settings.datastore_address,
        "BIOSEGMENT_SAMPLER__TRAINER_ADDRESS": settings.trainer_address,
        "BIOSEGMENT_SAMPLER__POLL_INTERVAL_S": "0.1",
    }
    process = subprocess.Popen([sys.executable, "-m", "biosegment_sampler"], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def killed(process: subprocess.Popen[bytes]) -> None:
    async def ended() -> bool:
        return process.poll() is not None

    await eventually(ended, 40)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("point", ["sampler.claim.before_commit", "sampler.claim.after_commit"])
async def test_a_claim_that_was_cut_off_is_answered_once_when_it_is_repeated(
    platform: Platform, tmp_path: Path, point: str
) -> None:
    await platform.pool()
    port, failpoint = free_port(), tmp_path / "failpoint"
    failpoint.write_text(point)
    request = pb.ClaimSamplesRequest(parent=PROJECT, count=2, request_id=str(uuid.uuid4()))
    metadata = platform.as_user("bob")
    channel = connect(f"127.0.0.1:{port}")
    stub = sampler_pb2_grpc.SamplerServiceStub(channel)

    async def claim() -> pb.ClaimSamplesResponse:
        while True:
            try:
                answer: pb.ClaimSamplesResponse = await stub.ClaimSamples(request, metadata=metadata)
                return answer
            except Unavailable:
                await asyncio.sleep(0.1)

    try:
        with sampler_process(platform, port, failpoint) as process:
            claiming = asyncio.create_task(claim())
            await killed(process)
        with sampler_process(platform, port, failpoint):
            async with asyncio.timeout(40):
                answer = await claiming
    finally:
        await channel.close()
    listed = await platform.stub.ListSamples(
        pb.ListSamplesRequest(parent=PROJECT, holder="bob"), metadata=metadata
    )
    assert sorted(sample.name for sample in listed.samples) == sorted(
        sample.name for sample in answer.samples
    )
    assert len(answer.samples) == 2


@pytest.mark.parametrize(
    "point",
    [
        "sampler.feed.applied",
        "sampler.training.requested",
        "sampler.scoring.requested",
        "sampler.scores.switched",
    ],
)
@pytest.mark.usefixtures("patient")
async def test_a_killed_loop_goes_on_where_it_was(platform: Platform, tmp_path: Path, point: str) -> None:
    await platform.update("retrain", retrain={"after_annotations": 2})
    samples = (await platform.claim("ann", count=2)).samples
    for sample in samples:
        platform.answer("ann", sample)
    failpoint = tmp_path / "failpoint"
    failpoint.write_text(point)

    async def trainer_works() -> None:
        while True:
            for job in list(platform.trainer.jobs.values()):
                if job.state == job_pb2.Job.STATE_RUNNING and job.spec.HasField("train"):
                    platform.trainer.finish_training(job)
                elif job.state == job_pb2.Job.STATE_RUNNING:
                    platform.trainer.finish_scoring(job, seeing_maps())
            await asyncio.sleep(0.05)

    async def scored() -> bool:
        return bool((await platform.pool()).scored_model)

    work = asyncio.create_task(trainer_works())
    try:
        with sampler_process(platform, free_port(), failpoint) as process:
            await killed(process)
        with sampler_process(platform, free_port(), failpoint):
            await eventually(scored, 40)
    finally:
        work.cancel()
    assert [len(platform.trainer.of_kind(kind)) for kind in ("train", "score")] == [1, 1]
    progress = await platform.stub.GetProgress(
        pb.GetProgressRequest(parent=PROJECT), metadata=platform.as_user("ann")
    )
    assert (progress.annotations, progress.new_annotations, progress.rounds) == (2, 0, 1)
    (answered,) = await annotate(platform, 1)
    assert answered.strategy == "entropy"
