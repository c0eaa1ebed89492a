from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from biosegment.api.datastore.v1alpha1 import datastore_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from tests.rpc.trainer.tiny import BLOCKS, SHAPE, import_tiny_model, import_wide_volume

MANY = {"BIOSEGMENT_TRAINER__RAY_CPUS": "3", "BIOSEGMENT_TRAINER__TORCH_THREADS": "1"}
ONE = {**MANY, "BIOSEGMENT_TRAINER__WORKERS_PER_PREDICTION": "1"}
SLOW = job_pb2.Passes(test_time_augmentation=8)
"""So that blocks take longer than until the second worker has begun, too."""


@pytest.fixture
def trainer(stopped_trainer) -> Any:
    return stopped_trainer


@pytest.fixture
async def wide(datastore) -> Any:
    return await import_wide_volume(datastore)


def arm(folder: Path, point: str) -> dict[str, str]:
    (folder / "failpoint").write_text(point)
    return {"BIOSEGMENT_FAILPOINT_FILE": str(folder / "failpoint")}


async def again(trainer, environment: dict[str, str]) -> Any:
    await trainer.stop()
    await trainer.start(**environment)
    return trainer.as_user("ada")


def leftovers(folder: Path) -> list[Path]:
    return list((folder / "objects" / "jobs").rglob("*/blocks/*/*/*"))


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_however_many_workers_there_are_and_die_every_block_is_done_once_and_the_same(
    datastore, wide, trainer, tmp_path
):
    ada, reader = await again(trainer, ONE), datastore.as_user("ada")
    model = await import_tiny_model(ada, tmp_path)
    spec = job_pb2.PredictSpec(
        model=model, volume=wide.name, probabilities=True, measures=["entropy"], passes=SLOW
    )
    quiet = await ada.succeeded(await ada.create_job(predict=spec))
    assert (quiet.progress.done, quiet.progress.total, quiet.progress.unit) == (BLOCKS, BLOCKS, "blocks")
    assert f"{BLOCKS} blocks done by 1 workers" in await ada.log(quiet.name)
    expected = [await reader.read(name) for name in quiet.result.layers]
    assert (expected[0] > 0).all()
    assert np.isfinite(expected[2].astype(np.float32)).all()

    # One dies when it has recorded a block that nobody heard of, another in the midst of one.
    ada = await again(trainer, {**MANY, **arm(tmp_path, "")})
    for point in ("trainer.predict.block_written", "trainer.predict.before_ledger"):
        arm(tmp_path, point)
        job = await ada.succeeded(await ada.create_job(predict=spec))
        assert not (tmp_path / "failpoint").exists()
        log = await ada.log(job.name)
        assert job.attempt == 1
        assert (re.search(r"block \d of .* another worker takes it", log) is None) == (
            point == "trainer.predict.block_written"
        )
        assert re.search(rf"{BLOCKS} blocks done by [23] workers", log)
        for name, voxels in zip(job.result.layers, expected, strict=True):
            np.testing.assert_array_equal(await reader.read(name), voxels)
    assert leftovers(tmp_path) == []


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_workers_divide_the_cpus_of_a_machine_unless_the_job_says_what_each_gets(
    datastore, wide, trainer, tmp_path
):
    ada, reader = await again(trainer, {"BIOSEGMENT_TRAINER__RAY_CPUS": "2"}), datastore.as_user("ada")
    model = await import_tiny_model(ada, tmp_path)
    found = []
    for cpus, workers in ((0, 2), (2, 1)):
        resources = job_pb2.Resources(cpus=cpus)
        spec = job_pb2.PredictSpec(model=model, volume=wide.name, passes=SLOW, resources=resources)
        job = await ada.succeeded(await ada.create_job(predict=spec))
        assert f"{BLOCKS} blocks done by {workers} workers" in await ada.log(job.name)
        found.append(await reader.read(job.result.layers[0]))
    np.testing.assert_array_equal(*found)


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_a_budget_scores_some_blocks_keeps_the_others_and_a_newer_model_goes_first(
    datastore, wide, trainer, tmp_path
):
    ada, reader = await again(trainer, MANY), datastore.as_user("ada")
    models = [await import_tiny_model(ada, tmp_path, seed) for seed in (0, 1)]
    third = SHAPE[0] * SHAPE[1] * SHAPE[2] // 2 + 200_000

    def spec(model: str) -> job_pb2.ScoreSpec:
        return job_pb2.ScoreSpec(
            model=model, volumes=[wide.name], measures=["entropy", "margin"], max_pixels=third
        )

    running, waiting = [await ada.create_job(score=spec(models[0])) for _ in range(2)]
    newer = await ada.create_job(score=spec(models[1]))
    for job in (running, waiting):
        assert (await ada.finished(job)).state == job_pb2.Job.STATE_CANCELLED
    first = await ada.succeeded(newer)
    listed = await reader.datastore.ListLayers(datastore_pb2.ListLayersRequest(parent=wide.name))
    assert {layer.job for layer in listed.layers} == {newer.name}

    entropy, margin, version = [await reader.read(name) for name in first.result.layers]
    scored = np.isfinite(version.astype(np.float32))
    assert (version[scored] == 2).all()
    assert (np.isfinite(entropy.astype(np.float32)) == scored).all()
    assert (np.isfinite(margin.astype(np.float32)) == scored).all()
    assert 0 < scored.sum() * 256 <= third

    models.append(await import_tiny_model(ada, tmp_path, 2))
    second = await ada.succeeded(await ada.create_job(score=spec(models[2])))
    after, _, now = [await reader.read(name) for name in second.result.layers]
    # What nobody had scored came first; the rest is as it was.
    assert (now[scored] == 2).mean() > 0.6
    kept = now == 2
    np.testing.assert_array_equal(after[kept], entropy[kept])
    assert (now[~scored & np.isfinite(now.astype(np.float32))] == 3).all()
    assert np.isfinite(now.astype(np.float32)).mean() > 0.95
    whole = job_pb2.ScoreSpec(model=models[2], volumes=[wide.name], measures=["entropy"])
    full = await ada.succeeded(await ada.create_job(score=whole))
    everywhere, three = [await reader.read(name) for name in full.result.layers]
    assert (three == 3).all()
    np.testing.assert_array_equal(after[now == 3], everywhere[now == 3])


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_a_killed_trainer_goes_on_with_the_blocks_that_are_missing(datastore, wide, trainer, tmp_path):
    ada, reader = await again(trainer, ONE), datastore.as_user("ada")
    model = await import_tiny_model(ada, tmp_path)
    spec = job_pb2.PredictSpec(model=model, volume=wide.name, probabilities=True, measures=["entropy"])
    expected = (await ada.succeeded(await ada.create_job(predict=spec))).result.layers
    ada = await again(trainer, {**ONE, **arm(tmp_path, "trainer.predict.some_done")})
    job = await ada.create_job(predict=spec)
    async with asyncio.timeout(100):
        await trainer.process.wait()
    done = {path.name for path in leftovers(tmp_path)}
    assert 0 < len(done) < BLOCKS
    await trainer.start(**ONE)
    last = await ada.succeeded(job)
    assert last.attempt == 2
    counts = re.search(r"(\d) blocks were done before; (\d) are left", await ada.log(job.name))
    assert counts
    assert int(counts[1]) >= len(done)
    assert int(counts[1]) + int(counts[2]) == BLOCKS
    for name, other in zip(last.result.layers, expected, strict=True):
        np.testing.assert_array_equal(await reader.read(name), await reader.read(other))


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_a_prediction_that_is_cancelled_half_way_leaves_nothing(datastore, wide, trainer, tmp_path):
    ada = await again(trainer, ONE)
    model = await import_tiny_model(ada, tmp_path)
    spec = job_pb2.PredictSpec(model=model, volume=wide.name, probabilities=True, measures=["entropy"])
    job = await ada.create_job(predict=spec)
    async with asyncio.timeout(100):
        # The file of a block is there a moment before the trainer hears of it.
        while not (await ada.job(job.name)).progress.done:
            await asyncio.sleep(0.02)
    assert leftovers(tmp_path)
    await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=job.name))
    last = await ada.finished(job)
    assert last.state == job_pb2.Job.STATE_CANCELLED
    assert 0 < last.progress.fraction < 1
    service = datastore.as_service("trainer").datastore
    assert not (await service.ListLayers(datastore_pb2.ListLayersRequest(parent=wide.name))).layers
    assert not list((tmp_path / "objects" / "jobs").rglob("*.json"))
    assert leftovers(tmp_path) == []
    # Tried again it begins anew.
    await ada.jobs.RetryJob(job_pb2.RetryJobRequest(name=job.name))
    ended = await ada.succeeded(await ada.job(job.name))
    assert (ended.attempt, ended.progress.done) == (2, BLOCKS)


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_a_block_that_kills_every_worker_fails_the_job_and_is_named(wide, trainer, tmp_path):
    point = "trainer.predict.before_ledger"
    ada = await again(trainer, {**ONE, **arm(tmp_path, point)})
    model = await import_tiny_model(ada, tmp_path)
    region = {"start": {"z": 0, "y": 1200, "x": 1100}, "stop": {"z": 2, "y": 1300, "x": 1400}}
    job = await ada.create_job(predict=job_pb2.PredictSpec(model=model, volume=wide.name, region=region))
    ended = asyncio.create_task(ada.finished(job, 200))
    while not ended.done():
        if not (tmp_path / "failpoint").exists():
            arm(tmp_path, point)
        await asyncio.sleep(0.1)
    last = ended.result()
    assert (last.state, last.error.reason) == (job_pb2.Job.STATE_FAILED, "BLOCK_FAILED")
    assert "block 4 of projects/em/volumes/wide" in last.error.message
    assert last.attempt == 1


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_a_node_that_dies_costs_the_blocks_that_it_was_busy_with(
    datastore, wide, trainer, tmp_path, monkeypatch
):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        doomed = cluster.add_node(num_cpus=2)
        environment = {
            "BIOSEGMENT_TRAINER__RAY_ADDRESS": cluster.address,
            "BIOSEGMENT_TRAINER__TORCH_THREADS": "1",
        }
        ada, reader = await again(trainer, environment), datastore.as_user("ada")
        model = await import_tiny_model(ada, tmp_path)
        spec = job_pb2.PredictSpec(model=model, volume=wide.name, measures=["entropy"])
        job = await ada.create_job(predict=spec)
        async with asyncio.timeout(150):
            while not leftovers(tmp_path):
                await asyncio.sleep(0.02)
        cluster.remove_node(doomed, allow_graceful=False)
        cluster.add_node(num_cpus=2)
        last = await ada.succeeded(job, 200)
        log = await ada.log(job.name)
        assert last.attempt == 1, log
        assert f"{BLOCKS} blocks done" in log
        # Nobody did more than the blocks that were lost again.
        assert len(re.findall("another worker takes it", log)) <= 2
        labels, entropy = [await reader.read(name) for name in last.result.layers]
        assert (labels > 0).all()
        assert np.isfinite(entropy.astype(np.float32)).all()
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            await trainer.stop()
        cluster.shutdown()


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_a_worker_that_is_frozen_costs_its_block_alone(datastore, wide, trainer, tmp_path):
    ada = await again(trainer, {**ONE, "BIOSEGMENT_TRAINER__WORKER_SILENCE_S": "20"})
    model = await import_tiny_model(ada, tmp_path)
    # Blocks that take long enough to meet the worker at one.
    spec = job_pb2.PredictSpec(model=model, volume=wide.name, passes=SLOW)
    job = await ada.create_job(predict=spec)
    async with asyncio.timeout(150):
        while (frozen := await freeze_at_work(ada, job, trainer.process.pid, tmp_path)) is None:
            await asyncio.sleep(0.02)
    try:
        last = await ada.succeeded(job, 200)
        log = await ada.log(job.name)
        assert (last.attempt, last.progress.done) == (1, BLOCKS), log
        # On a busy machine another one may be silent for as long.
        assert re.search(r"not been heard of for .* another worker takes it", log)
        assert (await datastore.as_user("ada").read(last.result.layers[0]) > 0).all()
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            frozen.kill()


