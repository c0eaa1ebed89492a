"""What trainings and predictions make, as jobs on a real Ray."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest

from biosegment.api.datastore.v1alpha1 import annotation_pb2, datastore_pb2, volume_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2
from biosegment.errors import FailedPrecondition, InvalidArgument
from tests.rpc.trainer.bundle_file import exported, imported, zipped
from tests.rpc.trainer.conftest import SHAPE, annotate, image_and_truth
from tests.unit.trainer.learning.family import TINY_NETWORKS
from tests.unit.trainer.registry.zoo import built, write_zoo_bundle

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

STEPS: dict[str, Any] = {
    "max_steps": 25,
    "options": {"batch_size": 4, "patch_size": 64, "checkpoint_steps": 10},
}


TINY = {"network.channels": "4,8", "batch_size": 2, "patch_size": 32, "patch_depth": 4}
SMALL = {"batch_size": 2, "patch_size": 32}
GIB = 1 << 30


def iou(labels, truth):
    return ((labels == 2) & (truth == 2)).sum() / ((labels == 2) | (truth == 2)).sum()


async def test_it_trains_fine_tunes_predicts_and_scores_a_real_volume(datastore, em, ada):
    reader = datastore.as_user("ada")
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
    fresh = await ada.succeeded(
        await ada.create_job(train=job_pb2.TrainSpec(from_scratch=True, max_steps=1, options=SMALL))
    )
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


async def test_only_the_asked_region_is_predicted(datastore, em, ada):
    reader = datastore.as_user("ada")
    await annotate(datastore, em)
    await ada.succeeded(await ada.create_job(train=job_pb2.TrainSpec(max_steps=2, options=SMALL)))
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


async def test_one_prediction_makes_measures_of_several_passes_and_of_several_values(datastore, em, ada):
    reader = datastore.as_user("ada")
    await annotate(datastore, em)
    trainings = [job_pb2.TrainSpec(max_steps=2, seed=seed, options=SMALL) for seed in (1, 2)]
    jobs = [await ada.succeeded(await ada.create_job(train=spec)) for spec in trainings]
    model, other = [job.result.model for job in jobs]
    region = {"start": {"z": 0, "y": 100, "x": 100}, "stop": {"z": 1, "y": 140, "x": 150}}
    measures = ["class_probability", "class_entropy", "mutual_information", "embedding", "slice_disagreement"]
    passes = job_pb2.Passes(test_time_augmentation=2, ensemble=[other])
    spec = job_pb2.PredictSpec(model=model, volume=em.name, region=region, measures=measures, passes=passes)
    job = await ada.succeeded(await ada.create_job(predict=spec))
    for name, measure, channels in zip(job.result.layers[1:], measures, (1, 1, 1, 32, 1), strict=True):
        request = datastore_pb2.GetLayerRequest(name=name)
        layer = (await reader.datastore.GetLayer(request)).layer
        assert (layer.measure, layer.channels) == (measure, channels)
        cells = (await reader.read(name)).astype(np.float32)
        assert cells.shape == (SHAPE[0], 10, 10 * channels)
        finite = np.isfinite(cells)
        assert finite[0, 6:9, 6 * channels : 10 * channels].all()
        assert finite.sum() == 3 * 4 * channels


async def test_a_model_goes_out_as_a_bundle_and_comes_in_again(datastore, em, ada):
    await annotate(datastore, em)
    job = await ada.succeeded(await ada.create_job(train=job_pb2.TrainSpec(max_steps=2, options=SMALL)))
    data = await exported(ada, job.result.model)
    assert any(name.endswith("models/model.pt") for name in zipfile.ZipFile(io.BytesIO(data)).namelist())

    model = await imported(ada, data, display_name="back")
    original = await ada.model(job.result.model)
    assert (model.display_name, model.version, model.job) == ("back", 2, "")
    assert model.weights_sha256 == original.weights_sha256
    # What it was trained on must not validate its children, here either.
    assert list(model.annotations) == list(original.annotations)
    spec = job_pb2.PredictSpec(model=model.name, volume=em.name)
    assert (await ada.succeeded(await ada.create_job(predict=spec))).result.layers
    await ada.models.DeleteModel(trainer_pb2.DeleteModelRequest(name=model.name))
    assert (await ada.model(model.name)).deleted


async def test_a_pretrained_network_is_a_parent_and_no_more(datastore, em, ada):
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
    trained = await ada.succeeded(await ada.create_job(train=job_pb2.TrainSpec(max_steps=2, options=SMALL)))
    child = await ada.model(trained.result.model)
    assert (child.parent, list(child.class_values)) == (parent.name, [2])
    assert "the head is new" in await ada.log(trained.name)

    # A later pretraining does not take the place of what was trained.
    again = await ada.succeeded(await ada.create_job(pretrain=spec))
    last = await ada.succeeded(await ada.create_job(train=job_pb2.TrainSpec(max_steps=1, options=SMALL)))
    assert (await ada.model(last.result.model)).parent == child.name
    assert (await ada.model(again.result.model)).weights_sha256 == parent.weights_sha256


async def test_networks_see_several_slices_and_a_worse_child_leaves_its_parent_in_place(datastore, em, ada):
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


async def test_a_parent_is_tested_on_what_is_new_to_it_before_its_child_is_trained(datastore, em, ada):

    async def trained(**spec):
        spec.setdefault("options", {**TINY, "learning_rate": 1e-2})
        job = await ada.succeeded(await ada.create_job(train=job_pb2.TrainSpec(max_steps=20, **spec)))
        return job, await ada.model(job.result.model)

    first_names = await annotate(datastore, em, (0, 1))
    _, first = await trained()
    # Nobody was there to be tested.
    assert not [name for name in first.metrics if name.startswith("new/")]
    new = await annotate(datastore, em, (2, 3))
    again = await annotate(datastore, em, (0,))
    twice = await annotate(datastore, em, (2,))
    job, second = await trained()
    found = {name: value for name, value in second.metrics.items() if name.startswith("new/")}
    # What was annotated once more is not new tissue, and what two people annotated is new once.
    assert (found["new/annotations"], found["new/annotations/mitochondria"]) == (2, 2)
    assert list(second.config["tested_annotations"]) == [new[1], *twice]
    assert 0 <= found["new/iou/mitochondria"] <= 1
    assert 0 <= found["new/seen/mitochondria"] <= 2
    assert found["new/error/mitochondria"] >= 0
    assert "on 2 new annotations the parent's IoU of mitochondria is" in await ada.log(job.name)
    assert sorted(second.annotations) == sorted([*first_names, *new, *again, *twice])
    _, third = await trained()
    assert not [name for name in third.metrics if name.startswith("new/")]
    # From another parent other ones are new; from none nothing is tested.
    _, branch = await trained(parent=first.name)
    assert branch.metrics["new/iou/mitochondria"] == found["new/iou/mitochondria"]
    _, fresh = await trained(from_scratch=True, options=TINY)
    assert not [name for name in fresh.metrics if name.startswith("new/")]


def max_iou(job, model) -> float:
    """The job's last figure is that of its last validation, which the best is not below."""
    assert job.metrics["validation_iou"] <= model.metrics["validation_iou"] + 1e-6
    return float(model.metrics["validation/iou/mitochondria"])


