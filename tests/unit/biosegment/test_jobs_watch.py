"""All jobs of a project, as they change."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from biosegment.auth import Authorizer, Kind, Permission, Principal, Role
from biosegment.errors import InvalidArgument, NotFound
from biosegment.jobs import JobKind, JobResult, JobService, JobState, Progress

ANN = Principal(Kind.USER, "ann")
EVE = Principal(Kind.USER, "eve")


class Roles:
    def __init__(self) -> None:
        self.members = {"ann"}

    async def role(self, user: str, project_id: str) -> Role | None:
        return Role.MANAGER if user in self.members and project_id == "p" else None


async def as_it_is(principal: Principal, project_id: str, spec: bytes) -> bytes:
    return spec


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("biosegment.jobs.watch._PAUSE_S", 0.01)


@pytest.fixture
def jobs(job_database):
    return job_database()


@pytest.fixture
def roles():
    return Roles()


@pytest.fixture
def service(jobs, roles):
    return JobService(jobs, Authorizer(roles), {"train": JobKind(Permission.MODEL_WRITE, as_it_is)})


async def take(changes):
    async with asyncio.timeout(20):
        return await anext(changes)


async def finish(jobs):
    job = await jobs.claim("here", ["train"])
    return await jobs.finish(job.job_id, job.attempt, JobState.SUCCEEDED, result=JobResult())


async def test_a_project_without_jobs_says_at_once_where_to_resume(service):
    async with aclosing(service.watch_project(ANN, "p", "")) as changes:
        job, token = await take(changes)
    assert (job, token.isdecimal()) == (None, True)


async def test_every_change_of_every_job_is_told_once(jobs, service):
    first = await service.create(ANN, "p", "train", b"", "1")
    async with aclosing(service.watch_project(ANN, "p", "")) as changes:
        assert (await take(changes))[0].job_id == first.job_id
        second = await service.create(ANN, "p", "train", b"", "2")
        assert (await take(changes))[0].job_id == second.job_id
        begun = await jobs.claim("here", ["train"])
        seen = [(await take(changes))[0] for _ in range(2)]  # the other one moves up
        assert {job.job_id: job.state for job in seen} == {
            first.job_id: JobState.RUNNING,
            second.job_id: JobState.QUEUED,
        }
        await jobs.report(begun.job_id, begun.attempt, Progress(0.5))
        assert (await take(changes))[0].progress.fraction == 0.5
        await jobs.finish(begun.job_id, begun.attempt, JobState.SUCCEEDED, result=JobResult())
        seen = [(await take(changes))[0]]
        if seen[0].job_id != first.job_id:
            seen.append((await take(changes))[0])
        assert seen[-1].state is JobState.SUCCEEDED


async def test_all_jobs_of_one_look_come_before_the_token_that_says_so(service):
    for number in range(3):
        await service.create(ANN, "p", "train", b"", str(number))
    async with aclosing(service.watch_project(ANN, "p", "")) as changes:
        tokens = [(await take(changes))[1] for _ in range(3)]
    assert tokens[:2] == ["", ""]
    assert tokens[2]


async def test_after_a_break_ended_and_new_jobs_come_and_without_a_token_only_open_ones(jobs, service):
    ended = await service.create(ANN, "p", "train", b"", "1")
    async with aclosing(service.watch_project(ANN, "p", "")) as changes:
        _, token = await take(changes)
    await finish(jobs)
    new = await service.create(ANN, "p", "train", b"", "2")
    async with aclosing(service.watch_project(ANN, "p", token)) as changes:
        seen = {job.job_id: job.state for job in [(await take(changes))[0] for _ in range(2)]}
    assert seen == {ended.job_id: JobState.SUCCEEDED, new.job_id: JobState.QUEUED}
    async with aclosing(service.watch_project(ANN, "p", "")) as changes:
        assert (await take(changes))[0].job_id == new.job_id


async def test_jobs_of_other_projects_and_to_strangers_are_not_told(service, roles):
    with pytest.raises(NotFound):
        await take(service.watch_project(EVE, "p", ""))
    async with aclosing(service.watch_project(ANN, "p", "")) as changes:
        await take(changes)
        roles.members.clear()
        with pytest.raises(NotFound):
            await take(changes)


@pytest.mark.parametrize("token", ["x", "-1", "1" * 40, "٣"])
async def test_tokens_that_are_none_are_refused(service, token):
    with pytest.raises(InvalidArgument) as caught:
        await take(service.watch_project(ANN, "p", token))
    assert caught.value.reason == "BAD_RESUME_TOKEN"