SILENT = """
import asyncio, os, signal, sys, time
from biosegment.errors import Internal
from biosegment.jobs import Resources
from biosegment_trainer.compute.ray_connection import RaySettings
from biosegment_trainer.compute.ray_executor import RayExecutor
from biosegment_trainer.compute.task import Outcome
from biosegment_trainer.prediction.block import BlockId
from biosegment_trainer.prediction.pool import BlockPool, PoolWatch

class Worker:
    def __init__(self, task, at_once):
        self.once = task
    def prepare(self):
        if self.once and not os.path.exists(self.once):
            open(self.once, "w").close()
            # Until it has said that it lives.
            time.sleep(5)
            self.freeze()
        return Outcome()
    def alive(self): pass
    def predict(self, block):
        if block.number == 1 and not self.once:
            self.freeze()
        return Outcome()
    def freeze(self):
        os.kill(os.getpid(), signal.SIGSTOP)
        # Until another thread takes the signal, this one runs on.
        time.sleep(3600)

async def main():
    async def nothing(said): pass
    async def never(block): return False
    async def log(line): print("log", line, flush=True)
    executor = RayExecutor(RaySettings(cpus=1, temp_dir=sys.argv[1]))
    try:
        async with executor.cluster() as cluster:
            pool = BlockPool(cluster, Resources(1, 0, 0), 3.0, 1, actor=Worker)
            watch = PoolWatch(nothing, never, lambda block: f"block {block.number}", log)
            try:
                await pool.run(sys.argv[2], [BlockId(0, 0), BlockId(0, 1)], asyncio.Event(), watch)
                print("finished", flush=True)
            except Internal as error:
                print("failed", error.reason, error.message, flush=True)
    finally:
        await executor.close()

asyncio.run(main())
"""


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_a_block_that_makes_every_worker_silent_fails_and_is_named(tmp_path_factory):
    said = await of_silent(tmp_path_factory.mktemp("ray"), "")
    assert "failed BLOCK_FAILED block 1 failed 3 times" in said, said
    assert len(re.findall("log block 1: its worker has not been heard of", said)) == 3