async def test_a_foreign_bundle_learns_predicts_and_goes_out_again(datastore, em, ada, tmp_path):
    await annotate(datastore, em)
    module, definition = built(TINY_NETWORKS["SegResNet 2D"], 3, 2)
    write_zoo_bundle(tmp_path / "zoo", definition, module.state_dict(), suffix=".yaml")
    foreign = await imported(ada, zipped(tmp_path / "zoo"))
    assert (foreign.network, foreign.display_name) == ("segresnet2d", "Spleen segmentation")
    assert (list(foreign.class_values), list(foreign.class_names)) == ([0], ["spleen"])
    assert foreign.data_license == (
        "Scans: CC BY-SA 4.0, see their page; the bundle's own licence: Apache License Version 2.0"
    )
    assert "fine-tune it first" in " ".join(foreign.remarks)
    with pytest.raises(FailedPrecondition) as refused:
        await ada.create_job(predict=job_pb2.PredictSpec(model=foreign.name, volume=em.name))
    assert refused.value.reason == "NO_USABLE_CLASS"

    spec = job_pb2.TrainSpec(parent=foreign.name, max_steps=3, options=SMALL)
    job = await ada.succeeded(await ada.create_job(train=spec))
    log = await ada.log(job.name)
    assert f"from the weights of {foreign.name}" in log
    assert "the head was replaced" in log
    child = await ada.model(job.result.model)
    assert (child.network, child.parent, child.data_license) == (
        "segresnet2d", foreign.name, foreign.data_license,
    )  # fmt: skip
    predict = job_pb2.PredictSpec(model=child.name, volume=em.name)
    assert (await ada.succeeded(await ada.create_job(predict=predict))).result.layers

    data = await exported(ada, child.name)
    texts = zipfile.ZipFile(io.BytesIO(data))
    for ending in ("LICENSE", "docs/README.md", "docs/data_license.txt"):
        (name,) = [name for name in texts.namelist() if name.endswith(ending)]
        assert b"CC BY-SA 4.0" in texts.read(name)
    again = await imported(ada, data, display_name="again")
    assert again.weights_sha256 == child.weights_sha256
    assert list(again.class_values) == list(child.class_values)
    assert again.data_license == child.data_license


