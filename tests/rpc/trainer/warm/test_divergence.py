"""A training whose numbers run away, as a job."""

from __future__ import annotations

import math

import pytest

from biosegment.api.job.v1alpha1 import job_pb2
from tests.rpc.trainer.conftest import annotate

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

RECKLESS = {
    "network.channels": "4,8",
    "batch_size": 2,
    "patch_size": 32,
    "learning_rate": 0.9,
    "weight_decay": 100.0,
    "checkpoint_steps": 2,
}


async def test_a_training_that_diverges_fails_at_once_and_leaves_no_model(datastore, em, ada):
    await annotate(datastore, em)
    spec = job_pb2.TrainSpec(max_steps=60, from_scratch=True, options=RECKLESS)
    job = await ada.finished(await ada.create_job(train=spec))
    assert (job.state, job.error.reason) == (job_pb2.Job.STATE_FAILED, "DIVERGED")
    assert "lower learning_rate 0.9 (or weight_decay 100)" in job.error.message
    assert job.attempt == 1
    assert all(math.isfinite(value) for value in job.metrics.values())
    assert not await ada.listed_models()