@pytest.mark.system
@pytest.mark.timeout(400)
async def test_a_worker_that_is_frozen_while_it_loads_the_model_is_replaced(tmp_path_factory, tmp_path):
    said = await of_silent(tmp_path_factory.mktemp("ray"), str(tmp_path / "once"))
    assert "finished" in said, said
    assert "log the model: its worker has not been heard of" in said


async def of_silent(folder: Path, once: str) -> str:
    """What workers say who are silent at the same block each, or the first one of them once, before any block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SILENT, str(folder), once, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(300):
            return (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()


async def freeze_at_work(ada: Any, job: Any, pid: int, folder: Path) -> psutil.Process | None:
    """Stop a worker in the midst of a block, not the first one; None where there is none just now."""
    recorded = {path.name for path in leftovers(folder)}
    # Who has recorded a block that nobody has heard of yet would lose nothing.
    if not recorded or (await ada.job(job.name)).progress.done != len(recorded):
        return None
    for process in psutil.Process(pid).children(recursive=True):
        if computes(process):
            process.suspend()
            if computes(process) and {path.name for path in leftovers(folder)} == recorded:
                return process
            process.resume()
    return None


def computes(process: psutil.Process) -> bool:
    """Ray names a process after what it does."""
    with contextlib.suppress(psutil.Error, IndexError):
        return process.cmdline()[0].startswith("ray::BlockActor.predict")
    return False
