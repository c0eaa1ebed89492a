"""Pretraining, networks that look at several slices, validation and the parent that is kept, as jobs."""

from __future__ import annotations

import asyncio

import pytest

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2
from tests.rpc.trainer.conftest import annotate
from tests.rpc.trainer.test_trainer_lanes import workers

TINY = {"network.channels": "4,8", "batch_size": 2, "patch_size": 32, "patch_depth": 4}


@pytest.mark.system
@pytest.mark.timeout(600)
async def test_two_processes_share_a_training(datastore, em, stopped_trainer):
    """Started by Ray Train on CPUs, as several GPUs would be."""
    trainer = stopped_trainer
    await trainer.start(BIOSEGMENT_TRAINER__RAY_CPUS="3")
    ada = trainer.as_user("ada")
    await annotate(datastore, em)
    spec = job_pb2.TrainSpec(max_steps=3, options={**TINY, "workers": 2})
    job = await ada.succeeded(await ada.create_job(train=spec), timeout_s=240)
    model = await ada.model(job.result.model)
    assert model.config["shards"] == 2
    assert model.metrics["steps"] == 3
    assert "starting 2 processes" in await ada.log(job.name)
    many = job_pb2.TrainSpec(max_steps=3, options={**TINY, "workers": 9, "batch_size": 9})
    failed = await ada.finished(await ada.create_job(train=many))
    assert failed.error.reason == "NO_NODE_LARGE_ENOUGH"


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_two_processes_that_diverge_fail_at_once(datastore, em, stopped_trainer):
    """Whichever of them says so first."""
    trainer = stopped_trainer
    await trainer.start(BIOSEGMENT_TRAINER__RAY_CPUS="3")
    ada = trainer.as_user("ada")
    await annotate(datastore, em)
    reckless = {**TINY, "workers": 2, "learning_rate": 0.9, "weight_decay": 100.0}
    spec = job_pb2.TrainSpec(max_steps=60, options=reckless)
    failed = await ada.finished(await ada.create_job(train=spec), timeout_s=240)
    assert (failed.error.reason, failed.attempt) == ("DIVERGED", 1)
    assert not await ada.listed_models()


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_a_training_that_two_processes_share_stops_when_it_is_cancelled(datastore, em, stopped_trainer):
    trainer = stopped_trainer
    await trainer.start(BIOSEGMENT_TRAINER__RAY_CPUS="3")
    ada = trainer.as_user("ada")
    await annotate(datastore, em)
    job = await ada.create_job(train=job_pb2.TrainSpec(max_steps=1_000_000, options={**TINY, "workers": 2}))
    async for answer in ada.jobs.WatchJob(job_pb2.WatchJobRequest(name=job.name)):
        if answer.job.progress.step == "training" and answer.job.progress.done > 5:
            break
    assert any("RayTrainWorker" in line for line in workers(trainer))
    loop = asyncio.get_running_loop()
    asked_s = loop.time()
    await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=job.name))
    last = await ada.finished(job, 90)
    took_s = loop.time() - asked_s
    print(f"cancelled after {took_s:.1f} s")
    assert last.state == job_pb2.Job.STATE_CANCELLED
    assert took_s < 5
    # None of its processes goes on, nor is there a model.
    async with asyncio.timeout(30):
        while any("RayTrainWorker" in line for line in workers(trainer)):
            await asyncio.sleep(0.1)
    assert not await ada.listed_models()


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_a_pretraining_survives_its_trainer_and_stops_when_it_is_cancelled(em, trainer):
    ada = trainer.as_user("ada")
    options = {"network.channels": "4,8", "patch_size": 64, "mask.blocks": 4, "checkpoint_steps": 5}

    async def begun(**spec):
        job = await ada.create_job(pretrain=job_pb2.PretrainSpec(volumes=[em.name], options=options, **spec))
        async for answer in ada.jobs.WatchJob(job_pb2.WatchJobRequest(name=job.name)):
            if answer.job.progress.step == "training" and answer.job.progress.done > 20:
                return job

    job = await begun(max_steps=400)
    await trainer.kill()
    await trainer.start()
    last = await ada.succeeded(job)
    assert last.attempt == 2
    assert "resuming at step" in await ada.log(job.name)
    assert (await ada.model(last.result.model)).metrics["steps"] == 400

    job = await begun(max_steps=100_000)
    await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=job.name))
    assert (await ada.finished(job, 90)).state == job_pb2.Job.STATE_CANCELLED
    listed = await ada.models.ListModels(trainer_pb2.ListModelsRequest(project="projects/em"))
    assert [model.name for model in listed.models] == [last.result.model]
