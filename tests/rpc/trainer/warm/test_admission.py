"""What a trainer refuses when it is asked for it, and says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from biosegment.api.datastore.v1alpha1 import datastore_pb2, project_pb2, volume_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2, worker_pb2
from biosegment.api.volume.v1alpha1 import geometry_pb2
from biosegment.auth import Kind, Principal
from biosegment.client.jobs import Jobs
from biosegment.client.volumes import Volumes
from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unauthenticated
from tests.rpc.trainer.bundle_file import NEEDED, zip_of
from tests.rpc.trainer.conftest import SHAPE, annotate
from tests.rpc.trainer.test_instances import import_layers
from tests.rpc.trainer.test_instances import spec as search
from tests.rpc.trainer.test_objects import import_objects, some_objects
from tests.rpc.trainer.tiny import import_tiny_model

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRAIN = job_pb2.TrainSpec(max_steps=1)
PASSES = job_pb2.Passes
EVIL = b'{"network_def": {"_target_": "os.system", "command": "touch /tmp/owned"}}'
REQUESTS = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(4)]


async def test_jobs_that_cannot_work_are_refused_when_they_are_created(datastore, em, ada):
    with pytest.raises(FailedPrecondition) as caught:
        await ada.create_job(train=TRAIN)
    assert caught.value.reason == "NO_ANNOTATIONS"
    with pytest.raises(FailedPrecondition) as caught:
        await ada.create_job(predict=job_pb2.PredictSpec(volume=em.name))
    assert caught.value.reason == "NO_MODEL"
    names = await annotate(datastore, em, (0,))
    refused = [
        (job_pb2.TrainSpec(options={"stepps": 3}), InvalidArgument, "UNKNOWN_OPTION"),
        (job_pb2.TrainSpec(options={"batch_size": "x"}), InvalidArgument, "BAD_OPTION"),
        (job_pb2.TrainSpec(max_steps=-1), InvalidArgument, "BAD_SPEC"),
        (job_pb2.TrainSpec(parent="models/none"), NotFound, "MODEL_NOT_FOUND"),
        (job_pb2.TrainSpec(parent="models/none", from_scratch=True), InvalidArgument, "BAD_SPEC"),
        (job_pb2.TrainSpec(annotations=names * 2), InvalidArgument, "BAD_SPEC"),
        (
            job_pb2.TrainSpec(annotations=[names[0].replace(ada.project, "projects/other")]),
            InvalidArgument,
            "OTHER_PROJECT",
        ),
        (job_pb2.TrainSpec(annotations=[names[0] + "x"]), NotFound, "ANNOTATION_NOT_FOUND"),
    ]
    for spec, kind, reason in refused:
        with pytest.raises(kind) as wrong:
            await ada.create_job(train=spec)
        assert wrong.value.reason == reason, spec
    score = job_pb2.ScoreSpec(model="models/none", volumes=[em.name], measures=["beauty"])
    with pytest.raises(InvalidArgument) as unknown:
        await ada.create_job(score=score)
    assert unknown.value.reason == "UNKNOWN_MEASURE"
    with pytest.raises(InvalidArgument):
        await ada.create_job(pretrain=job_pb2.PretrainSpec())
    assert not await ada.listed_jobs()


async def test_options_that_can_never_work_are_refused_when_the_job_is_created(datastore, em, ada, tmp_path):
    names = await annotate(datastore, em, (0,))
    wrong = [
        ({"patch_size": 100}, "BAD_TRAINING", "patch_size 100 must be a multiple of 16, .* take 96 or 112"),
        ({"patch_size": 16, "batch_size": 1}, "BAD_TRAINING", "take larger patches or batches"),
        ({"batch_size": 3, "workers": 2}, "BAD_TRAINING", "batch_size 3 cannot be shared by 2"),
        ({"network.kind": "3d", "patch_size": 36}, "BAD_TRAINING", "patch_size 36 must be a multiple of 8"),
        ({"network.channels": "0,8"}, "BAD_OPTION", "within 1..2048, not '0,8'"),
        ({"network.channels": "8"}, "BAD_OPTION", "2 to 8 numbers"),
        ({"network.norm": "foo"}, "BAD_OPTION", "network.norm must be one of .* not 'foo'"),
        ({"network.family": "SegResNet", "network.channels": "8,16"}, "BAD_NETWORK", "channels"),
        ({"network.kind": "2.5d", "network.slices": 4}, "BAD_NETWORK", "input_slices 4 must be odd"),
        ({"network.dropout": 0.97}, "BAD_NETWORK", "dropout: 0.97"),
    ]
    for options, reason, message in wrong:
        for spec in (
            {"train": job_pb2.TrainSpec(options=options)},
            {"train": job_pb2.TrainSpec(options=options, annotations=names)},
            {"pretrain": job_pb2.PretrainSpec(volumes=[em.name], options=options)},
        ):
            with pytest.raises(InvalidArgument, match=message) as caught:
                await ada.create_job(**spec)
            assert caught.value.reason == reason, spec
    # Whose network it will be decides: this one halves once.
    parent = await import_tiny_model(ada, tmp_path)
    with pytest.raises(InvalidArgument, match="patch_size 99 must be a multiple of 2"):
        await ada.create_job(train=job_pb2.TrainSpec(options={"patch_size": 99}))
    with pytest.raises(InvalidArgument, match="patch_size 100 must be a multiple of 16"):
        await ada.create_job(train=job_pb2.TrainSpec(options={"patch_size": 100}, from_scratch=True))
    assert not await ada.listed_jobs()
    for each in ("", parent):
        job = await ada.create_job(train=job_pb2.TrainSpec(options={"patch_size": 100}, parent=each))
        await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=job.name))


async def test_a_missing_volume_is_said_at_once(em, ada, tmp_path):
    model, missing = await import_tiny_model(ada, tmp_path), f"{ada.project}/volumes/none"
    for spec in (
        {"predict": job_pb2.PredictSpec(model=model, volume=missing)},
        {"score": job_pb2.ScoreSpec(model=model, volumes=[em.name, missing], measures=["entropy"])},
        {"pretrain": job_pb2.PretrainSpec(volumes=[em.name, missing])},
        {"pretrain": job_pb2.PretrainSpec(volumes=[missing], options={"patch_size": 96})},
    ):
        with pytest.raises(NotFound, match="none") as caught:
            await ada.create_job(**spec)
        assert caught.value.reason == "VOLUME_NOT_FOUND", spec
    assert not await ada.listed_jobs()


async def test_strangers_and_viewers_cannot_train_and_a_stranger_learns_nothing(datastore, em, trainer, ada):
    await annotate(datastore, em, (0,))
    member = project_pb2.Member(name=f"{ada.project}/members/vic", role=project_pb2.ROLE_VIEWER)
    await datastore.as_user("ada").datastore.SetMember(datastore_pb2.SetMemberRequest(member=member))
    vic, eve = trainer.as_user("vic", ada.project), trainer.as_user("eve", ada.project)
    with pytest.raises(PermissionDenied):
        await vic.create_job(train=TRAIN)
    with pytest.raises(NotFound):
        await eve.create_job(train=TRAIN)
    assert not await vic.listed_models()
    with pytest.raises(NotFound):
        await eve.listed_models()
    with pytest.raises(NotFound):
        await ada.model("models/none")


async def test_a_worker_speaks_for_its_own_job_only(trainer):
    request = worker_pb2.ReportProgressRequest(job="jobs/trainer-a", attempt=1)
    for principal in (
        Principal(Kind.JOB, "trainer-b"),
        Principal(Kind.SERVICE, "trainer"),
    ):
        with pytest.raises(PermissionDenied):
            await trainer.stubs("trainer", principal).worker.ReportProgress(request)
    with pytest.raises(PermissionDenied):
        await trainer.as_user("ada").worker.ReportProgress(request)
    with pytest.raises(Unauthenticated):
        await trainer.stubs("sampler", Principal(Kind.JOB, "trainer-a")).worker.ReportProgress(request)
    with pytest.raises(NotFound):
        await trainer.stubs("trainer", Principal(Kind.JOB, "trainer-a")).worker.ReportProgress(request)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no zip file", "BAD_BUNDLE"),
        (zip_of(**{"configs/metadata.json": b"{}"}), "BAD_BUNDLE"),
        (zip_of(**NEEDED, **{"../escape.txt": b"x"}), "BAD_BUNDLE"),
        (zip_of(**NEEDED, **{"/etc/escape.txt": b"x"}), "BAD_BUNDLE"),
        (zip_of(**NEEDED), "BAD_BUNDLE"),
        (zip_of(**{**NEEDED, "configs/inference.json": EVIL}), "NETWORK_NOT_ALLOWED"),
    ],
)
async def test_a_bundle_that_is_not_one_is_refused(em, trainer, ada, data, reason):
    async def pieces():
        yield trainer_pb2.ImportModelRequest(project=ada.project, data=data)

    def stored():
        return set((trainer.folder / "objects").glob("models/*"))

    before = stored()
    with pytest.raises(InvalidArgument) as caught:
        await ada.models.ImportModel(pieces())
    assert caught.value.reason == reason
    assert not await ada.listed_models()
    assert stored() == before


async def test_what_cannot_be_predicted_or_scored_is_refused_with_the_reason(em, ada, tmp_path):
    model = await import_tiny_model(ada, tmp_path)
    coarse = await import_tiny_model(ada, tmp_path, 1, resolution_nm=20.0, dropout=0.2)
    solid = await import_tiny_model(ada, tmp_path, 2, spatial_dims=3)
    compared = {"measures": ["mutual_information"]}
    predictions = [
        ({"measures": ["beauty"]}, InvalidArgument, "UNKNOWN_MEASURE"),
        (compared, InvalidArgument, "NEEDS_PASSES"),
        ({"passes": PASSES(mc_dropout=4), **compared}, FailedPrecondition, "NO_DROPOUT"),
        ({"passes": PASSES(mc_dropout=1)}, InvalidArgument, "BAD_SPEC"),
        ({"passes": PASSES(test_time_augmentation=9)}, InvalidArgument, "BAD_SPEC"),
        ({"passes": PASSES(ensemble=[coarse])}, InvalidArgument, "OTHER_CLASSES"),
        ({"passes": PASSES(ensemble=["models/none"])}, NotFound, "MODEL_NOT_FOUND"),
        ({"passes": PASSES(ensemble=[solid])}, InvalidArgument, "OTHER_DIMENSIONS"),
        ({"ortho_planes": True}, FailedPrecondition, "VOXELS_NOT_ISOTROPIC"),
    ]
    for fields, kind, reason in predictions:
        spec = job_pb2.PredictSpec(model=model, volume=em.name, **fields)
        with pytest.raises(kind) as wrong:
            await ada.create_job(predict=spec)
        assert wrong.value.reason == reason, fields
    for fields, reason in (
        ({"max_pixels": 1000}, "MAX_PIXELS_TOO_SMALL"),
        ({"max_pixels": -1}, "BAD_SPEC"),
        (compared, "NEEDS_PASSES"),
        ({"passes": PASSES(ensemble=[solid])}, "OTHER_DIMENSIONS"),
    ):
        score = job_pb2.ScoreSpec(model=model, volumes=[em.name], **({"measures": ["entropy"]} | fields))
        with pytest.raises(InvalidArgument) as refused:
            await ada.create_job(score=score)
        assert refused.value.reason == reason, fields
    assert not await ada.listed_jobs()
    spec = job_pb2.PredictSpec(model=coarse, volume=em.name, passes=PASSES(mc_dropout=4), **compared)
    job = await ada.create_job(predict=spec)
    await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=job.name))


async def test_what_cannot_be_measured_is_refused_at_once(datastore, em, trainer, ada):
    layer = await import_objects(datastore, em, some_objects())
    volumes = Volumes(datastore.as_user("ada").channel)
    empty = await volumes.write_layer(em.name, np.zeros(SHAPE, np.uint32), kind="instances")
    labels = await volumes.write_layer(em.name, np.ones(SHAPE, np.uint8), kind="labels")
    meshes = {"layer": layer, "meshes": True}
    cases = [
        ({"layer": f"{em.name}/layers/none"}, NotFound, "LAYER_NOT_FOUND"),
        ({"layer": em.name}, InvalidArgument, "BAD_NAME"),
        ({"layer": layer.replace(ada.project, "projects/other")}, InvalidArgument, "OTHER_PROJECT"),
        ({"layer": labels.name}, InvalidArgument, "NOT_INSTANCES"),
        ({"layer": f"{em.name}/layers/annotations"}, InvalidArgument, "NOT_INSTANCES"),
        ({"layer": empty.name}, FailedPrecondition, "NO_OBJECTS"),
        ({"layer": layer, "mesh_formats": ["MESH_FORMAT_PLY"]}, InvalidArgument, "BAD_SPEC"),
        ({**meshes, "mesh_formats": [0]}, InvalidArgument, "BAD_SPEC"),
        ({**meshes, "mesh_formats": [99]}, InvalidArgument, "BAD_SPEC"),
        ({**meshes, "mesh_cell_nm": -1}, InvalidArgument, "BAD_SPEC"),
        ({**meshes, "mesh_cell_nm": float("nan")}, InvalidArgument, "BAD_SPEC"),
    ]
    for fields, kind, reason in cases:
        with pytest.raises(kind) as caught:
            await ada.create_job(measure_objects=job_pb2.MeasureObjectsSpec(**fields))
        assert caught.value.reason == reason, fields
    with pytest.raises(InvalidArgument) as unknown:
        await Jobs(ada.channel).measure_objects(layer, meshes=True, mesh_formats=["obj"])
    assert unknown.value.reason == "UNKNOWN_FORMAT"
    spec = job_pb2.MeasureObjectsSpec(layer=layer)
    with pytest.raises(NotFound):
        await trainer.as_user("eve", ada.project).create_job(measure_objects=spec)
    with pytest.raises(PermissionDenied):
        await trainer.as_service("gateway", ada.project).create_job(measure_objects=spec)
    assert not await ada.listed_jobs()


async def test_what_cannot_be_searched_for_objects_is_refused_with_the_reason(datastore, ada, project_id):
    volume, labels = await import_layers(datastore, project_id)
    service = datastore.as_service("trainer").datastore

    async def make(layer_id: str, commit: bool = True, **fields: Any) -> str:
        request = datastore_pb2.CreateLayerRequest(
            parent=volume.name, layer_id=layer_id, layer=volume_pb2.Layer(**fields), request_id=REQUESTS.pop()
        )
        made = (await service.CreateLayer(request)).layer
        if commit:
            await service.CommitLayer(datastore_pb2.CommitLayerRequest(name=made.name, attempt=made.attempt))
        return str(made.name)

    unfinished = await make("unfinished", commit=False, kind=volume_pb2.Layer.KIND_LABELS)
    coarse = await make(
        "coarse",
        kind=volume_pb2.Layer.KIND_PROBABILITIES,
        class_value=3,
        downsampling=geometry_pb2.Index(z=1, y=2, x=2),
    )
    instances = await make("ids", kind=volume_pb2.Layer.KIND_INSTANCES)
    watershed = {"method": "watershed"}
    wrong = [
        (labels, {"method": "magic"}, InvalidArgument, "UNKNOWN_METHOD"),
        (labels, {"method": ""}, InvalidArgument, "UNKNOWN_METHOD"),
        (labels, {"class_value": 9}, InvalidArgument, "UNKNOWN_CLASS"),
        (labels, {"class_value": 1}, InvalidArgument, "UNKNOWN_CLASS"),
        (coarse, {"class_value": 2}, InvalidArgument, "UNKNOWN_CLASS"),
        (labels, {"min_size_voxels": -1}, InvalidArgument, "BAD_SPEC"),
        (labels, {"connectivity": 8}, InvalidArgument, "BAD_SPEC"),
        (labels, {"threshold": 0.3}, InvalidArgument, "BAD_SPEC"),
        (coarse, {"threshold": 1.5, "class_value": 3}, InvalidArgument, "BAD_SPEC"),
        (labels, {"seed_distance_nm": 50}, InvalidArgument, "BAD_SPEC"),
        (labels, {"seed_distance_nm": 1000, **watershed}, InvalidArgument, "BAD_SPEC"),
        (labels, {"seed_distance_nm": float("nan"), **watershed}, InvalidArgument, "BAD_SPEC"),
        (labels, {"boundary_layer": coarse, **watershed}, InvalidArgument, "OTHER_GRID"),
        (
            labels,
            {"boundary_layer": labels, "boundary_class_value": 2, **watershed},
            InvalidArgument,
            "BAD_SPEC",
        ),
        (labels, {"boundary_class_value": 3, **watershed}, InvalidArgument, "BAD_SPEC"),
        (unfinished, {}, FailedPrecondition, "LAYER_NOT_COMMITTED"),
        (instances, {}, InvalidArgument, "BAD_LAYER_KIND"),
        (f"{volume.name}/layers/none", {}, NotFound, "LAYER_NOT_FOUND"),
        ("projects/other/volumes/v/layers/l", {}, InvalidArgument, "OTHER_PROJECT"),
        (volume.name, {}, InvalidArgument, "BAD_NAME"),
    ]
    for layer, fields, kind, reason in wrong:
        with pytest.raises(kind) as refused:
            await ada.create_job(instances=search(layer, **fields))
        assert refused.value.reason == reason, (layer, fields)
    assert not await ada.listed_jobs()
