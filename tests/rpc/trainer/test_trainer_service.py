from __future__ import annotations

import io
import zipfile

import psutil
import pytest

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2, worker_pb2
from biosegment.auth import Kind, Principal
from biosegment.errors import (
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)
from tests.rpc.trainer.conftest import annotate

TRAIN = job_pb2.TrainSpec(max_steps=1)


async def test_an_idle_trainer_has_loaded_neither_torch_nor_ray(em, trainer):
    await trainer.as_user("ada").models.ListModels(trainer_pb2.ListModelsRequest(project="projects/em"))
    mapped = {file.path for file in psutil.Process(trainer.process.pid).memory_maps()}
    assert not [path for path in mapped if "/torch/" in path or "/ray/" in path]
    assert psutil.Process(trainer.process.pid).children() == []


async def test_jobs_that_cannot_work_are_refused_when_they_are_created(datastore, em, trainer):
    ada = trainer.as_user("ada")
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
            job_pb2.TrainSpec(annotations=[names[0].replace("/em/", "/other/")]),
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
    assert not (await ada.jobs.ListJobs(job_pb2.ListJobsRequest(project="projects/em"))).jobs


async def test_strangers_and_viewers_cannot_train_and_a_stranger_learns_nothing(datastore, em, trainer):
    from biosegment.api.datastore.v1alpha1 import datastore_pb2, project_pb2

    await annotate(datastore, em, (0,))
    member = project_pb2.Member(name="projects/em/members/vic", role=project_pb2.ROLE_VIEWER)
    await datastore.as_user("ada").datastore.SetMember(datastore_pb2.SetMemberRequest(member=member))
    with pytest.raises(PermissionDenied):
        await trainer.as_user("vic").create_job(train=TRAIN)
    with pytest.raises(NotFound):
        await trainer.as_user("eve").create_job(train=TRAIN)
    request = trainer_pb2.ListModelsRequest(project="projects/em")
    assert not (await trainer.as_user("vic").models.ListModels(request)).models
    with pytest.raises(NotFound):
        await trainer.as_user("eve").models.ListModels(request)
    with pytest.raises(NotFound):
        await trainer.as_user("ada").model("models/none")


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


async def test_an_outdated_worker_is_told_to_stop(datastore, em, trainer):
    await annotate(datastore, em, (0,))
    job = await trainer.as_user("ada").create_job(train=TRAIN)
    await trainer.as_user("ada").jobs.CancelJob(job_pb2.CancelJobRequest(name=job.name))
    worker = trainer.stubs("trainer", Principal(Kind.JOB, job.name.removeprefix("jobs/")))
    with pytest.raises(Conflict) as caught:
        await worker.worker.ReportProgress(worker_pb2.ReportProgressRequest(job=job.name, attempt=7))
    assert caught.value.reason == "ATTEMPT_OUTDATED"


def zip_of(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


NEEDED = {"configs/metadata.json": b"{}", "configs/inference.json": b"{}", "models/model.pt": b"x"}
EVIL = b'{"network_def": {"_target_": "os.system", "command": "touch /tmp/owned"}}'


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
async def test_a_bundle_that_is_not_one_is_refused(em, trainer, data, reason):
    async def pieces():
        yield trainer_pb2.ImportModelRequest(project="projects/em", data=data)

    ada = trainer.as_user("ada")
    with pytest.raises(InvalidArgument) as caught:
        await ada.models.ImportModel(pieces())
    assert caught.value.reason == reason
    assert not (await ada.models.ListModels(trainer_pb2.ListModelsRequest(project="projects/em"))).models
    assert not list((trainer.folder / "objects").glob("models/*"))


async def test_a_bundle_that_unpacks_to_more_than_allowed_is_refused(em, trainer):
    await trainer.stop()
    await trainer.start(BIOSEGMENT_TRAINER__MAX_BUNDLE_BYTES="1000000")
    bomb = zip_of(**NEEDED, **{"docs/zeros": bytes(3_000_000)})

    async def pieces():
        yield trainer_pb2.ImportModelRequest(project="projects/em", data=bomb)

    with pytest.raises(ResourceExhausted) as caught:
        await trainer.as_user("ada").models.ImportModel(pieces())
    assert caught.value.reason == "BUNDLE_TOO_LARGE"
