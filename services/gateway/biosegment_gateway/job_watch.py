"""The jobs of a project as they change, in all services that keep some, as one stream."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from biosegment.api.job.v1alpha1 import job_pb2, job_pb2_grpc
from biosegment.auth import Principal
from biosegment.errors import InvalidArgument, Unavailable
from biosegment_gateway.upstream import Upstream

_News = tuple[str, job_pb2.WatchJobsResponse]
_Queue = asyncio.Queue[_News | Exception]


class JobWatch:
    """Merges the streams of the services.

    The token of the merged stream holds the last one of each.

    Args:
        upstreams: Services that keep jobs.
    """

    def __init__(self, upstreams: Sequence[Upstream]) -> None:
        self._upstreams = upstreams

    async def watch(
        self, principal: Principal, project: str, resume_token: str
    ) -> AsyncGenerator[job_pb2.WatchJobsResponse, None]:
        """What WatchJobs answers; closing it ends the calls of the services.

        Raises:
            InvalidArgument: BAD_RESUME_TOKEN.
            Unavailable: A service is away; half of the jobs would look like all.
            BiosegmentError: What a service raises.
        """
        tokens = _read(resume_token, [upstream.name for upstream in self._upstreams])
        queue: _Queue = asyncio.Queue(1)
        tasks = [
            asyncio.create_task(_follow(upstream, principal, project, tokens[upstream.name], queue))
            for upstream in self._upstreams
        ]
        try:
            async with aclosing(_taken(queue)) as news:
                async for name, answer in news:
                    tokens[name] = answer.resume_token or tokens[name]
                    # Where to resume is known when each service has said all that there was at first.
                    is_known = answer.resume_token and all(tokens.values())
                    answer.resume_token = _write(tokens) if is_known else ""
                    if is_known or answer.HasField("job"):
                        yield answer
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def _follow(upstream: Upstream, principal: Principal, project: str, token: str, queue: _Queue) -> None:
    stub: Any = job_pb2_grpc.JobServiceStub(upstream.channel)
    request = job_pb2.WatchJobsRequest(project=project, resume_token=token)
    call = stub.WatchJobs(request, metadata=upstream.metadata(principal))
    try:
        async for answer in call:
            await queue.put((upstream.name, answer))
        await queue.put(upstream.unavailable("it ended the stream"))
    except Unavailable:
        await queue.put(upstream.unavailable())
    except Exception as error:  # whoever reads would wait for ever otherwise
        await queue.put(error)
    finally:
        call.cancel()


async def _taken(queue: _Queue) -> AsyncGenerator[_News, None]:
    while True:
        item = await queue.get()
        if isinstance(item, Exception):
            raise item
        yield item


def _write(tokens: Mapping[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(tokens, sort_keys=True).encode()).decode()


def _read(token: str, services: Sequence[str]) -> dict[str, str]:
    if not token:
        return dict.fromkeys(services, "")
    try:
        tokens = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, RecursionError):
        tokens = None
    if (
        not isinstance(tokens, dict)
        or set(tokens) != set(services)
        or not all(isinstance(each, str) for each in tokens.values())
    ):
        raise InvalidArgument(
            "BAD_RESUME_TOKEN", f"resume_token {token[:80]!r} is not from an answer; begin without one"
        )
    return tokens
