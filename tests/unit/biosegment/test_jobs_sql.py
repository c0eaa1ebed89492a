from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from biosegment.database import Database
from biosegment.errors import AlreadyExists, Conflict, FailedPrecondition, NotFound, ResourceExhausted
from biosegment.jobs import JobError, JobResult, JobSignal, JobState, Progress, Resources, SqlJobs
from biosegment.jobs.job import NewJob
from biosegment.jobs.tables import create_job_tables_v1, extend_job_tables_v2, extend_job_tables_v3


@pytest.fixture
def jobs(job_database):
    return job_database()


def request(request_id: str, digest: str = "d", priority: int = 0, project: str = "p") -> NewJob:
    return NewJob(project, "train", b"spec", digest, request_id, "ann", priority)


async def test_a_repeated_request_answers_with_the_first_job(jobs):
    first = await jobs.create(request("r1"))
    again = await jobs.create(request("r1"))
    assert again == first
    assert (first.state, first.attempt, first.revision) == (JobState.QUEUED, 0, 1)
    assert first.job_id.startswith("trainer-")


async def test_a_request_id_that_was_used_for_something_else_is_refused(jobs):
    await jobs.create(request("r1"))
    with pytest.raises(AlreadyExists) as caught:
        await jobs.create(request("r1", digest="other"))
    assert caught.value.reason == "REQUEST_ID_REUSED"
    # Another project may use the same id.
    await jobs.create(request("r1", digest="other", project="q"))


async def test_a_user_has_so_many_jobs_that_wait_or_run(jobs):
    first, second = [await jobs.create(request(f"r{number}"), most=2) for number in range(2)]
    with pytest.raises(ResourceExhausted, match="'ann'") as caught:
        await jobs.create(request("r2"), most=2)
    assert caught.value.reason == "TOO_MANY_JOBS"
    assert await jobs.find_request("p", "r2", "d") is None
    await jobs.create(replace(request("r3"), owner="bob"), most=2)
    # A running job counts, one that has ended does not.
    claimed = await jobs.claim("here", ["train"])
    with pytest.raises(ResourceExhausted):
        await jobs.create(request("r2"), most=2)
    await jobs.finish(claimed.job_id, 1, JobState.SUCCEEDED, result=JobResult())
    assert (await jobs.create(request("r2"), most=2)).job_id not in (first.job_id, second.job_id)
    await jobs.create(request("r4"))


async def test_claims_go_by_priority_and_then_by_age(jobs):
    old, urgent, young = [await jobs.create(request(f"r{i}", priority=p)) for i, p in enumerate((0, 1, 0))]
    last = max(old.job_id, young.job_id)
    assert (await jobs.get(last)).queue_position == 2
    claimed = [(await jobs.claim("here", ["train"])).job_id for _ in range(3)]
    assert claimed == [urgent.job_id, *sorted([old.job_id, young.job_id])]
    assert await jobs.claim("here", ["train"]) is None


async def test_a_kind_that_nobody_runs_here_is_not_claimed(jobs):
    await jobs.create(request("r"))
    assert await jobs.claim("here", ["import_volume"]) is None


async def test_progress_and_the_result_are_kept_and_each_change_has_a_new_revision(jobs):
    await jobs.create(request("r"))
    job = await jobs.claim("here", ["train"])
    revisions = [job.revision]
    job = await jobs.report(job.job_id, 1, Progress(0.5, "steps", 5, 10, "steps"), {"loss": 0.25})
    revisions.append(job.revision)
    job = await jobs.report(job.job_id, 1, Progress(0.7), {"validation_iou": 0.5})
    assert job.metrics == {"loss": 0.25, "validation_iou": 0.5}
    job = await jobs.finish(job.job_id, 1, JobState.SUCCEEDED, result=JobResult(layers=("a", "b")))
    revisions.append(job.revision)
    assert revisions == sorted(set(revisions))
    assert job.result == JobResult(layers=("a", "b"))
    assert job.progress.fraction == 1.0
    assert job.end_time >= job.start_time >= job.create_time


async def test_an_older_attempt_can_change_nothing(jobs):
    job = await jobs.create(request("r"))
    await jobs.claim("dead", ["train"])
    assert [lost.job_id for lost in await jobs.recover("new")] == [job.job_id]
    assert (await jobs.claim("new", ["train"])).attempt == 2
    before = await jobs.get(job.job_id)
    for attempted in (
        jobs.report(job.job_id, 1, Progress(0.9)),
        jobs.finish(job.job_id, 1, JobState.SUCCEEDED, result=JobResult(model="models/x")),
        jobs.append_log(job.job_id, 1, ["late"]),
        jobs.release(job.job_id, 1),
        jobs.crash(job.job_id, 1, "late"),
    ):
        with pytest.raises(Conflict) as caught:
            await attempted
        assert caught.value.reason == "ATTEMPT_OUTDATED"
    assert await jobs.get(job.job_id) == before
    assert await jobs.list_log(job.job_id) == []


