"""Pretraining, networks that look at several slices, validation and the parent that is kept, as jobs."""

from __future__ import annotations

import pytest

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2
from biosegment.errors import FailedPrecondition, InvalidArgument
from tests.rpc.trainer.conftest import annotate

TINY = {"network.channels": "4,8", "batch_size": 2, "patch_size": 32, "patch_depth": 4}


async def test_a_pretrained_network_is_a_parent_and_no_more(datastore, em, trainer):
    ada = trainer.as_user("ada")
    spec = job_pb2.PretrainSpec(
        volumes=[em.name],
        seed=1,
        max_steps=4,
        display_name="looks",
        options={"network.channels": "4,8", "patch_size": 32, "mask.cell": 4, "mask.blocks": 3},
    )
    job = await ada.succeeded(await ada.create_job(pretrain=spec))
    parent = await ada.model(job.result.model)
    assert (parent.display_name, parent.parent, list(parent.class_values)) == ("looks", "", [])
    assert parent.metrics["steps"] == 4
    assert job.metrics["loss"] > 0
    with pytest.raises(FailedPrecondition, match="fine-tune"):
        await ada.create_job(predict=job_pb2.PredictSpec(model=parent.name, volume=em.name))

    await annotate(datastore, em)
    trained = await ada.succeeded(
        await ada.create_job(
            train=job_pb2.TrainSpec(max_steps=2, options={"patch_size": 32, "batch_size": 2})
        )
    )
    child = await ada.model(trained.result.model)
    assert (child.parent, list(child.class_values)) == (parent.name, [2])
    assert "the head is new" in await ada.log(trained.name)

    # A later pretraining does not take the place of what was trained.
    again = await ada.succeeded(await ada.create_job(pretrain=spec))
    last = await ada.succeeded(
        await ada.create_job(
            train=job_pb2.TrainSpec(max_steps=1, options={"patch_size": 32, "batch_size": 2})
        )
    )
    assert (await ada.model(last.result.model)).parent == child.name
    assert (await ada.model(again.result.model)).weights_sha256 == parent.weights_sha256


async def test_networks_see_several_slices_and_a_worse_child_leaves_its_parent_in_place(
    datastore, em, trainer
):
    ada = trainer.as_user("ada")
    names = await annotate(datastore, em, (0, 1, 2, 3))
    # Slabs of one slice, so that four slices suffice to hold one out.
    held = {"validation.minimum": 2, "validation.slab": 1, "validation.gap": 0}

    async def trained(**spec):
        job = await ada.succeeded(await ada.create_job(train=job_pb2.TrainSpec(**spec)))
        return job, await ada.model(job.result.model)

    # 30 nm slices of 10 nm pixels are related: the rule takes neighbours.
    _, near = await trained(from_scratch=True, max_steps=1, options={**TINY, "network.kind": "auto"})
    assert near.network == "unet2.5d"
    assert near.config["network"]["input_slices"] == 3
    _, deep = await trained(from_scratch=True, max_steps=1, options={**TINY, "network.kind": "3d"})
    assert deep.network == "unet3d"

    good = {**TINY, **held, "learning_rate": 1e-2, "working_resolution_nm": 20.0}
    first, parent = await trained(from_scratch=True, max_steps=60, options=good)
    assert parent.working_resolution_nm == 20.0
    assert parent.metrics["validation_iou"] == pytest.approx(max_iou(first, parent), abs=1e-6)
    assert list(parent.annotations) == names
    assert len(parent.config["withheld_annotations"]) == 1

    worse = {**good, "learning_rate": 0.5, "warmup": 0.01}
    more = await annotate(datastore, em, (1,))
    job, child = await trained(parent=parent.name, max_steps=10, options=worse)
    assert child.metrics["parent_kept"] == 1
    assert child.metrics["parent_validation_iou"] == pytest.approx(parent.metrics["validation_iou"])
    assert list(child.annotations) == names
    assert more[0] not in child.annotations
    assert any("were kept" in remark for remark in child.remarks)
    assert "were kept" in await ada.log(job.name)

    with pytest.raises(InvalidArgument, match=r"2\.5d"):
        await ada.create_job(train=job_pb2.TrainSpec(options={"network.kind": "4d"}))


def max_iou(job, model) -> float:
    """The job's last figure is that of its last validation, which the best is not below."""
    assert job.metrics["validation_iou"] <= model.metrics["validation_iou"] + 1e-6
    return float(model.metrics["validation/iou/mitochondria"])


@pytest.mark.system
@pytest.mark.timeout(300)
async def test_two_processes_share_a_training(datastore, em, trainer):
    """Started by Ray Train on CPUs, as several GPUs would be."""
    await trainer.stop()
    await trainer.start(BIOSEGMENT_TRAINER__RAY_CPUS="3")
    ada = trainer.as_user("ada")
    await annotate(datastore, em)
    spec = job_pb2.TrainSpec(max_steps=3, options={**TINY, "workers": 2})
    job = await ada.succeeded(await ada.create_job(train=spec), timeout_s=240)
    model = await ada.model(job.result.model)
    assert model.config["shards"] == 2
    assert model.metrics["steps"] == 3
    assert "starting 2 processes" in await ada.log(job.name)
    many = job_pb2.TrainSpec(max_steps=3, options={**TINY, "workers": 9})
    failed = await ada.finished(await ada.create_job(train=many))
    assert failed.error.reason == "NO_NODE_LARGE_ENOUGH"


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

    job = await begun(max_steps=150)
    await trainer.kill()
    await trainer.start()
    last = await ada.succeeded(job)
    assert last.attempt == 2
    assert "resuming at step" in await ada.log(job.name)
    assert (await ada.model(last.result.model)).metrics["steps"] == 150

    job = await begun(max_steps=100_000)
    await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=job.name))
    assert (await ada.finished(job, 20)).state == job_pb2.Job.STATE_CANCELLED
    listed = await ada.models.ListModels(trainer_pb2.ListModelsRequest(project="projects/em"))
    assert [model.name for model in listed.models] == [last.result.model]