async def test_an_annotation_that_is_taken_back_while_a_training_waits_is_left_out(datastore, em, ada):
    names = await annotate(datastore, em)
    before = await ada.create_job(train=job_pb2.TrainSpec(max_steps=10_000))
    spec = job_pb2.TrainSpec(annotations=names, max_steps=1, options=SMALL)
    waiting, hopeless = (
        await ada.create_job(train=spec),
        await ada.create_job(train=job_pb2.TrainSpec(annotations=names[:1], max_steps=1)),
    )
    revert = annotation_pb2.RevertAnnotationRequest(name=names[0])
    await datastore.as_user("ada").annotations.RevertAnnotation(revert)
    await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=before.name))
    model = await ada.model((await ada.succeeded(waiting)).result.model)
    assert list(model.annotations) == names[1:]
    assert f"{names[0]} is left out: it was reverted while the job waited" in await ada.log(waiting.name)
    error = (await ada.finished(hopeless)).error
    assert (error.reason, names[0] in error.message) == ("ANNOTATION_DOES_NOT_HOLD", True)


async def test_a_job_shows_what_it_reserves_and_more_than_this_machine_has_is_refused(datastore, em, ada):
    await annotate(datastore, em, (0,))
    for asked in ({"cpus": 2}, {"gpus": 9}, {"memory_bytes": 1 << 50}):
        spec = job_pb2.TrainSpec(max_steps=1, resources=job_pb2.Resources(**asked))
        with pytest.raises(FailedPrecondition) as caught:
            await ada.create_job(train=spec)
        assert caught.value.reason == "NO_NODE_LARGE_ENOUGH"
        assert "the largest node has 1 CPUs" in caught.value.message
    with pytest.raises(InvalidArgument) as wrong:
        await ada.create_job(train=job_pb2.TrainSpec(resources=job_pb2.Resources(cpus=-1)))
    assert wrong.value.reason == "BAD_RESOURCES"
    # Longer than anybody waits: none is done before it is cancelled.
    spec = job_pb2.TrainSpec(max_steps=10_000, resources=job_pb2.Resources(memory_bytes=GIB // 4))
    # Whatever waits behind it says when it will begin, as far as anybody knows.
    jobs = [await ada.create_job(train=spec) for _ in range(3)]
    assert {(job.resources.cpus, job.resources.memory_bytes) for job in jobs} == {(1, GIB // 4)}
    for job in reversed(jobs):
        await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=job.name))
    assert {(await ada.finished(job)).state for job in jobs} == {job_pb2.Job.STATE_CANCELLED}
