from __future__ import annotations

import psutil
import pytest

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.api.trainer.v1alpha1 import trainer_pb2, worker_pb2
from biosegment.auth import Kind, Principal
from biosegment.errors import (
    Conflict,
    InvalidArgument,
    ResourceExhausted,
)
from tests.rpc.trainer.bundle_file import NEEDED, zip_of
from tests.rpc.trainer.conftest import annotate

pytestmark = pytest.mark.timeout(400)

TRAIN = job_pb2.TrainSpec(max_steps=1)


async def test_a_trainer_that_runs_nothing_has_loaded_neither_torch_nor_ray(datastore, em, trainer):
    ada = trainer.as_user("ada")
    await ada.models.ListModels(trainer_pb2.ListModelsRequest(project="projects/em"))
    await annotate(datastore, em, (0,))
    # The network that is asked for is looked at, too.
    for family in ("UNet", "SegResNet", "DynUNet", "SwinUNETR"):
        options = {"network.family": family, "network.kind": "3d", "patch_size": 100}
        with pytest.raises(InvalidArgument, match="patch_size 100"):
            await ada.create_job(train=job_pb2.TrainSpec(options=options))
    mapped = {file.path for file in psutil.Process(trainer.process.pid).memory_maps()}
    assert not [path for path in mapped if "/torch/" in path or "/ray/" in path]
    assert psutil.Process(trainer.process.pid).children() == []


async def test_an_outdated_worker_is_told_to_stop(datastore, em, trainer):
    await annotate(datastore, em, (0,))
    job = await trainer.as_user("ada").create_job(train=TRAIN)
    await trainer.as_user("ada").jobs.CancelJob(job_pb2.CancelJobRequest(name=job.name))
    worker = trainer.stubs("trainer", Principal(Kind.JOB, job.name.removeprefix("jobs/")))
    with pytest.raises(Conflict) as caught:
        await worker.worker.ReportProgress(worker_pb2.ReportProgressRequest(job=job.name, attempt=7))
    assert caught.value.reason == "ATTEMPT_OUTDATED"


async def test_a_bundle_that_unpacks_to_more_than_allowed_is_refused(em, trainer):
    await trainer.stop()
    await trainer.start(BIOSEGMENT_TRAINER__MAX_BUNDLE_BYTES="1000000")
    bomb = zip_of(**NEEDED, **{"docs/zeros": bytes(3_000_000)})

    async def pieces():
        yield trainer_pb2.ImportModelRequest(project="projects/em", data=bomb)

    with pytest.raises(ResourceExhausted) as caught:
        await trainer.as_user("ada").models.ImportModel(pieces())
    assert caught.value.reason == "BUNDLE_TOO_LARGE"
