"""The use cases of jobs: what a principal may do with them."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from biosegment.auth import Authorizer, Kind, Permission, Principal, require_admin, require_scope
from biosegment.errors import InvalidArgument, NotFound, Unimplemented
from biosegment.jobs.job import Job, JobState, LogLine, NewJob, Resources, digest, require_request_id
from biosegment.jobs.signal import wait
from biosegment.jobs.sql import SqlJobs
from biosegment.jobs.watch import watch_project

_POLL_S: Final = 2.0
_MAX_PAGE: Final = 500
_MAX_LOG_PAGE: Final = 1000

Prepare = Callable[[Principal, str, bytes], Awaitable[bytes]]
"""Takes caller, project id and serialized `JobSpec`; checks it against the present state (raises what
CreateJob
should answer) and returns the spec to store, with defaults filled in."""


async def _nothing(spec: bytes) -> Resources:
    return Resources()


@dataclass(frozen=True, slots=True)
class JobKind:
    """A kind of job that a service runs.

    Attributes:
        permission: Needed to create one.
        prepare: Checks and completes a spec.
        priority: Of the spec; larger is served first.
        resources: What a job of that spec reserves while it runs; raises what CreateJob should answer.
    """

    permission: Permission
    prepare: Prepare
    priority: Callable[[bytes], int] = lambda spec: 0
    resources: Callable[[bytes], Awaitable[Resources]] = _nothing


class JobService:
    """Jobs for those who ask.

    Args:
        jobs: The rows.
        authorizer: Decides who may do what.
        kinds: What this service runs, by the name of the field of `JobSpec`.
        max_user_jobs: Jobs of one user here that may wait or run; 0 for any number. Services are not limited.
    """

    def __init__(
        self, jobs: SqlJobs, authorizer: Authorizer, kinds: Mapping[str, JobKind], max_user_jobs: int = 0
    ) -> None:
        self._jobs = jobs
        self._authorizer = authorizer
        self._kinds = dict(kinds)
        self._max_user_jobs = max_user_jobs

    async def create(
        self, principal: Principal, project_id: str, kind: str, spec: bytes, request_id: str
    ) -> Job:
        """Queue a job. Errors as in the contract of CreateJob."""
        rules = self._kinds.get(kind)
        await self._authorizer.authorize(
            principal, rules.permission if rules else Permission.PROJECT_READ, project_id
        )
        if not kind:
            raise InvalidArgument(
                "SPEC_MISSING", "the job's spec names no kind of work; set one of its fields"
            )
        if rules is None:
            known = ", ".join(sorted(self._kinds))
            raise Unimplemented(
                "KIND_NOT_IMPLEMENTED",
                f"the {self._jobs.service} of this release runs no {kind!r} jobs; it runs: {known}",
            )
        fingerprint = digest(project_id, spec)
        earlier = await self._jobs.find_request(project_id, require_request_id(request_id), fingerprint)
        if earlier is not None:
            return earlier
        complete = await rules.prepare(principal, project_id, spec)
        most = self._max_user_jobs if principal.kind is Kind.USER else 0
        return await self._jobs.create(
            NewJob(
                project_id,
                kind,
                complete,
                fingerprint,
                request_id,
                principal.user,
                rules.priority(complete),
                await rules.resources(complete),
            ),
            most,
        )

    async def get(self, principal: Principal, job_id: str) -> Job:
        """One job; NotFound JOB_NOT_FOUND, also for those who may not see it."""
        job = await self._jobs.get(job_id)
        if principal.kind is Kind.JOB and principal.subject == job_id:
            return job
        try:
            await self._authorizer.authorize(principal, Permission.PROJECT_READ, job.project_id)
        except NotFound:
            raise NotFound("JOB_NOT_FOUND", f"there is no job jobs/{job_id}, or you may not see it") from None
        return job

    async def list(
        self,
        principal: Principal,
        project_id: str,
        states: Collection[JobState],
        page_size: int,
        page_token: str,
    ) -> tuple[Sequence[Job], str]:
        """A page of jobs, newest first, and the token of the next page ('' on the last)."""
        if project_id:
            await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)
        else:
            require_admin(principal)
        limit = _page_size(page_size, 50, _MAX_PAGE)
        query = f"{project_id}|{','.join(sorted(states))}"
        before = _read_token(page_token, query)
        jobs = await self._jobs.list(project_id or None, states, before, limit + 1)
        page = jobs[:limit]
        return page, _token(page[-1].job_id, query) if len(jobs) > limit else ""

    async def watch(self, principal: Principal, job_id: str, after_revision: int) -> AsyncIterator[Job]:
        """The job as it is (unless its revision is known) and after each change, until it has ended.

        A queued one changes also when others leave the queue before it; that has no revision of its own.
        """
        await self.get(principal, job_id)
        position: int | None = None
        while True:
            rung = self._jobs.signal.listen()
            job = await self._jobs.get(job_id)
            if job.revision > after_revision or position not in (None, job.queue_position):
                after_revision = job.revision
                yield job
            position = job.queue_position
            if job.state.is_final:
                return
            await wait(rung, _POLL_S)

    async def watch_project(
        self, principal: Principal, project_id: str, resume_token: str
    ) -> AsyncGenerator[tuple[Job | None, str], None]:
        """The jobs of a project and their changes, for as long as the caller may see them; see `watch`."""

        async def check() -> None:
            await self._authorizer.authorize(principal, Permission.PROJECT_READ, project_id)

        async for found in watch_project(self._jobs, project_id, resume_token, check):
            yield found

    async def cancel(self, principal: Principal, job_id: str) -> Job:
        """Ask a job to stop: its owner may, and who may train models."""
        job = await self.get(principal, job_id)
        # Only themselves: a service that acts for the owner has no right of theirs, and a token only its scope.
        if principal.kind is Kind.USER and job.owner == principal.subject:
            require_scope(principal, Permission.MODEL_WRITE, job.project_id)
        else:
            await self._authorizer.authorize(principal, Permission.MODEL_WRITE, job.project_id)
        return await self._jobs.request_cancel(job_id)

    async def retry(self, principal: Principal, job_id: str) -> Job:
        """Queue a failed or cancelled job again; FailedPrecondition JOB_NOT_ENDED."""
        job = await self.get(principal, job_id)
        rules = self._kinds.get(job.kind)
        await self._authorizer.authorize(
            principal, rules.permission if rules else Permission.MODEL_WRITE, job.project_id
        )
        return await self._jobs.retry(job_id)

    async def log(
        self, principal: Principal, job_id: str, after_line: int, page_size: int
    ) -> Sequence[LogLine]:
        """Lines of the log after `after_line`, oldest first."""
        await self.get(principal, job_id)
        return await self._jobs.list_log(
            job_id, max(0, after_line), _page_size(page_size, 200, _MAX_LOG_PAGE)
        )


def _page_size(wanted: int, default: int, largest: int) -> int:
    if not 0 <= wanted <= largest:
        raise InvalidArgument(
            "BAD_PAGE_SIZE", f"page_size {wanted} is not within 1..{largest} (0 for {default})"
        )
    return wanted or default


def _token(last: str, query: str) -> str:
    check = hashlib.sha256(query.encode()).hexdigest()[:8]
    return base64.urlsafe_b64encode(f"{check}:{last}".encode()).decode()


def _read_token(token: str, query: str) -> str:
    if not token:
        return ""
    try:
        check, _, last = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
    except (binascii.Error, ValueError):
        check, last = "", ""
    if not last or check != hashlib.sha256(query.encode()).hexdigest()[:8]:
        raise InvalidArgument(
            "BAD_PAGE_TOKEN",
            f"page_token {token[:80]!r} is not from an answer to the same query; begin without one",
        )
    return last
