from __future__ import annotations

import asyncio
from typing import Any

import psutil
import pytest

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2
from tests.rpc.trainer.conftest import annotate

STEPS: dict[str, Any] = {
    "max_steps": 25,
    "options": {"batch_size": 4, "patch_size": 64, "checkpoint_steps": 10},
}


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_a_trainer_that_is_killed_finishes_its_job_and_leaves_no_process_behind(datastore, em, trainer):
    ada = trainer.as_user("ada")
    await annotate(datastore, em)
    spec = job_pb2.TrainSpec(max_steps=400, options={**STEPS["options"], "checkpoint_steps": 5})
    job = await ada.create_job(train=spec)
    async for answer in ada.jobs.WatchJob(job_pb2.WatchJobRequest(name=job.name)):
        if answer.job.progress.step == "training" and answer.job.progress.done > 20:
            break
    family = psutil.Process(trainer.process.pid).children(recursive=True)
    assert any("raylet" in child.name() for child in family)
    await trainer.kill()
    await trainer.start()
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, timeout=60)
    assert alive == []
    last = await ada.succeeded(job)
    assert last.attempt == 2
    assert "resuming at step" in await ada.log(job.name)
    listed = await ada.models.ListModels(trainer_pb2.ListModelsRequest(project="projects/em"))
    assert [model.name for model in listed.models] == [last.result.model]


@pytest.mark.system
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "point",
    [
        "trainer.checkpoint.before_write",
        "trainer.checkpoint.after_write",
        "trainer.train.before_register",
        "trainer.predict.block_written",
        "trainer.job.before_finish",
    ],
)
async def test_a_process_that_dies_at_a_named_point_delays_the_work_and_no_more(
    datastore, em, stopped_trainer, tmp_path, point
):
    trainer = stopped_trainer
    armed = tmp_path / "failpoint"
    armed.write_text(point)
    await annotate(datastore, em)
    await trainer.start(BIOSEGMENT_FAILPOINT_FILE=str(armed))
    ada = trainer.as_user("ada")

    async def through(job):
        """The ended job; the trainer is started again when the point killed it and not a worker."""
        while True:
            ended = asyncio.ensure_future(ada.succeeded(job, 200))
            died = asyncio.ensure_future(trainer.process.wait())
            done, pending = await asyncio.wait({ended, died}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            if ended in done:
                return ended.result()
            await trainer.start(BIOSEGMENT_FAILPOINT_FILE=str(armed))

    job = await ada.create_job(train=job_pb2.TrainSpec(max_steps=25, options=STEPS["options"]))
    trained = await through(job)
    spec = job_pb2.PredictSpec(volume=em.name, measures=["entropy"])
    predicted = await through(await ada.create_job(predict=spec))
    assert not armed.exists()
    # A worker of a prediction is replaced within the attempt.
    assert trained.attempt + predicted.attempt == (2 if point == "trainer.predict.block_written" else 3)
    labels = await datastore.as_user("ada").read(predicted.result.layers[0])
    assert (labels > 0).all()
    listed = await ada.models.ListModels(trainer_pb2.ListModelsRequest(project="projects/em"))
    assert [model.name for model in listed.models] == [trained.result.model]
