from __future__ import annotations

import asyncio
import io
import zipfile
from typing import Any

import numpy as np
import psutil
import pytest

from biosegment.api.datastore.v1alpha1 import datastore_pb2, volume_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2
from tests.rpc.trainer.conftest import SHAPE, annotate, image_and_truth

STEPS: dict[str, Any] = {
    "max_steps": 25,
    "options": {"batch_size": 4, "patch_size": 64, "checkpoint_steps": 10},
}


def iou(labels, truth):
    return ((labels == 2) & (truth == 2)).sum() / ((labels == 2) | (truth == 2)).sum()


async def test_it_trains_fine_tunes_predicts_and_scores_a_real_volume(datastore, em, trainer):
    ada, reader = trainer.as_user("ada"), datastore.as_user("ada")
    names = await annotate(datastore, em)
    first = await ada.succeeded(await ada.create_job(train=job_pb2.TrainSpec(seed=1, **STEPS)))
    parent = await ada.model(first.result.model)
    assert (parent.version, parent.parent, list(parent.annotations)) == (1, "", names)
    assert parent.metrics["steps"] == 25
    assert first.metrics["loss"] > 0

    # No step at all but one of no size: the child's answer must be its parent's.
    still = job_pb2.TrainSpec(
        max_steps=1, options={**STEPS["options"], "learning_rate": 1e-12, "ema_decay": 0.0}
    )
    second = await ada.succeeded(await ada.create_job(train=still))
    child = await ada.model(second.result.model)
    assert (child.version, child.parent) == (2, parent.name)
    assert "from the weights of " + parent.name in await ada.log(second.name)
    assert child.weights_sha256 != parent.weights_sha256

    async def predicted(model):
        spec = job_pb2.PredictSpec(model=model, volume=em.name, probabilities=True, measures=["entropy"])
        return (await ada.succeeded(await ada.create_job(predict=spec))).result.layers

    layers = await predicted(parent.name)
    labels, probabilities, entropy = [await reader.read(name) for name in layers]
    assert labels.shape == probabilities.shape == SHAPE
    assert set(np.unique(labels)) <= {1, 2}
    assert entropy.shape == (SHAPE[0], 10, 10)
    assert np.isfinite(entropy.astype(np.float32)).all()
    # What the network learned of two slices holds in the other two.
    assert iou(labels[[1, 3]], image_and_truth()[1][[1, 3]]) > 0.6
    inherited = await reader.read((await predicted(child.name))[1])
    fresh = await ada.succeeded(await ada.create_job(train=job_pb2.TrainSpec(from_scratch=True, max_steps=1)))
    from_scratch = await reader.read((await predicted(fresh.result.model))[1])
    near = np.abs(inherited.astype(int) - probabilities).mean()
    assert near < 0.1 * np.abs(from_scratch.astype(int) - probabilities).mean()

    spec = job_pb2.ScoreSpec(model=parent.name, volumes=[em.name], measures=["margin", "entropy"])
    scored = await ada.succeeded(await ada.create_job(score=spec))
    assert len(scored.result.layers) == 3
    answer = await reader.datastore.GetLayer(datastore_pb2.GetLayerRequest(name=scored.result.layers[1]))
    assert (answer.layer.state, answer.layer.measure) == (volume_pb2.Layer.STATE_COMMITTED, "entropy")
    assert answer.layer.model == parent.name
    again = await reader.read(scored.result.layers[1])
    np.testing.assert_array_equal(again, entropy)
    assert (await reader.read(scored.result.layers[2]) == parent.version).all()


async def test_only_the_asked_region_is_predicted(datastore, em, trainer):
    ada, reader = trainer.as_user("ada"), datastore.as_user("ada")
    await annotate(datastore, em)
    await ada.succeeded(await ada.create_job(train=job_pb2.TrainSpec(max_steps=2)))
    region = {"start": {"z": 1, "y": 20, "x": 40}, "stop": {"z": 3, "y": 60, "x": 100}}
    spec = job_pb2.PredictSpec(volume=em.name, region=region, measures=["entropy"])
    job = await ada.succeeded(await ada.create_job(predict=spec))
    labels, entropy = [(await reader.read(name)).copy() for name in job.result.layers]
    assert (labels[1:3, 20:60, 40:100] > 0).all()
    labels[1:3, 20:60, 40:100] = 0
    assert not labels.any()
    finite = np.isfinite(entropy.astype(np.float32))
    assert finite[1:3, 1:4, 2:7].all()
    finite[1:3, 1:4, 2:7] = False
    assert not finite.any()


async def test_a_model_goes_out_as_a_bundle_and_comes_in_again(datastore, em, trainer):
    ada = trainer.as_user("ada")
    await annotate(datastore, em)
    job = await ada.succeeded(await ada.create_job(train=job_pb2.TrainSpec(max_steps=2)))
    request = trainer_pb2.ExportModelRequest(name=job.result.model)
    data = b"".join([piece.data async for piece in ada.models.ExportModel(request)])
    assert any(name.endswith("models/model.pt") for name in zipfile.ZipFile(io.BytesIO(data)).namelist())

    async def pieces():
        yield trainer_pb2.ImportModelRequest(project="projects/em", display_name="back", data=data[:1000])
        for start in range(1000, len(data), 1 << 20):
            yield trainer_pb2.ImportModelRequest(data=data[start : start + (1 << 20)])

    model = (await ada.models.ImportModel(pieces())).model
    original = await ada.model(job.result.model)
    assert (model.display_name, model.version, model.job) == ("back", 2, "")
    assert model.weights_sha256 == original.weights_sha256
    # What it was trained on must not validate its children, here either.
    assert list(model.annotations) == list(original.annotations)
    spec = job_pb2.PredictSpec(model=model.name, volume=em.name)
    assert (await ada.succeeded(await ada.create_job(predict=spec))).result.layers
    await ada.models.DeleteModel(trainer_pb2.DeleteModelRequest(name=model.name))
    assert (await ada.model(model.name)).deleted


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_a_trainer_that_is_killed_finishes_its_job_and_leaves_no_process_behind(datastore, em, trainer):
    ada = trainer.as_user("ada")
    await annotate(datastore, em)
    spec = job_pb2.TrainSpec(max_steps=100, options={**STEPS["options"], "checkpoint_steps": 5})
    job = await ada.create_job(train=spec)
    async for answer in ada.jobs.WatchJob(job_pb2.WatchJobRequest(name=job.name)):
        if answer.job.progress.step == "training" and answer.job.progress.done > 20:
            break
    family = psutil.Process(trainer.process.pid).children(recursive=True)
    assert any("raylet" in child.name() for child in family)
    await trainer.kill()
    await trainer.start()
    _, alive = psutil.wait_procs(family, timeout=20)
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
    datastore, em, trainer, tmp_path, point
):
    armed = tmp_path / "failpoint"
    armed.write_text(point)
    await annotate(datastore, em)
    await trainer.stop()
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
