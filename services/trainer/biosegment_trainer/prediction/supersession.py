"""Scorings that nobody needs any more, because a newer model of the project is being scored."""

from __future__ import annotations

from biosegment.errors import NotFound
from biosegment.jobs import Job, JobState, SqlJobs
from biosegment_trainer.convert import score_request
from biosegment_trainer.registry.model import Model
from biosegment_trainer.sql import SqlModels

_OPEN = (JobState.QUEUED, JobState.RUNNING)


async def newer_scoring(jobs: SqlJobs, models: SqlModels, job: Job, model: Model) -> str:
    """Name of a scoring, queued or running, of a newer model than `model`; '' when there is none."""
    for other in await _scorings(jobs, job.project_id):
        if other.job_id != job.job_id and await _version(models, other) > model.version_in_project:
            return other.name
    return ""


async def _scorings(jobs: SqlJobs, project_id: str) -> list[Job]:
    return [job for job in await jobs.list(project_id, _OPEN, limit=500) if job.kind == "score"]


async def _version(models: SqlModels, job: Job) -> int:
    try:
        return (await models.get(score_request(job.spec).model)).version_in_project
    except NotFound:
        return 0