async def test_a_job_whose_process_dies_three_times_is_given_up(jobs):
    job = await jobs.create(request("r"))
    for attempt in (1, 2, 3):
        assert (await jobs.claim(f"instance-{attempt}", ["train"])).attempt == attempt
        await jobs.recover(f"instance-{attempt + 1}")
    failed = await jobs.get(job.job_id)
    assert failed.state is JobState.FAILED
    assert failed.error.reason == "JOB_CRASHED"
    retried = await jobs.retry(job.job_id)
    assert (retried.state, retried.error, retried.crashes) == (JobState.QUEUED, None, 0)
    assert (await jobs.claim("x", ["train"])).attempt == 4


async def test_recovery_spares_instances_with_a_fresh_heartbeat_and_itself(jobs):
    await jobs.create(request("r"))
    await jobs.claim("alive", ["train"])
    assert await jobs.recover("other", stale_s=60) == []
    assert await jobs.recover("alive") == []
    assert len(await jobs.recover("other", stale_s=-1)) == 1


async def test_releasing_does_not_count_as_a_crash(jobs):
    job = await jobs.create(request("r"))
    for attempt in range(1, 6):
        assert (await jobs.claim("i", ["train"])).attempt == attempt
        await jobs.release(job.job_id, attempt)
    assert (await jobs.get(job.job_id)).state is JobState.QUEUED


async def test_cancelling_ends_queued_jobs_asks_running_ones_and_spares_ended_ones(jobs):
    queued = await jobs.create(request("a"))
    assert (await jobs.request_cancel(queued.job_id)).state is JobState.CANCELLED
    running = await jobs.create(request("b"))
    await jobs.claim("i", ["train"])
    asked = await jobs.request_cancel(running.job_id)
    assert (asked.state, asked.cancel_requested) == (JobState.RUNNING, True)
    assert (await jobs.request_cancel(running.job_id)).revision == asked.revision
    # The process that was asked dies: nobody runs it again.
    await jobs.recover("other")
    assert (await jobs.get(running.job_id)).state is JobState.CANCELLED
    assert (await jobs.request_cancel(running.job_id)).state is JobState.CANCELLED


async def test_only_jobs_that_ended_badly_can_be_retried(jobs):
    job = await jobs.create(request("a"))
    with pytest.raises(FailedPrecondition) as caught:
        await jobs.retry(job.job_id)
    assert caught.value.reason == "JOB_NOT_ENDED"
    await jobs.claim("i", ["train"])
    await jobs.finish(job.job_id, 1, JobState.SUCCEEDED, result=JobResult())
    with pytest.raises(FailedPrecondition):
        await jobs.retry(job.job_id)


async def test_log_lines_are_numbered_over_all_attempts(jobs):
    job = await jobs.create(request("a"))
    await jobs.claim("i", ["train"])
    await jobs.append_log(job.job_id, 1, ["one", "two"])
    await jobs.crash(job.job_id, 1, "the worker died")
    await jobs.claim("i", ["train"])
    await jobs.append_log(job.job_id, 2, ["three"])
    lines = await jobs.list_log(job.job_id, after_line=1)
    assert [(line.line, line.attempt, line.text) for line in lines] == [(2, 1, "two"), (3, 2, "three")]


async def test_an_unknown_job_is_not_found(jobs):
    for attempted in (jobs.get("trainer-x"), jobs.request_cancel("trainer-x"), jobs.retry("trainer-x")):
        with pytest.raises(NotFound):
            await attempted


async def test_a_failed_job_keeps_its_error(jobs):
    job = await jobs.create(request("a"))
    await jobs.claim("i", ["train"])
    await jobs.finish(job.job_id, 1, JobState.FAILED, error=JobError("DISK_FULL", "no room"))
    assert (await jobs.get(job.job_id)).error == JobError("DISK_FULL", "no room")


async def test_jobs_of_an_older_release_reserve_nothing_and_were_never_lost(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/old.db")
    with engine.begin() as connection:
        operations = Operations(MigrationContext.configure(connection))
        create_job_tables_v1(operations)
        columns = sa.inspect(connection).get_columns("jobs")
        values: dict[str, str | int | bytes] = {
            column["name"]: "{}"
            if column["name"] in ("metrics", "progress")
            else ""
            if "CHAR" in str(column["type"])
            else 0
            for column in columns
            if not column["nullable"]
        }
        values |= {"job_id": "trainer-old", "kind": "train", "state": "queued", "spec": b"s"}
        names = ", ".join(values)
        marks = ", ".join(f":{name}" for name in values)
        connection.execute(sa.text(f"INSERT INTO jobs ({names}) VALUES ({marks})"), values)
        extend_job_tables_v2(operations)
        extend_job_tables_v3(operations)
    engine.dispose()
    database = Database.open(f"sqlite+aiosqlite:///{tmp_path}/old.db")
    job = await SqlJobs(database, "trainer", JobSignal()).get("trainer-old")
    assert (job.state, job.resources, job.losses) == (JobState.QUEUED, Resources(), 0)
    await database.close()
