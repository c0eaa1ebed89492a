from __future__ import annotations

import uuid
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from biosegment_trainer.prediction.supersession import newer_scoring
from biosegment_trainer.registry.model import ModelClass, NewModel
from biosegment_trainer.sql import SqlModels

from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.database import Database, migrate
from biosegment.jobs import Job, JobResult, JobSignal, JobState, SqlJobs
from biosegment.jobs.job import NewJob
from biosegment.jobs.row import JOBS


class Line:
    """The jobs and models of a project."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.jobs = SqlJobs(database, "trainer", JobSignal())
        self.models = SqlModels(database)

    async def train(self, model_id: str) -> None:
        classes = (ModelClass(2, "mitochondria"),)
        await self.models.register(NewModel(model_id, "p", "", "", "unet2d", classes, 10.0, "0" * 64))

    async def create(self, kind: str, spec: job_pb2.JobSpec) -> Job:
        request = str(uuid.uuid4())
        return await self.jobs.create(NewJob("p", kind, spec.SerializeToString(), request, request, "ann", 0))

    async def score(self, model: str, volumes: Sequence[str]) -> Job:
        names = [f"projects/p/volumes/{volume}" for volume in volumes]
        spec = job_pb2.ScoreSpec(model=f"models/{model}", volumes=names, measures=["entropy"])
        return await self.create("score", job_pb2.JobSpec(score=spec))

    async def newer(self, job: Job, model: str) -> str:
        return await newer_scoring(self.jobs, self.models, job, await self.models.get(model))


@pytest.fixture
async def line(tmp_path):
    url = f"sqlite+aiosqlite:///{tmp_path}/trainer.db"
    migrate(url, "biosegment_trainer")
    database = Database.open(url)
    made = Line(database)
    for model in ("old", "new"):
        await made.train(model)
    yield made
    await database.close()


@pytest.mark.parametrize(
    ("mine", "others", "gives_way"),
    [
        (["a"], ["a"], True),
        (["a", "b"], ["c", "b", "a"], True),
        (["a"], ["b"], False),
        (["a", "b"], ["b"], False),
    ],
)
async def test_a_scoring_gives_way_to_a_newer_one_of_all_its_volumes(line: Line, mine, others, gives_way):
    older, newer = await line.score("old", mine), await line.score("new", others)
    assert await line.newer(older, "old") == (newer.name if gives_way else "")
    assert await line.newer(newer, "new") == ""


async def test_a_scoring_gives_way_to_none_that_has_ended_or_is_of_its_own_model(line: Line):
    older = await line.score("old", ["a"])
    await line.score("old", ["a"])
    claimed = await line.jobs.claim("here", ["score"])
    newer = await line.score("new", ["a"])
    assert await line.newer(claimed, "old") == newer.name
    await line.jobs.finish(older.job_id, claimed.attempt, JobState.SUCCEEDED, result=JobResult())
    (second,) = [job for job in await line.jobs.open_of_kind("p", "score") if job.job_id != newer.job_id]
    await line.jobs.request_cancel(newer.job_id)
    assert await line.newer(second, "old") == ""


async def test_a_newer_scoring_is_found_behind_any_number_of_other_jobs(line: Line):
    older, newer = await line.score("old", ["a"]), await line.score("new", ["a"])
    volume = job_pb2.PredictSpec(model="models/new", volume="projects/p/volumes/a")
    other = await line.create("predict", job_pb2.JobSpec(predict=volume))
    async with line.database.write() as connection:
        row = (await connection.execute(sa.select(JOBS).where(JOBS.c.job_id == other.job_id))).one()
        copies = [
            {**row._mapping, "job_id": f"{other.job_id}-{number}", "request_id": str(number)}
            for number in range(600)
        ]
        await connection.execute(sa.insert(JOBS), copies)
    assert await line.newer(older, "old") == newer.name
