from __future__ import annotations

import asyncio
import contextlib

import pytest
import sqlalchemy as sa

from biosegment.auth import Authorizer, Kind, Permission, Principal, Role
from biosegment.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from biosegment.jobs import (
    JobCrashed,
    JobKind,
    JobResult,
    JobRunner,
    JobService,
    JobState,
    Progress,
    Resources,
    RunnerLimits,
    SqlJobs,
)
from biosegment.jobs.row import JOBS

ANN = Principal(Kind.USER, "ann")
BOB = Principal(Kind.USER, "bob")
EVE = Principal(Kind.USER, "eve")
ROOT = Principal(Kind.USER, "root", is_admin=True)
LIMITS = RunnerLimits(concurrent=2, poll_s=0.2, heartbeat_s=0.2, stale_s=60)


class Roles:
    async def role(self, user: str, project_id: str) -> Role | None:
        return {"ann": Role.MANAGER, "bob": Role.VIEWER}.get(user) if project_id == "p" else None


async def complete(principal: Principal, project_id: str, spec: bytes) -> bytes:
    if spec == b"impossible":
        raise InvalidArgument("BAD_SPEC", "never works")
    return spec + b"+"


@pytest.fixture
def jobs(job_database):
    return job_database()


@pytest.fixture
def service(jobs):
    kinds = {
        "train": JobKind(Permission.MODEL_WRITE, complete),
        "export": JobKind(Permission.EXPORT, complete),
    }
    return JobService(jobs, Authorizer(Roles()), kinds)


