from __future__ import annotations

import pytest

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound
from tests.rpc.trainer.tiny import import_tiny_model, import_wide_volume

PASSES = job_pb2.Passes


async def test_what_cannot_be_predicted_or_scored_is_refused_with_the_reason(datastore, trainer, tmp_path):
    wide = await import_wide_volume(datastore)
    ada = trainer.as_user("ada")
    model = await import_tiny_model(ada, tmp_path)
    coarse = await import_tiny_model(ada, tmp_path, 1, resolution_nm=20.0)
    dropping = await import_tiny_model(ada, tmp_path, 2, dropout=0.2)
    compared = {"measures": ["mutual_information"]}
    predictions = [
        ({"measures": ["beauty"]}, InvalidArgument, "UNKNOWN_MEASURE"),
        (compared, InvalidArgument, "NEEDS_PASSES"),
        ({"passes": PASSES(mc_dropout=4), **compared}, FailedPrecondition, "NO_DROPOUT"),
        ({"passes": PASSES(mc_dropout=1)}, InvalidArgument, "BAD_SPEC"),
        ({"passes": PASSES(test_time_augmentation=9)}, InvalidArgument, "BAD_SPEC"),
        ({"passes": PASSES(ensemble=[coarse])}, InvalidArgument, "OTHER_CLASSES"),
        ({"passes": PASSES(ensemble=["models/none"])}, NotFound, "MODEL_NOT_FOUND"),
        ({"ortho_planes": True}, FailedPrecondition, "VOXELS_NOT_ISOTROPIC"),
    ]
    for fields, kind, reason in predictions:
        spec = job_pb2.PredictSpec(model=model, volume=wide.name, **fields)
        with pytest.raises(kind) as wrong:
            await ada.create_job(predict=spec)
        assert wrong.value.reason == reason, fields
    for fields, reason in (
        ({"max_pixels": 1000}, "MAX_PIXELS_TOO_SMALL"),
        ({"max_pixels": -1}, "BAD_SPEC"),
        (compared, "NEEDS_PASSES"),
    ):
        score = job_pb2.ScoreSpec(model=model, volumes=[wide.name], **({"measures": ["entropy"]} | fields))
        with pytest.raises(InvalidArgument) as refused:
            await ada.create_job(score=score)
        assert refused.value.reason == reason, fields
    assert not (await ada.jobs.ListJobs(job_pb2.ListJobsRequest(project="projects/em"))).jobs
    spec = job_pb2.PredictSpec(model=dropping, volume=wide.name, passes=PASSES(mc_dropout=4), **compared)
    job = await ada.create_job(predict=spec)
    await ada.jobs.CancelJob(job_pb2.CancelJobRequest(name=job.name))
