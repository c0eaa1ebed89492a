"""One training that outlives whatever can die under it, on a cluster of several nodes, reached by its address."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2
from biosegment.errors import FailedPrecondition
from tests.rpc.trainer.conftest import Stubs, TrainerProcess, annotate, free_address
from tests.rpc.trainer.ray_cluster import RayCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(420)]
STEPS: dict[str, Any] = {"batch_size": 2, "patch_size": 32, "checkpoint_steps": 5}


@pytest.fixture
async def cluster(tmp_path):
    found = [await RayCluster.start(int(free_address().rpartition(":")[2]), tmp_path / "cluster.log")]
    yield found
    await found[0].close()


def environment(cluster: RayCluster, token: Path) -> dict[str, str]:
    prefix = "BIOSEGMENT_TRAINER__RAY_"
    return {
        f"{prefix}ADDRESS": cluster.address,
        f"{prefix}TOKEN_FILE": str(token),
        "BIOSEGMENT_TRAINER__WORKER_SILENCE_S": "8",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


async def trains(ada: Stubs, job: Any, attempt: int, objects: Path) -> None:
    """Until an attempt has written checkpoints of its own."""
    async with asyncio.timeout(90):
        while True:
            now = await ada.job(job.name)
            assert now.state in (job_pb2.Job.STATE_QUEUED, job_pb2.Job.STATE_RUNNING), await ada.log(job.name)
            if list((objects / job.name / f"attempt-{attempt}").glob("*.pt")):
                assert now.attempt == attempt
                return
            await asyncio.sleep(0.2)


async def said(ada: Stubs, job: Any, text: str) -> None:
    async with asyncio.timeout(60):
        while text not in await ada.log(job.name):
            await asyncio.sleep(0.2)


def worker(cluster: RayCluster) -> psutil.Process:
    """The process that trains."""
    for process in cluster.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "ray::run" in " ".join(process.cmdline()):
                return process
    raise AssertionError("nobody trains")


async def test_a_training_outlives_its_worker_its_node_its_trainer_and_the_whole_cluster(
    datastore, em, stopped_trainer: TrainerProcess, cluster: list[RayCluster], tmp_path
):
    trainer = stopped_trainer
    ada, objects = trainer.as_user("ada"), tmp_path / "objects"
    await annotate(datastore, em)
    token = tmp_path / "token"
    token.write_text("0" * 32)
    await trainer.start(**environment(cluster[0], token))

    # With a wrong token nothing fails: the job waits, and says for what.
    job = await ada.create_job(train=job_pb2.TrainSpec(max_steps=700, seed=3, options=STEPS))
    await said(ada, job, "does not take this trainer's token")
    now = await ada.job(job.name)
    assert now.attempt == 1
    # Nobody knows yet what it will reserve.
    assert not now.HasField("resources")
    token.write_text(cluster[0].token)
    await trainer.stop()
    await trainer.start(**environment(cluster[0], token))
    await trains(ada, job, 2, objects)
    assert (await ada.job(job.name)).resources.cpus == 1
    for process in [psutil.Process(trainer.process.pid), *cluster[0].processes()]:
        with contextlib.suppress(psutil.NoSuchProcess):
            assert cluster[0].token not in " ".join(process.cmdline())
    spec = job_pb2.TrainSpec(resources=job_pb2.Resources(cpus=2))
    with pytest.raises(FailedPrecondition) as refused:
        await ada.create_job(train=spec)
    assert refused.value.reason == "NO_NODE_LARGE_ENOUGH"

    # Its worker dies: that counts against it.
    worker(cluster[0]).kill()
    await trains(ada, job, 3, objects)
    assert "crashed: the worker died" in await ada.log(job.name)

    # Its node is cut off and dies: that does not; and its worker outlives it until the next attempt is well under way.
    orphan = worker(cluster[0])
    orphan.send_signal(signal.SIGSTOP)
    await cluster[0].say("kill")
    await cluster[0].say("add")
    await trains(ada, job, 4, objects)
    # Ray says so, or nobody: then the silence of the worker does.
    assert "\nlost: the worker" in await ada.log(job.name)
    folder = objects / job.name
    before = {path.name for path in (folder / "attempt-3").glob("*")}
    # Ray may have killed it already, when its node was given up.
    with contextlib.suppress(psutil.NoSuchProcess):
        orphan.send_signal(signal.SIGCONT)
        async with asyncio.timeout(30):
            while orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.05)
    # Whatever the orphan still wrote, and what a slower one would write next, counts for nothing.
    late = sorted((folder / "attempt-3").glob("*.pt"))[-1]
    late.with_name("step-00000699.pt").write_bytes(late.read_bytes())
    bundle = objects / "models" / f"{job.name.partition('-')[2]}-3" / "models"
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "model.pt").write_bytes(b"of an orphan")
    print("the orphan wrote", {path.name for path in (folder / "attempt-3").glob("*")} - before)

    # Everything dies at once.
    await trainer.kill()
    port = int(cluster[0].address.rpartition(":")[2])
    await cluster[0].kill()
    cluster[0] = await RayCluster.start(port, tmp_path / "cluster.log")
    token.write_text(cluster[0].token)
    await trainer.start(**environment(cluster[0], token))
    last = await ada.succeeded(job, 200)
    assert last.attempt == 5
    resumed = re.findall(r"resuming at step (\d+) from \S+/attempt-(\d)/", await ada.log(job.name))
    assert [int(attempt) for _, attempt in resumed] == [2, 3, 4]
    assert [int(step) for step, _ in resumed] == sorted(int(step) for step, _ in resumed)
    assert int(resumed[-1][0]) < 699

    # One model, whole, of the last attempt; nothing else is left.
    listed = await ada.models.ListModels(trainer_pb2.ListModelsRequest(project="projects/em"))
    assert [model.name for model in listed.models] == [last.result.model]
    model = await ada.model(last.result.model)
    assert model.name.endswith("-5")
    weights = objects / model.name / "models" / "model.pt"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == model.weights_sha256
    assert not folder.exists() or not list(folder.rglob("*.pt"))
    assert not bundle.exists()