@contextlib.asynccontextmanager
async def running(jobs, handlers, **options):
    task = asyncio.create_task(JobRunner(jobs, handlers, LIMITS, **options).run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ended(service, job):
    async with asyncio.timeout(20):
        async for seen in service.watch(ANN, job.job_id, 0):
            last = seen
    return last


async def test_a_job_runs_and_watchers_see_it_to_its_end(jobs, service):
    async def train(context):
        await context.log("begins")
        await context.progress(Progress(0.5, "half"), {"loss": 1.0})
        return JobResult(model="models/m")

    job = await service.create(ANN, "p", "train", b"s", "r")
    async with running(jobs, {"train": train}):
        last = await ended(service, job)
    assert (last.state, last.result, last.attempt) == (JobState.SUCCEEDED, JobResult(model="models/m"), 1)
    assert last.spec == b"s+"
    assert [line.text for line in await service.log(ANN, job.job_id, 0, 0)] == ["begins"]
    assert [seen async for seen in service.watch(ANN, job.job_id, last.revision)] == []


async def test_an_attempt_reserves_what_was_not_known_before_also_for_the_next_one(jobs, service):
    seen = []

    async def train(context):
        seen.append(context.job.resources)
        await context.reserve(Resources(2, 1))
        seen.append(context.job.resources)
        if context.attempt == 1:
            raise JobCrashed("once")
        return JobResult()

    job = await service.create(ANN, "p", "train", b"s", "r")
    async with running(jobs, {"train": train}):
        last = await ended(service, job)
    assert seen == [Resources(), *[Resources(2, 1)] * 3]
    assert last.resources == Resources(2, 1)


async def test_a_queued_job_is_watched_while_it_moves_up_and_a_log_while_it_grows(jobs, service):
    first, second, third = [
        await service.create(ANN, "p", "train", b"s", f"r{number}") for number in range(3)
    ]
    seen = []

    async def watch():
        async for job in service.watch(ANN, third.job_id, 0):
            seen.append((job.state, job.queue_position))

    async with asyncio.timeout(20):
        watching = asyncio.create_task(watch())
        while not seen:
            await asyncio.sleep(0.01)
        await service.cancel(ANN, second.job_id)
        while len(seen) < 2:
            await asyncio.sleep(0.01)
        claimed = await jobs.claim("here", ["train"])
        assert claimed.job_id == first.job_id
        while len(seen) < 3:
            await asyncio.sleep(0.01)
        await service.cancel(ANN, third.job_id)
        await watching
    assert seen == [
        (JobState.QUEUED, 2),
        (JobState.QUEUED, 1),
        (JobState.QUEUED, 0),
        (JobState.CANCELLED, 0),
    ]

    await jobs.append_log(first.job_id, 1, ["one", "two"])
    lines = await service.log(ANN, first.job_id, 0, 0)
    await jobs.append_log(first.job_id, 1, ["three"])
    more = await service.log(ANN, first.job_id, lines[-1].line, 0)
    assert [(line.line, line.text) for line in more] == [(3, "three")]


async def test_a_job_that_was_only_lost_is_tried_more_often_than_one_that_crashes(jobs, service):
    attempts = []

    async def train(context):
        attempts.append(context.attempt)
        if len(attempts) <= 5:
            raise JobCrashed("the node died", lost=True)
        return JobResult()

    job = await service.create(ANN, "p", "train", b"s", "r")
    async with running(jobs, {"train": train}):
        last = await ended(service, job)
    assert (last.state, last.attempt, last.crashes, last.losses) == (JobState.SUCCEEDED, 6, 0, 5)
    assert "lost: the node died" in [line.text for line in await service.log(ANN, job.job_id, 0, 0)]


async def test_a_service_whose_work_is_done_elsewhere_does_not_blame_its_jobs_when_it_dies(jobs, service):
    job = await service.create(ANN, "p", "train", b"s", "r")
    for _ in range(4):
        await jobs.claim("dead", ["train"])
        await jobs.recover("new", blame=False)
    assert (await jobs.get(job.job_id)).state is JobState.QUEUED
    for _ in range(3):
        await jobs.claim("dead", ["train"])
        await jobs.recover("new")
    assert (await jobs.get(job.job_id)).error.reason == "JOB_CRASHED"


async def test_an_attempt_that_was_taken_over_ends_without_the_clean_up_of_a_cancelled_one(jobs, service):
    begun, how = asyncio.Event(), []

    async def train(context):
        begun.set()
        try:
            await context.cancelled.wait()
        except asyncio.CancelledError:
            how.append("ended")
            raise
        how.append("cancelled")
        raise AssertionError

    job = await service.create(ANN, "p", "train", b"s", "r")
    async with running(jobs, {"train": train}):
        await begun.wait()
        await jobs.crash(job.job_id, 1, "taken over")
        async with asyncio.timeout(20):
            while not how:
                await asyncio.sleep(0.01)
        assert how[0] == "ended"


async def test_a_handlers_error_is_the_jobs_error(jobs, service):
    async def train(context):
        raise ResourceExhausted("DISK_FULL", "make room")

    async def export(context):
        raise ZeroDivisionError("secret detail")

    one = await service.create(ANN, "p", "train", b"s", "r1")
    two = await service.create(ANN, "p", "export", b"s", "r2")
    async with running(jobs, {"train": train, "export": export}):
        assert (await ended(service, one)).error.reason == "DISK_FULL"
        error = (await ended(service, two)).error
    assert error.reason == "INTERNAL"
    assert "secret" not in error.message


async def test_a_crashed_worker_is_tried_again_three_times_at_most(jobs, service):
    attempts = []

    async def train(context):
        attempts.append(context.attempt)
        raise JobCrashed("the worker was killed")

    job = await service.create(ANN, "p", "train", b"s", "r")
    async with running(jobs, {"train": train}):
        last = await ended(service, job)
    assert (last.state, last.error.reason, attempts) == (JobState.FAILED, "JOB_CRASHED", [1, 2, 3])


async def test_cancelling_stops_a_running_job(jobs, service):
    begun = asyncio.Event()

    async def train(context):
        begun.set()
        await context.cancelled.wait()
        context.raise_if_cancelled()

    job = await service.create(ANN, "p", "train", b"s", "r")
    async with running(jobs, {"train": train}):
        await begun.wait()
        assert (await service.cancel(ANN, job.job_id)).cancel_requested
        assert (await ended(service, job)).state is JobState.CANCELLED


async def test_a_runner_that_stops_gives_its_jobs_back_and_the_next_one_finishes_them(jobs, service):
    begun = asyncio.Event()

    async def hang(context):
        begun.set()
        await asyncio.sleep(3600)

    async def train(context):
        return JobResult(model=f"models/{context.attempt}")

    job = await service.create(ANN, "p", "train", b"s", "r")
    async with running(jobs, {"train": hang}):
        await begun.wait()
    assert (await jobs.get(job.job_id)).state is JobState.QUEUED
    async with running(jobs, {"train": train}):
        assert (await ended(service, job)).result.model == "models/2"


async def test_what_a_dead_process_left_behind_is_taken_over_at_the_start(jobs, service):
    async def train(context):
        return JobResult(model=f"models/{context.attempt}")

    job = await service.create(ANN, "p", "train", b"s", "r")
    await jobs.claim("killed", ["train"])
    async with running(jobs, {"train": train}):
        assert (await ended(service, job)).attempt == 2


async def test_no_more_jobs_run_at_once_than_allowed(jobs, service):
    now, most = 0, 0
    two = asyncio.Event()

    async def train(context):
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 2:
            two.set()
        async with asyncio.timeout(60):
            await two.wait()
        await asyncio.sleep(0.05)
        now -= 1
        return JobResult()

    made = [await service.create(ANN, "p", "train", b"s", f"r{i}") for i in range(6)]
    async with running(jobs, {"train": train}):
        for job in made:
            await ended(service, job)
    assert most == 2


async def test_permissions_follow_the_kind_and_strangers_learn_nothing(service):
    job = await service.create(ANN, "p", "train", b"s", "r")
    with pytest.raises(PermissionDenied):
        await service.create(BOB, "p", "train", b"s", "r2")
    with pytest.raises(PermissionDenied):
        await service.cancel(BOB, job.job_id)
    with pytest.raises(PermissionDenied):
        await service.retry(BOB, job.job_id)
    with pytest.raises(PermissionDenied):
        await service.list(ANN, "", (), 0, "")
    assert (await service.get(BOB, job.job_id)).job_id == job.job_id
    with pytest.raises(NotFound) as caught:
        await service.get(EVE, job.job_id)
    with pytest.raises(NotFound) as unknown:
        await service.get(EVE, "trainer-unknown")
    assert caught.value.message.replace(job.job_id, "") == unknown.value.message.replace(
        "trainer-unknown", ""
    )
    assert [found.job_id for found in (await service.list(ROOT, "", (), 0, ""))[0]] == [job.job_id]


async def test_what_cannot_work_is_refused_at_once(service):
    with pytest.raises(Unimplemented):
        await service.create(ANN, "p", "pretrain", b"s", "r")
    with pytest.raises(InvalidArgument):
        await service.create(ANN, "p", "", b"", "r")
    with pytest.raises(InvalidArgument):
        await service.create(ANN, "p", "train", b"impossible", "r")
    with pytest.raises(InvalidArgument):
        await service.create(ANN, "p", "train", b"s", "")
    assert (await service.list(ANN, "p", (), 0, ""))[0] == []


async def test_a_repeated_request_is_the_same_job_and_another_one_is_refused(service):
    first = await service.create(ANN, "p", "train", b"s", "r")
    assert (await service.create(ANN, "p", "train", b"s", "r")).job_id == first.job_id
    with pytest.raises(AlreadyExists):
        await service.create(ANN, "p", "train", b"t", "r")


async def test_pages_show_every_job_once_and_newest_first(service):
    made = {(await service.create(ANN, "p", "train", b"s", f"r{i}")).job_id for i in range(5)}
    seen, token = [], ""
    while True:
        page, token = await service.list(ANN, "p", (JobState.QUEUED,), 2, token)
        seen += [job.job_id for job in page]
        if not token:
            break
    assert seen == sorted(made, reverse=True)
    _, token = await service.list(ANN, "p", (), 2, "")
    with pytest.raises(InvalidArgument) as caught:
        await service.list(ANN, "p", (JobState.FAILED,), 2, token)
    assert caught.value.reason == "BAD_PAGE_TOKEN"


class AwayDatabase(SqlJobs):
    """Rows in a database that is away now and then, also after it did what was asked."""

    def __init__(self, jobs: SqlJobs, *away: str) -> None:
        super().__init__(jobs._database, jobs.service, jobs.signal)
        self.away = list(away)

    def _meet(self, moment: str) -> None:
        if moment in self.away:
            self.away.remove(moment)
            raise Unavailable("DATABASE_UNAVAILABLE", "the database cannot be used right now; try again")

    async def claim(self, instance, kinds):
        job = await super().claim(instance, kinds)
        if job is not None and "claimed" in self.away:
            # Nobody works on it, and that shows at once.
            async with self._database.write() as connection:
                await connection.execute(sa.update(JOBS).values(heartbeat_us=0))
            self._meet("claimed")
        return job

    async def report(self, *args):
        self._meet("report")
        return await super().report(*args)

    async def append_log(self, *args):
        self._meet("log")
        return await super().append_log(*args)

    async def finish(self, *args, **values):
        self._meet("finish")
        return await super().finish(*args, **values)


async def test_a_job_survives_a_database_that_goes_away_for_a_moment(jobs, service):
    attempts = []

    async def train(context):
        attempts.append(context.attempt)
        await context.progress(Progress(0.5, "half"))
        await context.log("begins")
        return JobResult(model="models/m")

    job = await service.create(ANN, "p", "train", b"s", "r")
    away = AwayDatabase(jobs, "report", "log", "finish", "finish")
    async with running(away, {"train": train}):
        last = await ended(service, job)
    # Progress is dropped, a lost log line begins the attempt anew, and the end is stored as soon as that works.
    assert (last.state, last.crashes, attempts, away.away) == (JobState.SUCCEEDED, 0, [1, 2], [])


async def test_a_job_whose_claim_got_no_answer_is_taken_up_again(jobs, service):
    async def train(context):
        return JobResult(model="models/m")

    job = await service.create(ANN, "p", "train", b"s", "r")
    limits = RunnerLimits(poll_s=0.1, heartbeat_s=0.1, stale_s=60)
    runner = JobRunner(AwayDatabase(jobs, "claimed"), {"train": train}, limits)
    task = asyncio.create_task(runner.run())
    last = await ended(service, job)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (last.state, last.attempt) == (JobState.SUCCEEDED, 2)
