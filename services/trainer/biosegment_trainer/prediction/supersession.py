"""Scorings that nobody needs any more, because a newer model scores all of their volumes."""

from __future__ import annotations

from biosegment.errors import NotFound
from biosegment.jobs import Job, SqlJobs
from biosegment_trainer.convert import score_request
from biosegment_trainer.registry.model import Model
from biosegment_trainer.sql import SqlModels


async def newer_scoring(jobs: SqlJobs, models: SqlModels, job: Job, model: Model) -> str:
    """Name of a scoring, queued or running, that does all that `job` does with a newer model than `model`; '' when
    there is none.
    """
    volumes = set(score_request(job.spec).volumes)
    for other in await jobs.open_of_kind(job.project_id, job.kind):
        # One of other volumes alone leaves some without scores by any newer model.
        covers = volumes <= set(score_request(other.spec).volumes)
        if other.job_id != job.job_id and covers and await _version(models, other) > model.version_in_project:
            return other.name
    return ""


async def _version(models: SqlModels, job: Job) -> int:
    try:
        return (await models.get(score_request(job.spec).model)).version_in_project
    except NotFound:
        return 0
