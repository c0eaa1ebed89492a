from __future__ import annotations

import asyncio
import contextlib

import psutil
import pytest

from biosegment.api.datastore.v1alpha1 import datastore_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Region
from tests.rpc.trainer.conftest import TrainerProcess
from tests.rpc.trainer.tiny import import_tiny_model, import_wide_volume


def workers(trainer: TrainerProcess) -> list[str]:
    """What Ray's workers are doing."""
    found = []
    for process in psutil.Process(trainer.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(" ".join(process.cmdline()))
    return [line for line in found if "ray::" in line]


@pytest.mark.system
@pytest.mark.timeout(240)
async def test_a_long_prediction_keeps_no_training_waiting_and_a_stuck_worker_is_killed(
    datastore, stopped_trainer, tmp_path
):
    trainer = stopped_trainer
    await trainer.start(BIOSEGMENT_TRAINER__RAY_IDLE_S="2")
    wide = await import_wide_volume(datastore)
    ada, reader = trainer.as_user("ada"), datastore.as_user("ada")
    model = await import_tiny_model(ada, tmp_path)
    spec = job_pb2.PredictSpec(model=model, volume=wide.name, passes=job_pb2.Passes(test_time_augmentation=8))
    long = await ada.create_job(predict=spec)
    async with asyncio.timeout(90):
        while not any("BlockActor" in line for line in workers(trainer)):
            await asyncio.sleep(0.1)
    for process in psutil.Process(trainer.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            for socket in process.net_connections("inet"):
                if socket.status == psutil.CONN_LISTEN:
                    assert socket.laddr.ip.removeprefix("::ffff:") in ("127.0.0.1", "::1"), (process, socket)
    # One step of it takes longer than anybody waits for a cancellation.
    stuck = await ada.create_job(
        pretrain=job_pb2.PretrainSpec(volumes=[wide.name], options={"batch_size": 4096, "patch_size": 128})
    )
    async with asyncio.timeout(90):
        while not any("ray::run" in line for line in workers(trainer)):
            await asyncio.sleep(0.1)
    await asyncio.sleep(3)
    assert (await ada.job(long.name)).state == job_pb2.Job.STATE_RUNNING
    loop = asyncio.get_running_loop()
    asked_s = loop.time()
    await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=stuck.name))
    last = await ada.finished(stuck, 90)
    print(f"cancelled after {loop.time() - asked_s:.1f} s")
    assert last.state == job_pb2.Job.STATE_CANCELLED
    async with asyncio.timeout(30):
        while any("ray::run" in line for line in workers(trainer)):
            await asyncio.sleep(0.1)
    objects = tmp_path / "objects"
    assert not list(objects.glob(f"{stuck.name}/**/*.*"))
    assert not list(objects.glob(f"models/{stuck.name.partition('-')[2]}*/**/*.*"))

    # The prediction went on meanwhile; cancelled, it leaves no layers.
    await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=long.name))
    assert (await ada.finished(long, 90)).state == job_pb2.Job.STATE_CANCELLED
    listed = await reader.datastore.ListLayers(datastore_pb2.ListLayersRequest(parent=wide.name))
    assert [layer.name for layer in listed.layers if layer.name.endswith("-labels")] == []

    # Ray is stopped when nobody has needed it for a while, and started again for the next job.
    async with asyncio.timeout(60):
        while psutil.Process(trainer.process.pid).children():
            await asyncio.sleep(0.2)
    spec.region.CopyFrom(region_to_proto(Region((0, 0, 0), (1, 200, 200))))
    spec.ClearField("passes")
    assert (await ada.succeeded(await ada.create_job(predict=spec))).result.layers
