from __future__ import annotations

import asyncio

import pytest
from biosegment_trainer.leftover import Leftovers
from biosegment_trainer.prediction.ledger import note_layers
from biosegment_trainer.registry.model import NewModel
from biosegment_trainer.sql import SqlModels

from biosegment.database import Database, migrate
from biosegment.jobs import JobError, JobSignal, JobState, SqlJobs
from biosegment.jobs.job import NewJob
from biosegment.settings import ObjectStoreSettings
from biosegment.storage.objects import open_objects


@pytest.fixture
async def place(tmp_path):
    url = f"sqlite+aiosqlite:///{tmp_path}/trainer.db"
    await asyncio.to_thread(migrate, url, "biosegment_trainer")
    database = Database.open(url)
    objects = open_objects(ObjectStoreSettings(object_store_url=f"file://{tmp_path}/objects"))
    yield SqlJobs(database, "trainer", JobSignal()), SqlModels(database), objects
    await objects.close()
    await database.close()


async def job_with_leftovers(jobs, objects, request_id):
    job = await jobs.create(NewJob("p", "train", b"", "d", request_id))
    await jobs.claim("dead", ["train"])
    await jobs.recover("here")
    job = await jobs.claim("here", ["train"])
    ulid = job.job_id.partition("-")[2]
    for attempt in (1, 2):
        await objects.put(f"jobs/{job.job_id}/attempt-{attempt}/step-00000001.pt", b"c")
        await objects.put(f"models/{ulid}-{attempt}/models/model.pt", b"w")
    return job, ulid


async def test_only_jobs_that_may_still_go_on_keep_what_they_left(place):
    jobs, models, objects = place
    ends = [JobState.SUCCEEDED, JobState.CANCELLED, JobState.FAILED]
    made, dropped = {}, []

    async def drop(name):
        dropped.append(name)

    for state in ends:
        job, ulid = await job_with_leftovers(jobs, objects, state.value)
        if state is JobState.SUCCEEDED:
            await models.register(NewModel(f"{ulid}-2", "p", "", "", "UNet", (), 8.0, "0", job=job.name))
        await jobs.finish(
            job.job_id, 2, state, error=JobError("X", "x") if state is JobState.FAILED else None
        )
        await note_layers(objects, job.job_id, [f"layer of {state.value}"])
        made[state] = job.job_id
    running, ulid = await job_with_leftovers(jobs, objects, "running")
    await objects.put("jobs/trainer-of-another-time/plan.json", b"{}")

    assert await Leftovers(objects, jobs, models, drop, keep_failed_s=3600).sweep() == 3
    assert sorted(dropped) == ["layer of cancelled", "layer of succeeded"]
    kept = {running.job_id, made[JobState.FAILED]}
    assert {key.split("/")[1] for key in await objects.list("jobs/")} == kept
    registered = made[JobState.SUCCEEDED].partition("-")[2] + "-2"
    bundles = {f"{job_id.partition('-')[2]}-{attempt}" for job_id in kept for attempt in (1, 2)}
    assert {key.split("/")[1] for key in await objects.list("models/")} == {registered, *bundles}

    # The failed one is tried again and goes on; when it has failed for good it goes, too.
    assert await Leftovers(objects, jobs, models, drop, keep_failed_s=0).sweep() == 1
    assert {key.split("/")[1] for key in await objects.list("jobs/")} == {running.job_id}
    assert dropped[2:] == ["layer of failed"]


async def test_a_bundle_that_an_orphan_wrote_after_the_end_goes_when_they_are_looked_for(place):
    jobs, models, objects = place
    dropped = []

    async def drop(name):
        dropped.append(name)

    job, ulid = await job_with_leftovers(jobs, objects, "r")
    leftovers = Leftovers(objects, jobs, models, drop, keep_failed_s=0)
    assert await leftovers.sweep_bundles() == 0
    await models.register(NewModel(f"{ulid}-2", "p", "", "", "UNet", (), 8.0, "0", job=job.name))
    await jobs.finish(job.job_id, 2, JobState.SUCCEEDED)
    await leftovers.remove(await jobs.get(job.job_id))
    for model_id in (f"{ulid}-1", f"{ulid}-7", "imported", "mitochondria_vem-1-x"):
        await objects.put(f"models/{model_id}/models/model.pt", b"w")
    assert await leftovers.sweep_bundles() == 2
    found = {key.split("/")[1] for key in await objects.list("models/")}
    assert found == {f"{ulid}-2", "imported", "mitochondria_vem-1-x"}
    assert dropped == []


async def test_bundles_of_orphans_are_looked_for_again_while_the_trainer_runs(place, monkeypatch):
    monkeypatch.setattr("biosegment_trainer.leftover._EVERY_S", 0.01)
    monkeypatch.setattr("biosegment_trainer.leftover._BUNDLES_EVERY_S", 0.01)
    jobs, models, objects = place

    async def drop(name):
        raise AssertionError(name)

    job, ulid = await job_with_leftovers(jobs, objects, "r")
    await jobs.finish(job.job_id, 2, JobState.CANCELLED)
    sweeping = asyncio.create_task(Leftovers(objects, jobs, models, drop, keep_failed_s=0).run())
    try:
        async with asyncio.timeout(60):
            for _ in range(2):
                while await objects.list("models/"):
                    await asyncio.sleep(0.01)
                await objects.put(f"models/{ulid}-1/models/model.pt", b"w")
    finally:
        sweeping.cancel()
